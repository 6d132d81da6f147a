"""The cost of a notification: the overhead for each reader is found in measurements that also contain its events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_jobs._runtime.notification_cost import EVENTS, FEW, INTERVAL, SELDOM, NotificationCost


@given(
    st.floats(1e-6, 1e-3),
    st.floats(0, 1),
    st.integers(1, 1000),
    st.lists(st.integers(1, 400), min_size=60, max_size=100).filter(lambda counts: len(set(counts[-30:])) > 20),
)
def test_what_is_done_with_each_event_is_not_a_part_of_the_overhead(
    overhead: float, of_an_event: float, readers: int, counts: list[int]
) -> None:
    cost = NotificationCost()
    for events in counts:
        cost.add(readers * overhead * (1 + of_an_event * events), readers, events, 0.0, more=False)
        assert cost.overhead(readers) <= readers * overhead * (1 + of_an_event * events) * (1 + 1e-9)
    few, many = min(counts[-FEW:]), max(counts[-FEW:])
    assert cost.overhead(readers) >= readers * overhead / (1 + many / EVENTS)
    assert cost.overhead(readers) <= readers * overhead * (1 + of_an_event * few) * (1 + 1e-9)


def test_the_overhead_is_the_intercept_where_the_numbers_of_events_differ() -> None:
    cost = NotificationCost()
    for events in [1, 40, 80, 5, 120, 60, 90, 30] * 10:
        cost.add(20 * (16e-6 + 1.6e-6 * events), 20, events, 0.0, more=False)
    assert cost.of_an_event == pytest.approx(1.6e-6, rel=0.3)
    assert cost.overhead(20) == pytest.approx(20 * 16e-6, rel=0.3)


def test_it_is_found_also_where_each_notification_has_many_events() -> None:
    cost = NotificationCost()
    for events in [50, 150] * 40:
        cost.add(20 * (16e-6 + 1.6e-6 * events), 20, events, 0.0, more=False)
    assert 20 * 5e-6 < cost.overhead(20) < 20 * 45e-6


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=50), st.floats(1e-6, 1e-2))
def test_a_cost_that_does_not_depend_on_the_events_is_overhead(counts: list[int], seconds: float) -> None:
    cost = NotificationCost()
    for events in counts:
        cost.add(seconds, 1, events, 0.0, more=False)
    assert cost.overhead(1) == pytest.approx(seconds, rel=1e-6)


def test_work_of_other_tasks_in_some_of_the_turns_is_not_a_part_of_the_overhead() -> None:
    cost = NotificationCost()
    for number in range(40):
        cost.add(20e-6 + (number % 4 > 0) * 100e-6, 1, 3, 0.0, more=False)
    assert cost.overhead(1) == pytest.approx(20e-6)


@pytest.mark.parametrize(("without", "busy"), [(0, True), (1, True), (5, False), (8, False)])
def test_a_queue_is_busy_while_more_than_three_of_four_measurements_see_further_events(
    without: int, busy: bool
) -> None:
    cost = NotificationCost()
    assert not cost.is_busy
    for number in range(80):
        cost.add(1e-5, 1, 1, 0.0, more=number % 8 >= without)
    assert cost.is_busy is busy


def test_the_first_notifications_are_measured_then_one_of_eight_or_each_after_a_while() -> None:
    cost = NotificationCost()
    for _ in range(FEW):
        assert cost.is_due(0.0)
        cost.add(1e-5, 1, 1, 0.0, more=False)
    assert [cost.is_due(0.01) for _ in range(SELDOM)] == [False] * (SELDOM - 1) + [True]
    cost.add(1e-5, 1, 1, 0.02, more=False)
    assert not cost.is_due(0.02)
    assert cost.is_due(0.02 + INTERVAL)
