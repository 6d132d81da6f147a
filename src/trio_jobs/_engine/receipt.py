"""The answer of a submit. Pure."""

from __future__ import annotations

from typing import final

import msgspec

from trio_jobs._engine.states import State

__all__ = ["Receipt"]


@final
class Receipt(msgspec.Struct, frozen=True, gc=False):
    """The answer of a submit.

    For a new job `position` and `state` are those of the moment in which the job was accepted; for a known key, those
    of now.
    """

    job_id: str
    """The id of the job."""
    created: bool
    """False if the key was known: the receipt is that of the existing job."""
    position: int
    """The position in the channel: 1 for the next job to start, 0 for a job that is not waiting there."""
    state: State
    """The state of the job."""
    expected_wait: float | None = None
    """Seconds until the job starts if attempts take as long as recent ones of each kind. None before the first attempt
    of the queue has ended, while it is paused or stuck, and while the SDK does not open."""
