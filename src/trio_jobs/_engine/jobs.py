"""Jobs and attempts: the records that the engine writes, and the frozen values that users get.

`JobRecord` and `AttemptRecord` are the one exception to "values are frozen": only `_engine.fold` writes them. Copying a
frozen record at each change would halve the throughput of the queue. All code outside the engine and the runtime gets
`Job` and `Attempt`, which are frozen. The records cannot be part of a reference cycle, so the garbage collector need
not track them (`gc=False`); this gains a tenth of the throughput.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, final

import attrs
import msgspec

from trio_jobs._engine.job_parts import Claim, Doubt, Unsaved, Wait
from trio_jobs._engine.json_values import json_fields, moment
from trio_jobs._engine.operator_actions import NO_ACTIONS, ActionRecord, OperatorAction, view_action
from trio_jobs._engine.receipt import Receipt
from trio_jobs._engine.states import (
    FINAL,
    CancelAnswer,
    Done,
    EndedBy,
    NotDone,
    OnDoubt,
    OperatorEnding,
    Outcome,
    State,
    Unknown,
    Verdict,
)
from trio_jobs._engine.struct_writes import plain_writes

__all__ = [
    "FINAL",
    "NO_STEPS",
    "UNSAFE",
    "Attempt",
    "AttemptRecord",
    "CancelAnswer",
    "Claim",
    "Done",
    "Doubt",
    "EndedBy",
    "ErrorInfo",
    "Job",
    "JobRecord",
    "NotDone",
    "OnDoubt",
    "OperatorEnding",
    "Outcome",
    "Receipt",
    "State",
    "Unknown",
    "Unsaved",
    "Verdict",
    "Wait",
    "escape",
    "open_step",
    "to_datetime",
    "view",
]

MAX_MESSAGE: Final = 1024
MAX_TRACEBACK: Final = 16 * 1024


@final
class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is kept of an exception."""

    type: str
    """The name of the class."""
    message: str = ""
    """At most 1 KiB."""
    code: str | int | None = None
    """The exception's `code`, `hresult` or `errno`, if it has one: the SDK's own number or name of the error."""
    traceback: str | None = None
    """The last 16 KiB of the traceback. Never logged by default; a client needs a token of scope `operate`."""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


@plain_writes
class AttemptRecord(msgspec.Struct, gc=False):
    """See `Attempt`."""

    number: int
    run: int
    started_at: float
    entered: bool
    ended_at: float | None = None
    outcome: Outcome | None = None
    ended_by: EndedBy | None = None
    error: ErrorInfo | None = None
    late: bool = False
    overdue: bool = False


NO_STEPS: Final[Mapping[str, msgspec.Raw | None]] = MappingProxyType({})


@plain_writes
class JobRecord(msgspec.Struct, gc=False):
    """See `Job`. Times are seconds since the epoch, UTC. Written by `_engine.fold` alone.

    A field takes 8 bytes in each job that is kept. So what few jobs have together is one field: a struct, or None.
    """

    id: str
    kind: str
    payload: msgspec.Raw
    submitted_at: float
    submitted_seq: int
    changed_at: float
    last_seq: int
    state: State
    key: str | None = None
    digest: str | None = None
    by: str | None = None
    due_at: float | None = None
    deadline_at: float | None = None
    run: int = 1
    retries_used: int = 0
    snoozes: int = 0
    crashes: int = 0
    cancel_requested: bool = False
    # an ended attempt entered the SDK, and it has not been established since that it left nothing behind
    may_have_acted: bool = False
    # an operator permits this run to repeat what an earlier one may have done
    repeats: bool = False
    doubt: Doubt | None = None
    # results of the finished steps; None: started, and it is not known what it did
    steps: Mapping[str, msgspec.Raw | None] = NO_STEPS
    last_attempt: AttemptRecord | None = None
    # those before the last one. Few jobs have any: a tuple for each job would be an object that the collector counts,
    # and it begins a collection when 700 more were made than freed
    earlier_attempts: tuple[AttemptRecord, ...] = ()
    result: msgspec.Raw | None = None
    result_problem: str | None = None
    # from `Returned` until the job is final or starts again
    unsaved: Unsaved | None = None
    reason: str = ""
    error: ErrorInfo | None = None
    # the event that led to the state: the job's position among the jobs in that state
    state_seq: int = 0
    # the wait that ends at `due_at`, and that from the submit to `deadline_at`; None for a date
    due_wait: Wait | None = None
    deadline_wait: Wait | None = None
    # on the clock of elapsed seconds: when the last event was recorded, and the end of the last attempt that did not
    # complete the job; None if that was not in this process
    changed_elapsed: float | None = None
    ended_elapsed: float | None = None
    labels: Mapping[str, str] | None = None
    # what operators did: the newest `MAX_ACTIONS`
    actions: tuple[ActionRecord, ...] = NO_ACTIONS
    # the last event that is no remark (`events.REMARKS`): a wait that was begun before it is over
    moved_seq: int = 0
    # verify has answered NotDone since the last attempt
    not_done: bool = False
    # the payloads that corrections have replaced, each with the last run that had it, the oldest first
    earlier: tuple[tuple[int, msgspec.Raw], ...] = ()
    claim: Claim | None = None

    @property
    def attempts(self) -> tuple[AttemptRecord, ...]:
        """All attempts, in order."""
        last = self.last_attempt
        return () if last is None else (*self.earlier_attempts, last)

    @property
    def attempt(self) -> AttemptRecord:
        """The last attempt of a job that has started."""
        last = self.last_attempt
        assert last is not None, "the job has not started"
        return last

    @property
    def attempt_count(self) -> int:
        """The number of attempts."""
        return 0 if self.last_attempt is None else len(self.earlier_attempts) + 1

    @property
    def has_acted(self) -> bool:
        """See `Job.may_have_acted`: for a call that is still inside, the attempt that entered may have acted too."""
        doubt = self.doubt
        return self.may_have_acted or (doubt is not None and doubt.inside and self.attempt.entered)


