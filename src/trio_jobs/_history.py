"""Floor 5: the history. Decide and apply to the head are one step, which also hands the events to the store.

`record` is the only way in which anything changes. It is synchronous: whoever decides on the head, decides on all that
was decided before. What was recorded is not yet known to be kept: readers and subscribers see the committed prefix,
which the store reports to `_on_commit`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trio_jobs import _events as ev
from trio_jobs._engine.head import Head
from trio_jobs._ports import Store

__all__ = ["History"]

Listener = Callable[[ev.Event], None]


class History:
    """The head, the store it is kept in, and those who are told of each committed event.

    `reactions` by class of event run before `publish`, which gets them all, group by group.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.head = Head()
        self.committed_seq = 0
        self._is_open = False
        self.reactions: dict[type[ev.Event], Listener] = {}
        self.publish: Callable[[Sequence[ev.Event]], None] = lambda events: None

    @property
    def next_seq(self) -> int:
        return self.head.seq + 1

    async def restore(self) -> None:
        """Open the store and fold what it kept."""
        kept = await self.store.open(self._on_commit)
        self._is_open = True
        for event in kept:
            # seqs of pruned jobs are missing
            self.head.seq = event.seq - 1
            self.head.apply(event)
        self.head.seq = self.committed_seq = self.store.last_seq

    async def aclose(self) -> None:
        """Close the store, if it was opened here: what could not be opened may be in use by somebody else."""
        if self._is_open:
            self._is_open = False
            await self.store.aclose()

    def record(self, events: Sequence[ev.Event]) -> None:
        """Apply these events to the head and hand them to the store. None: there was nothing to decide."""
        if not events:
            return
        apply = self.head.apply
        for event in events:
            apply(event)
        self.store.append(events)

    def _on_commit(self, events: Sequence[ev.Event]) -> None:
        self.committed_seq = events[-1].seq
        reactions = self.reactions
        for event in events:
            reaction = reactions.get(type(event))
            if reaction is not None:
                reaction(event)
        self.publish(events)
