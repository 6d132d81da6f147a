"""A Trio job queue for the thing that can do only one thing at a time.

The packages, each importing only from those listed above it (.importlinter enforces that):

    _errors        every error, by who caused it
    _validation    checks of arguments
    _engine/       pure: jobs, events, the table of states, decisions and what follows from them
    _ports         what a store, an SDK executor and a clock must guarantee
    _wire/         the protocol without IO: schemas, methods, JSON-RPC, frames
    _executors/    the owner of the SDK session: on a thread, in Trio
    _stores/       where events are kept: in memory, in a journal
    _runtime/      the running queue
    _service       the declaration
    _server/       the websocket service
    _client/       its client
    _cli/          the command line

`testing` is for users' tests of their handlers, executors and stores. Outside of what is installed are the demo
(trio_jobs_demo), the simulator (sim) and the generators (tools).
"""

from trio_jobs import ports as ports
from trio_jobs._client.client import Client, connect
from trio_jobs._client.subscription import Gap, Snapshot, Subscription
from trio_jobs._engine.directives import Cancel, Fail, RetryAfter, SessionLost, Snooze
from trio_jobs._engine.jobs import (
    Attempt,
    Done,
    EndedBy,
    ErrorInfo,
    Job,
    NotDone,
    Outcome,
    Receipt,
    State,
    Unknown,
)
from trio_jobs._engine.retry import Retry
from trio_jobs._errors import (
    ConnectionFailed,
    InvalidHandler,
    InvalidPayload,
    InvalidState,
    JobCancelled,
    JobFailed,
    JobInDoubt,
    JobNotFound,
    JournalDamaged,
    JournalInUse,
    KeyConflict,
    Lagged,
    OutcomeUnknown,
    PermissionDenied,
    QueueBroken,
    QueueClosed,
    QueueFull,
    ResultUnavailable,
    SdkCallRefused,
    SdkCallStuck,
    SdkOpenFailed,
    StoreError,
    TrioJobsError,
    UnhandledJobs,
    UnknownKind,
    UsageError,
)
from trio_jobs._event_stream import EventStream
from trio_jobs._executors.thread import SdkHandle
from trio_jobs._ports import Backup
from trio_jobs._runtime.clock import SystemClock, TrioClock
from trio_jobs._runtime.job_context import AsyncJobContext, JobContext, Progress
from trio_jobs._runtime.queue import Queue
from trio_jobs._runtime.report import Health, ShutdownReport, Statistics, UnfinishedJob
from trio_jobs._runtime.submission import NewJob
from trio_jobs._server.limits import ServerLimits
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
    "EndedBy",
    "ErrorInfo",
    "EventStream",
    "EventView",
    "Fail",
    "Gap",
    "Health",
    "InvalidHandler",
    "InvalidPayload",
    "InvalidState",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobFailed",
    "JobInDoubt",
    "JobNotFound",
    "JobView",
    "JournalDamaged",
    "JournalInUse",
    "KeyConflict",
    "Lagged",
    "MemoryStore",
    "NewJob",
    "NotDone",
    "Outcome",
    "OutcomeUnknown",
    "PermissionDenied",
    "Progress",
    "Queue",
    "QueueBroken",
    "QueueClosed",
    "QueueFull",
    "Receipt",
    "ResultUnavailable",
    "Retry",
    "RetryAfter",
    "SdkCallRefused",
    "SdkCallStuck",
    "SdkHandle",
    "SdkOpenFailed",
    "Server",
    "ServerLimits",
    "Service",
    "SessionLost",
    "ShutdownReport",
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
    "UnfinishedJob",
    "UnhandledJobs",
    "Unknown",
    "UnknownKind",
    "UsageError",
    "connect",
    "serve",
]