def to_datetime(at: float | None) -> datetime | None:
    """Seconds since the epoch as an aware UTC datetime."""
    return None if at is None else moment(at)


@final
@attrs.frozen
class Attempt:
    """One execution of the handler, as recorded in the history of the job."""

    number: int
    """From 1, over all runs of the job. Never reused."""
    run: int
    """The run that the attempt belongs to, from 1."""
    started_at: datetime
    """When the attempt started, UTC."""
    ended_at: datetime | None
    """When the attempt ended, UTC; None while it is running."""
    outcome: Outcome | None
    """What the attempt came to; None while it is running."""
    ended_by: EndedBy | None
    """The limit that ended the attempt; None if it ended by itself."""
    error: ErrorInfo | None
    """What the handler raised, if it raised."""
    entered: bool
    """A call into the SDK began during the attempt."""
    late: bool
    """The attempt ended after its limit."""
    overdue: bool
    """The call into the SDK was still running when the limit passed."""


@final
@attrs.frozen
class Job:
    """A job as it was at event `seq`: what `Queue.get`, `Queue.list` and a client get.

    The value does not change when the job does. Over the wire some fields are not sent, as documented at each field;
    they are None then.
    """

    id: str
    """The id of the job: a UUID of version 7."""
    kind: str
    """The name of the handler."""
    state: State
    """The state of the job."""
    seq: int
    """The last event of the job. Every event of the job with this or a lower `seq` is contained in this value."""
    key: str | None
    """The key that makes the submit idempotent, unique within `kind`; None without one."""
    payload: bytes | None = attrs.field(repr=False)
    """The payload as JSON. None in a list or a snapshot of a client, and for a token of scope `watch`."""
    submitted_at: datetime
    """When the job was accepted, UTC."""
    changed_at: datetime
    """When event `seq` occurred, UTC."""
    due_at: datetime | None
    """When the job becomes due, UTC; set in `scheduled` and `retrying`."""
    deadline_at: datetime | None
    """When the job expires, UTC; None for never."""
    by: str | None
    """Who submitted the job: the name of a token, or `by` of the submit. None for a client of scope `watch`."""
    labels: dict[str, str] = attrs.field(hash=False)
    """The labels of the submit, by name. Empty for a client of scope `watch`."""
    claimed_by: str | None
    """Who has claimed the job; None if nobody has, and for a client of scope `watch`."""
    claimed_until: datetime | None
    """When the claim ends, UTC; None without one. A claim that has ended may still be shown."""
    run: int
    """The number of the run, from 1. Each retry by a person begins a new run."""
    retries_used: int
    """The number of errors, timeouts and crashes in this run."""
    snoozes: int
    """The number of snoozes in this run."""
    cancel_requested: bool
    """A person cancelled the job while an attempt was running."""
    may_have_acted: bool
    """The SDK was entered, and it is not known what that left behind."""
    inside: bool
    """The job is in doubt because a call into the SDK has not returned yet."""
    steps: tuple[str, ...] | None
    """The names of the finished steps. None over the wire, where steps are not sent."""
    open_step: str | None
    """The step that has started without a result. None if there is none, and always None over the wire."""
    attempt_count: int
    """The number of attempts so far, over all runs."""
    attempts: tuple[Attempt, ...] | None
    """The attempts, oldest first. None in a list or a snapshot of a client, where they are not sent."""
    earlier_payloads: dict[int, bytes] | None = attrs.field(repr=False, hash=False)
    """The payloads that corrections have replaced, as JSON, by the last run that had each: the newest 10. None without
    any, and where `payload` is."""
    result: bytes | None = attrs.field(repr=False)
    """The result as JSON, set in `completed`. Always None over the wire: use `Client.result`."""
    result_problem: str | None
    """Why a completed job has no result, such as a result that is too large."""
    reason: str
    """Why the job is in its state; empty if there is nothing to say."""
    error: ErrorInfo | None
    """The error that led to the state, if an error did."""
    actions: tuple[OperatorAction, ...] = ()
    """What operators did to the job: the newest 20, oldest first; in a list and a snapshot the newest one alone."""

    position: int | None = None
    """The position in the channel, 1 for the next job to start; set by `get` and `find` for a pending job. 0 while it
    waits for a slot there."""
    expected_wait: float | None = None
    """Seconds until the job starts if attempts take as long as recent ones of each kind; set with `position`. None
    while the queue is paused or stuck, and before the first attempt has ended."""

    @property
    def is_final(self) -> bool:
        """The state is `completed`, `failed` or `cancelled`."""
        return self.state in FINAL

    def to_dict(self) -> dict[str, Any]:
        """The job as JSON types (str, int, float, bool, None, list, dict), for `json.dumps`.

        Returns:
            The fields of the job by name. Times are ISO 8601 strings in UTC; `payload` and `result` are decoded from
            JSON; `attempts` is a list of dicts. `payload`, `steps`, `attempts` and `result` are left out where they are
            None here, so that None is a JSON null.
        """
        names = ("payload", "steps", "attempts", "earlier_payloads", "result")
        left_out = [name for name in names if getattr(self, name) is None]
        fields = json_fields(self)
        for name in left_out:
            del fields[name]
        return fields


