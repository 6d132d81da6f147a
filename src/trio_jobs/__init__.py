"""A Trio job queue for the thing that can do only one thing at a time.

The rooms, each importing only from those below it (.importlinter holds them to that):

    _cli/              the command line, trio-jobs
    _server/ _client/  the websocket service and its client
    _queue/            the declaration (service), a running queue, how it starts and stops
    _loops/            consumer, stager, pruner, feed, warden, desk, hooks
    _context           what a handler is told of its job
    _attempts          an attempt under way, and what its end is called
    _line _watchdog    the memory channel with its places; the thread that notices a blocked event loop
    _hosts/ _stores/ _clock    who owns the SDK, where jobs are kept, where time comes from
    _history           the one way in which anything changes
    _wire/             the protocol, without a socket
    _handlers _ports   a handler as declared; the doors to the outside
    _engine/           decide and fold, pure
    _transitions _retry        the table of states; when to try again
    _events            one class for each accepted change
    _jobs              the values a job is told by
    _errors            everything that can go wrong

testing/ stands beside them: what people need to test their own handlers and stores. Outside the package are the demo
(trio_jobs_demo: invoices become vouchers), the simulator (sim) and the generators (tools).
"""

from trio_jobs._client.client import Client, connect
from trio_jobs._client.subscription import Gap, Snapshot, Updates
from trio_jobs._engine.directives import Cancel, Fail, RetryAfter, SessionLost, Snooze
from trio_jobs._engine.jobs import (
    Attempt,
    Done,
    ErrorInfo,
    Job,
    Limit,
    NotDone,
    Outcome,
    Receipt,
    State,
    Unknown,
)
from trio_jobs._engine.retry import Retry
from trio_jobs._errors import (
    ConnectionFailed,
    HostStuck,
    InvalidHandler,
    InvalidPayload,
    JobCancelled,
    JobFailed,
    JobInDoubt,
    JournalDamaged,
    JournalInUse,
    KeyConflict,
    LineFull,
    NoSuchJob,
    NotAllowed,
    OpenFailed,
    OutcomeUnknown,
    QueueBroken,
    QueueClosed,
    ResultUnavailable,
    SdkCallRefused,
    StoreError,
    TrioJobsError,
    UnknownJobs,
    UnknownKind,
    UsageError,
    WrongState,
)
from trio_jobs._executors.thread import SdkHandle
from trio_jobs._ports import Backup
from trio_jobs._runtime.admission import NewJob
from trio_jobs._runtime.clock import SystemClock, TrioClock
from trio_jobs._runtime.event_stream import Lagged, Subscription
from trio_jobs._runtime.job_context import AsyncJobContext, JobContext, Progress
from trio_jobs._runtime.queue import Queue
from trio_jobs._runtime.report import Health, Left, Report, Statistics
from trio_jobs._server.limits import Limits
from trio_jobs._server.server import Server, serve
from trio_jobs._server.tokens import Token
from trio_jobs._service import Service
from trio_jobs._stores.memory import MemoryStore
from trio_jobs._stores.sqlite.store import SqliteStore
from trio_jobs._wire.schemas import EventView, JobView

__version__ = "0.1.0"

__all__ = [
    "AsyncJobContext",
    "Attempt",
    "Backup",
    "Cancel",
    "Client",
    "ConnectionFailed",
    "Done",
    "ErrorInfo",
    "EventView",
    "Fail",
    "Gap",
    "Health",
    "HostStuck",
    "InvalidHandler",
    "InvalidPayload",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobFailed",
    "JobInDoubt",
    "JobView",
    "JournalDamaged",
    "JournalInUse",
    "KeyConflict",
    "Lagged",
    "Left",
    "Limit",
    "Limits",
    "LineFull",
    "MemoryStore",
    "NewJob",
    "NoSuchJob",
    "NotAllowed",
    "NotDone",
    "OpenFailed",
    "Outcome",
    "OutcomeUnknown",
    "Progress",
    "Queue",
    "QueueBroken",
    "QueueClosed",
    "Receipt",
    "Report",
    "ResultUnavailable",
    "Retry",
    "RetryAfter",
    "SdkCallRefused",
    "SdkHandle",
    "Server",
    "Service",
    "SessionLost",
    "Snapshot",
    "Snooze",
    "SqliteStore",
    "State",
    "Statistics",
    "StoreError",
    "Subscription",
    "SystemClock",
    "Token",
    "TrioClock",
    "TrioJobsError",
    "Unknown",
    "UnknownJobs",
    "UnknownKind",
    "Updates",
    "UsageError",
    "WrongState",
    "connect",
    "serve",
]
