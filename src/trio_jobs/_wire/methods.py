"""The methods and the notifications: one table each, from which server, client and AsyncAPI document are made."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from trio_jobs._engine.jobs import State
from trio_jobs._wire import commands as c
from trio_jobs._wire.access import CreateTicket, LoginResult, TicketResult, TicketsRevoked
from trio_jobs._wire.codes import PROTOCOL, Scope
from trio_jobs._wire.health import HealthResult
from trio_jobs._wire.histories import Activity, ActivityResult, Forget, ForgetResult, History, HistoryResult
from trio_jobs._wire.job_lists import Count, CountResult, Find, List, ListResult
from trio_jobs._wire.kinds import KindsResult
from trio_jobs._wire.params import Kind, Note, Params, Wait
from trio_jobs._wire.schemas import (
    JobId,
    OneJobId,
    RequestId,
    Seq,
    SubscriptionId,
    WireError,
    WireEvent,
    WireJob,
)

__all__ = ["METHODS", "NOTIFICATIONS", "WAITING", "ConnectionLimits", "Method", "NotificationType"]


class Nothing(Params, frozen=True):
    """No parameters."""


class Hello(Params, frozen=True):
    """protocol: the protocol of the client."""

    protocol: Literal["trio-jobs.v1"] = PROTOCOL


class ConnectionLimits(Struct, frozen=True):
    """The limits of this connection. A client that stays within them gets no error -32016. message: bytes of a request.
    in_flight: requests without an answer. messages, messages_per_second: burst and rate of requests, in units of their
    cost. bytes, bytes_per_second: burst and rate of their bytes. subscriptions: at a time.
    followed_jobs: ids in the filters of all of them."""

    message: int
    in_flight: int
    messages: float
    messages_per_second: float
    bytes: float
    bytes_per_second: float
    subscriptions: int
    followed_jobs: int = 4000


class HelloResult(Struct, frozen=True, omit_defaults=True):
    """epoch: the identity of the history of events; seq numbers of different epochs are not comparable. seq: the last
    event. oldest: the first event from which a stream can start. scope, name: those of the token. limits: absent from
    servers before they had requests.cancel."""

    protocol: str
    epoch: str
    seq: int
    oldest: int
    scope: Scope
    name: str
    limits: ConnectionLimits | None = None


class CancelRequest(Params, frozen=True):
    """request: the id of a request of this connection that waits: a jobs.submit or jobs.submit_many for slots, a
    jobs.result, a jobs.verify or a queue.drain. It is answered with error -32018, unless its answer is under way."""

    request: RequestId


class CancelRequestResult(Struct, frozen=True):
    """cancelled: false if no request with that id waits."""

    request: RequestId
    cancelled: bool


class OneJob(Params, frozen=True):
    """job: the id of the job, or at least its last 6 characters."""

    job: OneJobId


class Get(OneJob, frozen=True):
    """live: with the position of a pending job and its expected wait."""

    live: bool = False


class Result(Params, frozen=True):
    """wait: until the job is final. in_doubt: whether a job in doubt is answered, or waited for."""

    job: OneJobId
    wait: Wait = 0.0
    in_doubt: Literal["wait", "answer"] = "wait"


class ResultResult(Struct, frozen=True, omit_defaults=True):
    """result: of the handler; absent unless the job is completed and its result was kept. problem: why it was
    not kept. withheld: the token is not sent results."""

    job: str
    state: State
    final: bool
    result: Any = msgspec.UNSET
    problem: str | None = None
    reason: str = ""
    error: WireError | None = None
    may_have_acted: bool = False
    withheld: bool = False


class Subscribe(Params, frozen=True):
    """jobs, kinds, states: only events of these jobs, of jobs of these kinds, or that lead to these states; an event
    must fit all filters. A single job can be named by at least the last 6 characters of its id. after, with its epoch:
    start behind that event. snapshot: start with the present jobs. Neither: start now."""

    subscription: SubscriptionId
    jobs: Annotated[list[JobId], Meta(min_length=1, max_length=1000)] | None = None
    kinds: Annotated[list[Kind], Meta(min_length=1, max_length=100)] | None = None
    states: Annotated[list[State], Meta(min_length=1, max_length=8)] | None = None
    after: Seq | None = None
    epoch: Annotated[str, Meta(max_length=64)] | None = None
    snapshot: bool = False


class SubscribeResult(Struct, frozen=True):
    """seq: the event behind which the stream starts."""

    subscription: str
    epoch: str
    seq: int


class Unsubscribe(Params, frozen=True):
    """subscription: its id, as given to jobs.subscribe on this connection."""

    subscription: SubscriptionId


class UnsubscribeResult(Struct, frozen=True):
    """seq: the last event of the stream. A subscription after it continues without a gap."""

    subscription: str
    seq: int


class Noted(Params, frozen=True):
    """note: why; recorded."""

    note: Note = None


class Done(Struct, frozen=True):
    """It is done. seq: the last event."""

    seq: int


class Backup(Params, frozen=True):
    """name: the file has the name of the journal, `.backup-` and this name, and is written beside the journal."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,100}$(?!\n)")]


