"""What stays of keys whose jobs are forgotten, and for how long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_jobs._engine.jobs import State
from trio_jobs._engine.key_tombstones import KeyTombstone, KeyTombstones, key_name


def key(name: str, at: float = 1.0, kind: str = "kind") -> KeyTombstone:
    return KeyTombstone(key_name(kind, name), f"job of {name}", "digest", State.COMPLETED, at)


def filled(*names: str) -> KeyTombstones:
    made = KeyTombstones()
    made.add(key(name, at) for at, name in enumerate(names))
    return made


def test_a_key_is_found_by_its_kind_and_text() -> None:
    keys = filled("a", "b")
    assert keys.find("kind", "b") == key("b", 1)
    assert keys.find("kind", "c") is None
    assert keys.find("other", "b") is None


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_no_two_keys_have_one_name(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (key_name(*one) == key_name(*other)) == (one == other)


def test_a_kind_that_ends_as_a_key_begins_is_no_other_pair() -> None:
    assert len({key_name("ab", "c"), key_name("a", "bc"), key_name("", "abc"), key_name("abc", "")}) == 4


def test_half_a_character_has_a_name_too() -> None:
    assert key_name("k", "\ud800") != key_name("k", "\ud801")


def test_of_too_many_those_that_lost_their_job_first_go() -> None:
    keys = filled(*"abcd")
    assert [k.job for k in keys.take_stale(-1.0, 2, 100)] == ["job of a", "job of b"]
    assert keys.find("kind", "a") is None
    assert keys.find("kind", "c") is not None
    assert len(keys) == 2


def test_those_that_are_too_old_go_however_few() -> None:
    keys = filled(*"abcd")
    assert len(keys.take_stale(1.0, 100, 100)) == 2
    assert keys.take_stale(1.0, 100, 100) == []


def test_at_most_limit_go_at_once_and_the_next_call_finds_the_rest() -> None:
    keys = filled(*"abcde")
    assert [len(keys.take_stale(100.0, 0, 2)) for _ in range(4)] == [2, 2, 1, 0]


def test_a_key_that_lost_its_job_again_is_the_youngest() -> None:
    keys = filled("a", "b")
    keys.add([key("a", 9.0)])
    assert len(keys) == 2
    assert [k.job for k in keys.take_stale(-1.0, 1, 100)] == ["job of b"]
