"""The parameters of a method from an HTTP request: from its path, its query and its body.

In a query, numbers are written as in JSON, booleans also as 1 and 0, a list as several parameters of its name, and each
label as `labels=name=value`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, Literal
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Raw, inspect

from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.json_errors import what_is_wrong
from trio_jobs._wire.jsonrpc import RpcError, invalid_params
from trio_jobs._wire.routes import Route

__all__ = ["DATES", "QueryField", "build_params", "idempotency_key", "is_json", "query_fields", "read_query"]

DATES: Final = frozenset({"due_at", "deadline_at", "since", "until"})
MAX_FIELDS: Final = 100  #: parameters of a query
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
_UTF8: Final = frozenset({"utf-8", "utf8"})

QueryField = Literal["text", "json", "bool", "texts", "pairs"]


def _bad(why: str) -> RpcError:
    return RpcError(ErrorCode.INVALID_PARAMS, why)


def read_query(query: str) -> dict[str, list[str]]:
    """The values of each name in a query.

    Raises:
        RpcError: It is malformed.
    """
    found: dict[str, list[str]] = {}
    parts = [part for part in query.split("&") if part]
    if len(parts) > MAX_FIELDS:
        raise _bad(f"the query has more than {MAX_FIELDS} parameters")
    for part in parts:
        name, equals, value = (_decoded(text) for text in part.partition("="))
        if not equals:
            raise _bad(f"parameter {name!r:.100} of the query has no value")
        found.setdefault(name, []).append(value)
    return found


def _decoded(text: str) -> str:
    try:
        return unquote_to_bytes(text.replace("+", " ")).decode("utf-8")
    except UnicodeDecodeError:
        raise _bad("the query is not UTF-8, percent-encoded") from None


@cache
def query_fields(route: Route) -> dict[str, QueryField]:
    """The parameters that a route takes from the query."""
    if route.body == "params":
        return {}
    info = inspect.type_info(route.row.params)
    assert isinstance(info, inspect.StructType)
    elsewhere = {*route.names, "payload"}
    return {field.encode_name: _form(field.type) for field in info.fields if field.encode_name not in elsewhere}


def _form(type_: inspect.Type) -> QueryField:
    while isinstance(type_, inspect.Metadata | inspect.UnionType):
        if isinstance(type_, inspect.Metadata):
            type_ = type_.type
        else:
            type_ = next(one for one in type_.types if not isinstance(one, inspect.NoneType | inspect.CustomType))
    if isinstance(type_, inspect.ListType):
        return "texts"
    if isinstance(type_, inspect.DictType):
        return "pairs"
    if isinstance(type_, inspect.BoolType):
        return "bool"
    return "text" if isinstance(type_, inspect.StrType | inspect.EnumType | inspect.LiteralType) else "json"


def _from_query(route: Route, query: Mapping[str, list[str]]) -> dict[str, Any]:
    known = query_fields(route)
    values: dict[str, Any] = {}
    for name, given in query.items():
        form = known.get(name)
        if form is None:
            beside = " beside key" if route.method == "jobs.find" else ""  # without key, the path has other parameters
            raise _bad(f"there is no parameter {name!r:.100}{beside} in the query of {route.path}")
        if form == "texts":
            values[name] = given
        elif form == "pairs":
            values[name] = _pairs(name, given)
        elif len(given) > 1:
            raise _bad(f"parameter {name} of the query is repeated")
        elif form == "bool":
            if given[0] not in _BOOLEANS:
                raise _bad(f"parameter {name} of the query must be true or false")
            values[name] = _BOOLEANS[given[0]]
        else:
            values[name] = given[0] if form == "text" else _json(name, given[0])
    return values


def _pairs(name: str, given: list[str]) -> dict[str, str]:
    if not all("=" in text for text in given):
        raise _bad(f"parameter {name} of the query must be written as {name}=NAME=VALUE")
    pairs = dict(text.partition("=")[::2] for text in given)
    if len(pairs) < len(given):
        raise _bad(f"parameter {name} of the query has a name twice")
    return pairs


def _json(name: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        meaning = ": seconds since 1970, UTC" if name in DATES else ""
        raise _bad(f"parameter {name} of the query must be a number, as in JSON{meaning}") from None


def build_params(
    route: Route, in_path: Mapping[str, str], query: Mapping[str, list[str]], body: bytes, key: str | None = None
) -> Any:
    """The parameters of the method.

    Args:
        route: The route.
        in_path: The parameters in the path.
        query: The result of `read_query`.
        body: The body of the request.
        key: The result of `idempotency_key`.

    Raises:
        RpcError: They are not valid.
    """
    values = _from_query(route, query)
    values |= in_path
    if key is not None and values.setdefault("key", key) != key:
        raise _bad("header idempotency-key and parameter key of the query differ")
    if route.body == "payload":
        values["payload"] = _value(body)
    elif route.body == "params" and body:
        values |= _members(body, in_path)
    try:
        return msgspec.json.decode(msgspec.json.encode(values), type=route.row.params)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise invalid_params(route.method, error) from None


def _value(body: bytes) -> Raw:
    """A body that is one value of JSON, with all digits of its numbers."""
    try:
        body.decode("utf-8")
        if not body:
            raise RpcError(ErrorCode.PARSE, "the body is empty; it must be JSON, such as null")
        return msgspec.json.decode(body, type=Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RpcError(ErrorCode.PARSE, f"the body is not JSON: {what_is_wrong(error, body)}") from None


def _members(body: bytes, in_path: Mapping[str, str]) -> dict[str, Raw]:
    try:
        members = msgspec.json.decode(_value(body), type=dict[str, Raw])
    except msgspec.ValidationError:
        raise _bad("the body must be an object") from None
    for name in in_path:
        if name in members:
            raise _bad(f"parameter {name} is in the path, and must not be in the body")
    return members


def idempotency_key(value: str | None) -> str | None:
    """The key in a header `Idempotency-Key`: visible ASCII, or a string in double quotes.

    Raises:
        RpcError: It is neither.
    """
    if value is None:
        return None
    text = value
    if value.startswith('"'):
        text = value[1:-1].replace('\\"', "\0").replace("\\\\", "\\")
        if len(value) < 2 or not value.endswith('"') or '"' in text:
            raise _bad("header idempotency-key is a quoted string without its end")
        text = text.replace("\0", '"')
    if not text or len(text) > 500:
        raise _bad("header idempotency-key must have 1 to 500 characters")
    return text


def is_json(content_type: str | None) -> bool:
    """Whether a header `Content-Type` stands for JSON in UTF-8."""
    kind, *parameters = (part.strip().lower() for part in (content_type or "").split(";"))
    if kind != "application/json":
        return False
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in _UTF8:
            return False
    return True
