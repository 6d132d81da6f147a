"""The methods that make and revoke tickets, and what a ticket allows."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final, Protocol

import msgspec

from trio_jobs._backend import Backend
from trio_jobs._server.identity import Identity
from trio_jobs._server.queue_keys import QueueKeys
from trio_jobs._server.tickets import create_ticket
from trio_jobs._wire.access import CreateTicket, TicketResult, TicketsRevoked
from trio_jobs._wire.field_scopes import limit_to
from trio_jobs._wire.methods import ResultResult
from trio_jobs._wire.params import Params
from trio_jobs._wire.schemas import WireJob

__all__ = ["ALLOWED", "METHODS", "limited"]

#: The methods that a client with a ticket can use
ALLOWED: Final = frozenset(
    {"server.hello", "requests.cancel", "jobs.get", "jobs.result", "jobs.subscribe", "jobs.unsubscribe"}
)


class _Execute(Protocol):
    """Execute a method.

    Args:
        keys: The keys of the queue.
        backend: The queue.
        params: The parameters.
    """

    def __call__(self, keys: QueueKeys, backend: Backend, params: Any, /) -> Awaitable[Any]: ...


async def _create(keys: QueueKeys, backend: Backend, params: CreateTicket) -> TicketResult:
    job = backend.get(params.job, brief=True).id
    key = await keys.for_tickets()
    expires_at = int(backend.now() + params.seconds)
    return TicketResult(create_ticket(job, expires_at, params.show, key), float(expires_at))


async def _revoke(keys: QueueKeys, backend: Backend, params: Params) -> TicketsRevoked:
    await keys.revoke_tickets()
    return TicketsRevoked()


METHODS: Final[dict[str, _Execute]] = {"tickets.create": _create, "tickets.revoke": _revoke}


def limited(value: Any, identity: Identity) -> Any:
    """What a client is sent of a result: the fields of its scope, and those that its ticket shows."""
    if not isinstance(value, msgspec.Struct):
        return value
    sent = limit_to(value, identity.scope)
    show = frozenset() if identity.ticket is None else identity.ticket.show
    if isinstance(value, WireJob) and "payload" in show:
        return msgspec.structs.replace(sent, payload=value.payload)
    if isinstance(value, ResultResult) and "result" in show:
        return msgspec.structs.replace(sent, result=value.result, problem=value.problem, withheld=False)
    return sent
