"""A Trio job queue for the thing that can do only one thing at a time.

The packages, each importing only from those listed above it (.importlinter enforces that):

    _export         gives public classes the names of their public modules
    _errors         the errors, by who caused them; those of looking a job up in _lookup_errors
    _validation     checks of arguments
    _concurrency    nurseries, alarms and wake-ups
    _file_lock      lock files that name their holder
    _engine/        pure: jobs, events, the table of states, decisions and what follows from them
    _call_report    what a call into the SDK came to, as data
    _sdk_call       a call into the SDK
    _ports          what a store, an SDK executor and a clock must guarantee
    _backend        what a server needs of a queue
    _wire/          the protocol without IO: schemas, methods, JSON-RPC, frames
    _event_stream   `async for event in queue.events()`
    _executors/     the owner of the SDK session: on a thread, in Trio, in a process
    _stores/        where events are kept: in memory, in a journal
    _runtime/       the running queue
    _service_parts  what a service was given
    _service_origin where a service was made
    _service_opening how a service is opened
    _service        the declaration
    _server/        the websocket service
    _client/        its client
    _cli/           the command line
    _sdk_process/   the process of an SDK

Public modules beside this one: `events` (the events, by class), `ports` (for authors of stores and executors), and
`testing` (for tests of handlers, executors and stores). Outside of what is installed are the demo (trio_jobs_demo), the
simulator (sim) and the generators (tools).
"""

import typing as _typing

from trio_jobs import _export

if _typing.TYPE_CHECKING:  # at runtime, when one of these names is first used
    from trio_jobs import events as events
    from trio_jobs import ports as ports
    from trio_jobs._backup import Backup
    from trio_jobs._client.client import Client
    from trio_jobs._client.connect import connect
    from trio_jobs._client.subscription import Subscription
    from trio_jobs._client.updates import Gap, Snapshot, Update
    from trio_jobs._engine.directives import Cancel, Fail, RetryAfter, SessionLost, Snooze
    from trio_jobs._engine.job_conditions import JobConditions, RetriedJobs
    from trio_jobs._engine.job_filter import ListConditions
    from trio_jobs._engine.job_history import JobHistory, JobRun
    from trio_jobs._engine.job_list import JobCounts, JobList
    from trio_jobs._engine.jobs import Attempt, ErrorInfo, Job, Receipt
    from trio_jobs._engine.new_job import NewJob
    from trio_jobs._engine.openings import Opening, OpeningReason
    from trio_jobs._engine.operator_actions import OperatorAction
    from trio_jobs._engine.progress import Progress
    from trio_jobs._engine.retry import Retry
    from trio_jobs._engine.sdk_call_error import SdkCallError
    from trio_jobs._engine.states import CancelAnswer, Done, EndedBy, NotDone, OnDoubt, Outcome, State, Unknown, Verdict
    from trio_jobs._engine.status import Health, Pause, SdkClose, ServerInfo, Statistics
    from trio_jobs._errors import (
        ConnectionFailed,
        InvalidHandler,
        InvalidJournalPath,
        InvalidPayload,
        InvalidState,
        JobCancelled,
        JobFailed,
        JobInDoubt,
        JobMayHaveActed,
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
        SessionDiscarded,
        StoreError,
        TooManyRequests,
        TrioJobsError,
        UnhandledJobs,
        UnknownKind,
        UsageError,
    )
    from trio_jobs._event_stream import EventStream
    from trio_jobs._executors.handle import SdkHandle
    from trio_jobs._lookup_errors import AmbiguousJob, InvalidCursor, JobNotFound
    from trio_jobs._operator_errors import JobChanged, JobClaimed
    from trio_jobs._runtime.clock import SystemClock, TrioClock
    from trio_jobs._runtime.from_thread import EventIterator, FromThread
    from trio_jobs._runtime.job_context import AsyncJobContext, JobContext
    from trio_jobs._runtime.queue import Queue
    from trio_jobs._runtime.report import ShutdownReport, UnfinishedJob
    from trio_jobs._runtime.seat_lock import SdkInUse
    from trio_jobs._runtime.session_work import CloseFailure, CompletedJob
    from trio_jobs._server.certificates import CertificateFiles
    from trio_jobs._server.limits import ServerLimits
    from trio_jobs._server.server import Server, serve
    from trio_jobs._server.tokens import Token
    from trio_jobs._service import Service
    from trio_jobs._stores.memory import MemoryStore
    from trio_jobs._stores.sqlite.store import SqliteStore

__version__ = "0.1.0"

