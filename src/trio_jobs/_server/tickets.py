"""Tickets: texts with which anybody can follow one job, such as the customer who has ordered something.

A ticket is `t1.kid.payload.signature` (see `signatures`), signed with a random key of the queue. The key is none of a
token's, so a token cannot be guessed from a ticket, and no token need be changed to revoke all tickets.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from trio_jobs._engine.bounds import Bounds
from trio_jobs._server.identity import Identity, InvalidCredential, Problem, TicketRights
from trio_jobs._server.signatures import decode64, encode64, is_signed_by, key_id, sign, split

__all__ = ["MAX_TICKET", "PREFIX", "Show", "create_ticket", "read_ticket"]

PREFIX: Final = "t1"
MAX_TICKET: Final = 30 * 86_400  #: seconds for which a ticket can be valid

Show: TypeAlias = Literal["state", "result", "payload"]


class _Payload(Struct, frozen=True, array_like=True):
    job: Annotated[str, Meta(min_length=1, max_length=64)]
    exp: int
    show: list[Show]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Payload).decode


def create_ticket(job: str, expires_at: float, show: Collection[Show], key: bytes) -> str:
    """Make a ticket.

    Args:
        job: The whole id of the job.
        expires_at: When it expires, in seconds since 1970.
        show: What it shows, beside the state of the job.
        key: The current key of the queue.
    """
    return sign(PREFIX, key, _encode(_Payload(job, int(expires_at), sorted({*show, "state"}))))


def read_ticket(text: str, keys: Collection[bytes], now: float) -> Identity:
    """Return the client that has this ticket.

    Args:
        text: The ticket.
        keys: The keys of the queue whose tickets are valid.
        now: The time, in seconds since 1970.

    Raises:
        InvalidCredential: It is no ticket of this queue, was changed, or has expired.
    """
    signed = split(PREFIX, text)
    if signed is None:
        raise InvalidCredential(Problem.CHANGED)
    key = next((key for key in keys if key_id(key) == signed.kid), None)
    if key is None:
        raise InvalidCredential(Problem.FOREIGN)
    if not is_signed_by(key, signed):
        raise InvalidCredential(Problem.CHANGED)
    try:
        payload = _decode(decode64(signed.payload))
    except (ValueError, msgspec.MsgspecError):  # it is signed, so it was made by another version
        raise InvalidCredential(Problem.CHANGED) from None
    if payload.exp <= now:
        raise InvalidCredential(Problem.EXPIRED)
    # all clients of one ticket share its limits; the name of the ticket must not be a ticket
    credential = f"{PREFIX}.{signed.kid}.{encode64(_encode(payload))}"
    rights = TicketRights(payload.job, frozenset(payload.show))
    bounds = Bounds(jobs=[payload.job])
    return Identity("ticket", "watch", bounds, credential=credential, until=float(payload.exp), ticket=rights)
