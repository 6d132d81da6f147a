"""What stays of keys whose jobs are forgotten, so that forgetting a job does not invite to do it a second time. Pure.

There may be a million of them, kept for longer than a year, and they may be people's or invoices' names. So a key is
kept as a hash of its kind and its text: enough to recognise it, and nothing to read.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from trio_jobs._engine.jobs import State

__all__ = ["KeyTombstone", "KeyTombstones", "key_name"]


def key_name(kind: str, key: str) -> bytes:
    """The hash under which a key is remembered: 16 bytes."""
    # with its length before it, no kind and key read like another pair
    return blake2b(f"{len(kind)}:{kind}{key}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


class KeyTombstone(msgspec.Struct, frozen=True, gc=False):
    """name: `key_name`. job: the id of the job that had it. digest: of that job's payload. state: the final one that
    job was in. at: UTC seconds, when the job was forgotten."""

    name: bytes
    job: str
    digest: str
    state: State
    at: float


class KeyTombstones:
    """In the order in which they lost their jobs."""

    def __init__(self) -> None:
        self._by_name: dict[bytes, KeyTombstone] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, kind: str, key: str) -> KeyTombstone | None:
        by_name = self._by_name
        return by_name.get(key_name(kind, key)) if by_name else None

    def add(self, keys: Iterable[KeyTombstone]) -> None:
        """As they lost their jobs, the first one first."""
        for key in keys:
            self._by_name.pop(key.name, None)  # behind all others, wherever it was
            self._by_name[key.name] = key

    def take_stale(self, older_than: float, keep: int, limit: int) -> list[KeyTombstone]:
        """Let go of those that lost their jobs first: at that time or before, or more than `keep` in all.

        At most `limit` of them; what is left over is found by the next call.
        """
        excess = len(self._by_name) - keep
        stale: list[KeyTombstone] = []
        for key in self._by_name.values():
            if len(stale) >= limit or (key.at > older_than and len(stale) >= excess):
                break
            stale.append(key)
        for key in stale:
            del self._by_name[key.name]
        return stale
