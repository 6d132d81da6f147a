"""The pace of a client: the rate limits of the server never refuse what it sends, and it is not slower than needed."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import hypothesis.strategies as st
import pytest
import trio
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.server import OWNER, WATCHER
from support.waiting import deadline
from trio_jobs import Service, connect, serve
from trio_jobs._client.backoff import Backoff
from trio_jobs._client.outbox import Outbox, Request
from trio_jobs._client.pacer import Pacer, assumed_limits
from trio_jobs._server.limits import RateLimiter, ServerLimits, connection_limits
from trio_jobs._wire.methods import ConnectionLimits, Nothing


class PacedClient(RuleBasedStateMachine):
    """A client at full speed, a network that delays and stalls, and the token buckets of the server.

    Requests arrive in their order, whenever the rules say; so do the proofs of their receipt. The clocks of both sides
    differ by half a percent at most.
    """

    @initialize(
        limits=st.builds(
            ConnectionLimits,
            message=st.just(10**6),
            in_flight=st.just(64),
            messages=st.floats(1, 300),
            messages_per_second=st.floats(0.5, 1000),
            bytes=st.floats(100, 10_000),
            bytes_per_second=st.floats(50, 10_000),
            subscriptions=st.just(32),
        ),
        drift=st.floats(-0.005, 0.005),
    )
    def begin(self, limits: ConnectionLimits, drift: float) -> None:
        self.now, self.drift, self.number = 0.0, 1.0 + drift, 0
        self.pacer = Pacer(limits, self.now)
        self.messages = RateLimiter(limits.messages, limits.messages_per_second, self.now)
        self.bytes = RateLimiter(limits.bytes, limits.bytes_per_second, self.now)
        self.travelling: deque[tuple[int, int, int]] = deque()
        self.arrived = self.proved = 0

    @rule(cost=st.integers(1, 12), size=st.integers(1, 500), most=st.integers(1, 300))
    def send_as_much_as_the_pacer_lets_pass(self, cost: int, size: int, most: int) -> None:
        for _ in range(most):
            if self.pacer.wait_for(cost, size, self.now) > 0:
                break
            self.number += 1
            self.pacer.sent(self.number, cost, size, self.now)
            self.travelling.append((self.number, cost, size))

    @rule(seconds=st.floats(0, 3))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(cost=st.integers(1, 3), size=st.integers(1, 100))
    def wait_for_as_long_as_the_pacer_says(self, cost: int, size: int) -> None:
        wait = self.pacer.wait_for(cost, size, self.now)
        if wait < float("inf"):
            self.now += wait + 1e-9
            assert self.pacer.wait_for(cost, size, self.now) < 1e-6
        else:
            assert self.travelling or self.proved < self.arrived

    @precondition(lambda self: bool(getattr(self, "travelling", ())))
    @rule(most=st.integers(1, 300))
    def requests_arrive(self, most: int) -> None:
        at = self.now * self.drift
        for _ in range(min(most, len(self.travelling))):
            self.arrived, cost, size = self.travelling.popleft()
            assert self.messages.take(cost, at), "refused because of the rate of requests"
            assert self.bytes.take(size, at), "refused because of the rate of bytes"

    @rule(skipped=st.integers(0, 5))
    def receipt_is_proved(self, skipped: int) -> None:
        self.proved = max(self.proved, self.arrived - skipped)
        self.pacer.received(self.proved, self.now)

    @invariant()
    def what_is_in_transit_is_known(self) -> None:
        if hasattr(self, "pacer"):
            assert (self.pacer.oldest_in_transit == float("inf")) == (self.proved == self.number)


TestPacedClient = PacedClient.TestCase


def test_a_client_alone_with_quick_answers_uses_the_burst_and_then_the_whole_rate() -> None:
    pacer, now = Pacer(connection_limits(ServerLimits(), "control"), 0.0), 0.0
    for number in range(1, 1001):
        now += pacer.wait_for(1, 100, now)
        pacer.sent(number, 1, 100, now)
        now += 0.0003
        pacer.received(number, now)
    assert 8.0 < now < 8.5  # 200 at once, 800 at 98 a second


def test_what_is_above_the_burst_waits_for_a_full_bucket_and_for_nothing_in_transit() -> None:
    limits = ConnectionLimits(10**6, 64, 5, 1.0, 1e6, 1e6, 32)
    pacer = Pacer(limits, 0.0)
    assert pacer.wait_for(11, 1, 0.0) == 0
    pacer.sent(1, 1, 1, 0.0)
    assert pacer.wait_for(11, 1, 0.0) == float("inf")
    pacer.received(1, 0.5)
    assert 0 < pacer.wait_for(11, 1, 0.5) < 1.1


def test_nothing_is_sent_while_the_server_asks_for_a_pause() -> None:
    pacer = Pacer(assumed_limits("control"), 0.0)
    pacer.hold(2.0, 0.0)
    pacer.hold(1.0, 0.5)
    assert pacer.wait_for(1, 1, 0.5) == pytest.approx(1.5)
    assert pacer.wait_for(1, 1, 2.0) == 0


def test_a_server_that_announces_no_limits_is_taken_to_have_the_defaults_of_its_time() -> None:
    announced = connection_limits(ServerLimits(), "watch")
    assumed = assumed_limits("watch")
    for name in ("in_flight", "messages", "messages_per_second", "bytes", "bytes_per_second", "subscriptions"):
        assert getattr(assumed, name) == getattr(announced, name)
    assert assumed.message == 2**20


@given(st.integers(0, 2**32), st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=40))
def test_each_wait_is_longer_than_the_last_up_to_a_limit_and_random(seed: int, steps: list[float | None]) -> None:
    backoff, failures = Backoff(0.05, 5.0, random.Random(seed)), 0
    for least in steps:
        if least is None:
            backoff.reset()
            failures = 0
            continue
        wait = backoff.next(least)
        full = min(0.05 * 2**failures, 5.0)
        assert max(full / 2, least) <= wait <= max(full, least * 1.25)
        failures += 1


def test_clients_that_lost_the_same_server_do_not_return_at_once() -> None:
    waits = [Backoff(0.05, 5.0, random.Random(seed)).next() for seed in range(100)]
    assert len(set(waits)) == 100


def request(lane: Any) -> Request:
    return Request("queue.resume", lambda longest: Nothing(), lane)


@given(st.lists(st.sampled_from(["brief", "submit", "wait"]), max_size=300), st.integers(1, 100), st.randoms())
def test_lanes_keep_their_places_and_their_order(lanes: list[Any], in_flight: int, chance: random.Random) -> None:
    outbox = Outbox(in_flight)
    sent: list[Request] = []
    flying: list[Request] = []
    waiting = [request(lane) for lane in lanes]
    for each in waiting:
        outbox.add(each)
    while len(sent) < len(waiting):
        while (one := outbox.next()) is not None:
            outbox.take(one)
            sent.append(one)
            flying.append(one)
        assert 0 < len(flying) <= in_flight
        waits = [one for one in flying if one.lane == "wait"]
        assert len(waits) <= max(1, in_flight // 2)
        if not any(one.lane == "brief" for one in flying) and in_flight >= 16:
            assert len(flying) <= in_flight - 4  # the next brief request finds a place
        done = chance.choice(flying)
        flying.remove(done)
        outbox.release(done)
    for lane in ("brief", "submit", "wait"):
        assert [one for one in sent if one.lane == lane] == [one for one in waiting if one.lane == lane]


def test_a_brief_request_does_not_wait_behind_a_thousand_submits() -> None:
    outbox = Outbox(64)
    for _ in range(1000):
        outbox.add(request("submit"))
    late = request("brief")
    outbox.add(late)
    for turn in range(3):
        one = outbox.next()
        assert one is not None
        outbox.take(one)
        if one is late:
            assert turn <= 2
            return
    raise AssertionError("it waits")


def test_a_submit_whose_wait_is_over_is_sent_without_one() -> None:
    outbox = Outbox(2)
    outbox.add(first := request("submit"))
    outbox.take(first)
    late = Request("jobs.submit", lambda longest: Nothing(), "submit", until=5.0)
    outbox.add(late)
    assert outbox.next() is None
    outbox.stop_waiting(5.0)
    assert outbox.next() is late


@pytest.mark.parametrize("messages", [1, 3, 33, 200])
async def test_the_greeting_counts_too(messages: int) -> None:
    """A client whose burst is small is not refused right after its greeting."""
    limits = ServerLimits(messages=messages, messages_per_second=200.0, strikes=0)  # a refusal closes the connection
    service = Service()
    async with (
        service.open() as queue,
        serve(queue, port=0, tokens=[OWNER, WATCHER], limits=limits) as server,
        connect(server.url, token=OWNER.secret) as client,
        connect(server.url, token=WATCHER.secret) as watcher,
    ):
        with deadline("all answers"):
            async with trio.open_nursery() as nursery:
                for _ in range(messages + 5):
                    nursery.start_soon(client.statistics)
                    nursery.start_soon(watcher.statistics)
        assert (client.reconnects, watcher.reconnects) == (0, 0)
