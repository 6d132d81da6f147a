"""The OpenAPI document: current and valid.

The schema of OpenAPI needs a package. What is checked without it are rules of
https://spec.openapis.org/oas/v3.1.0: required fields, fields that exist, references that lead somewhere, a parameter
for each name in a path, unique operations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import trio_jobs
from tools.openapi import document, encoded
from trio_jobs._wire.routes import ROUTES

FIELDS = {
    "root": {"openapi", "info", "servers", "paths", "components", "security"},
    "operation": {"operationId", "summary", "description", "parameters", "requestBody", "responses"},
    "parameter": {"name", "in", "required", "schema", "description"},
    "response": {"description", "headers", "content", "links", "$ref"},
    "components": {"schemas", "responses", "securitySchemes"},
}
PATH = Path(trio_jobs.__file__).parent / "openapi.json"


@pytest.fixture(scope="module")
def api() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(PATH.read_bytes())
    return loaded


def operations(api: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in api["paths"].items():
        for verb, operation in item.items():
            yield path, verb, operation


def test_the_document_in_the_package_is_current() -> None:
    assert PATH.read_bytes() == encoded(), "it is stale: ./run generate writes it"
    assert json.loads(encoded()) == document()


def test_each_route_is_an_operation_with_the_fields_of_openapi(api: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", api["openapi"])
    assert set(api) <= FIELDS["root"]
    assert set(api["components"]) <= FIELDS["components"]
    found = {(verb.upper(), path) for path, verb, _ in operations(api)}
    assert found == {(route.verb, route.path) for route in ROUTES}
    ids = [operation["operationId"] for _, _, operation in operations(api)]
    assert len(ids) == len(set(ids))
    for path, _, operation in operations(api):
        assert set(operation) <= FIELDS["operation"]
        in_path = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))
        names = [(one["in"], one["name"]) for one in operation["parameters"]]
        assert len(names) == len(set(names))
        for one in operation["parameters"]:
            assert set(one) <= FIELDS["parameter"]
            assert one.get("required", False) == (one["in"] == "path")
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d|default", status)
            assert set(response) <= FIELDS["response"]
            assert "$ref" in response or response["description"]
            for link in response.get("links", {}).values():
                assert link["operationId"] in ids
                assert link["parameters"] == {"job": "$response.body#/id"}
        body = operation.get("requestBody")
        assert body is None or set(body) <= {"required", "content", "description"}


def test_every_reference_leads_somewhere_and_every_schema_is_used(api: dict[str, Any]) -> None:
    text = PATH.read_text(encoding="utf-8")
    refs = set(re.findall(r'"\$ref": "(#[^"]+)"', text))
    for ref in refs:
        at: Any = api
        for part in ref[2:].split("/"):
            at = at[part]
        assert at
    assert {ref.rpartition("/")[2] for ref in refs} >= set(api["components"]["schemas"])


def test_parameters_of_a_path_are_not_in_the_body_too(api: dict[str, Any]) -> None:
    for _, _, operation in operations(api):
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        in_path = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
        assert not in_path & set(schema.get("properties", ()))


def test_the_document_is_valid(api: dict[str, Any]) -> None:
    validator = pytest.importorskip(
        "openapi_spec_validator", reason="openapi-spec-validator is not installed: pip install 'trio-jobs[docs-test]'"
    )
    validator.validate(api)
    broken = {**api, "paths": {"/v1/status": {"get": {"responses": "none"}}}}
    assert not validator.OpenAPIV31SpecValidator(broken).is_valid(), "the validator finds nothing"
