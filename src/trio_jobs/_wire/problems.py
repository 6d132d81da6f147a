"""Errors of the HTTP API: problem details (RFC 9457), with types that never change."""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Struct

from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.schemas import ErrorData

__all__ = [
    "HTTP_TYPES",
    "PROBLEM",
    "STATUSES",
    "TYPE",
    "FieldError",
    "Problem",
    "field_errors",
    "problem_of",
    "title_of",
]

PROBLEM: Final = "application/problem+json"  #: the media type
TYPE: Final = "urn:trio-jobs:problem:"  #: what each type begins with

#: The HTTP status of each error of the protocol; 400 for others
STATUSES: Final = {
    ErrorCode.UNKNOWN_METHOD: 404,
    ErrorCode.INTERNAL: 500,
    ErrorCode.JOB_NOT_FOUND: 404,
    ErrorCode.INVALID_STATE: 409,
    ErrorCode.CANNOT_RESUME: 409,
    ErrorCode.QUEUE_FULL: 503,
    ErrorCode.SHUTTING_DOWN: 503,
    ErrorCode.KEY_CONFLICT: 409,
    ErrorCode.PERMISSION_DENIED: 403,
    ErrorCode.OUTCOME_UNKNOWN: 504,
    ErrorCode.TOO_MANY: 429,
    ErrorCode.STORE: 503,
    ErrorCode.CANCELLED: 503,
    ErrorCode.MAY_HAVE_ACTED: 409,
    ErrorCode.AMBIGUOUS_JOB: 409,
    ErrorCode.JOB_CHANGED: 412,
    ErrorCode.JOB_CLAIMED: 409,
}

#: The types of refusals of the HTTP server itself, by status
HTTP_TYPES: Final = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden-origin",
    404: "no-such-path",
    405: "method-not-allowed",
    408: "request-timeout",
    412: "precondition-failed",
    413: "content-too-large",
    415: "unsupported-media-type",
    417: "expectation-failed",
    421: "unknown-host",
    426: "upgrade-required",
    429: "too-many",
    431: "head-too-large",
    503: "busy",
}

_PATH: Final = re.compile(r"(?:at|in) `\$([^`]*)`")
_PART: Final = re.compile(r"\[([^\]]*)\]|\.([^.\[]+)")


class FieldError(Struct, frozen=True):
    """What is wrong with a part of the payload. pointer: a JSON Pointer (RFC 6901)."""

    pointer: str
    detail: str


class Problem(Struct, frozen=True, omit_defaults=True):
    """type: of the problem, which never changes. title: of the type. detail: one line of text. code: of the same error
    over the WebSocket. errors: of a payload. may_have_been_accepted: the request may have been done. Other fields: as
    of ErrorData."""

    type: str
    title: str
    status: int
    detail: str
    code: int | None = None
    errors: list[FieldError] | None = None
    may_have_been_accepted: bool = False
    index: int | None = None
    kind: str | None = None
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


def title_of(slug: str) -> str:
    """The title of a type."""
    return slug.replace("-", " ").capitalize()


def problem_of(
    slug: str, status: int, detail: str, *, code: int | None = None, data: ErrorData | None = None
) -> Problem:
    """Make a problem. data: the facts of the error."""
    problem = Problem(TYPE + slug, title_of(slug), status, detail, code)
    known = frozenset(Problem.__struct_fields__)
    facts = {} if data is None else {k: v for k, v in msgspec.structs.asdict(data).items() if k in known}
    return msgspec.structs.replace(problem, **facts)


def field_errors(why: str, within: str = "") -> list[FieldError]:
    """The parts of a payload that a message of its check names; the whole payload if it names none.

    Args:
        why: The message.
        within: The pointer to the payload in the body of the request.
    """
    errors = []
    for part in why.split("; "):
        found = _PATH.search(part)
        pointer = within + ("" if found is None else _pointer(found[1]))
        errors.append(FieldError(pointer, part))
    return errors


def _pointer(path: str) -> str:
    parts = (index or name for index, name in _PART.findall(path))
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)