class BackupResult(Struct, frozen=True):
    """path: on the machine of the server. seq: the last event in the copy. events: their number. size: bytes."""

    path: str
    seq: int
    events: int
    size: int


class StatisticsResult(Struct, frozen=True, omit_defaults=True):
    """jobs: the number in each state. capacity, free: slots. waiting_callers: submits that wait for a slot.
    waiting_jobs: jobs that are due again and wait for a slot. session: SDK sessions opened. inside: a call into the SDK
    is running. mean_run: mean duration of recent attempts in seconds. ok: there are no problems. refusals: clients and
    requests that the server has refused since its start, by reason."""

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
    refusals: dict[str, int] | None = None


class EventParams(WireEvent, frozen=True, omit_defaults=True, kw_only=True):
    """An event, for one subscription."""

    subscription: str


class ProgressParams(Struct, frozen=True):
    """The progress that a handler reports. It is not recorded: it has no seq, and the newest one wins."""

    subscription: str
    job: str
    done: float
    total: float | None
    message: str


class Position(Struct, frozen=True):
    """seq: the stream has passed that event, whether or not it fits the filters of the subscription."""

    subscription: str
    seq: int


class Lagged(Struct, frozen=True, rename={"first": "from", "last": "to"}):
    """The subscriber fell behind the retained events: those from..to are lost for this stream. A snapshot follows."""

    subscription: str
    first: int
    last: int


class Snapshot(Struct, frozen=True):
    """A page of at most 200 jobs and 256 KiB, as they were at event `seq`; each has its own. After the last page the
    stream continues behind the seq of the answer to jobs.subscribe (or of jobs.lagged): an event whose seq is not above
    that of its job in a page is contained in that page, and is to be ignored."""

    subscription: str
    seq: int
    jobs: list[WireJob]
    last: bool


class Method(NamedTuple):
    """A method. repeatable: it is harmless to repeat, so a client repeats it after a lost answer."""

    name: str
    params: type[Params]
    result: type[Struct]
    scope: Scope
    repeatable: bool
    does: str


class NotificationType(NamedTuple):
    """A notification of the server."""

    name: str
    params: type[Struct]
    does: str


