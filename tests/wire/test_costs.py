"""Rules of the cost of a request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_jobs._wire.costs import cost
from trio_jobs._wire.job_lists import List
from trio_jobs._wire.methods import METHODS, Hello, Nothing, OneJob, Subscribe
from trio_jobs._wire.params import Params

LIMITS = st.integers(1, 500)


@pytest.mark.parametrize(
    "params", [Hello(), Nothing(), OneJob("a"), List(limit=1), Subscribe("mine"), Subscribe("mine", ["a"])]
)
def test_most_requests_cost_one_unit(params: Params) -> None:
    assert cost(params) == 1


def test_a_page_costs_more_than_a_job_and_a_snapshot_more_than_a_stream() -> None:
    assert cost(List(limit=100)) == 3
    assert cost(List(limit=500)) == 11
    assert cost(Subscribe("mine", snapshot=True)) == 11
    assert cost(Subscribe("mine", [str(number) for number in range(1000)])) == 21


@given(LIMITS, LIMITS)
def test_a_larger_page_never_costs_less(one: int, other: int) -> None:
    assert cost(List(limit=min(one, other))) <= cost(List(limit=max(one, other)))


def test_no_request_costs_more_than_the_burst_of_a_watcher() -> None:
    """So no request is refused for ever, and a client can compute when one will pass."""
    assert max(cost(List(limit=500)), cost(Subscribe("m", [str(n) for n in range(1000)], snapshot=True))) <= 200 / 5
    assert METHODS["jobs.list"].scope == "watch"
