"""JSON-RPC 2.0 (https://www.jsonrpc.org/specification): text to messages and back, for both sides.

Restrictions: no batches, parameters by name only, and every request has an id.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct

from trio_jobs._validation import plain
from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.json_errors import what_is_wrong, which_job
from trio_jobs._wire.methods import METHODS, NOTIFICATIONS, Method
from trio_jobs._wire.schemas import ErrorData, RequestId

__all__ = [
    "Answer",
    "ErrorBody",
    "Notification",
    "RpcError",
    "decode_request",
    "encode_error",
    "encode_notification",
    "encode_request",
    "encode_result",
    "invalid_params",
    "read_from_server",
]

MAX_ERROR: Final = 1000  #: characters of the message of an error


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """A request of a client, as decoded."""

    jsonrpc: Literal["2.0"]
    id: RequestId
    method: str
    params: Raw = Raw(b"{}")


class RequestOut(Struct, frozen=True):
    """A request of a client, as encoded."""

    id: RequestId
    method: str
    params: Any
    jsonrpc: str = "2.0"


class ErrorBody(Struct, frozen=True, omit_defaults=True):
    """An error. code: see ErrorCode. message: one line of text. data: the facts of the error, if there are any."""

    code: int
    message: str
    data: ErrorData | None = None


class Answer(Struct, frozen=True, omit_defaults=True):
    """An answer: the result or the error."""

    id: RequestId | None
    result: Raw = Raw(b"")
    error: ErrorBody | None = None


class Notification(Struct, frozen=True):
    """A notification; params are of the type in NOTIFICATIONS."""

    method: str
    params: Any


class _FromServer(Struct, frozen=True):
    jsonrpc: Literal["2.0"]
    id: RequestId | None = None
    method: str | None = None
    params: Raw = Raw(b"{}")
    result: Raw = Raw(b"")
    error: ErrorBody | None = None


class _ResultOut(Struct, frozen=True):
    id: RequestId
    result: Any
    jsonrpc: str = "2.0"


class _ErrorOut(Struct, frozen=True):
    id: RequestId | None
    error: ErrorBody
    jsonrpc: str = "2.0"


class _NotificationOut(Struct, frozen=True):
    method: str
    params: Any
    jsonrpc: str = "2.0"


class RpcError(Exception):
    """An error answer. `id` is that of the request, None if it could not be decoded.

    The message is truncated to `MAX_ERROR` characters, since it may quote what the client has sent.
    """

    def __init__(
        self, code: int, message: str, data: ErrorData | None = None, *, request_id: RequestId | None = None
    ) -> None:
        self.code: Final = code
        self.message: Final = message[:MAX_ERROR]
        self.data: Final = data
        self.id = request_id
        super().__init__(f"{self.message} ({code})")


_encode: Final = msgspec.json.Encoder(enc_hook=plain).encode
_decode_request: Final = msgspec.json.Decoder(Request).decode
_decode_from_server: Final = msgspec.json.Decoder(_FromServer).decode
_decode_params: Final = {name: msgspec.json.Decoder(method.params).decode for name, method in METHODS.items()}
_decode_notification: Final = {name: msgspec.json.Decoder(row.params).decode for name, row in NOTIFICATIONS.items()}


def decode_request(text: str | bytes) -> tuple[RequestId, Method, Any]:
    """The id, the method and the validated parameters of a request. Raises `RpcError`."""
    try:
        request = _decode_request(text)
    except msgspec.ValidationError as error:
        raise RpcError(ErrorCode.INVALID_REQUEST, f"not a request: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raw = text if isinstance(text, bytes) else text.encode(errors="replace")
        raise RpcError(ErrorCode.PARSE, f"not JSON: {what_is_wrong(error, raw)}") from None
    method = METHODS.get(request.method)
    if method is None:
        raise RpcError(ErrorCode.UNKNOWN_METHOD, f"there is no method {request.method[:100]!r}", request_id=request.id)
    try:
        return request.id, method, _decode_params[method.name](request.params)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise invalid_params(method.name, error, request.id) from None


def invalid_params(method: str, error: Exception, request_id: RequestId | None = None) -> RpcError:
    """The error answer for parameters that could not be decoded."""
    index = which_job(error)
    data = None if index is None else ErrorData(index=index)
    return RpcError(ErrorCode.INVALID_PARAMS, f"{method}: {error}", data, request_id=request_id)


def encode_result(request_id: RequestId, result: Any) -> bytes:
    return _encode(_ResultOut(request_id, result))


def encode_error(error: RpcError, request_id: RequestId | None = None) -> bytes:
    body = ErrorBody(int(error.code), error.message, error.data)
    return _encode(_ErrorOut(error.id if request_id is None else request_id, body))


def encode_notification(method: str, params: Struct) -> bytes:
    return _encode(_NotificationOut(method, params))


def encode_request(request_id: RequestId, method: str, params: Struct) -> bytes:
    return _encode(RequestOut(request_id, method, params))


def read_from_server(text: str | bytes) -> Answer | Notification | None:
    """A message of the server; None for an unknown notification. Raises `msgspec.MsgspecError`."""
    message = _decode_from_server(text)
    if message.method is None:
        return Answer(message.id, message.result, message.error)
    decode = _decode_notification.get(message.method)
    return None if decode is None else Notification(message.method, decode(message.params))
