"""What can be asked, and what is told unasked: one table each, from which server, client and description are made."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from trio_jobs._engine.jobs import CancelAnswer, State
from trio_jobs._wire.codes import PROTOCOL, Scope
from trio_jobs._wire.schemas import JobId, Seq, SubscriptionId, WireError, WireEvent, WireJob

__all__ = ["METHODS", "NOTIFICATIONS", "Method", "NotificationType"]

Kind = Annotated[str, Meta(min_length=1, max_length=200, description="A handler's name.")]
Wait = Annotated[float, Meta(ge=0, le=30, description="Seconds to wait at most; 0 answers at once.")]
Time = Annotated[float, Meta(ge=0, le=253402300799, description="Seconds since the epoch, UTC.")]


class Params(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Parameters go by name; a name that is not known is an error, not something to be passed over."""


class Nothing(Params, frozen=True):
    """No parameters."""


class Hello(Params, frozen=True):
    """protocol: which one the client speaks."""

    protocol: Literal["trio-jobs.v1"] = PROTOCOL


class HelloResult(Struct, frozen=True):
    """epoch: names the history; another one means that seq numbers mean something else. seq: the last event. oldest:
    the first one from which a stream can go on. scope, name: the token's."""

    protocol: str
    epoch: str
    seq: int
    oldest: int
    scope: Scope
    name: str


class Submit(Params, frozen=True):
    """key: the same key and payload again give the same job. due_at: not before. deadline_at: it expires then. wait:
    for a place in the line."""

    kind: Kind
    payload: Any = None
    key: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    due_at: Time | None = None
    deadline_at: Time | None = None
    wait: Wait = 0.0


class SubmitResult(Struct, frozen=True):
    """created: False if the key was known. position: 1 for the next to be taken, 0 when not in the line."""

    job: str
    created: bool
    position: int
    state: State


class OneJob(Params, frozen=True):
    """job: its id."""

    job: JobId


class List(Params, frozen=True):
    """Jobs in the order of their submit (with state: of their coming into it). after: a job's id; those behind it."""

    state: State | None = None
    kind: Kind | None = None
    after: JobId | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


class ListResult(Struct, frozen=True):
    """seq: the last event when this was read. more: there is at least one behind the last of these."""

    seq: int
    jobs: list[WireJob]
    more: bool


class Result(Params, frozen=True):
    """wait: for the job's end. in_doubt: answer already when the job is in doubt, or wait on."""

    job: JobId
    wait: Wait = 0.0
    in_doubt: Literal["wait", "answer"] = "wait"


class ResultResult(Struct, frozen=True, omit_defaults=True):
    """result: what the handler returned; absent unless the job is completed and its result was kept."""

    job: str
    state: State
    final: bool
    result: Any = msgspec.UNSET
    problem: str | None = None
    reason: str = ""
    error: WireError | None = None
    may_have_acted: bool = False


class CancelResult(Struct, frozen=True):
    """answer: cancelled; requested (an attempt is under way and told to end, no retry follows); too_late."""

    job: str
    answer: CancelAnswer
    state: State


class StateResult(Struct, frozen=True):
    """The job's state now."""

    job: str
    state: State


class Resolve(Params, frozen=True):
    """What a job in doubt came to. result: with done alone."""

    job: JobId
    resolution: Literal["done", "not_done", "failed"]
    result: Any = None


class Subscribe(Params, frozen=True):
    """jobs, kinds, states: only events of these (all of the filters that are given must fit). after, with epoch: go on
    behind that event. snapshot: the jobs as they are first. Neither: from now on."""

    subscription: SubscriptionId
    jobs: Annotated[list[JobId], Meta(min_length=1, max_length=1000)] | None = None
    kinds: Annotated[list[Kind], Meta(min_length=1, max_length=100)] | None = None
    states: Annotated[list[State], Meta(min_length=1, max_length=8)] | None = None
    after: Seq | None = None
    epoch: Annotated[str, Meta(max_length=64)] | None = None
    snapshot: bool = False


class SubscribeResult(Struct, frozen=True):
    """seq: the event behind which the stream begins."""

    subscription: str
    epoch: str
    seq: int


class Unsubscribe(Params, frozen=True):
    """subscription: an id given to jobs.subscribe on this connection."""

    subscription: SubscriptionId


class UnsubscribeResult(Struct, frozen=True):
    """seq: how far the stream came; going on behind it gives what it would have given."""

    subscription: str
    seq: int


class Pause(Params, frozen=True):
    """reason: for those who ask why nothing moves."""

    reason: Annotated[str, Meta(max_length=1000)] = ""


