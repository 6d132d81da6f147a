"""The events of the journal, decoded without the code of the queue, and the state that each type of event leads to."""

from __future__ import annotations

from typing import Any, Final

import msgspec

__all__ = ["FINAL_TYPES", "NEW_RUNS", "STATE_AFTER", "Row", "read"]


class Row(msgspec.Struct, gc=False):
    """One event. Fields that its type does not have keep these defaults."""

    type: str
    seq: int
    at: float
    job: str = ""
    attempt: int = 0
    outcome: str | None = None
    ended_by: str | None = None
    entered: bool = False
    acted: bool = False
    inside: bool = False
    asked: bool = False
    crashed: bool = False
    verifying: bool = False
    reason: str = ""
    kind: str = ""
    payload: Any = None
    key: str | None = None
    due_at: float | None = None
    delay: float | None = None
    deadline_at: float | None = None
    deadline_after: float | None = None
    uses_retry: bool = True
    even_if_acted: bool = False
    early: bool = False
    answer: str = ""
    step: str = ""
    unclean: bool = False
    problem: str | None = None
    time: float = 0.0
    """When it happened, in virtual seconds. Not in the journal: the oracle finds it by `at`."""


read: Final = msgspec.json.Decoder(Row).decode

#: The state that an event leads to; events that do not change the state are missing
STATE_AFTER: Final = {
    "submitted": "pending",
    "scheduled": "scheduled",
    "due": "pending",
    "started": "processing",
    "returned": "saving",
    "completed": "completed",
    "retrying": "retrying",
    "snoozed": "scheduled",
    "interrupted": "pending",
    "in_doubt": "in_doubt",
    "released": "pending",
    "failed": "failed",
    "cancelled": "cancelled",
    "retried": "pending",
    "corrected": "pending",
    "rescheduled": "scheduled",
}
FINAL_TYPES: Final = ("completed", "failed", "cancelled")
NEW_RUNS: Final = ("retried", "corrected")  #: events of operators with which a job begins again
