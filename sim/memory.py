"""The memory store, with a record of what was handed to it: what it has taken is committed by that."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sim.disk import SimDisk
from trio_jobs._engine.events import Event
from trio_jobs._stores.memory import MemoryStore

__all__ = ["SimMemory"]

_encode = msgspec.json.Encoder().encode


class SimMemory(MemoryStore):
    """`disk` keeps the record; nothing is ever read from it."""

    def __init__(self, disk: SimDisk) -> None:
        super().__init__()
        self._record = disk

    def append(self, events: Sequence[Event]) -> None:
        self._record.keep(self._taken_up(events))
        super().append(events)

    def _taken_up(self, events: Sequence[Event]) -> list[tuple[int, bytes]]:
        """Nothing, once it is closed: then it raises."""
        return [] if self._on_commit is None else [(event.seq, _encode(event)) for event in events]