class Done(Struct, frozen=True):
    """It is so now. seq: the last event."""

    seq: int


class Backup(Params, frozen=True):
    """name: it is written beside the journal, under the journal's name with `.backup-` and this behind it."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,100}$")]


class BackupResult(Struct, frozen=True):
    """path: on the server's machine. seq: the last event in it. events: how many are. size: bytes."""

    path: str
    seq: int
    events: int
    size: int


class StatisticsResult(Struct, frozen=True, omit_defaults=True):
    """jobs: how many, by state. waiting_callers: submits that wait for a place. waiting_jobs: jobs that do. inside: a
    call is in the SDK. mean_run: seconds. problems: empty when all is well."""

    jobs: dict[str, int]
    capacity: int
    free: int
    waiting_callers: int
    waiting_jobs: int
    session: int
    sdk_busy: bool = msgspec.field(name="inside")
    seq: int
    ok: bool
    problems: list[str]
    connections: int
    subscriptions: int
    mean_run: float | None = None


class EventParams(WireEvent, frozen=True, omit_defaults=True, kw_only=True):
    """An event and the subscription it is for."""

    subscription: str


class ProgressParams(Struct, frozen=True):
    """How far an attempt has come, by its own word. Told, not recorded: it has no seq, and the newest wins."""

    subscription: str
    job: str
    done: float
    total: float | None
    message: str


class Position(Struct, frozen=True):
    """The stream has gone past `seq`, whether or not that event was for this subscription."""

    subscription: str
    seq: int


class Lagged(Struct, frozen=True, rename={"first": "from", "last": "to"}):
    """Events from..to of this stream can no longer be had. A snapshot follows."""

    subscription: str
    first: int
    last: int


class Snapshot(Struct, frozen=True):
    """A page of jobs as they were at event `seq`. After the last page the stream goes on behind the seq that the
    subscription (or jobs.lagged) began with: an event that a job in a page already contains (seq not above the job's)
    is to be passed over."""

    subscription: str
    seq: int
    jobs: list[WireJob]
    last: bool


class Method(NamedTuple):
    """One row of the table. repeatable: asking twice does no harm, so a client may ask again after a lost answer."""

    name: str
    params: type[Params]
    result: type[Struct]
    scope: Scope
    repeatable: bool
    does: str


class NotificationType(NamedTuple):
    """What is told unasked."""

    name: str
    params: type[Struct]
    does: str


METHODS: Final = {
    row.name: row
    for row in (
        Method("server.hello", Hello, HelloResult, "watch", True, "Which history this is, and how far it reaches."),
        Method("jobs.submit", Submit, SubmitResult, "control", False, "Accept a job."),
        Method("jobs.get", OneJob, WireJob, "watch", True, "A job with its history."),
        Method("jobs.list", List, ListResult, "watch", True, "A page of jobs."),
        Method("jobs.result", Result, ResultResult, "watch", True, "What a job came to."),
        Method("jobs.cancel", OneJob, CancelResult, "control", True, "Cancel a job."),
        Method("jobs.retry", OneJob, StateResult, "control", False, "Begin a new run of a failed or cancelled job."),
        Method("jobs.resolve", Resolve, StateResult, "control", False, "Settle a doubt."),
        Method("jobs.subscribe", Subscribe, SubscribeResult, "watch", True, "A stream of events."),
        Method("jobs.unsubscribe", Unsubscribe, UnsubscribeResult, "watch", True, "End a stream."),
        Method("queue.pause", Pause, Done, "control", True, "Start nothing more."),
        Method("queue.resume", Nothing, Done, "control", True, "Go on."),
        Method("queue.drain", Nothing, Done, "control", True, "Take no new jobs, and answer when all work is done."),
        Method("queue.backup", Backup, BackupResult, "control", False, "Copy the journal to a new file beside it."),
        Method("queue.statistics", Nothing, StatisticsResult, "watch", True, "How full, how busy, how well."),
    )
}

NOTIFICATIONS: Final = {
    row.name: row
    for row in (
        NotificationType("jobs.event", EventParams, "One accepted change."),
        NotificationType("jobs.progress", ProgressParams, "What a handler says of its progress."),
        NotificationType(
            "jobs.position", Position, "How far the stream has come; with every ping and after catching up."
        ),
        NotificationType("jobs.lagged", Lagged, "Events of the stream are gone; a snapshot follows."),
        NotificationType("jobs.snapshot", Snapshot, "A page of jobs."),
    )
}
