"""The faults that `check_handler` injects, one in each run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from trio_jobs._engine.handlers import Handler
from trio_jobs.testing._instrumented import HANDLER_RETURN, CallRecorder, FaultPlan

__all__ = ["MAX_CALL_SITES", "plans"]

#: How many call sites of one handler are checked; the report says if there are more
MAX_CALL_SITES: Final = 200


def plans(
    handler: Handler, recorder: CallRecorder, limit: float, error: Callable[[], Exception]
) -> Iterator[FaultPlan]:
    """The faults, the most common first."""
    sites = recorder.call_sites[:MAX_CALL_SITES]
    for site in sites:
        if site.name != HANDLER_RETURN:  # a handler that has returned cannot raise any more
            yield FaultPlan("raise", site, error=error())
    for site in sites:
        yield FaultPlan("die", site)
    for site in sites:
        yield FaultPlan("cancel", site)
    if handler.is_async:
        for number in range(1, min(recorder.checkpoints, MAX_CALL_SITES) + 1):
            yield FaultPlan("cancel", checkpoint=number)
    for site in sites:
        yield FaultPlan("slow", site, seconds=limit * 2)
    for site in sites:
        yield FaultPlan("stop", site)
