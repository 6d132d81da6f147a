"""JSON of payloads and results: msgspec does the work, and pydantic models take part where a program uses them.

Pydantic is not a dependency and is never imported. A model is recognised by its documented methods
`model_validate_json` and `model_dump_json`, wherever msgspec meets a class that it does not know: as the payload itself
or inside another type. A pydantic dataclass is a dataclass for msgspec, which would not run its validators; where it is
the payload itself its own validator is used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

import msgspec

from trio_jobs._engine.lazy_values import NotRunError, lazy_noun
from trio_jobs._validation import plain

__all__ = ["builtin", "decoder", "encode", "is_model", "json_schema"]

MAX_ERRORS: Final = 5
"""How many of pydantic's errors one message names."""


def _encodable(value: Any) -> Any:
    """What msgspec encodes for a value of a class that it does not know."""
    if is_model(value):
        return msgspec.Raw(value.model_dump_json(by_alias=True).encode())
    noun = lazy_noun(value)
    if noun is not None:
        raise NotRunError(noun)
    return plain(value)


def builtin(value: Any) -> Any:
    """What `msgspec.to_builtins` makes of a value of a class that it does not know, with NaN as it is."""
    if is_model(value):
        return msgspec.to_builtins(value.model_dump(by_alias=True), enc_hook=builtin, str_keys=True)
    if type(value) is msgspec.Raw:
        return msgspec.json.decode(value)
    return _encodable(value)


def is_model(value: Any) -> bool:
    """Whether the value is a pydantic model."""
    return hasattr(value, "model_dump_json") and hasattr(value, "model_validate_json")


def _load_model(of: type, value: Any) -> Any:
    if not hasattr(of, "model_validate_json"):
        raise NotImplementedError(f"Type {of.__name__} cannot be read from JSON")
    # from JSON, not from the values: a strict model accepts a date as JSON text, but not as a Python str
    return _validate(of.model_validate_json, msgspec.json.encode(value))


def _validate(validate: Callable[[bytes], Any], body: bytes) -> Any:
    try:
        return validate(body)
    except ValueError as error:
        raise ValueError(_explain(error)) from error


def _explain(error: ValueError) -> str:
    """pydantic's errors on one line, each with its field, as msgspec writes them."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    found = errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{one['msg']} - at `{_path(one['loc'])}`" if one["loc"] else one["msg"] for one in found[:MAX_ERRORS]]
    more = len(found) - MAX_ERRORS
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


def _path(location: tuple[str | int, ...]) -> str:
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def _model_schema(of: type) -> dict[str, Any]:
    if not hasattr(of, "model_validate_json"):
        raise NotImplementedError
    return {"title": of.__name__}


def json_schema(of: Any) -> dict[str, Any]:
    """The JSON schema of a payload type; empty if any payload fits, or if its library makes no schema."""
    if of is Any or of is None:
        return {}
    try:
        model = getattr(of, "model_json_schema", None)
        schema: dict[str, Any] = msgspec.json.schema(of, schema_hook=_model_schema) if model is None else model()
    except Exception:  # the classes are those of users, and so are the functions that describe them
        return {}
    return schema


encode: Final = msgspec.json.Encoder(enc_hook=_encodable).encode
"""The JSON of a value. Raises what the encoding of its type raises."""


def decoder(of: Any) -> Callable[[bytes | msgspec.Raw], Any]:
    """A function that reads JSON as type `of`. It raises `msgspec.ValidationError`, which names the field.

    Raises:
        Exception: Values of this type cannot be read from JSON. Reading the annotations of its fields can raise
            anything.
    """
    if dataclasses.is_dataclass(of) and (validator := getattr(of, "__pydantic_validator__", None)) is not None:

        def decode(body: bytes | msgspec.Raw) -> Any:
            try:
                return _validate(validator.validate_json, bytes(body))
            except ValueError as error:
                raise msgspec.ValidationError(str(error)) from error

        return decode
    if of is not Any:
        # the decoder alone would find an unknown class only when it decodes one
        msgspec.json.schema(of, schema_hook=_model_schema)
    return msgspec.json.Decoder(of, dec_hook=_load_model).decode
