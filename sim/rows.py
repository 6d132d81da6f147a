"""The journal as somebody reads it who knows nothing of our code: rows of JSON, and what each type of event means."""

from __future__ import annotations

from typing import Any, Final

import msgspec

__all__ = ["FINAL_TYPES", "STATE_AFTER", "Row", "read"]


class Row(msgspec.Struct, gc=False):
    """One event. Fields that its type does not have are left as they stand here."""

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
    reason: str = ""
    kind: str = ""
    payload: Any = None
    key: str | None = None
    due_at: float | None = None
    deadline_at: float | None = None
    uses_retry: bool = True
    step: str = ""


read: Final = msgspec.json.Decoder(Row).decode

#: The state that an event leads to; those that leave it as it is are not here
STATE_AFTER: Final = {
    "submitted": "pending",
    "scheduled": "scheduled",
    "due": "pending",
    "started": "processing",
    "completed": "completed",
    "retrying": "retrying",
    "snoozed": "scheduled",
    "interrupted": "pending",
    "in_doubt": "in_doubt",
    "released": "pending",
    "failed": "failed",
    "cancelled": "cancelled",
    "retried": "pending",
}
FINAL_TYPES: Final = ("completed", "failed", "cancelled")
