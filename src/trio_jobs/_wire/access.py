"""The parameters and results of the methods about who may use a server."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_jobs._wire.params import Params
from trio_jobs._wire.schemas import OneJobId

__all__ = ["CreateTicket", "LoginResult", "TicketResult", "TicketsRevoked"]


class LoginResult(Struct, frozen=True):
    """code: to be opened in a browser as `/#login=CODE`, once. expires_in: seconds for which it is valid. page: the URL
    of the page without its last slash, if the server has a public URL; else the page is beside the WebSocket."""

    code: str
    expires_in: float
    page: str | UnsetType = UNSET


class CreateTicket(Params, frozen=True):
    """job: the job that the ticket shows. seconds: for which it is valid, at most 30 days. show: beside the state and
    what else a token of scope watch is sent, the result or the payload of the job."""

    job: OneJobId
    seconds: Annotated[float, Meta(ge=1, le=30 * 86_400)] = 86_400.0
    show: Annotated[list[Literal["state", "result", "payload"]], Meta(max_length=3)] = []  # noqa: RUF012 - msgspec copies it


class TicketResult(Struct, frozen=True):
    """ticket: what a client presents instead of a token. expires_at: when it expires."""

    ticket: str
    expires_at: float


class TicketsRevoked(Struct, frozen=True):
    """No ticket that was made before is valid any more."""
