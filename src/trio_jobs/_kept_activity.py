"""The port of a store that keeps what operators did."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["KeepsActivity"]


@runtime_checkable
class KeepsActivity(Protocol):
    """A store that keeps the list of what operators did longer than the events of the jobs to which they did it.

    With another store an action is forgotten with the events around it. `MemoryStore` and `SqliteStore` conform.
    """

    def activity(self) -> str | None:
        """The list that was kept last; None for none. Called once, after `open`."""
        ...

    def keep_activity(self, actions: str) -> None:
        """Keep a list, which replaces the earlier one, at the latest when the next `prune` or `forget` removes events.

        Args:
            actions: JSON, of a megabyte at most.
        """
        ...
