"""Errors of what operators request: somebody else was first."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from trio_jobs._errors import InvalidState

__all__ = ["JobChanged", "JobClaimed"]


class JobChanged(InvalidState):
    """The job has changed since the event that the request names (`if_seq`). Nothing was done: look at the job again,
    then repeat the request if it is still right."""

    if_seq: Final[int]
    """The event that the request names."""

    seq: Final[int]
    """The last event of the job."""

    def __init__(self, job_id: str, state: str, if_seq: int, seq: int) -> None:
        self.if_seq = if_seq
        self.seq = seq
        super().__init__(
            job_id, state, f"it has changed since event {if_seq} (it is at {seq}); look at it again, then decide"
        )


class JobClaimed(InvalidState):
    """Somebody else has claimed the job. Nothing was done: ask them, wait until the claim ends, or take it over."""

    claimed_by: Final[str]
    """Who has claimed it."""

    until: Final[datetime]
    """When the claim ends, UTC."""

    def __init__(self, job_id: str, state: str, claimed_by: str, until: datetime) -> None:
        self.claimed_by = claimed_by
        self.until = until
        super().__init__(
            job_id,
            state,
            f"{claimed_by} has claimed it until {until:%Y-%m-%d %H:%M:%S} UTC; ask them, or take it over "
            "(take_over=True)",
        )
