"""The events that `Queue.events` and `Client.subscribe` yield: one class for each accepted change.

    async for event in queue.events():
        match event:
            case events.Completed():
                print(event.job, "is completed at", event.occurred_at)

`JobEvent` is the base of the changes of one job, `QueueEvent` that of the changes of the queue itself, `Event` that of
both. An attempt starts with `Started` and ends with one of the subclasses of `Ended`. `AnyEvent` is the union of all
events that are not bases, for exhaustive matching.

A client gets the same classes as a reader in the process. The wire withholds payloads, results, digests and tracebacks:
`payload` and `result` are UNSET in the events of a client, the others are None.
"""

from trio_jobs import _export
from trio_jobs._engine.events import (
    AnyEvent,
    Cancelled,
    CancelRequested,
    Claimed,
    Completed,
    Corrected,
    DoubtResolved,
    DrainEnded,
    DrainStarted,
    Due,
    Ended,
    Event,
    Failed,
    Forgotten,
    InDoubt,
    Interrupted,
    JobEvent,
    Overdue,
    Paused,
    QueueEvent,
    Rescheduled,
    Resumed,
    RetryScheduled,
    Returned,
    RunRestarted,
    Saved,
    SaveFailed,
    Scheduled,
    SdkEntered,
    SessionClosed,
    SessionOpened,
    SessionOpening,
    SessionOpeningFailed,
    Snoozed,
    Started,
    StepFinished,
    StepStarted,
    Stuck,
    SubmitRejected,
    Submitted,
    Verified,
)

__all__ = [
    "AnyEvent",
    "CancelRequested",
    "Cancelled",
    "Claimed",
    "Completed",
    "Corrected",
    "DoubtResolved",
    "DrainEnded",
    "DrainStarted",
    "Due",
    "Ended",
    "Event",
    "Failed",
    "Forgotten",
    "InDoubt",
    "Interrupted",
    "JobEvent",
    "Overdue",
    "Paused",
    "QueueEvent",
    "Rescheduled",
    "Resumed",
    "RetryScheduled",
    "Returned",
    "RunRestarted",
    "SaveFailed",
    "Saved",
    "Scheduled",
    "SdkEntered",
    "SessionClosed",
    "SessionOpened",
    "SessionOpening",
    "SessionOpeningFailed",
    "Snoozed",
    "Started",
    "StepFinished",
    "StepStarted",
    "Stuck",
    "SubmitRejected",
    "Submitted",
    "Verified",
]

_export.export(__name__, __all__, globals())
