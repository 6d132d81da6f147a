"""Tuples that the garbage collector does not visit. Pure."""

from __future__ import annotations

import gc

__all__ = ["untrack"]


def untrack(items: object) -> None:
    """Let the collector visit a tuple now if it has not done so since the tuple was made.

    It tracks each tuple until a collection has visited it once, and found no item that it tracks. In a queue in memory
    few other objects are made, so a collection comes when hundreds of tuples are there: their 70,000 items, which have
    left the caches of the processor by then, stopped the event loop for 8 ms.
    """
    if isinstance(items, tuple) and gc.is_tracked(items) and gc.isenabled():
        gc.collect(0)
