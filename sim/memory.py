"""The memory store, with a record of the events appended to it, which are committed by that."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sim.disk import SimDisk
from trio_jobs._engine.events import Event
from trio_jobs._stores.memory import MemoryStore

__all__ = ["SimMemory"]

_encode = msgspec.json.Encoder().encode


class SimMemory(MemoryStore):
    """A `MemoryStore` that records its events on a simulated disk; it never reads from the disk."""

    def __init__(self, disk: SimDisk) -> None:
        super().__init__()
        self._record = disk

    def append(self, events: Sequence[Event]) -> None:
        self._record.keep(self._rows(events))
        super().append(events)

    def _rows(self, events: Sequence[Event]) -> list[tuple[int, bytes]]:
        """What `append` will commit: nothing once the store is closed, since it raises then."""
        return [] if self._on_commit is None else [(event.seq, _encode(event)) for event in events]
