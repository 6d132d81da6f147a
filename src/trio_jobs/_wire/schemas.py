"""Jobs, attempts, events and errors as private Structs of the wire. Times are seconds since the epoch, UTC.

What is withheld has no field here: payloads, results and tracebacks are in no event and in no list.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from trio_jobs._engine.operator_events import VerifyWord
from trio_jobs._engine.states import EndedBy, OperatorEnding, Outcome, State

__all__ = [
    "ErrorData",
    "JobId",
    "Labels",
    "OneJobId",
    "RequestId",
    "Seq",
    "SubscriptionId",
    "WireAction",
    "WireAttempt",
    "WireError",
    "WireEvent",
    "WireJob",
]

RequestId = Annotated[str, Meta(max_length=64)] | Annotated[int, Meta(ge=-(2**53), le=2**53)]

JobId = Annotated[str, Meta(min_length=1, max_length=64, description="A job's id.")]
OneJobId = Annotated[
    str, Meta(min_length=1, max_length=64, description="A job's id, or at least its last 6 characters.")
]
Labels = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=64)], Annotated[str, Meta(min_length=1, max_length=64)]],
    Meta(max_length=8, description="Values by name, which has no =."),
]
Seq = Annotated[int, Meta(ge=0, description="Number of an event; 0 is before the first.")]
SubscriptionId = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._:-]{1,64}$(?!\n)",  # $ alone matches before a newline at the end too
        description="Chosen by the client, so that the first event is recognised even if it overtakes the answer.",
    ),
]


class WireError(Struct, frozen=True, omit_defaults=True):
    """An error of an attempt. The traceback is sent only by jobs.get, to a token of scope operate or
    control."""

    type: str
    message: str = ""
    code: str | int | None = None
    traceback: str | None = None


class WireAttempt(Struct, frozen=True, omit_defaults=True):
    """One attempt of a job."""

    number: int
    run: int
    started_at: float
    ended_at: float | None = None
    outcome: Outcome | None = None
    ended_by: EndedBy | None = None
    error: WireError | None = None
    entered: bool = False
    late: bool = False
    overdue: bool = False


class WireAction(Struct, frozen=True, omit_defaults=True):
    """What an operator did: cancel, retry or resolve a job; pause, resume, drain or undrain the queue. seq: of its
    event. job, kind, key: in queue.activity, of an action on a job. detail: of resolve done, not_done or failed; of
    cancel requested, if an attempt was running; of retry even_if_acted, if that was permitted. by, note: sent to
    tokens of scope operate or control only."""

    action: str
    seq: int
    at: float
    by: str | None = None
    note: str | None = None
    detail: str = ""
    job: str | None = None
    kind: str | None = None
    key: str | None = None


class WireJob(Struct, frozen=True, omit_defaults=True):
    """A job as it was at event `seq`: every event of the job with this or a lower seq is contained in it.

    attempts: the number of attempts. history: the attempts, sent by jobs.get and jobs.find only: the newest of them, if
    all together exceed 512 KiB. payload: sent by the same methods only. actions: what operators did, the newest 20; in
    a list and a snapshot the newest one alone. payload, by, labels: sent to a token of scope operate or control only.
    position, expected_wait: of a pending job, where `live` was requested.
    """

    id: str
    kind: str
    state: State
    seq: int
    submitted_at: float
    changed_at: float
    key: str | None = None
    due_at: float | None = None
    deadline_at: float | None = None
    by: str | None = None
    labels: dict[str, str] | None = None
    claimed_by: str | None = None
    claimed_until: float | None = None
    run: int = 1
    attempts: int = 0
    retries_used: int = 0
    snoozes: int = 0
    cancel_requested: bool = False
    may_have_acted: bool = msgspec.field(default=False, name="acted")
    inside: bool = False
    reason: str = ""
    error: WireError | None = None
    result_problem: str | None = None
    history: list[WireAttempt] | None = None
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    earlier_payloads: dict[str, msgspec.Raw] | None = None
    actions: tuple[WireAction, ...] | None = None
    position: int | None = None
    expected_wait: float | None = None


class WireEvent(Struct, frozen=True, omit_defaults=True):
    """One accepted change. state: of the job after the event; absent if the event is legal in several states and leaves
    each as it is. An event of the queue itself has neither job nor state. action: what an operator did, if that is the
    cause. by, note, labels: sent to a token of scope operate or control only."""

    seq: int
    at: float
    type: str
    job: str | None = None
    kind: str | None = None
    state: State | None = None
    key: str | None = None
    due_at: float | None = None
    delay: float | None = None
    deadline_at: float | None = None
    deadline_after: float | None = None
    expired: bool | None = None
    even_if_acted: bool = False
    early: bool = False
    until: float | None = None
    answer: VerifyWord | None = None
    attempt: int = 0
    step: str | None = None
    outcome: Outcome | None = None
    limit: EndedBy | None = None
    ended_by: EndedBy | None = None
    entered: bool = False
    late: bool = False
    may_have_acted: bool = msgspec.field(default=False, name="acted")
    uses_retry: bool = True
    retryable: bool = True
    inside: bool = False
    asked: bool = False
    interrupted: bool = False
    crashed: bool = False
    verifying: bool = False
    unclean: bool = False
    reason: str = ""
    error: WireError | None = None
    problem: str | None = None
    session: int | None = None
    jobs: tuple[str, ...] | None = None
    culprit: str | None = None
    by: str | None = None
    note: str | None = None
    labels: dict[str, str] | None = None
    action: OperatorEnding | None = None


class ErrorData(Struct, frozen=True, omit_defaults=True):
    """The facts of an error. Which fields are set depends on its code. index: which of the `jobs` of the request is
    refused, from 0, if one of them is. problem: invalid-payload or unknown-kind, if that is it. why: what is wrong with
    the payload; of a key conflict, whether its job can be corrected. known: the kinds that there are."""

    problem: str | None = None
    index: int | None = None
    kind: str | None = None
    why: str | None = None
    known: list[str] | None = None
    job: str | None = None
    jobs: list[str] | None = None
    given: str | None = None
    state: str | None = None
    key: str | None = None
    capacity: int | None = None
    waiting: int | None = None
    retry_after: float | None = None
    limit: str | None = None
    epoch: str | None = None
    seq: int | None = None
    oldest: int | None = None
    if_seq: int | None = None
    by: str | None = None
    until: float | None = None