METHODS: Final = {
    row.name: row
    for row in (
        Method("server.hello", Hello, HelloResult, "watch", True, "The history of events, and the scope of the token."),
        Method("server.login", Nothing, LoginResult, "watch", False, "A code with which the page logs in, once."),
        Method("tickets.create", CreateTicket, TicketResult, "control", False, "Make a ticket, for one job."),
        Method("tickets.revoke", Nothing, TicketsRevoked, "control", True, "Revoke all tickets."),
        Method(
            "requests.cancel",
            CancelRequest,
            CancelRequestResult,
            "watch",
            True,
            "Stop waiting for the answer to a request, so that it no longer counts as in flight.",
        ),
        Method("jobs.submit", c.Submit, c.SubmitResult, "operate", False, "Submit a job."),
        Method(
            "jobs.submit_many",
            c.SubmitMany,
            c.SubmitManyResult,
            "operate",
            False,
            "Submit several jobs: all or none.",
        ),
        Method("jobs.get", Get, WireJob, "watch", True, "A job with its attempts."),
        Method("jobs.find", Find, WireJob, "watch", True, "The job that has a key, with its attempts."),
        Method("jobs.list", List, ListResult, "watch", True, "A page of jobs."),
        Method("jobs.count", Count, CountResult, "watch", True, "How many jobs match, also by groups."),
        Method("jobs.forget", Forget, ForgetResult, "control", False, "Remove the data of a final job now."),
        Method("jobs.history", History, HistoryResult, "watch", True, "The events of a job, by run."),
        Method("jobs.result", Result, ResultResult, "watch", True, "The result of a job."),
        Method("jobs.cancel", c.Cancel, c.CancelResult, "operate", True, "Cancel a job."),
        Method("jobs.cancel_many", c.CancelMany, c.CancelManyResult, "operate", False, "Cancel the jobs that match."),
        Method("jobs.retry", c.Retry, c.StateResult, "operate", False, "Begin a new run of a failed or cancelled job."),
        Method(
            "jobs.retry_many",
            c.RetryMany,
            c.RetryManyResult,
            "operate",
            False,
            "Retry the jobs that match.",
        ),
        Method("jobs.resolve", c.Resolve, c.StateResult, "operate", False, "Resolve a job in doubt."),
        Method("jobs.correct", c.Correct, c.StateResult, "operate", False, "Begin a new run with another payload."),
        Method("jobs.verify", c.Verify, c.VerifyResult, "operate", True, "Call verify now."),
        Method("jobs.reschedule", c.Reschedule, c.StateResult, "operate", False, "Change when a waiting job is due."),
        Method("jobs.claim", c.Claim, c.StateResult, "operate", True, "Show who works on a job."),
        Method("jobs.subscribe", Subscribe, SubscribeResult, "watch", True, "Start a stream of events."),
        Method("jobs.unsubscribe", Unsubscribe, UnsubscribeResult, "watch", True, "End a stream."),
        Method("kinds.list", Nothing, KindsResult, "watch", True, "The kinds of jobs, with the schemas of payloads."),
        Method("queue.pause", c.Pause, Done, "operate", True, "Pause the queue: no further attempt starts."),
        Method("queue.resume", Noted, Done, "operate", True, "End a pause. An error if the queue drains instead."),
        Method(
            "queue.drain",
            Noted,
            Done,
            "control",
            True,
            "Accept no new jobs, and answer when no job is pending, processing, saving or retrying.",
        ),
        Method("queue.undrain", Noted, Done, "control", True, "End a drain: accept jobs again."),
        Method("queue.activity", Activity, ActivityResult, "operate", True, "What operators did, the newest first."),
        Method("queue.backup", Backup, BackupResult, "control", False, "Copy the journal to a new file beside it."),
        Method(
            "queue.health",
            Nothing,
            HealthResult,
            "watch",
            True,
            "Whether the queue works, and what waits for a person.",
        ),
        Method(
            "queue.statistics",
            Nothing,
            StatisticsResult,
            "watch",
            True,
            "Counts and sizes of the queue, and its health.",
        ),
    )
}

WAITING: Final = frozenset({"jobs.submit", "jobs.submit_many", "jobs.result", "jobs.verify", "queue.drain"})
"""Methods that requests.cancel cancels: a cancelled one has done nothing that another request would not do again."""

NOTIFICATIONS: Final = {
    row.name: row
    for row in (
        NotificationType("jobs.event", EventParams, "One accepted change."),
        NotificationType("jobs.progress", ProgressParams, "Progress that a handler reports."),
        NotificationType(
            "jobs.position",
            Position,
            "The last event that the stream has passed; sent with every ping and after catching up.",
        ),
        NotificationType("jobs.lagged", Lagged, "Events of the stream are lost; a snapshot follows."),
        NotificationType("jobs.snapshot", Snapshot, "A page of jobs."),
    )
}
