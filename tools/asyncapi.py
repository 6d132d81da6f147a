"""The AsyncAPI 3.1 document of `trio-jobs.v1`, generated from the types that decode it.

`python -m tools.asyncapi` prints it, with --write it is written into the package, from where the server sends it. A
test fails when that file is stale.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from tools.output import print_or_write
from trio_jobs._wire.codes import MAX_MESSAGE, PROTOCOL, CloseCode, ErrorCode
from trio_jobs._wire.jsonrpc import ErrorBody
from trio_jobs._wire.methods import METHODS, NOTIFICATIONS
from trio_jobs._wire.schemas import RequestId

__all__ = ["PATH", "document", "encoded", "main"]

PATH: Final = Path("src/trio_jobs/asyncapi.json")  #: from the top of the repository

_REF: Final = "#/components/schemas/{name}"


def document() -> dict[str, Any]:
    """The whole document as plain values."""
    types: list[Any] = [ErrorBody, RequestId]
    types += [type_ for row in METHODS.values() for type_ in (row.params, row.result)]
    types += [row.params for row in NOTIFICATIONS.values()]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    for schema in components.values():
        if "description" in schema:  # a docstring, whose indentation not every Python keeps
            schema["description"] = inspect.cleandoc(schema["description"])
    shown = dict(zip(map(_key, types), schemas, strict=True))
    messages: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for row in METHODS.values():
        request, answer = f"{row.name}.request", f"{row.name}.answer"
        messages[request] = _message(row.name, row.does, _request(row.name, shown[_key(row.params)]))
        messages[answer] = _message(row.name, f"Answer to {row.name}.", _answer(shown[_key(row.result)]))
        operations[row.name] = {
            "action": "receive",
            "channel": {"$ref": "#/channels/ws"},
            "summary": row.does,
            "description": f"Takes a token of scope {row.scope}.",
            "messages": [_in_channel(request)],
            "reply": {"channel": {"$ref": "#/channels/ws"}, "messages": [_in_channel(answer), _in_channel("error")]},
        }
    messages["error"] = _message("error", "What could not be done, and why.", _error())
    for notification in NOTIFICATIONS.values():
        messages[notification.name] = _message(
            notification.name, notification.does, _notification(notification.name, shown[_key(notification.params)])
        )
        operations[notification.name] = {
            "action": "send",
            "channel": {"$ref": "#/channels/ws"},
            "summary": notification.does,
            "messages": [_in_channel(notification.name)],
        }
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "trio-jobs",
            "version": PROTOCOL.rpartition(".v")[2] + ".0.0",
            "description": _about(),
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:7373",
                "protocol": "ws",
                "description": "By default only this machine is served; elsewhere it is wss.",
                "security": [{"$ref": "#/components/securitySchemes/token"}],
            }
        },
        "channels": {
            "ws": {
                "address": "/ws",
                "servers": [{"$ref": "#/servers/local"}],
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            }
        },
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Or, for browsers, a second subprotocol `bearer.` with the token in base64url.",
                }
            },
        },
    }


def encoded() -> bytes:
    return msgspec.json.format(msgspec.json.encode(document()), indent=1) + b"\n"


def _key(type_: Any) -> str:
    return getattr(type_, "__name__", "") or str(type_)


def _about() -> str:
    errors = ", ".join(f"{int(code)} {code.name.lower()}" for code in ErrorCode)
    closes = ", ".join(f"{int(code)} {code.name.lower()}" for code in CloseCode)
    return (
        f"JSON-RPC 2.0 in WebSocket text frames, subprotocol {PROTOCOL}; parameters by name, no batches, messages of "
        f"at most {MAX_MESSAGE} bytes. Errors: {errors}. Close codes: {closes}."
    )


def _message(name: str, summary: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "title": name, "summary": summary, "contentType": "application/json", "payload": payload}


def _in_channel(name: str) -> dict[str, str]:
    return {"$ref": f"#/channels/ws/messages/{name}"}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    properties = {"jsonrpc": {"const": "2.0"}, **required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": ["jsonrpc", *required]}


def _id() -> dict[str, Any]:
    schema: dict[str, Any] = msgspec.json.schema(RequestId)
    return schema


def _request(method: str, params: dict[str, Any]) -> dict[str, Any]:
    required = {"id": _id(), "method": {"const": method}}
    if _has_required_fields(METHODS[method].params):
        shape = _object({**required, "params": params})
    else:
        shape = _object(required, {"params": params})
    return {**shape, "additionalProperties": False}


def _has_required_fields(type_: type[msgspec.Struct]) -> bool:
    return any(field.required for field in msgspec.structs.fields(type_))


def _answer(result: dict[str, Any]) -> dict[str, Any]:
    return _object({"id": _id(), "result": result})


def _error() -> dict[str, Any]:
    return _object({"id": {"anyOf": [_id(), {"type": "null"}]}, "error": {"$ref": _REF.format(name="ErrorBody")}})


def _notification(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return _object({"method": {"const": method}, "params": params})


def main(arguments: Sequence[str]) -> int:
    """See `print_or_write`."""
    return print_or_write("tools.asyncapi", PATH, encoded(), arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
