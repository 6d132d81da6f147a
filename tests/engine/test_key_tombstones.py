"""Tombstones of keys: how they are found, and which are removed first."""

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
def test_different_keys_have_different_hashes(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (key_name(*one) == key_name(*other)) == (one == other)


def test_the_boundary_between_kind_and_key_is_part_of_the_hash() -> None:
    assert len({key_name("ab", "c"), key_name("a", "bc"), key_name("", "abc"), key_name("abc", "")}) == 4


def test_a_lone_surrogate_can_be_hashed() -> None:
    assert key_name("k", "\ud800") != key_name("k", "\ud801")


def test_the_oldest_excess_tombstones_are_removed() -> None:
    keys = filled(*"abcd")
    assert [k.job for k in keys.take_stale(-1.0, 2, 100)] == ["job of a", "job of b"]
    assert keys.find("kind", "a") is None
    assert keys.find("kind", "c") is not None
    assert len(keys) == 2


def test_old_tombstones_are_removed_whatever_their_number() -> None:
    keys = filled(*"abcd")
    assert len(keys.take_stale(1.0, 100, 100)) == 2
    assert keys.take_stale(1.0, 100, 100) == []


def test_at_most_limit_tombstones_are_removed_in_one_call() -> None:
    keys = filled(*"abcde")
    assert [len(keys.take_stale(100.0, 0, 2)) for _ in range(4)] == [2, 2, 1, 0]


def test_a_renewed_tombstone_is_the_youngest() -> None:
    keys = filled("a", "b")
    keys.add([key("a", 9.0)])
    assert len(keys) == 2
    assert [k.job for k in keys.take_stale(-1.0, 1, 100)] == ["job of b"]
