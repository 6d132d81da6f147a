"""What few jobs have: parts of a `JobRecord` that are None in all others. Pure."""

from __future__ import annotations

import msgspec

from trio_jobs._engine.states import Outcome

__all__ = ["Claim", "Doubt", "Unsaved", "Wait"]


class Doubt(msgspec.Struct, frozen=True, gc=False):
    """Why a job is in doubt."""

    outcome: Outcome
    """The outcome of its attempt."""
    retryable: bool
    """The retry policy would retry the error."""
    inside: bool
    """The call into the SDK has not returned yet."""
    asked: bool
    """`verify` was called and returned `Unknown`."""
    interrupted: bool = False
    """The attempt has not failed: after `NotDone` the job is pending again, and no retry is used."""
    verifying: bool = False
    """`verify` was called and has not answered. If the process has died since, it died during that call."""


class Unsaved(msgspec.Struct, frozen=True, gc=False):
    """What a handler has returned, as long as its work is not saved."""

    result: msgspec.Raw | None
    problem: str | None


class Wait(msgspec.Struct, frozen=True, gc=False):
    """A wait that was given in seconds, not as a date."""

    seconds: float
    end: float | None
    """On the clock of elapsed seconds. None if the wait did not begin in this process."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """Who works on a job, and until when."""

    by: str | None
    until: float
