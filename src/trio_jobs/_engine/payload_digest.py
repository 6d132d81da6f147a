"""The digest by which two payloads of one key are compared. It does not depend on how a value is spelled.

The digest is that of the decoded value: numbers count by their value (100 is 100.0), sets have no order, and fields
that are equal to their default are left out, so that a release that adds a field with a default does not change the
digest of older payloads. Default factories are not called, since they can do anything; an empty `list` or `dict` of
such a field is left out nevertheless.

`canonical` makes JSON of the value. A number is written as its digits without zeros at the end, and an exponent: 100 is
`1e2`. Changing anything here would make payloads of existing journals conflict with themselves: give the digest a new
prefix, and keep this one.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import attrs
import msgspec

from trio_jobs._engine import payload_codec
from trio_jobs._validation import plain_text

__all__ = ["canonical_json", "digest", "same_digest"]

PREFIX: Final = "2:"

_NOTHING: Final = object()
_NAMED_TUPLE: Final = ("_fields", "_field_defaults")  #: public attributes, which cannot be the names of fields
_EMPTY: Final = frozenset({list, dict, set, frozenset, tuple, str, bytes, int, float, bool})
_MICROSECOND: Final = timedelta(microseconds=1)


class _Field(NamedTuple):
    """A field of a class."""

    name: str
    """The name of its attribute."""
    json_name: str
    """Its name in JSON."""
    default: Any
    """`_NOTHING` if there is none."""
    factory: Any
    """None if there is none."""


def digest(value: Any, body: msgspec.Raw) -> str:
    """The digest of a decoded payload.

    Args:
        value: The payload.
        body: Its JSON, which is used if a converter has put an object into the value that JSON cannot hold.
    """
    return PREFIX + _hash(canonical_json(value, body))


def same_digest(stored: str | None, current: str | None, body: msgspec.Raw) -> bool:
    """Whether a stored digest is that of a payload. One without a prefix is compared as it was made: from the JSON.

    Args:
        stored: The digest of the job that has the key.
        current: The digest of the payload.
        body: The JSON of the payload.
    """
    if stored is None or stored.startswith(PREFIX):
        return stored == current
    try:
        return stored == _hash(msgspec.json.encode(msgspec.json.decode(body), order="sorted"))
    except msgspec.DecodeError:  # a number that the earlier version could not decode
        return False


def canonical_json(value: Any, body: msgspec.Raw) -> bytes:
    """The canonical JSON of a decoded payload. See `digest` for the arguments."""
    try:
        return _encode(_canonical(value))
    except Exception:
        return _encode(_canonical(msgspec.json.decode(body)))


def _hash(body: bytes) -> str:
    return blake2b(body, digest_size=16).hexdigest()


def _encode(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _canonical(value: Any) -> Any:
    if value is None or value is True or value is False or type(value) is str:
        return value
    if isinstance(value, Enum):
        return _canonical(value.value)
    if isinstance(value, int | float | Decimal):
        return _number(value)
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, tuple) and hasattr(value, _NAMED_TUPLE[0]):
        return _without_defaults(_named_fields(type(value)), value)
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, dict):
        return {_key(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((msgspec.Raw(_encode(_canonical(item))) for item in value), key=bytes)
    return _canonical_object(value)


def _canonical_object(value: Any) -> Any:
    class_: Any = type(value)
    if isinstance(value, msgspec.Struct):
        fields = _struct_fields(class_)
        config = class_.__struct_config__
        if config.array_like:
            items = _without_defaults(fields, [getattr(value, field.name) for field in fields])
            return [config.tag, *items] if config.tag is not None else items
        found = _object(fields, value)
        return found if config.tag is None else {**found, str(config.tag_field): config.tag}
    if payload_codec.is_model(value):
        extra: Mapping[str, Any] = getattr(value, "__pydantic_extra__", None) or {}
        return {**_object(_pydantic_fields(class_, "model_fields"), value), **_canonical(dict(extra))}
    if hasattr(class_, "__pydantic_fields__"):
        return _object(_pydantic_fields(class_, "__pydantic_fields__"), value)
    if attrs.has(class_):
        return _object(_attrs_fields(class_), value)
    if hasattr(class_, "__dataclass_fields__"):
        return _object(_dataclass_fields(class_), value)
    return _canonical_scalar(value)


def _canonical_scalar(value: Any) -> Any:
    match value:
        case datetime():
            return (value if value.utcoffset() is None else value.astimezone(UTC)).isoformat()
        case date() | time():
            return value.isoformat()
        case timedelta():
            return f"{value // _MICROSECOND}us"
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case msgspec.Raw():
            return _canonical(msgspec.json.decode(value))
    return _canonical(msgspec.json.decode(payload_codec.encode(value)))


def _number(value: float | Decimal) -> Any:
    """A number as its digits and an exponent, in JSON."""
    sign, digits, exponent = (value if isinstance(value, Decimal) else Decimal(_spelled(value))).as_tuple()
    if isinstance(exponent, str):  # NaN and infinity, which a Decimal can be
        return str(value)
    text = "".join(map(str, digits))
    kept = text.rstrip("0")
    if not kept.lstrip("0"):
        return msgspec.Raw(b"0")
    exponent += len(text) - len(kept)
    return msgspec.Raw(f"{'-' * sign}{kept.lstrip('0')}{f'e{exponent}' if exponent else ''}".encode())


def _spelled(value: float) -> str:
    return float.__repr__(value) if isinstance(value, float) else int.__repr__(value)


def _key(key: Any) -> str:
    """A key of a dict, as it is in JSON."""
    if type(key) is str:
        return key
    (name,) = msgspec.to_builtins({key: None}, str_keys=True)
    return plain_text(name)


# fields


def _object(fields: Iterable[_Field], value: Any) -> dict[str, Any]:
    found = {}
    for field in fields:
        item = getattr(value, field.name, msgspec.UNSET)
        if item is not msgspec.UNSET and not _is_default(field, item):
            found[field.json_name] = _canonical(item)
    return found


def _without_defaults(fields: tuple[_Field, ...], values: Iterable[Any]) -> list[Any]:
    """The values of fields that JSON holds as an array, without those at the end that are equal to their default."""
    items = list(values)
    while items and len(items) <= len(fields) and _is_default(fields[len(items) - 1], items[-1]):
        items.pop()
    return [_canonical(item) for item in items]


def _is_default(field: _Field, value: Any) -> bool:
    if field.factory is not None:
        return field.factory in _EMPTY and type(value) is field.factory and not value
    if field.default is _NOTHING:
        return False
    if field.default is value:
        return True
    try:
        return _encode(_canonical(field.default)) == _encode(_canonical(value))
    except Exception:
        return False


def _named_fields(class_: Any) -> tuple[_Field, ...]:
    names, defaults = (getattr(class_, name) for name in _NAMED_TUPLE)
    return tuple(_Field(name, name, defaults.get(name, _NOTHING), None) for name in names)


@functools.lru_cache(1024)
def _struct_fields(class_: type) -> tuple[_Field, ...]:
    return tuple(
        _Field(
            field.name,
            field.encode_name,
            _NOTHING if field.default is msgspec.NODEFAULT else field.default,
            None if field.default_factory is msgspec.NODEFAULT else field.default_factory,
        )
        for field in msgspec.structs.fields(class_)
    )


@functools.lru_cache(1024)
def _attrs_fields(class_: Any) -> tuple[_Field, ...]:
    fields = []
    for field in attrs.fields(class_):
        default: Any = field.default
        factory = getattr(default, "factory", None) if type(default) is type(attrs.Factory(list)) else None
        has_default = default is not attrs.NOTHING and factory is None
        fields.append(_Field(field.name, field.name, default if has_default else _NOTHING, factory))
    return tuple(fields)


@functools.lru_cache(1024)
def _dataclass_fields(class_: Any) -> tuple[_Field, ...]:
    return tuple(
        _Field(
            field.name,
            field.name,
            _NOTHING if field.default is dataclasses.MISSING else field.default,
            None if field.default_factory is dataclasses.MISSING else field.default_factory,
        )
        for field in dataclasses.fields(class_)
    )


@functools.lru_cache(1024)
def _pydantic_fields(class_: type, attribute: str) -> tuple[_Field, ...]:
    fields: Mapping[str, Any] = getattr(class_, attribute)
    return tuple(
        _Field(
            name,
            name,
            _NOTHING if type(field.default).__name__ == "PydanticUndefinedType" else field.default,
            field.default_factory,
        )
        for name, field in fields.items()
    )
