"""What a request requires of the scope of its token, beside that of its method."""

from __future__ import annotations

from datetime import datetime

from trio_jobs._engine.job_filter import ListConditions
from trio_jobs._engine.json_values import moment
from trio_jobs._server.identity import Identity
from trio_jobs._wire.codes import ErrorCode, Scope
from trio_jobs._wire.job_lists import Conditions
from trio_jobs._wire.jsonrpc import RpcError
from trio_jobs._wire.scopes import includes

__all__ = ["as_moment", "list_conditions", "require"]


def require(identity: Identity, least: Scope, what: str) -> None:
    """Refuse `what` to a token whose scope does not include `least`.

    Raises:
        RpcError: It does not.
    """
    scope = identity.scope
    if not includes(scope, least):
        raise RpcError(ErrorCode.PERMISSION_DENIED, f"{what} requires a token of scope {least}; this one has {scope}")


def list_conditions(params: Conditions) -> ListConditions:
    """The conditions of a request as keywords."""
    return ListConditions(
        state=params.state,
        states=params.states,
        kind=params.kind,
        key_prefix=params.key_prefix,
        error_type=params.error_type,
        may_have_acted=params.may_have_acted,
        labels=params.labels,
        by=params.by,
        since=as_moment(params.since),
        until=as_moment(params.until),
    )


def as_moment(at: float | None) -> datetime | None:
    """Seconds since the epoch as an aware datetime."""
    return None if at is None else moment(at)
