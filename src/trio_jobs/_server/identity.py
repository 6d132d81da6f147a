"""Who a client is, and what it may do: what its token, page session or ticket says."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import attrs

from trio_jobs._engine.bounds import UNBOUND, Bounds
from trio_jobs._wire.codes import Scope

__all__ = ["Identity", "InvalidCredential", "Problem", "TicketRights"]


class Problem(StrEnum):
    """Why a credential is not accepted, as it is told to the client."""

    MISSING = "the token is missing or invalid"
    REMOVED = "the token was removed"
    CHANGED = "the credential was changed or is not complete: request a new one"
    EXPIRED = "the ticket has expired: request a new one"
    FOREIGN = "the ticket is of another queue, or was revoked: request a new one"
    SESSION_EXPIRED = "the page session has expired: log in again"
    SESSION_ENDED = "the page session has ended, or its token has changed: log in again"


class InvalidCredential(Exception):
    """A client cannot be identified.

    Args:
        problem: Why. It contains nothing of the credential.
    """

    def __init__(self, problem: Problem = Problem.MISSING) -> None:
        self.problem = problem
        super().__init__(str(problem))


@attrs.frozen
class TicketRights:
    """What a ticket allows: to follow one job."""

    job: str
    """The id of the job."""
    show: frozenset[Literal["state", "result", "payload"]]
    """What it shows of the job, beside what a token of scope watch is sent."""


@attrs.frozen
class Identity:
    """A client."""

    name: str
    """The name of its token. Recorded as `by` of its operations."""
    scope: Scope
    """What it may do."""
    bounds: Bounds = UNBOUND
    """The jobs that it may know about."""
    credential: str = attrs.field(default="", repr=False)
    """Names its token or its ticket, so that all its connections share the limits of that. It is no secret."""
    session: str | None = attrs.field(default=None, repr=False)
    """The id of its page session; None if it has presented the token itself, or a ticket."""
    until: float | None = None
    """When its page session or its ticket expires, in seconds since 1970; None for a token."""
    ticket: TicketRights | None = None
    """What its ticket allows; None without one."""
