"""Keeps the list of what operators did beyond the events from which it is made.

The store writes the list with the first events that it removes, so an action is in the events, in the list, or in both:
its number tells that it is the same.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

import msgspec

from trio_jobs._engine.operator_actions import ActionRecord
from trio_jobs._kept_activity import KeepsActivity
from trio_jobs._log import Log
from trio_jobs._runtime.event_log import EventLog

__all__ = ["ActivityKeeper"]

log: Final = Log("trio_jobs.queue")

MOST: Final = 2_000  #: actions that are kept, the newest: half a megabyte, written when jobs are pruned

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[ActionRecord]).decode


class ActivityKeeper:
    """Writes the list to the store of a queue, if it can keep one, and reads it at the start."""

    def __init__(self, event_log: EventLog) -> None:
        self._event_log = event_log
        self._activity = event_log.projection.activity
        self._kept = 0

    def restore(self) -> None:
        """Add the actions of events that are removed. Called once, when the store is open."""
        store = self._event_log.store
        text = store.activity() if isinstance(store, KeepsActivity) else None
        if text is None:
            return
        try:
            self._activity.restore(_decode(text))
        except msgspec.MsgspecError as error:
            log.warning("what operators did before the last prune cannot be read: %s", error)

    def keep(self) -> None:
        """Pass the newest actions to the store, if they have changed since the last call. Before events are removed."""
        store, version = self._event_log.store, self._activity.version
        if version == self._kept or not isinstance(store, KeepsActivity):
            return
        newest = [*islice(self._activity.page(None, self._event_log.committed_seq), MOST)]
        store.keep_activity(_encode(newest[::-1]).decode())
        self._kept = version
