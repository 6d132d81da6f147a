"""Rules of the limits of JSON: no payload and no result is nested deeper than every reader of it can follow."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_jobs import InvalidPayload, Service
from trio_jobs._engine.handlers import Handler, encode_payload, encode_result
from trio_jobs._engine.json_limits import MAX_DEPTH, SHORT, excess
from trio_jobs._engine.payload_digest import digest
from trio_jobs._service import parts_of

ROW: list[list[Any]] = [[]] * MAX_DEPTH  #: more brackets than the limit, two levels deep


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def levels(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(levels, value.values()), default=0)
    return 1 + max(map(levels, value), default=0) if isinstance(value, list) else 0


def handler_of_anything() -> Handler:
    service = Service()

    @service.handler(kind="k")
    async def anything(value: Any) -> None: ...

    return parts_of(service).handlers["k"]


texts = st.text(st.sampled_from('[]{}"\\/a\n'), max_size=6)
values = st.recursive(
    texts | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=30
)


@given(values, st.integers(MAX_DEPTH - 6, MAX_DEPTH + 1), st.booleans())
@example(["]" * MAX_DEPTH], MAX_DEPTH, False)
@example(['"]\\', "[" * MAX_DEPTH], MAX_DEPTH, False)
@example("\\", MAX_DEPTH + 1, False)
def test_a_text_is_refused_if_and_only_if_it_is_nested_deeper_than_the_limit(
    value: Any, around: int, spaced: bool
) -> None:
    for _ in range(around):
        value = [value, []]
    body = json.dumps(value, separators=None if spaced else (",", ":")).encode()
    depth = levels(value)
    says = f"it is nested {depth} levels deep, the limit is {MAX_DEPTH}" if depth > MAX_DEPTH else None
    assert excess(body) == says
    assert len(body) > SHORT or says is None


def test_many_brackets_side_by_side_are_accepted() -> None:
    assert excess(json.dumps([ROW, {"a": ROW}]).encode()) is None


def test_a_payload_at_the_limit_is_accepted_and_has_a_digest() -> None:
    body, value = handler_of_anything().accept(nested(MAX_DEPTH))
    assert digest(value, body).startswith("2:")
    assert encode_payload("k", value) == body


def test_a_payload_one_level_deeper_is_refused() -> None:
    handler, deep = handler_of_anything(), nested(MAX_DEPTH + 1)
    says = f"payload for 'k' refused: it is nested {MAX_DEPTH + 1} levels deep, the limit is {MAX_DEPTH}"
    for payload in (deep, msgspec.Raw(json.dumps(deep, indent=1).encode())):
        with pytest.raises(InvalidPayload) as caught:
            handler.accept(payload)
        assert says in str(caught.value)
        with pytest.raises(InvalidPayload) as caught:
            encode_payload("k", payload)
        assert says in str(caught.value)


def test_a_result_one_level_deeper_is_not_kept_and_the_problem_says_why() -> None:
    assert encode_result(nested(MAX_DEPTH)).problem is None
    says = f"it is nested {MAX_DEPTH + 1} levels deep, the limit is {MAX_DEPTH}"
    assert encode_result(nested(MAX_DEPTH + 1)) == (None, says, None)
