"""An exception of any class is described without an error, as exact values of limited length."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from support.hostile_errors import HOSTILE, Disguised, Number, Unsplit, Word
from trio_jobs._engine.error_info import class_name, describe
from trio_jobs._engine.jobs import ErrorInfo
from trio_jobs._exception_tree import contains, is_a, leaves


def raised(make: Callable[[], BaseException]) -> BaseException:
    try:
        raise make()
    except BaseException as error:
        return error


def check(info: ErrorInfo) -> None:
    """It is what the journal, the wire and a terminal can hold."""
    assert msgspec.json.decode(msgspec.json.encode(info), type=ErrorInfo) == info
    assert {type(info.type), type(info.message)} == {str}
    assert type(info.code) in (str, int, type(None))
    assert 0 < len(info.type) <= 200
    assert len(info.message) <= 1024
    assert len(str(info.code)) <= 100
    assert len(info.traceback or "") <= 16 * 1024


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_exception_is_described(make: Callable[[], BaseException]) -> None:
    error = raised(make)
    check(describe(error))
    info = describe(error, with_traceback=True)
    check(info)
    assert info.traceback
    assert class_name(error) == info.type
    assert not contains(error, KeyboardInterrupt)
    assert [*leaves(error)]


VALUES: st.SearchStrategy[Any] = st.one_of(
    st.text(st.characters(codec=None)),
    st.text().map(Word),
    st.integers(),
    st.integers().map(Number),
    st.integers(min_value=10**4000),
    st.floats(),
    st.binary(),
    st.booleans(),
    st.none(),
    st.builds(object),
)


@given(
    st.text(st.characters(exclude_characters="\0", codec=None), min_size=1), VALUES, st.dictionaries(
        st.sampled_from(["code", "hresult", "errno", "args", "__notes__"]), VALUES
    ),
)  # fmt: skip
def test_any_exception_is_described(name: str, argument: Any, attributes: dict[str, Any]) -> None:
    try:
        class_ = type(name, (Exception,), {key: value for key, value in attributes.items() if key != "args"})
    except (UnicodeEncodeError, ValueError):
        class_ = Exception
    error = class_(argument)
    info = describe(error, with_traceback=True)
    check(info)


def test_the_code_of_the_sdk_is_kept() -> None:
    assert describe(HOSTILE["OddCode"]()).code == -2147221008
    assert describe(HOSTILE["WordCode"]()).code == "E_FAIL"
    assert describe(OSError(28, "full")).code == 28
    assert describe(HOSTILE["CodeRaises"]()).code is None


def test_a_property_that_raises_hides_no_other_code() -> None:
    class Both(Exception):
        errno = 5

        @property
        def code(self) -> int:
            raise AttributeError

    assert describe(Both()).code == 5


def test_a_traceback_that_cannot_be_formatted_says_so() -> None:
    info = describe(raised(HOSTILE["Untraced"]), with_traceback=True)
    assert info.traceback is not None
    assert "the traceback cannot be formatted: RuntimeError" in info.traceback
    assert "in raised" in info.traceback


def test_a_traceback_is_that_of_python() -> None:
    error = raised(lambda: ValueError("half \ud83d"))
    expected = "".join(traceback.format_exception(error)).replace("\ud83d", "\\ud83d")
    assert describe(error, with_traceback=True).traceback == expected
    assert describe(error).traceback is None


def test_a_cancelled_of_a_foreign_scope_is_named() -> None:
    async def main() -> BaseException:
        try:
            with trio.CancelScope() as scope:
                scope.cancel()
                try:
                    await trio.lowlevel.checkpoint()
                except trio.Cancelled as error:
                    return error
        finally:
            pass
        raise AssertionError

    info = describe(trio.run(main))
    assert (info.type, info.message) == (
        "Cancelled", "the handler raised a Cancelled that belongs to none of its scopes",
    )  # fmt: skip


def test_a_class_is_that_of_the_type_and_not_of_an_attribute() -> None:
    error = Disguised()
    assert isinstance(error, KeyboardInterrupt)
    assert not is_a(error, KeyboardInterrupt)
    assert is_a(error, Disguised)


def test_the_leaves_of_nested_groups_are_in_order() -> None:
    a, b, c = ValueError("a"), ValueError("b"), ValueError("c")
    assert [*leaves(BaseExceptionGroup("", [a, Unsplit("", [b]), c]))] == [a, b, c]
    assert [*leaves(a)] == [a]
