"""The jobs that have a key, by kind and key. Pure."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Final

import msgspec

__all__ = ["JobKeys", "KeyEntry"]

PARTS: Final = 16  #: dicts of each kind


class KeyEntry(msgspec.Struct, gc=False):
    """What a key belongs to."""

    job: str
    """The id of the job."""

    digest: str
    """The digest of the job's payload."""


class JobKeys(MutableMapping[tuple[str, str], KeyEntry]):
    """A mapping from (kind, key), in no order.

    One dict with pairs as keys would have a tuple for each job that is kept, which the garbage collector counts. And a
    dict is copied when it is full: one of 100,000 keys takes 7 ms, and does so in the same step as that of the jobs.
    """

    __slots__ = ("_by_kind",)

    def __init__(self) -> None:
        self._by_kind: dict[str, list[dict[str, KeyEntry]]] = {}

    def __getitem__(self, name: tuple[str, str]) -> KeyEntry:
        kind, key = name
        return self._by_kind[kind][_part_of(key)][key]

    def find(self, kind: str, key: str) -> KeyEntry | None:
        """What this key belongs to; None for a new one."""
        parts = self._by_kind.get(kind)
        return None if parts is None else parts[_part_of(key)].get(key)

    def __setitem__(self, name: tuple[str, str], entry: KeyEntry) -> None:
        kind, key = name
        parts = self._by_kind.get(kind)
        if parts is None:
            parts = self._by_kind[kind] = [{} for _ in range(PARTS)]
        parts[_part_of(key)][key] = entry

    def __delitem__(self, name: tuple[str, str]) -> None:
        kind, key = name
        del self._by_kind[kind][_part_of(key)][key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((kind, key) for kind, parts in self._by_kind.items() for part in parts for key in part)

    def __len__(self) -> int:
        return sum(len(part) for parts in self._by_kind.values() for part in parts)


def _part_of(key: str) -> int:
    return hash(key) % PARTS
