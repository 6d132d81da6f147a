"""The response to a request of the HTTP API that could not be done."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from trio_jobs._errors import InvalidPayload, UnknownKind
from trio_jobs._server.http import Page
from trio_jobs._server.request import BadRequest
from trio_jobs._server.rpc_errors import as_rpc_error
from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.jsonrpc import RpcError
from trio_jobs._wire.problems import HTTP_TYPES, PROBLEM, STATUSES, Problem, field_errors, problem_of

__all__ = ["problem_page", "problem_response", "refused"]

RETRY_AFTER: Final = {  # seconds, where the error names none
    ErrorCode.QUEUE_FULL: 1,
    ErrorCode.SHUTTING_DOWN: 5,
    ErrorCode.STORE: 5,
    ErrorCode.OUTCOME_UNKNOWN: 1,
    ErrorCode.TOO_MANY: 1,
}

_encode: Final = msgspec.json.Encoder().encode


def problem_page(problem: Problem, *headers: tuple[str, str]) -> Page:
    """The response with a problem."""
    return Page(problem.status, PROBLEM, _encode(problem) + b"\n", headers)


def refused(bad: BadRequest) -> Page:
    """The response to a request that is refused before a method is executed."""
    return problem_page(problem_of(HTTP_TYPES.get(bad.status, "bad-request"), bad.status, bad.why), *bad.headers)


def problem_response(method: str, error: Exception, *, key: str | None = None, submits: bool = False) -> Page:
    """The response to an error of a method. Called where it is handled, since it may be logged.

    Args:
        method: The name of the method.
        error: The error.
        key: The key of a submit.
        submits: Whether the request submits a job.
    """
    refusal = as_rpc_error(method, error)
    if isinstance(error, InvalidPayload):
        problem = problem_of("invalid-payload", 422, refusal.message, code=refusal.code, data=refusal.data)
        many = "" if error.index is None else f"/jobs/{error.index}"
        within = "" if method == "jobs.submit" else f"{many}/payload"
        return problem_page(msgspec.structs.replace(problem, errors=field_errors(error.why, within)))
    if isinstance(error, UnknownKind):
        return problem_page(problem_of("unknown-kind", 404, refusal.message, code=refusal.code, data=refusal.data))
    return _of_rpc(refusal, key, submits)


def _of_rpc(refusal: RpcError, key: str | None, submits: bool) -> Page:
    code = ErrorCode(refusal.code)
    status = STATUSES.get(code, 400)
    detail = refusal.message
    if code is ErrorCode.OUTCOME_UNKNOWN and submits:
        if key is None:
            detail += "; the request has no key, so repeating it may do the work twice: look for the job first"
        else:
            detail += "; repeat it with the same key, which finds the job if there is one"
    problem = problem_of(code.name.lower().replace("_", "-"), status, detail, code=code, data=refusal.data)
    if code is ErrorCode.OUTCOME_UNKNOWN:
        problem = msgspec.structs.replace(problem, may_have_been_accepted=True)
    headers: tuple[tuple[str, str], ...] = ()
    if code in RETRY_AFTER:
        after = None if refusal.data is None else refusal.data.retry_after
        headers = (("Retry-After", str(max(1, math.ceil(after or RETRY_AFTER[code])))),)
    return problem_page(problem, *headers)
