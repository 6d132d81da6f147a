"""Numbers and names that both sides of `trio-jobs.v1` know."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Literal

__all__ = ["BEARER", "MAX_IN_FLIGHT", "MAX_MESSAGE", "PROTOCOL", "SNAPSHOT_PAGE", "CloseCode", "ErrorCode", "Scope"]

PROTOCOL: Final = "trio-jobs.v1"  #: the WebSocket subprotocol
BEARER: Final = "bearer."  #: before a token (base64url) in a second subprotocol: browsers cannot set headers
MAX_MESSAGE: Final = 1024 * 1024  #: bytes of a message from a client; that of a payload
MAX_IN_FLIGHT: Final = 64  #: requests of a connection that are being answered at once
SNAPSHOT_PAGE: Final = 500  #: jobs in one page of a snapshot

Scope = Literal["watch", "control"]


class ErrorCode(IntEnum):
    """Codes of JSON-RPC errors: its own, then ours."""

    PARSE = -32700
    INVALID_REQUEST = -32600
    UNKNOWN_METHOD = -32601
    INVALID_PARAMS = -32602
    INTERNAL = -32603
    JOB_NOT_FOUND = -32004
    INVALID_STATE = -32009
    CANNOT_RESUME = -32010  # subscribe again with snapshot
    QUEUE_FULL = -32011  # data: capacity, waiting, retry_after
    SHUTTING_DOWN = -32012
    KEY_CONFLICT = -32013
    PERMISSION_DENIED = -32014  # this token's scope does not reach so far
    OUTCOME_UNKNOWN = -32015  # ask again with the same key
    TOO_MANY = -32016  # too fast, or too many requests or subscriptions at once
    STORE = -32017  # the store did not take it; nothing happened


class CloseCode(IntEnum):
    """Codes of the WebSocket's close frame. A client that takes no bytes gets none: it is reset."""

    NORMAL = 1000
    GOING_AWAY = 1001  # the server stops: come back later, and resume
    PROTOCOL_ERROR = 1002
    TOO_BIG = 1009
    INTERNAL = 1011
    BAD_MESSAGE = 4400
    UNAUTHORISED = 4401
    FOREIGN_ORIGIN = 4403
    TOO_MANY = 4429
