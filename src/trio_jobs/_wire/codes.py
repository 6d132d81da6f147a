"""Numbers and names that both sides of `trio-jobs.v1` know."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Literal

__all__ = [
    "BEARER",
    "DEFAULT_PORT",
    "MAX_HISTORY_BYTES",
    "MAX_IN_FLIGHT",
    "MAX_MESSAGE",
    "MAX_PAGE_BYTES",
    "PROTOCOL",
    "SNAPSHOT_PAGE",
    "CloseCode",
    "ErrorCode",
    "Scope",
]

PROTOCOL: Final = "trio-jobs.v1"  #: the WebSocket subprotocol
BEARER: Final = "bearer."  #: prefix of a token (base64url) in a second subprotocol, since browsers cannot set headers
DEFAULT_PORT: Final = 7373
MAX_MESSAGE: Final = 1024 * 1024 + 64 * 1024  #: bytes of a message from a client: a payload of 1 MiB and the rest
MAX_IN_FLIGHT: Final = 64  #: requests of a connection that may be waiting for their answers
SNAPSHOT_PAGE: Final = 200  #: jobs in one page of a snapshot
MAX_PAGE_BYTES: Final = 256 * 1024  #: bytes of the jobs of a list or a page of a snapshot, unless one job has more
MAX_HISTORY_BYTES: Final = 512 * 1024  #: bytes of the attempts in an answer to jobs.get

Scope = Literal["watch", "operate", "control"]


class ErrorCode(IntEnum):
    """Codes of JSON-RPC errors: those of JSON-RPC itself, then those of this protocol."""

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
    PERMISSION_DENIED = -32014  # the token does not have the scope
    OUTCOME_UNKNOWN = -32015  # it may have been done; repeat a submit with the same key
    TOO_MANY = -32016  # data: limit (rate, in_flight, subscriptions, followed_jobs), retry_after for the rate; not done
    STORE = -32017  # the store rejected it; nothing has changed
    CANCELLED = -32018  # the client cancelled the request with requests.cancel; nothing was done
    MAY_HAVE_ACTED = -32019  # a retry was refused: the job may have done its work, and its handler has no verify
    AMBIGUOUS_JOB = -32020  # data: jobs, the ids of the jobs that can be meant; nothing was done
    INVALID_CURSOR = -32021  # list from the beginning
    JOB_CHANGED = -32022  # data: if_seq, seq; it has changed since event if_seq, nothing was done
    JOB_CLAIMED = -32023  # data: by, until; somebody else has claimed it, nothing was done


class CloseCode(IntEnum):
    """Codes of the close frame. A client that does not read gets no close frame: its connection is reset."""

    NORMAL = 1000
    GOING_AWAY = 1001  # the server stops: reconnect later, and resume
    PROTOCOL_ERROR = 1002
    TOO_BIG = 1009
    INTERNAL = 1011
    BAD_MESSAGE = 4400
    UNAUTHORISED = 4401
    FOREIGN_ORIGIN = 4403
    TOO_MANY = 4429
