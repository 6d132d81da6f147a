"""The OpenAPI 3.1 document of the HTTP API, generated from the table of routes and the types that decode requests.

`python -m tools.openapi` prints it, with --write it is written into the package, from where the server sends it. A test
fails when that file is stale.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from tools.output import print_or_write
from trio_jobs._engine.json_limits import MAX_LENGTH
from trio_jobs._wire.http_params import query_fields
from trio_jobs._wire.methods import NOTIFICATIONS
from trio_jobs._wire.problems import PROBLEM, Problem
from trio_jobs._wire.routes import FIND, ROUTES, SEGMENT, Route
from trio_jobs._wire.schemas import WireJob

__all__ = ["PATH", "document", "encoded", "main"]

PATH: Final = Path("src/trio_jobs/openapi.json")  #: from the top of the repository

_REF: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"

_REQUEST_HEADERS: Final = {
    "Idempotency-Key": "The key of the job, in ASCII, bare or in double quotes: repeating the request finds the job. "
    "The parameter `key` is for any other key.",
    "Prefer": "`wait=n`: answer when the job is final or in doubt, at most n seconds later (30 at most).",
    "If-None-Match": "Answer 304 while the job has this ETag.",
    "If-Match": "Answer 412, and change nothing, unless the job has this ETag.",
    "Last-Event-ID": "The id of the last event that was received; wins over the parameter `after`.",
}
_RESPONSE_HEADERS: Final = {
    "Location": ("The path of the job.", "string"),
    "Retry-After": ("Seconds after which to ask again.", "integer"),
    "ETag": ("Changes with the job.", "string"),
    "Trio-Jobs-Created": ("`false` if the key was known.", "string"),
    "Preference-Applied": ("The wait in force.", "string"),
}


def document() -> dict[str, Any]:
    """The whole document as plain values."""
    types: list[Any] = [Problem, WireJob]
    types += [row.params for row in NOTIFICATIONS.values()]
    for route in (*ROUTES, FIND):
        types += [route.row.params, route.row.result]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    for schema in components.values():
        if "description" in schema:  # a docstring, whose indentation not every Python keeps
            schema["description"] = inspect.cleandoc(schema["description"])
    refs = dict(zip(types, schemas, strict=True))
    components["JobWithResult"] = {
        "title": "JobWithResult",
        "description": "A job, with the result of a completed one.",
        "allOf": [refs[WireJob], {"type": "object", "properties": {"result": {"description": "Of the handler."}}}],
    }
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.verb.lower()] = _operation(route, refs, components)
    used = _references([paths, refs[Problem]], components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "trio-jobs",
            "version": "1.0.0",
            "description": "Jobs for something that can do only one thing at a time. The same methods are offered over "
            "a WebSocket, which /asyncapi.json describes.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in components.items() if name in used},
            "responses": {
                "Problem": {
                    "description": "What could not be done, and why. `type` is one of `urn:trio-jobs:problem:...`.",
                    "headers": {"Retry-After": _header("Retry-After")},
                    "content": {PROBLEM: {"schema": refs[Problem]}},
                }
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def encoded() -> bytes:
    return msgspec.json.format(msgspec.json.encode(document()), indent=1) + b"\n"


def _references(value: Any, components: dict[str, Any]) -> set[str]:
    """The names of the schemas to which `value` refers, also indirectly."""
    found: set[str] = set()
    todo = [value]
    while todo:
        at = todo.pop()
        if isinstance(at, dict):
            name = str(at.get("$ref", "")).removeprefix(_REF.format(name=""))
            if name in components and name not in found:
                found.add(name)
                todo.append(components[name])
            todo += at.values()
        elif isinstance(at, list):
            todo += at
    return found


def _operation(route: Route, refs: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    row = route.row
    fields = components[refs[row.params]["$ref"].rpartition("/")[2]]
    description = f"Takes a token of scope {row.scope}. The method {row.name} of the WebSocket."
    if route.path == FIND.path:
        description += " With the parameter `key`: the job that has this key; then only `kind` can be given beside it."
    operation: dict[str, Any] = {
        "operationId": _id(route),
        "summary": row.does,
        "description": description,
        "parameters": _parameters(route, fields),
        "responses": {"default": {"$ref": "#/components/responses/Problem"}, **_responses(route, refs)},
    }
    if route.body == "payload":
        what = "The payload; `GET /v1/kinds` has the schema of each kind."
        operation["requestBody"] = {"required": True, "description": what, "content": {_JSON: {"schema": {}}}}
    elif route.body == "params":
        schema = _body(route, fields)
        operation["requestBody"] = {"required": "required" in schema, "content": {_JSON: {"schema": schema}}}
    return operation


def _id(route: Route) -> str:
    return f"{route.verb.lower()}_{route.row.name.replace('.', '_')}"


def _link(route: Route) -> dict[str, Any]:
    """From a submitted job to an operation for it."""
    return {"operationId": _id(route), "parameters": {"job": "$response.body#/id"}}


def _body(route: Route, fields: dict[str, Any]) -> dict[str, Any]:
    properties = {name: schema for name, schema in fields["properties"].items() if name not in route.names}
    required = [name for name in fields.get("required", ()) if name not in route.names]
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = required
    return schema


def _parameters(route: Route, fields: dict[str, Any]) -> list[dict[str, Any]]:
    pattern = f"^{SEGMENT.pattern}$"
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": pattern}}
        for name in route.names
    ]
    queries = {} if route.body == "params" else query_fields(route)
    for name, form in queries.items():
        if (route.method, name) in (("jobs.subscribe", "subscription"), ("jobs.subscribe", "epoch")):
            continue
        schema = fields["properties"][name]
        if form == "pairs":
            schema = {"type": "array", "items": {"type": "string", "pattern": "^[^=]+="}, "maxItems": 8}
        elif (route.method, name) == ("jobs.subscribe", "after"):
            schema = {"type": "string", "description": "epoch/seq: behind that event."}
        found.append({"name": name, "in": "query", "schema": schema})
    if route.path == FIND.path and route.method == "jobs.list":
        key = {"type": "string", "minLength": 1, "maxLength": 500}
        found.append({"name": "key", "in": "query", "schema": key})
    if route.answer == "job" and route.verb == "GET":
        seconds = {"type": "number", "minimum": 0, "maximum": 30}
        what = "Seconds to wait at most until the job is final, or with If-None-Match, until it has changed."
        found.append({"name": "wait", "in": "query", "description": what, "schema": seconds})
    headers = []
    if route.body == "payload":
        headers = ["Idempotency-Key", "Prefer"]
    elif route.answer == "job":
        headers = ["If-None-Match"]
    elif route.answer == "events":
        headers = ["Last-Event-ID"]
    elif route.conditional:
        headers = ["If-Match"]
    found += [
        {"name": name, "in": "header", "description": _REQUEST_HEADERS[name], "schema": {"type": "string"}}
        for name in headers
    ]
    return found


def _header(name: str) -> dict[str, Any]:
    what, type_ = _RESPONSE_HEADERS[name]
    return {"description": what, "schema": {"type": type_}}


def _responses(route: Route, refs: dict[Any, Any]) -> dict[str, Any]:
    if route.answer == "events":
        what = (
            "Server-sent events. `event` is the name of a notification of the WebSocket, `data` its parameters without "
            "`subscription`, and `id` is epoch/seq."
        )
        return {"200": {"description": what, "content": {"text/event-stream": {"schema": {"type": "string"}}}}}
    if route.answer == "result":
        content = {_JSON: {"schema": refs[route.row.result]}}
        return {"200": {"description": "It is done.", "content": content}}
    content = {_JSON: {"schema": {"$ref": _REF.format(name="JobWithResult")}}}
    usual = ["ETag"]
    links: dict[str, Any] = {}
    if route.body == "payload":
        links = {"links": {_id(other): _link(other) for other in ROUTES if "job" in other.names}}
        usual += ["Location", "Trio-Jobs-Created", "Preference-Applied"]
    responses: dict[str, Any] = {
        "200": {
            "description": "The job is final: completed, failed or cancelled.",
            "headers": {name: _header(name) for name in usual},
            "content": content,
            **links,
        },
        "202": {
            "description": "The job is not final; a job in doubt waits for a person.",
            "headers": {name: _header(name) for name in (*usual, "Retry-After")},
            "content": content,
            **links,
        },
    }
    if route.verb == "GET":
        responses["304"] = {"description": "The job has not changed."}
    else:
        responses["413"] = {"description": f"The payload has more than {MAX_LENGTH} bytes."}
    return responses


def main(arguments: Sequence[str]) -> int:
    """See `print_or_write`."""
    return print_or_write("tools.openapi", PATH, encoded(), arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
