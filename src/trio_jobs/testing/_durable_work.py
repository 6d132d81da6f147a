"""Whether what a handler returned is durable: `check_handler` asks its verify in a new session, as after a crash."""

from __future__ import annotations

from typing import Any, Final

import attrs

from trio_jobs._engine import events as ev
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import Job, NotDone, State
from trio_jobs.testing.crashable_store import CrashableStore

__all__ = ["ADVICE", "as_if_interrupted", "has_lost_work", "is_asked", "without_work"]

ADVICE: Final = (
    "what it does is in the memory of the session, or is rolled back when the session is closed: give the service "
    "`save=`, or let the handler commit"
)


def is_asked(handler: Handler) -> bool:
    """Whether verify is called after a crash."""
    return handler.verify is not None and not handler.rules.idempotent


def as_if_interrupted(storage: CrashableStore) -> CrashableStore:
    """Return a copy that ends before the first handler returned: the next process finds an interrupted attempt."""
    copy = CrashableStore()
    for event in storage.events:
        if isinstance(event, ev.Returned | ev.Completed):
            break
        copy.events.append(event)
        copy.last_seq = event.seq
    return copy


def without_work(handler: Handler) -> Handler:
    """Return the handler with a function that does nothing, for a job that is to be verified and not to be done."""

    def nothing(*args: Any) -> None:
        pass

    async def anothing(*args: Any) -> None:
        pass

    return attrs.evolve(handler, fn=anothing if handler.is_async else nothing)


def has_lost_work(job: Job, verdicts: list[tuple[Any, Any]]) -> bool:
    """Whether a completed job is not found by the verify that was then asked in a new session.

    Args:
        job: As it was at the end of a run without a fault.
        verdicts: The answers of that verify.
    """
    return job.state is State.COMPLETED and bool(verdicts) and isinstance(verdicts[0][0], NotDone)
