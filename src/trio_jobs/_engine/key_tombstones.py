"""What is kept of the key of a removed job, so that a later submit with the same key does not do its work again. Pure.

There may be a million of them, kept for longer than a year, and a key may name a person or an invoice. So the hash of
kind and key is kept: it recognises the key and reveals nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from trio_jobs._engine.jobs import State

__all__ = ["KeyTombstone", "KeyTombstones", "key_name"]


def key_name(kind: str, key: str) -> bytes:
    """The hash that stands for a kind and a key: 16 bytes."""
    # the length of the kind comes first, so that no other pair gives the same text
    return blake2b(f"{len(kind)}:{kind}{key}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


class KeyTombstone(msgspec.Struct, frozen=True, gc=False):
    """What is kept of the key of a removed job."""

    name: bytes
    """The hash of the job's kind and key, 16 bytes."""

    job: str
    """The id of the removed job, for the receipt of a later submit."""

    digest: str
    """The digest of its payload, by which a later submit with another payload is a `KeyConflict`."""

    state: State
    """Its final state."""

    at: float
    """When the job was removed, in seconds since the epoch (UTC)."""

    may_have_acted: bool = True
    """The job may have done its work, or a part of it. False: a correction of the payload is a new job."""


class KeyTombstones:
    """The tombstones in order of removal of their jobs, the oldest first."""

    def __init__(self) -> None:
        self._by_name: dict[bytes, KeyTombstone] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def newest_at(self) -> float:
        """`at` of the newest tombstone; 0 without one."""
        return next(reversed(self._by_name.values())).at if self._by_name else 0.0

    def find(self, kind: str, key: str) -> KeyTombstone | None:
        """The tombstone of a key, if there is one."""
        by_name = self._by_name
        return by_name.get(key_name(kind, key)) if by_name else None

    def add(self, keys: Iterable[KeyTombstone]) -> None:
        """Add tombstones, in order of removal of their jobs."""
        for key in keys:
            self._by_name.pop(key.name, None)  # so that a known one moves to the end
            self._by_name[key.name] = key

    def take_stale(self, older_than: float, keep: int, limit: int) -> list[KeyTombstone]:
        """Remove and return the oldest tombstones.

        Args:
            older_than: Tombstones of this time and before are removed.
            keep: If there are more than this number, the excess is removed, whatever its age.
            limit: At most this number is removed; the next call removes the rest.
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
