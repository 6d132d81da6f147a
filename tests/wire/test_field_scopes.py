"""Rules of the table of fields and scopes."""

from __future__ import annotations

import functools
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from tools.scopes import PATH, page
from trio_jobs._wire.codes import Scope
from trio_jobs._wire.field_scopes import FIELD_SCOPES, hidden, limit_to, structs_in
from trio_jobs._wire.health import WirePause
from trio_jobs._wire.methods import METHODS, NOTIFICATIONS, ConnectionLimits, ResultResult
from trio_jobs._wire.schemas import WireAction, WireError, WireEvent, WireJob
from trio_jobs._wire.scopes import SCOPES, includes


def sent_structs() -> set[type[Struct]]:
    """Every Struct that occurs in an answer or a notification."""
    found: set[type[Struct]] = set()
    left = [row.result for row in METHODS.values()] + [row.params for row in NOTIFICATIONS.values()]
    while left:
        type_ = left.pop()
        if type_ not in found and type_.__module__.startswith("trio_jobs"):
            found.add(type_)
            left += [inner for field in msgspec.structs.fields(type_) for inner in structs_in(field.type)]
    return found


def test_the_table_has_every_field_of_every_answer_and_notification() -> None:
    """A new field needs a decision: whether a token of scope watch is sent it."""
    for type_ in sent_structs():
        assert type_ in FIELD_SCOPES, f"add the fields of {type_.__name__} to FIELD_SCOPES"
        assert set(FIELD_SCOPES[type_]) == set(type_.__struct_fields__), type_.__name__
    assert set(FIELD_SCOPES) <= sent_structs() | {WireEvent}


def test_what_people_and_handlers_have_written_requires_operate() -> None:
    """Whatever Struct it is in."""
    written = {
        "by", "labels", "claimed_by", "reason", "message", "note", "payload", "earlier_payloads", "result", "step",
        "traceback", "problem", "result_problem", "store",
    }  # fmt: skip
    for type_, scopes in FIELD_SCOPES.items():
        for name, least in scopes.items():
            if (type_, name) in ((ConnectionLimits, "message"), (WirePause, "reason")):
                continue  # a number of bytes; and what is written for everybody who looks at the queue
            assert (least == "operate") == (name in written), f"{type_.__name__}.{name}"


def test_the_page_of_the_scopes_is_current() -> None:
    assert PATH.read_text(encoding="utf-8") == page(), "it is stale: ./run generate writes it"


def values(type_: Any) -> st.SearchStrategy[Any]:
    """Values of a field that differ from its default wherever that is possible."""
    origin, parts = typing.get_origin(type_), typing.get_args(type_)
    if type_ is msgspec.Raw:
        return st.just(msgspec.Raw(b'"secret"'))
    if isinstance(type_, type) and issubclass(type_, Struct):
        return filled(type_)
    if origin is typing.Annotated:
        return values(parts[0])
    if origin in (list, tuple):
        return st.lists(values(parts[0]), min_size=1, max_size=2).map(origin)
    if origin is dict:
        return st.just({"secret": "secret"})
    if origin is typing.Literal:
        return st.sampled_from(parts)
    if parts:  # a union
        return st.one_of(*(values(part) for part in parts if part not in (type(None), msgspec.UnsetType)))
    if type_ in (str, Any):
        return st.just("secret")
    simple = {int: 7, float: 7.5, bool: True}
    return st.just(simple[type_]) if type_ in simple else st.sampled_from([*type_])


@functools.cache
def filled(type_: type[Struct]) -> st.SearchStrategy[Struct]:
    return st.builds(type_, **{field.name: values(field.type) for field in msgspec.structs.fields(type_)})


def check(value: Any, before: Any, scope: Scope) -> None:
    """Each field that the scope may see is unchanged, each other one is its default, at every depth."""
    if isinstance(before, Struct):
        blank = hidden(type(before), scope)
        for name in before.__struct_fields__:
            if name in blank:
                assert getattr(value, name) == blank[name]
                assert not includes(scope, FIELD_SCOPES[type(before)][name])
            else:
                check(getattr(value, name), getattr(before, name), scope)
    elif isinstance(before, list | tuple):
        assert len(value) == len(before)
        for one, other in zip(value, before, strict=True):
            check(one, other, scope)
    else:
        assert value == before


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("type_", sorted(sent_structs(), key=str), ids=str)
@settings(max_examples=15)
@given(data=st.data())
def test_a_value_is_limited_to_the_fields_of_the_scope_at_every_depth(
    type_: type[Struct], scope: Scope, data: st.DataObject
) -> None:
    whole = data.draw(filled(type_))
    limited = limit_to(whole, scope)
    check(limited, whole, scope)
    assert limit_to(limited, scope) is limited
    if scope != "watch":
        assert limited is whole
    elif type_ in (WireJob, WireEvent, WireError, WireAction, ResultResult):
        written = [name for name, least in FIELD_SCOPES[type_].items() if least != "watch"]
        assert all(getattr(whole, name) not in (None, "", msgspec.UNSET) for name in written), "the test shows it all"
        assert limited is not whole
