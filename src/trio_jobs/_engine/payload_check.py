"""Checks that a payload comes back from its JSON as it was given. Used at submit; jobs of a journal are read leniently.

msgspec encodes NaN and infinity as null, ignores the names that a class does not know (its own option for that has no
effect on attrs classes and dataclasses), and leaves private attributes out. A job would then run with another payload
than the one that was submitted.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import attrs
import msgspec
from msgspec import inspect as mi

from trio_jobs._engine import payload_codec
from trio_jobs._engine.payload_digest import canonical_json

__all__ = ["EXACT", "PayloadCheck", "refuse_not_finite"]

_PLAIN: Final = (dict, list, tuple, set, frozenset, str, int, float, bool, type(None))
_decode: Final = msgspec.json.Decoder(float_hook=str).decode  # no number is out of range
_ARRAYS: Final = (mi.ListType, mi.VarTupleType, mi.TupleType, mi.SetType, mi.FrozenSetType, mi.NamedTupleType)
EXACT: Final = frozenset({str, int, float, bool, type(None)})
"""Values of these classes come back as they were given if they come back equal, and of the same class."""
_NUMBERS: Final = (int, float, Decimal)


def refuse_not_finite(value: Any) -> None:
    """Raise `ValueError` for NaN and infinity, with their place."""
    plain = msgspec.to_builtins(value, enc_hook=payload_codec.builtin, str_keys=True)
    parts: list[tuple[str, Any]] = [("$", plain)]
    while parts:
        path, part = parts.pop()
        if type(part) is float and not math.isfinite(part):
            raise ValueError(f"{part} has no JSON - at `{path}`")
        if type(part) is dict:
            parts.extend((f"{path}.{key}", item) for key, item in part.items())
        elif type(part) is list:
            parts.extend((f"{path}[{i}]", item) for i, item in enumerate(part))


class PayloadCheck:
    """The checks of the payloads of one handler.

    Args:
        of: The type of the payload.
    """

    def __init__(self, of: Any) -> None:
        try:
            self._info: mi.Type | None = mi.type_info(of)
        except Exception:  # what cannot be inspected, such as a type of pydantic's own, is not checked
            self._info = None
        classes: set[Any] = set()
        self.has_names: Final = self._info is not None and _collect(self._info, classes, set())
        """Whether `refuse_unknown_names` can refuse anything."""
        # `==` sees every attribute of every class, so that no other comparison is necessary
        self._equality_suffices = self._info is not None and all(map(_compares_all, classes))

    def refuse_unknown_names(self, body: bytes) -> None:
        """Raise `ValueError` for a name in JSON that the classes of the type do not have."""
        if self._info is not None:
            _check(self._info, _decode(body), "$")

    def refuse_difference(self, given: Any, back: Any, body: msgspec.Raw) -> None:
        """Raise `ValueError` if a payload does not come back as it was given.

        Args:
            given: The payload, of a class of the user's own or of JSON's types.
            back: What its JSON was decoded to.
            body: That JSON.
        """
        _compare(given, back, "$")
        if type(given) is not type(back) or isinstance(given, _PLAIN) or self._equality_suffices:
            return
        if canonical_json(given, body) != canonical_json(back, body):
            raise ValueError("it does not come back equal from its JSON")


def _collect(info: mi.Type, classes: set[Any], seen: set[int]) -> bool:
    """Add the classes of a type that have fields, and return whether it has a name to check at all."""
    if id(info) in seen:
        return False
    seen.add(id(info))
    inner: list[mi.Type] = []
    match info:
        case mi.CustomType():
            classes.add(info.cls)
            return True
        case mi.StructType() | mi.DataclassType() | mi.TypedDictType() | mi.NamedTupleType():
            classes.add(info.cls)
            for field in info.fields:
                _collect(field.type, classes, seen)
            return True
        case mi.Metadata():
            inner = [info.type]
        case mi.UnionType():
            inner = list(info.types)
        case mi.DictType():
            inner = [info.value_type]
        case mi.TupleType():
            inner = list(info.item_types)
        case mi.ListType() | mi.VarTupleType() | mi.SetType() | mi.FrozenSetType():
            inner = [info.item_type]
    found = [_collect(type_, classes, seen) for type_ in inner]
    return any(found)


def _compares_all(class_: Any) -> bool:
    """Whether the equality of a class depends on each of its attributes."""
    class_ = getattr(class_, "__origin__", class_)  # of a generic class
    if not isinstance(class_, type) or hasattr(class_, "__pydantic_fields__"):
        return False
    if issubclass(class_, msgspec.Struct):
        return class_.__struct_config__.eq
    if attrs.has(class_):
        return _defines_equality(class_) and all(field.eq for field in attrs.fields(class_))
    if dataclasses.is_dataclass(class_):
        return _defines_equality(class_) and all(field.compare for field in dataclasses.fields(class_))
    return issubclass(class_, tuple | dict)


def _compare(given: Any, back: Any, path: str) -> None:
    class_ = type(given)
    if class_ in EXACT and class_ is type(back) and given == back:  # most values
        return
    if isinstance(given, set | frozenset) and not isinstance(back, set | frozenset):
        raise ValueError(f"a set comes back as a {type(back).__name__}; declare it as set[...] - at `{path}`")
    if class_ is dict and type(back) is dict:
        for key in given.keys() & back.keys():
            _compare(given[key], back[key], f"{path}.{key}")
    elif class_ in (list, tuple) and type(back) in (list, tuple):
        for i, (item, other) in enumerate(zip(given, back, strict=False)):
            _compare(item, other, f"{path}[{i}]")
    elif isinstance(given, _NUMBERS) and isinstance(back, _NUMBERS):
        if not _same_number(given, back):
            raise ValueError(f"{given!r:.50} comes back as {back!r:.50} - at `{path}`")
    elif class_ is type(back) and _defines_equality(class_) and not _is_equal(given, back):
        raise ValueError(f"it comes back as another {class_.__name__} from its JSON - at `{path}`")


def _same_number(given: Any, back: Any) -> bool:
    """Whether two numbers are equal, or have the same digits, as 0.1 and Decimal("0.1")."""
    if given == back:
        return True
    nothing = msgspec.Raw(b"null")
    return type(given) is not type(back) and canonical_json(given, nothing) == canonical_json(back, nothing)


def _defines_equality(class_: Any) -> bool:
    return class_.__eq__ is not object.__eq__


def _is_equal(given: Any, back: Any) -> bool:
    try:
        return bool(given == back)
    except Exception:  # arrays, for one, have no single truth value
        return False


# the names of fields


def _check(info: mi.Type, value: Any, path: str) -> None:
    match info:
        case mi.Metadata():
            _check(info.type, value, path)
        case mi.UnionType():
            chosen = _member(info.types, value)
            if chosen is not None:
                _check(chosen, value, path)
        case mi.CustomType():
            _check_pydantic(info.cls, value, path)
        case mi.StructType() | mi.DataclassType() | mi.TypedDictType() | mi.NamedTupleType():
            _check_fields(info, value, path)
        case mi.DictType() if isinstance(value, dict):
            for key, item in value.items():
                _check(info.value_type, item, f"{path}.{key}")
        case mi.ListType() | mi.VarTupleType() | mi.SetType() | mi.FrozenSetType() if isinstance(value, list):
            for i, item in enumerate(value):
                _check(info.item_type, item, f"{path}[{i}]")
        case mi.TupleType() if isinstance(value, list):
            for i, (type_, item) in enumerate(zip(info.item_types, value, strict=False)):
                _check(type_, item, f"{path}[{i}]")


def _member(types: Iterable[mi.Type], value: Any) -> mi.Type | None:
    """The member of a union that a JSON value was decoded to; None if that cannot be told."""
    is_object = isinstance(value, dict)
    if not is_object and not isinstance(value, list):
        return None
    found: list[mi.Type] = []
    for type_ in types:
        inner = type_.type if isinstance(type_, mi.Metadata) else type_
        if isinstance(inner, mi.StructType):
            if inner.array_like is not is_object and _has_tag(inner, value):
                found.append(inner)
        elif isinstance(inner, mi.DataclassType | mi.TypedDictType | mi.DictType):
            if is_object:
                found.append(inner)
        elif isinstance(inner, mi.CustomType) or (not is_object and isinstance(inner, _ARRAYS)):
            found.append(inner)
    tagged: list[mi.Type] = [inner for inner in found if isinstance(inner, mi.StructType) and inner.tag is not None]
    found = tagged or found
    return found[0] if len(found) == 1 else None


def _has_tag(info: mi.StructType, value: Any) -> bool:
    if info.tag is None:
        return True
    if isinstance(value, dict):
        return bool(value.get(info.tag_field) == info.tag)
    return bool(value) and bool(value[0] == info.tag)


def _check_fields(info: Any, value: Any, path: str) -> None:
    if getattr(info.cls, "__pydantic_fields__", None) is not None:
        _check_pydantic(info.cls, value, path)
        return
    tag = getattr(info, "tag_field", None)
    if isinstance(value, dict):
        fields = {field.encode_name: field.type for field in info.fields}
        for name, item in value.items():
            if name in fields:
                _check(fields[name], item, f"{path}.{name}")
            elif name != tag:
                raise ValueError(f"Object contains unknown field `{name}` - at `{path}`")
    elif isinstance(value, list):
        first = 0 if tag is None else 1
        if len(value) - first > len(info.fields):
            raise ValueError(f"Array has more than {len(info.fields) + first} items - at `{path}`")
        for i, (field, item) in enumerate(zip(info.fields, value[first:], strict=False), first):
            _check(field.type, item, f"{path}[{i}]")


# pydantic, whose models ignore unknown names too by default


def _check_pydantic(class_: Any, value: Any, path: str) -> None:
    fields: Mapping[str, Any] | None = getattr(class_, "__pydantic_fields__", None)
    config: Mapping[str, Any] = getattr(class_, "model_config", None) or getattr(class_, "__pydantic_config__", {})
    if fields is None or config.get("extra") in ("allow", "forbid") or _reads_names_itself(class_):
        return
    if getattr(class_, "__pydantic_root_model__", False):
        _check_annotation(fields["root"].annotation, value, path)
        return
    if not isinstance(value, dict):
        return
    known: dict[str, Any] = dict.fromkeys(getattr(class_, "model_computed_fields", ()))
    for name, field in fields.items():
        alias = field.validation_alias or field.alias
        if alias is None or config.get("populate_by_name") or config.get("validate_by_name"):
            known[name] = field
        known.update(dict.fromkeys(_aliases(alias), field))
    for name, item in value.items():
        if name not in known:
            raise ValueError(f"Object contains unknown field `{name}` - at `{path}`")
        if known[name] is not None:
            _check_annotation(known[name].annotation, item, f"{path}.{name}")


def _reads_names_itself(class_: Any) -> bool:
    """Whether a validator gets the input before its fields are looked up."""
    decorators = getattr(class_, "__pydantic_decorators__", None)
    validators = getattr(decorators, "model_validators", {})
    return any(validator.info.mode in ("before", "wrap") for validator in validators.values())


def _aliases(alias: Any) -> list[str]:
    """The first names of an alias: a str, an AliasPath or an AliasChoices of pydantic."""
    if alias is None:
        return []
    if isinstance(alias, str):
        return [alias]
    if hasattr(alias, "choices"):
        return [name for choice in alias.choices for name in _aliases(choice)]
    return [alias.path[0]]


def _check_annotation(annotation: Any, value: Any, path: str) -> None:
    try:
        info = mi.type_info(annotation)
    except Exception:  # a type of pydantic's own
        return
    _check(info, value, path)
