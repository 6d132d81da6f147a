"""Error answers of the server as the exceptions that the queue itself raises."""

from __future__ import annotations

import msgspec

from trio_jobs import _errors as e
from trio_jobs._engine.json_values import moment
from trio_jobs._lookup_errors import AmbiguousJob, InvalidCursor, JobNotFound
from trio_jobs._operator_errors import JobChanged, JobClaimed
from trio_jobs._validation import name_job
from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.jsonrpc import ErrorBody
from trio_jobs._wire.schemas import ErrorData

__all__ = ["as_exception"]


def as_exception(error: ErrorBody, kind: str = "") -> e.TrioJobsError:
    """The exception for an error answer. kind: the kind of a submitted job, for servers that do not send it."""
    data = error.data or ErrorData()
    if data.index is None:
        return _exception(error, data, data.kind or kind)
    bare = msgspec.structs.replace(error, message=error.message.removeprefix(f"jobs[{data.index}]: "))
    made = _exception(bare, data, data.kind or kind)
    if isinstance(made, e.UsageError):
        name_job(made, data.index)
    return made


def _exception(error: ErrorBody, data: ErrorData, kind: str) -> e.TrioJobsError:
    job = data.job or "?"
    match error.code:
        case ErrorCode.JOB_NOT_FOUND:
            return JobNotFound(data.job or "", data.key)
        case ErrorCode.AMBIGUOUS_JOB:
            return AmbiguousJob(data.given or "", tuple(data.jobs or ()))
        case ErrorCode.INVALID_CURSOR:
            return InvalidCursor(data.given or "")
        case ErrorCode.INVALID_STATE | ErrorCode.MAY_HAVE_ACTED:
            refused = e.InvalidState if error.code == ErrorCode.INVALID_STATE else e.JobMayHaveActed
            return refused(job, data.state or "?", error.message.partition(": ")[2] or error.message)
        case ErrorCode.QUEUE_FULL:
            return e.QueueFull(data.capacity or 0, data.waiting or 0, data.retry_after or 0.1)
        case ErrorCode.KEY_CONFLICT:
            why = error.message.partition("another payload; ")[2] if data.why is None else data.why
            return e.KeyConflict(kind, data.key or "?", job, why)
        case ErrorCode.JOB_CHANGED:
            return JobChanged(job, data.state or "?", data.if_seq or 0, data.seq or 0)
        case ErrorCode.JOB_CLAIMED:
            return JobClaimed(job, data.state or "?", data.by or "somebody", moment(data.until or 0.0))
        case ErrorCode.SHUTTING_DOWN:
            return e.QueueClosed(error.message)
        case ErrorCode.OUTCOME_UNKNOWN:
            return e.OutcomeUnknown(error.message)
        case ErrorCode.TOO_MANY:
            return e.TooManyRequests(error.message, data.limit or "rate", data.retry_after)
        case ErrorCode.STORE:
            return e.StoreError(error.message)
        case ErrorCode.PERMISSION_DENIED:
            return e.PermissionDenied(error.message)
        case ErrorCode.INVALID_PARAMS if data.problem == "invalid-payload":
            return e.InvalidPayload(kind, data.why or error.message)
        case ErrorCode.INVALID_PARAMS if data.problem == "unknown-kind":
            return e.UnknownKind(kind, tuple(data.known or ()))
        case ErrorCode.INVALID_PARAMS | ErrorCode.INVALID_REQUEST | ErrorCode.UNKNOWN_METHOD:
            return e.UsageError(error.message)
    return e.TrioJobsError(f"error of the server: {error.message} ({error.code})")
