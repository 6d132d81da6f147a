"""At most one voucher per key, in whatever order people submit, correct, verify, retry, cancel and forget, while
replies are lost, processes die and old jobs are pruned.

An exhaustive part tries each short sequence of requests with each behaviour of the SDK; Hypothesis tries longer ones,
in which requests come in between while others are under way. The handlers are those that promise it: with a `verify`,
or with an operator who resolves every doubt by what is in the books.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from support.voucher_run import CALLS, KINDS, REQUESTS, Call, Step, run_steps

NAMED = ("correcting submit", "correct", "verify", "retry", "cancel", "crash", "prune")
STEPS = st.lists(st.builds(Step, st.sampled_from(REQUESTS), st.none() | st.integers(0, 12)), min_size=1, max_size=10)
CALLED = st.lists(st.sampled_from(CALLS), max_size=6)
ANSWERED = st.lists(st.sampled_from(["truth", "unknown", "raises"]), max_size=4)

#: A kind, what its first calls do, and what its first verifies answer
Situation = tuple[str, tuple[Call, ...], tuple[str, ...]]
SITUATIONS: list[Situation] = [
    ("asked", ("refuses", "reply lost"), ()),
    ("asked_dropped", ("reply lost", "reply lost"), ("unknown", "unknown")),
    ("asked_dropped", ("refuses", "reply lost"), ("unknown",)),
    ("held", ("refuses", "reply lost"), ()),
    ("steps", ("books", "refuses"), ()),
    ("steps", ("refuses", "books", "refuses"), ()),
]


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Each crash is logged otherwise."""
    log = logging.getLogger("trio_jobs")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    yield
    log.setLevel(before)


def run(kind: str, steps: Sequence[Step], calls: Sequence[Call], verifies: Sequence[str] = ()) -> list[str]:
    """The answers of the requests, in a Trio run of its own."""

    async def main() -> list[str]:
        return (await run_steps(kind, steps, calls=calls, verifies=verifies)).answers

    return trio.run(main, clock=MockClock())


def run_each(length: int, situations: Sequence[Situation]) -> int:
    count = 0
    for (kind, calls, verifies), names in itertools.product(situations, itertools.product(NAMED, repeat=length)):
        try:
            run(kind, list(map(Step, names)), calls, verifies)
        except AssertionError as error:
            error.add_note(f"{kind}: {', '.join(names)}; the calls: {calls}, the answers of verify: {verifies}")
            raise
        count += 1
    return count


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(steps=STEPS, calls=CALLED, verifies=ANSWERED)
def test_a_key_has_at_most_one_voucher(kind: str, steps: list[Step], calls: list[Call], verifies: list[str]) -> None:
    run(kind, steps, calls, verifies)


@pytest.mark.parametrize("situation", SITUATIONS, ids=str)
def test_a_key_has_at_most_one_voucher_after_each_two_requests(situation: Situation) -> None:
    assert run_each(2, [situation]) == len(NAMED) ** 2


@pytest.mark.campaign
def test_a_key_has_at_most_one_voucher_after_each_three_requests() -> None:
    """Some minutes."""
    firsts: tuple[Call, ...] = ("reply lost", "refuses", "stuck")
    seconds: tuple[Call, ...] = ("books", "reply lost")
    calls = list(itertools.product(firsts, seconds))
    situations = [*SITUATIONS, *itertools.product(KINDS, calls, [(), ("unknown",)])]
    assert run_each(3, situations) == len(situations) * len(NAMED) ** 3


@pytest.mark.campaign
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=2000)
@given(steps=STEPS, calls=CALLED, verifies=ANSWERED)
def test_a_key_has_at_most_one_voucher_in_long_runs(
    kind: str, steps: list[Step], calls: list[Call], verifies: list[str]
) -> None:
    run(kind, steps, calls, verifies)
