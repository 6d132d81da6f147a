"""The AsyncAPI document: current, and valid as far as can be said without the schema of AsyncAPI itself.

The rules are those of https://www.asyncapi.com/docs/reference/specification/v3.1.0: required fields, fields that exist,
references that lead somewhere, keys of the allowed characters, and messages of an operation that are its channel's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import trio_jobs
from tools.asyncapi import document, encoded
from trio_jobs._wire.codes import CloseCode, ErrorCode
from trio_jobs._wire.jsonrpc import RpcError, decode_request
from trio_jobs._wire.methods import METHODS, NOTIFICATIONS

FIELDS = {
    "root": {"asyncapi", "id", "info", "servers", "defaultContentType", "channels", "operations", "components"},
    "info": {"title", "version", "description", "termsOfService", "contact", "license", "tags", "externalDocs"},
    "server": {"host", "protocol", "protocolVersion", "pathname", "description", "title", "summary", "variables",
               "security", "tags", "externalDocs", "bindings"},
    "channel": {"address", "messages", "title", "summary", "description", "servers", "parameters", "tags",
                "externalDocs", "bindings"},
    "operation": {"action", "channel", "title", "summary", "description", "security", "tags", "externalDocs",
                  "bindings", "traits", "messages", "reply"},
    "reply": {"address", "channel", "messages"},
    "message": {"headers", "payload", "correlationId", "contentType", "name", "title", "summary", "description",
                "tags", "externalDocs", "bindings", "examples", "traits"},
    "components": {"schemas", "servers", "channels", "operations", "messages", "securitySchemes"},
}  # fmt: skip
PATH = Path(trio_jobs.__file__).parent / "asyncapi.json"
KEY = re.compile(r"^[A-Za-z0-9.\-_]+$")


@pytest.fixture(scope="module")
def api() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(PATH.read_bytes())
    return loaded


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def resolve(api: dict[str, Any], ref: str) -> Any:
    assert ref.startswith("#/")
    at: Any = api
    for part in ref[2:].split("/"):
        at = at[part.replace("~1", "/").replace("~0", "~")]
    return at


def test_the_document_in_the_package_is_current() -> None:
    assert PATH.read_bytes() == encoded(), "it is stale: ./run generate writes it"
    assert json.loads(encoded()) == document()


def test_required_fields_are_there_and_no_unknown_ones(api: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", api["asyncapi"])
    assert {"title", "version"} <= set(api["info"]) <= FIELDS["info"]
    assert set(api) <= FIELDS["root"]
    assert set(api["components"]) <= FIELDS["components"]
    for server in api["servers"].values():
        assert {"host", "protocol"} <= set(server) <= FIELDS["server"]
    for channel in api["channels"].values():
        assert set(channel) <= FIELDS["channel"]
    for operation in api["operations"].values():
        assert {"action", "channel"} <= set(operation) <= FIELDS["operation"]
        assert operation["action"] in ("send", "receive")
        assert set(operation.get("reply", {})) <= FIELDS["reply"]
    for message in api["components"]["messages"].values():
        assert set(message) <= FIELDS["message"]
    for scheme in api["components"]["securitySchemes"].values():
        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")


def test_every_reference_leads_somewhere(api: dict[str, Any]) -> None:
    found = list(references(api))
    assert len(found) > 100
    for ref in found:
        assert resolve(api, ref) is not None


def test_keys_have_the_allowed_characters(api: dict[str, Any]) -> None:
    for room in ("servers", "channels", "operations"):
        assert all(KEY.match(key) for key in api[room])
    for room in api["components"].values():
        assert all(KEY.match(key) for key in room)


def test_messages_of_an_operation_are_those_of_its_channel(api: dict[str, Any]) -> None:
    for operation in api["operations"].values():
        for holder in (operation, operation.get("reply", {})):
            for message in holder.get("messages", []):
                assert message["$ref"].startswith(operation["channel"]["$ref"] + "/messages/")


def test_everything_that_is_said_is_in_it(api: dict[str, Any]) -> None:
    assert set(api["operations"]) == set(METHODS) | set(NOTIFICATIONS)
    assert set(api["channels"]["ws"]["messages"]) == {
        *(f"{name}.request" for name in METHODS),
        *(f"{name}.answer" for name in METHODS),
        *NOTIFICATIONS,
        "error",
    }
    for code in (*ErrorCode, *CloseCode):
        assert str(int(code)) in api["info"]["description"]


@pytest.mark.parametrize("name", METHODS)
def test_params_are_required_where_a_request_without_them_is_refused(api: dict[str, Any], name: str) -> None:
    required = "params" in api["components"]["messages"][f"{name}.request"]["payload"]["required"]
    try:
        decode_request(json.dumps({"jsonrpc": "2.0", "id": 1, "method": name}))
    except RpcError as error:
        assert error.code == ErrorCode.INVALID_PARAMS
        assert required
    else:
        assert not required


def test_no_pattern_matches_a_text_that_ends_with_a_newline() -> None:
    patterns = set(re.findall(r'"pattern": "(.*)"', PATH.read_text(encoding="utf-8")))
    assert len(patterns) == 2
    for pattern in patterns:
        compiled = re.compile(json.loads(f'"{pattern}"'))
        assert compiled.search("a.b-c_1")
        assert not compiled.search("a\n")
        assert not compiled.search("a\n\n")


def test_schemas_use_the_words_of_json_schema(api: dict[str, Any]) -> None:
    words = {"title", "type", "properties", "required", "additionalProperties", "description", "default", "enum",
             "const", "anyOf", "items", "$ref", "minLength", "maxLength", "minimum", "maximum", "pattern", "minItems",
             "maxItems", "maxProperties", "propertyNames", "discriminator"}  # fmt: skip

    def check(schema: dict[str, Any]) -> None:
        assert set(schema) <= words, schema
        for inner in schema.get("properties", {}).values():
            check(inner)
        for inner in schema.get("anyOf", []):
            check(inner)
        for name in ("items", "additionalProperties"):
            if isinstance(schema.get(name), dict):
                check(schema[name])

    for schema in api["components"]["schemas"].values():
        check(schema)
    for message in api["components"]["messages"].values():
        check(message["payload"])
