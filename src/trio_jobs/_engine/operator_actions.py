"""What operators did: who, when and why, as it is kept on the job and in the activity of the queue. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal, final

import attrs
import msgspec

from trio_jobs._engine.json_values import json_fields, moment

__all__ = ["MAX_ACTIONS", "NO_ACTIONS", "ActionName", "ActionRecord", "OperatorAction", "view_action"]

MAX_ACTIONS: Final = 20  #: actions that are kept with a job, the newest: more are in its history

ActionName = Literal[
    "cancel", "retry", "resolve", "correct", "verify", "reschedule", "run_now", "claim", "release",
    "pause", "resume", "drain", "undrain", "forget",
]  # fmt: skip


class ActionRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """See `OperatorAction`."""

    action: ActionName
    seq: int
    at: float
    by: str | None = None
    note: str | None = None
    detail: str = ""
    job: str | None = None
    kind: str | None = None
    key: str | None = None

    def of_job(self, job: str, kind: str, key: str | None) -> ActionRecord:
        """The action with what names its job."""
        return msgspec.structs.replace(self, job=job, kind=kind, key=key)


NO_ACTIONS: Final[tuple[ActionRecord, ...]] = ()


@final
@attrs.frozen
class OperatorAction:
    """What an operator did to a job or to the queue. It is recorded together with the change that it made."""

    action: str
    """cancel, retry, resolve, correct, verify, reschedule, run_now, claim or release: of a job. pause, resume, drain or
    undrain: of the queue. forget: what is left of a job."""
    seq: int
    """The number of its event."""
    at: datetime
    """When it was done, UTC."""
    by: str | None
    """Who did it: the name of a token, or `by` of the call; None if it was called without. None for a client of scope
    `watch`."""
    note: str | None
    """Why, as given by the operator: the note of the call, the reason of a pause. None for a client of scope
    `watch`."""
    detail: str = ""
    """resolve: done, not_done or failed. cancel: requested, if an attempt was running. retry: even_if_acted, if that
    was permitted. verify: done, not_done or unknown, if the job had failed or was cancelled. Otherwise empty."""
    job: str | None = None
    """The id of the job; None for an action on the queue."""
    kind: str | None = None
    """The kind of the job."""
    key: str | None = None
    """The key of the job."""

    def to_dict(self) -> dict[str, Any]:
        """The action as JSON types, for `json.dumps`: the fields by name, without those that are None or empty."""
        return {name: value for name, value in json_fields(self).items() if value not in (None, "")}


def view_action(record: ActionRecord) -> OperatorAction:
    """The record as a public value."""
    return OperatorAction(
        record.action, record.seq, moment(record.at), record.by, record.note, record.detail,
        record.job, record.kind, record.key,
    )  # fmt: skip