def open_step(record: JobRecord) -> str | None:
    """The step that has started without a result; the outer one, if a step was started within a step."""
    return next((name for name, result in record.steps.items() if result is None), None)


def view(record: JobRecord, *, brief: bool = False) -> Job:
    """The record as a frozen value that does not change when the record does.

    Args:
        record: The record.
        brief: Without the payload, the steps, the attempts and the result, so that its size has a limit.
    """
    return Job(
        id=record.id,
        kind=record.kind,
        state=record.state,
        seq=record.last_seq,
        key=record.key,
        payload=None if brief else bytes(record.payload),
        submitted_at=moment(record.submitted_at),
        changed_at=moment(record.changed_at),
        due_at=to_datetime(record.due_at),
        deadline_at=to_datetime(record.deadline_at),
        by=record.by,
        labels={} if record.labels is None else {**record.labels},
        claimed_by=None if record.claim is None else record.claim.by,
        claimed_until=None if record.claim is None else moment(record.claim.until),
        run=record.run,
        retries_used=record.retries_used,
        snoozes=record.snoozes,
        cancel_requested=record.cancel_requested,
        may_have_acted=record.has_acted,
        inside=record.doubt is not None and record.doubt.inside,
        steps=None if brief else tuple(name for name, result in record.steps.items() if result is not None),
        open_step=open_step(record),
        attempt_count=record.attempt_count,
        attempts=None if brief else tuple(map(_attempt, record.attempts)),
        earlier_payloads=None if brief or not record.earlier else {run: bytes(old) for run, old in record.earlier},
        result=None if brief or record.result is None else bytes(record.result),
        result_problem=record.result_problem,
        reason=record.reason,
        error=record.error,
        actions=tuple(map(view_action, record.actions[-1:] if brief else record.actions)) if record.actions else (),
    )


def _attempt(record: AttemptRecord) -> Attempt:
    return Attempt(
        number=record.number,
        run=record.run,
        started_at=moment(record.started_at),
        ended_at=to_datetime(record.ended_at),
        outcome=record.outcome,
        ended_by=record.ended_by,
        error=record.error,
        entered=record.entered,
        late=record.late,
        overdue=record.overdue,
    )


# C0 and C1 controls, marks of text direction and lone surrogates: characters that could move the cursor of a terminal,
# change the order in which text is displayed, or fail to encode. To compile it takes longer than to import this module
UNSAFE: Final = r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\u061c\ud800-\udfff]"


def escape(text: str) -> str:
    r"""Foreign text made safe for a terminal or a log: each control character as its \x or \u escape."""
    return re.sub(UNSAFE, lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
