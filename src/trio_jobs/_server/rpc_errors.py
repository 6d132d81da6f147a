"""The mapping of the errors of methods to errors of the protocol."""

from __future__ import annotations

from typing import Final

import msgspec

from trio_jobs import _errors as e
from trio_jobs._log import Log
from trio_jobs._lookup_errors import AmbiguousJob, InvalidCursor, JobNotFound
from trio_jobs._operator_errors import JobChanged, JobClaimed
from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.jsonrpc import RpcError
from trio_jobs._wire.schemas import ErrorData

__all__ = ["as_rpc_error", "too_many"]

log: Final = Log("trio_jobs.server")


def as_rpc_error(method: str, error: Exception) -> RpcError:
    """Convert an error of a method to an error of the protocol. Called where it is handled, since it may be logged."""
    if isinstance(error, RpcError):
        return error
    if not isinstance(error, e.TrioJobsError):
        log.exception("%s failed", method)  # noqa: LOG004 - see above
        return RpcError(ErrorCode.INTERNAL, "internal error of the server; its log has the details")
    code, data = ErrorCode.INTERNAL, None
    match error:
        case JobNotFound():
            code, data = ErrorCode.JOB_NOT_FOUND, ErrorData(job=error.job_id, key=error.key)
        case AmbiguousJob():
            code, data = ErrorCode.AMBIGUOUS_JOB, ErrorData(jobs=[*error.job_ids], given=error.given)
        case InvalidCursor():
            code, data = ErrorCode.INVALID_CURSOR, ErrorData(given=error.cursor)
        case JobChanged():
            data = ErrorData(job=error.job_id, state=error.state, if_seq=error.if_seq, seq=error.seq)
            code = ErrorCode.JOB_CHANGED
        case JobClaimed():
            until = error.until.timestamp()
            code = ErrorCode.JOB_CLAIMED
            data = ErrorData(job=error.job_id, state=error.state, by=error.claimed_by, until=until)
        case e.JobMayHaveActed():
            code, data = ErrorCode.MAY_HAVE_ACTED, ErrorData(job=error.job_id, state=error.state)
        case e.InvalidState():
            code, data = ErrorCode.INVALID_STATE, ErrorData(job=error.job_id, state=error.state)
        case e.KeyConflict():
            code = ErrorCode.KEY_CONFLICT
            data = ErrorData(job=error.job_id, kind=error.kind, key=error.key, why=error.why)
        case e.InvalidPayload():
            code = ErrorCode.INVALID_PARAMS
            data = ErrorData(problem="invalid-payload", kind=error.kind, why=error.why)
        case e.UnknownKind():
            code = ErrorCode.INVALID_PARAMS
            data = ErrorData(problem="unknown-kind", kind=error.kind, known=[*error.known])
        case e.QueueFull():
            code = ErrorCode.QUEUE_FULL
            data = ErrorData(capacity=error.capacity, waiting=error.waiting, retry_after=error.retry_after)
        case e.QueueClosed():
            code = ErrorCode.SHUTTING_DOWN
        case e.OutcomeUnknown():
            code = ErrorCode.OUTCOME_UNKNOWN
        case e.StoreError():
            code = ErrorCode.STORE
        case e.PermissionDenied():
            code = ErrorCode.PERMISSION_DENIED
        case e.UsageError():
            code = ErrorCode.INVALID_PARAMS
    if isinstance(error, e.UsageError) and error.index is not None:
        data = msgspec.structs.replace(data or ErrorData(), index=error.index)
    return RpcError(code, str(error), data)


def too_many(limit: str, message: str, retry_after: float | None = None) -> RpcError:
    """The refusal of a request beyond a limit, one of those named at `ErrorCode.TOO_MANY`. Nothing was done."""
    return RpcError(ErrorCode.TOO_MANY, message, ErrorData(limit=limit, retry_after=retry_after))
