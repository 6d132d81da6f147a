"""The keys of jobs are a mapping, whatever is added and removed in which order."""

from __future__ import annotations

import tracemalloc
from array import array

from hypothesis import given
from hypothesis import strategies as st

from trio_jobs._engine.job_keys import JobKeys, KeyEntry

NAMES = st.tuples(st.sampled_from(["post", "print", ""]), st.sampled_from(["A-1", "A-2", ""]))


@given(st.lists(st.tuples(NAMES, st.booleans())))
def test_keys_are_found_by_kind_and_key_until_they_are_removed(changes: list[tuple[tuple[str, str], bool]]) -> None:
    keys, expected = JobKeys(), {}
    for number, (name, added) in enumerate(changes):
        if added:
            keys[name] = expected[name] = KeyEntry(f"job {number}", "")
        else:
            assert keys.pop(name, None) is expected.pop(name, None)
        assert dict(keys) == expected
        assert len(keys) == len(expected)
        assert all(keys.find(*name) is keys[name] is entry for name, entry in expected.items())
        assert (keys.find(*name) is None) == (name not in expected)


def test_no_key_is_added_by_copying_all_others() -> None:
    """As a dict does when it is full, which takes 7 ms for 100,000 keys. At the same key it would do so again, unlike
    what else takes memory in this process meanwhile, such as coverage."""
    assert max(map(min, peaks(12_000), peaks(12_000))) < 100_000


def peaks(count: int) -> array[int]:
    """The bytes that are taken while each of so many keys is added."""
    keys, found = JobKeys(), array("q", [0] * count)
    tracemalloc.start()
    try:
        for number in range(count):
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            keys["post", f"A-{number}"] = KeyEntry("", "")
            found[number] = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    return found
