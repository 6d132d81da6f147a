"""Values of the engine as JSON types, for the `to_dict` methods of jobs and events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final

import attrs
import msgspec

from trio_jobs._validation import MAX_DATE

__all__ = ["json_fields", "json_value", "moment"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MIN_DATE: Final = -62_135_596_800.0  #: the first second of the year 1


def moment(at: float) -> datetime:
    """Seconds since the epoch as an aware UTC datetime.

    The nearest one for a time that no datetime can be, which a journal of an earlier version can contain.
    """
    try:
        return datetime.fromtimestamp(at, UTC)
    except (OverflowError, OSError, ValueError):  # Windows raises OSError from the year 3001 on
        return EPOCH + timedelta(seconds=min(max(at, MIN_DATE), MAX_DATE))


def json_value(value: Any) -> Any:
    """`value` as str, int, float, bool, None, list or dict: times as ISO 8601, JSON in bytes decoded."""
    match value:
        case Enum():
            return value.value
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return value.isoformat()
        case bytes() | msgspec.Raw():
            return msgspec.json.decode(value)
        case tuple():
            return [json_value(item) for item in value]
        case dict():
            return {str(name): json_value(item) for name, item in value.items()}
    return json_fields(value)


def json_fields(record: Any) -> dict[str, Any]:
    """The fields of an attrs class or a Struct, by name. Unset ones are left out."""
    if isinstance(record, msgspec.Struct):
        names = record.__struct_fields__
    else:
        names = tuple(field.name for field in attrs.fields(type(record)))
    values = {name: getattr(record, name) for name in names}
    return {name: json_value(value) for name, value in values.items() if value is not msgspec.UNSET}