__all__ = [
    "AmbiguousJob",
    "AsyncJobContext",
    "Attempt",
    "Backup",
    "Cancel",
    "CancelAnswer",
    "CertificateFiles",
    "Client",
    "CloseFailure",
    "CompletedJob",
    "ConnectionFailed",
    "Done",
    "EndedBy",
    "ErrorInfo",
    "EventIterator",
    "EventStream",
    "Fail",
    "FromThread",
    "Gap",
    "Health",
    "InvalidCursor",
    "InvalidHandler",
    "InvalidJournalPath",
    "InvalidPayload",
    "InvalidState",
    "Job",
    "JobCancelled",
    "JobChanged",
    "JobClaimed",
    "JobConditions",
    "JobContext",
    "JobCounts",
    "JobFailed",
    "JobHistory",
    "JobInDoubt",
    "JobList",
    "JobMayHaveActed",
    "JobNotFound",
    "JobRun",
    "JournalDamaged",
    "JournalInUse",
    "KeyConflict",
    "Lagged",
    "ListConditions",
    "MemoryStore",
    "NewJob",
    "NotDone",
    "OnDoubt",
    "Opening",
    "OpeningReason",
    "OperatorAction",
    "Outcome",
    "OutcomeUnknown",
    "Pause",
    "PermissionDenied",
    "Progress",
    "Queue",
    "QueueBroken",
    "QueueClosed",
    "QueueFull",
    "Receipt",
    "ResultUnavailable",
    "RetriedJobs",
    "Retry",
    "RetryAfter",
    "SdkCallError",
    "SdkCallRefused",
    "SdkCallStuck",
    "SdkClose",
    "SdkHandle",
    "SdkInUse",
    "SdkOpenFailed",
    "Server",
    "ServerInfo",
    "ServerLimits",
    "Service",
    "SessionDiscarded",
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
    "TooManyRequests",
    "TrioClock",
    "TrioJobsError",
    "UnfinishedJob",
    "UnhandledJobs",
    "Unknown",
    "UnknownKind",
    "Update",
    "UsageError",
    "Verdict",
    "connect",
    "serve",
]

#: What is imported when a name is first used: all names of its group, and before them those of a declaration and, for a
#: client and the like, those of a queue
_DECLARATION = {
    "_engine.directives": ("Cancel", "Fail", "RetryAfter", "SessionLost", "Snooze"),
    "_engine.jobs": ("Attempt", "ErrorInfo", "Job", "Receipt"),
    "_engine.openings": ("Opening", "OpeningReason"),
    "_engine.operator_actions": ("OperatorAction",),
    "_engine.progress": ("Progress",),
    "_engine.retry": ("Retry",),
    "_engine.sdk_call_error": ("SdkCallError",),
    "_engine.states": (
        "CancelAnswer", "Done", "EndedBy", "NotDone", "OnDoubt", "Outcome", "State", "Unknown", "Verdict",
    ),
    "_errors": (
        "ConnectionFailed", "InvalidHandler", "InvalidJournalPath", "InvalidPayload", "InvalidState", "JobCancelled",
        "JobFailed", "JobInDoubt", "JobMayHaveActed", "JournalDamaged", "JournalInUse", "KeyConflict", "Lagged",
        "OutcomeUnknown", "PermissionDenied", "QueueBroken", "QueueClosed", "QueueFull", "ResultUnavailable",
        "SdkCallRefused", "SdkCallStuck", "SdkOpenFailed", "SessionDiscarded", "StoreError", "TooManyRequests",
        "TrioJobsError", "UnhandledJobs", "UnknownKind", "UsageError",
    ),
    "_executors.handle": ("SdkHandle",),
    "_lookup_errors": ("AmbiguousJob", "InvalidCursor", "JobNotFound"),
    "_operator_errors": ("JobChanged", "JobClaimed"),
    "_runtime.clock": ("SystemClock", "TrioClock"),
    "_runtime.job_context": ("AsyncJobContext", "JobContext"),
    "_runtime.session_work": ("CloseFailure", "CompletedJob"),
    "_service": ("Service",),
}  # fmt: skip
_MODULES = ("events", "ports")
_QUEUE = (
    "_backup",
    "_engine.job_conditions",
    "_engine.job_filter",
    "_engine.job_history",
    "_engine.job_list",
    "_engine.new_job",
    "_engine.status",
    "_event_stream",
    "_runtime.from_thread",
    "_runtime.queue",
    "_runtime.report",
    "_runtime.seat_lock",
    "_stores.memory",
)
_JOURNAL = {"_stores.sqlite.store": ("SqliteStore",)}
_CLIENT = {
    "_client.client": ("Client",),
    "_client.connect": ("connect",),
    "_client.subscription": ("Subscription",),
    "_client.updates": ("Gap", "Snapshot", "Update"),
}
_SERVER = {
    "_server.certificates": ("CertificateFiles",),
    "_server.limits": ("ServerLimits",),
    "_server.server": ("Server", "serve"),
    "_server.tokens": ("Token",),
}

if not _typing.TYPE_CHECKING:  # a type checker would accept any name
    __getattr__, __dir__ = _export.on_first_use(globals(), _DECLARATION, _MODULES, _QUEUE, [_JOURNAL, _CLIENT, _SERVER])
