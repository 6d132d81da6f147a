"""The methods that return what has happened, what operators did, and whether the queue works."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final, Protocol

from trio_jobs._backend import Backend
from trio_jobs._wire.codes import Scope
from trio_jobs._wire.conversion import action_to_wire
from trio_jobs._wire.field_scopes import limit_to
from trio_jobs._wire.health import HealthResult, health_to_wire
from trio_jobs._wire.histories import Activity, ActivityResult, History
from trio_jobs._wire.history_pages import HistoryOut, history_page
from trio_jobs._wire.params import Params

__all__ = ["METHODS"]


class _Read(Protocol):
    """Execute a method.

    Args:
        backend: The queue.
        params: The parameters.
        scope: Of the token.

    Raises and Cancelled: as the corresponding method of `Queue`.
    """

    def __call__(self, backend: Backend, params: Any, scope: Scope, /) -> Awaitable[Any]: ...


async def _history(backend: Backend, params: History, scope: Scope) -> HistoryOut:
    job = backend.get(params.job, brief=True)
    found = await backend.history(job.id)
    return history_page(found, job, params.after, params.limit, lambda event: limit_to(event, scope))


async def _activity(backend: Backend, params: Activity, scope: Scope) -> ActivityResult:
    seq = backend.events.seq
    actions = backend.activity(before=params.before, limit=params.limit + 1, by=params.by)
    more = len(actions) > params.limit
    return ActivityResult(seq, [action_to_wire(one) for one in actions[: params.limit]], more)


async def _health(backend: Backend, params: Params, scope: Scope) -> HealthResult:
    return health_to_wire(backend.health())


METHODS: Final[dict[str, _Read]] = {"jobs.history": _history, "queue.activity": _activity, "queue.health": _health}
