"""P10 with clocks that change: dates follow the wall clock, seconds count elapsed time.

The wall clock is set forward and back, the machine is suspended, and the queue is restarted, in any order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import trio_jobs
from support.rig import NO_RETRY, ended, last, make_rig, until_state
from support.waiting import deadline
from trio_jobs import EndedBy, Job, MemoryStore, NotDone, Queue, Retry, Service, State, TrioClock
from trio_jobs._runtime.waits import LOOK_EVERY
from trio_jobs.testing import Blocker

HOUR, DAY, YEAR = 3600.0, 86_400.0, 365 * 86_400.0


def date(clock: TrioClock, seconds: float) -> datetime:
    """`seconds` from now on the wall clock."""
    return datetime.fromtimestamp(clock.now() + seconds, UTC)


@asynccontextmanager
async def paused(clock: TrioClock, service: Service | None = None, **options: Any) -> AsyncIterator[Queue]:
    """A queue in which no attempt starts, so that jobs become due and expire and nothing else happens."""
    if service is None:
        service = Service(drain_timeout=0)

        @service.handler(kind="work", retry=NO_RETRY)
        async def work(what: str) -> str:
            return what

    async with service.open(clock=clock, seed=1, **options) as queue:
        await queue.pause()
        yield queue


async def seconds_until(queue: Queue, job_id: str, says: Callable[[Job], bool], *, within: float = 2 * HOUR) -> float:
    """The seconds on Trio's clock until `says` is true of the job."""
    began = trio.current_time()
    events = queue.events()
    with deadline("the seconds pass"), trio.move_on_after(within):
        while not says(queue.get(job_id)):
            await anext(events)
    assert says(queue.get(job_id)), "it never happens"
    return trio.current_time() - began


def is_due(job: Job) -> bool:
    return job.state is not State.SCHEDULED


def has_expired(job: Job) -> bool:
    return job.reason == "expired"


# one change of a clock


@pytest.mark.parametrize("step", [-YEAR, -HOUR, HOUR, YEAR])
async def test_a_delay_and_a_deadline_in_seconds_do_not_follow_the_wall_clock(
    step: float, autojump_clock: MockClock
) -> None:
    clock = TrioClock()
    async with paused(clock) as queue:
        delayed = await queue.submit("work", "a", delay=600)
        expiring = await queue.submit("work", "b", deadline_after=600)
        clock.set_wall(step)
        assert await seconds_until(queue, delayed.job_id, is_due) == pytest.approx(600, abs=1)
        await seconds_until(queue, expiring.job_id, has_expired)
        assert trio.current_time() == pytest.approx(600, abs=1)


@pytest.mark.parametrize("step", [-DAY, -HOUR, HOUR, 2 * HOUR])
async def test_dates_follow_the_wall_clock_within_a_minute(step: float, autojump_clock: MockClock) -> None:
    clock = TrioClock()
    async with paused(clock) as queue:
        due = await queue.submit("work", "a", due_at=date(clock, 3 * HOUR))
        expiring = await queue.submit("work", "b", deadline_at=date(clock, 3 * HOUR))
        await trio.sleep(1)
        clock.set_wall(step)
        passed = await seconds_until(queue, due.job_id, is_due, within=2 * DAY)
        assert 3 * HOUR - step - 1 <= passed <= 3 * HOUR - step + LOOK_EVERY
        assert await seconds_until(queue, expiring.job_id, has_expired) <= 1


async def test_seconds_and_dates_count_a_suspend(autojump_clock: MockClock) -> None:
    clock = TrioClock()
    async with paused(clock) as queue:
        jobs = [
            await queue.submit("work", "a", delay=HOUR),
            await queue.submit("work", "b", due_at=date(clock, HOUR)),
            await queue.submit("work", "c", deadline_after=HOUR),
            await queue.submit("work", "d", deadline_at=date(clock, HOUR)),
        ]
        await trio.sleep(1)
        clock.suspend(HOUR - 1)
        for receipt, says in zip(jobs, [is_due, is_due, has_expired, has_expired], strict=True):
            await seconds_until(queue, receipt.job_id, says)
        assert trio.current_time() <= LOOK_EVERY + 2


async def test_the_clocks_are_read_before_each_attempt(autojump_clock: MockClock) -> None:
    clock = TrioClock()
    rig = make_rig("trio")
    async with rig.service.open(clock=clock) as queue:
        later = await queue.submit("work", "later", delay=HOUR)
        clock.suspend(2 * HOUR)
        await queue.submit("work", "now")
        await queue.result(later.job_id)
        assert trio.current_time() == 0
    assert rig.sdk.calls() == ["now", "later"]


async def test_a_job_for_a_date_alone_is_due_before_the_next_attempt(autojump_clock: MockClock) -> None:
    clock = TrioClock()
    async with paused(clock) as queue:
        late = await queue.submit("work", "for later", due_at=date(clock, HOUR))
        job = await queue.submit("work", "now")
        clock.set_wall(2 * HOUR)
        await queue.resume()
        await queue.result(job.job_id)
        assert is_due(queue.get(late.job_id))


@pytest.mark.parametrize("step", [-YEAR, YEAR])
@pytest.mark.parametrize("strict_order", [False, True])
async def test_the_wait_before_a_retry_does_not_follow_the_wall_clock(
    strict_order: bool, step: float, autojump_clock: MockClock
) -> None:
    rig = make_rig("trio", retry=Retry(waits=[200]), settings={"strict_order": strict_order})
    rig.sdk.script("call", ValueError())
    clock = TrioClock()
    async with rig.service.open(clock=clock) as queue:
        receipt = await queue.submit("work", "a")
        await until_state(queue, receipt.job_id, "retrying")
        clock.set_wall(step)
        await queue.result(receipt.job_id)
        assert trio.current_time() == 200


@pytest.mark.parametrize("strict_order", [False, True])
async def test_the_wait_before_a_retry_counts_a_suspend(strict_order: bool, autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=Retry(waits=[HOUR], max_wait=HOUR), settings={"strict_order": strict_order})
    rig.sdk.script("call", ValueError())
    clock = TrioClock()
    async with rig.service.open(clock=clock) as queue:
        receipt = await queue.submit("work", "a")
        await until_state(queue, receipt.job_id, "retrying")
        clock.suspend(2 * HOUR)
        await queue.result(receipt.job_id)
        assert trio.current_time() <= LOOK_EVERY


@pytest.mark.parametrize("step", [-YEAR, YEAR])
async def test_the_settle_time_of_verify_does_not_follow_the_wall_clock(step: float, autojump_clock: MockClock) -> None:
    """Before a further attempt, too: a person's retry comes at any time after the attempt."""
    rig = make_rig("trio", verifies=True, verify_delay=100, attempt_timeout=10)
    rig.sdk.script("call", Blocker())
    rig.sdk.script("verify", trio_jobs.Unknown(), NotDone())
    clock = TrioClock()
    async with rig.service.open(clock=clock) as queue:
        receipt = await queue.submit("work", "a")
        await trio.sleep(50)
        clock.set_wall(step)
        await trio.sleep(59)
        assert "verify" not in [one.operation for one in rig.sdk.steps]
        await trio.sleep(2)
        assert "verify" in [one.operation for one in rig.sdk.steps]
        await queue.resolve(receipt.job_id, "failed")


@pytest.mark.parametrize("step", [-YEAR, YEAR])
async def test_the_settle_time_before_a_further_attempt_is_what_is_left_of_it(
    step: float, autojump_clock: MockClock
) -> None:
    rig = make_rig("trio", verifies=True, verify_first=True, verify_delay=100, retry=NO_RETRY)
    rig.sdk.script("call", ValueError())
    rig.sdk.script("verify", NotDone(), NotDone())
    clock = TrioClock()
    async with rig.service.open(clock=clock) as queue:
        receipt = await queue.submit("work", "a")
        await until_state(queue, receipt.job_id, "in_doubt")
        assert trio.current_time() == 100, "before the first attempt the whole of it"
        clock.set_wall(step)
        await trio.sleep(30)
        await queue.resolve(receipt.job_id, "failed")
        await queue.retry(receipt.job_id)
        await queue.result(receipt.job_id)
        assert trio.current_time() == 200


async def test_renew_after_idle_counts_a_suspend(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"renew_after_idle": 1000})
    clock = TrioClock()
    async with rig.service.open(clock=clock) as queue:
        await queue.result((await queue.submit("work", "a")).job_id)
        clock.set_wall(HOUR)
        await queue.result((await queue.submit("work", "b")).job_id)
        assert queue.statistics().session == 1, "no time has passed"
        clock.suspend(HOUR)
        await queue.result((await queue.submit("work", "c")).job_id)
        assert queue.statistics().session == 2


async def test_min_interval_counts_a_suspend(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"min_interval": 1000})
    clock = TrioClock()
    async with rig.service.open(clock=clock) as queue:
        await queue.result((await queue.submit("work", "a")).job_id)
        clock.suspend(HOUR)
        await queue.result((await queue.submit("work", "b")).job_id)
        assert trio.current_time() <= LOOK_EVERY


@pytest.mark.parametrize("limit", ["attempt_timeout", "deadline_after", "deadline_at"])
async def test_the_limits_of_a_running_attempt_count_a_suspend(limit: str, autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=NO_RETRY, attempt_timeout=HOUR if limit == "attempt_timeout" else None)
    rig.sdk.script("call", Blocker())
    clock = TrioClock()
    times: dict[str, Any] = {}
    if limit != "attempt_timeout":
        times[limit] = HOUR if limit == "deadline_after" else date(clock, HOUR)
    async with rig.service.open(clock=clock) as queue:
        receipt = await queue.submit("work", "a", **times)
        await trio.sleep(1)
        clock.suspend(HOUR - 1)
        job = await until_state(queue, receipt.job_id, "in_doubt")
        assert trio.current_time() <= LOOK_EVERY + 1
    assert last(job).ended_by is (EndedBy.ATTEMPT_TIMEOUT if limit == "attempt_timeout" else EndedBy.DEADLINE)


async def test_the_deadline_of_a_running_attempt_follows_the_wall_clock(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=NO_RETRY)
    rig.sdk.script("call", Blocker(), Blocker())
    clock = TrioClock()
    async with rig.service.open(clock=clock) as queue:
        receipt = await queue.submit("work", "a", deadline_at=date(clock, HOUR))
        await trio.sleep(1)
        clock.set_wall(-HOUR)
        await until_state(queue, receipt.job_id, "in_doubt")
        assert 2 * HOUR <= trio.current_time() <= 2 * HOUR + LOOK_EVERY
        await queue.resolve(receipt.job_id, "failed")
        receipt = await queue.submit("work", "b", deadline_at=date(clock, HOUR), deadline_after=None)
        await trio.sleep(1)
        clock.set_wall(HOUR)
        began = trio.current_time()
        await until_state(queue, receipt.job_id, "in_doubt")
        assert trio.current_time() - began <= LOOK_EVERY


@pytest.mark.parametrize("step", [-YEAR, YEAR])
async def test_a_deadline_in_seconds_limits_a_running_attempt_whatever_the_wall_clock(
    step: float, autojump_clock: MockClock
) -> None:
    rig = make_rig("trio", retry=NO_RETRY)
    rig.sdk.script("call", Blocker())
    clock = TrioClock()
    async with rig.service.open(clock=clock) as queue:
        receipt = await queue.submit("work", "a", deadline_after=600)
        clock.set_wall(step)
        await until_state(queue, receipt.job_id, "in_doubt")
        assert trio.current_time() == 600


async def test_the_limit_of_a_verify_does_not_outlive_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig("trio", verifies=True, verify_first=True, verify_timeout=10)
    rig.sdk.script("verify", NotDone())

    async def long() -> str:
        await trio.sleep(DAY)
        return "done"

    rig.sdk.script("call", long)
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        assert await queue.result(receipt.job_id) == "done"
        assert not last(queue.get(receipt.job_id)).overdue
    assert "has passed" not in caplog.text


async def test_the_limit_of_an_attempt_does_not_outlive_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """While verify waits for its delay, nothing of the attempt is overdue."""
    rig = make_rig("trio", verifies=True, verify_delay=HOUR, attempt_timeout=10)
    rig.sdk.script("call", ValueError())
    rig.sdk.script("verify", NotDone())
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        await ended(queue, receipt.job_id)
        assert not any(attempt.overdue for attempt in queue.get(receipt.job_id).attempts or ())
    assert "has passed" not in caplog.text


async def test_a_job_that_was_due_under_a_wrong_clock_is_not_last_for_ever(autojump_clock: MockClock) -> None:
    """Jobs that wait for a slot are ordered by when they were due; a date in the next year would come last."""
    rig = make_rig("trio", settings={"buffer": 1})
    hold = Blocker()
    rig.sdk.script("call", hold)
    clock = TrioClock()
    clock.set_wall(YEAR)
    async with rig.service.open(clock=clock) as queue:
        await queue.submit("work", "first")
        await hold.reached_in_trio()
        await queue.submit("work", "filler")
        early = await queue.submit("work", "early", delay=1)
        clock.set_wall(-YEAR)
        await trio.sleep(2)
        for n in range(3):
            await queue.submit("work", f"late {n}", delay=1)
        await trio.sleep(2)
        hold.release()
        await queue.result(early.job_id)
        await queue.drain()
    assert rig.sdk.calls() == ["first", "filler", "early", "late 0", "late 1", "late 2"]


async def test_an_estimate_does_not_follow_the_wall_clock(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    clock = TrioClock()

    async def set_it() -> None:
        await trio.sleep(2)
        clock.set_wall(YEAR)

    rig.sdk.script("call", set_it)
    async with rig.service.open(clock=clock) as queue:
        await queue.result((await queue.submit("work", "a")).job_id)
        assert queue.statistics().mean_run == 2


async def test_a_deadline_in_seconds_counts_from_the_call_though_it_waits_for_a_slot(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 1})
    hold = Blocker()
    rig.sdk.script("call", hold)
    clock = TrioClock()
    receipts: list[trio_jobs.Receipt] = []
    async with rig.service.open(clock=clock) as queue, trio.open_nursery() as nursery:
        await queue.submit("work", "first")
        await hold.reached_in_trio()
        await queue.submit("work", "filler")

        @nursery.start_soon
        async def submit() -> None:
            receipts.append(await queue.submit("work", "waits", deadline_after=100))

        await trio.sleep(40)
        clock.set_wall(-YEAR)
        await queue.pause()
        hold.release()
        await trio.sleep(0.5)
        await queue.resume()
        await trio.sleep(0.5)
        await queue.pause()
        job = queue.get(receipts[0].job_id)
        if not job.is_final:
            assert job.deadline_at is not None
            assert 0 < job.deadline_at.timestamp() - clock.now() <= 60
        await queue.resume()


# restarts


@attrs.define
class Restarting:
    """A queue that is stopped and started again, on the store of the one before it."""

    clock: TrioClock
    store: MemoryStore = attrs.field(factory=MemoryStore)

    def open(self, service: Service | None = None) -> Any:
        return paused(self.clock, service, store=self.store)


@pytest.mark.parametrize("ahead", [DAY, YEAR])
async def test_a_wait_recorded_while_the_clock_was_ahead_is_as_long_after_a_restart(
    ahead: float, autojump_clock: MockClock
) -> None:
    clock = TrioClock()
    queues = Restarting(clock)
    clock.set_wall(ahead)
    async with queues.open() as queue:
        delayed = await queue.submit("work", "a", delay=600)
        expiring = await queue.submit("work", "b", deadline_after=600)
    clock.set_wall(-ahead)
    async with queues.open() as queue:
        assert await seconds_until(queue, delayed.job_id, is_due) == pytest.approx(600, abs=1)
        assert await seconds_until(queue, expiring.job_id, has_expired) <= 1


async def test_the_time_while_nothing_runs_counts(autojump_clock: MockClock) -> None:
    queues = Restarting(TrioClock())
    async with queues.open() as queue:
        delayed = await queue.submit("work", "a", delay=600)
        expiring = await queue.submit("work", "b", deadline_after=600)
    await trio.sleep(250)
    async with queues.open() as queue:
        await seconds_until(queue, delayed.job_id, is_due)
        await seconds_until(queue, expiring.job_id, has_expired)
        assert trio.current_time() == pytest.approx(600, abs=1)


async def test_a_retry_recorded_while_the_clock_was_ahead_waits_no_longer_than_its_policy(
    autojump_clock: MockClock,
) -> None:
    """Also where the policy of the new process has shorter waits."""

    def rig(wait: float) -> Service:
        service = Service(drain_timeout=0)

        @service.handler(kind="work", retry=Retry(waits=[wait], max_wait=wait))
        async def work(what: str) -> str:
            if len(calls) < 1:
                calls.append(what)
                raise ValueError
            return what

        return service

    calls: list[str] = []
    clock, store = TrioClock(), MemoryStore()
    async with rig(DAY).open(clock=clock, store=store) as queue:
        receipt = await queue.submit("work", "a")
        await until_state(queue, receipt.job_id, "retrying")
    clock.set_wall(-YEAR)
    began = trio.current_time()
    async with rig(HOUR).open(clock=clock, store=store) as queue:
        await queue.result(receipt.job_id)
        assert trio.current_time() - began == HOUR


async def test_the_seconds_that_a_handler_chose_are_kept_after_a_restart(autojump_clock: MockClock) -> None:
    rig, clock, store = make_rig("trio", retry=Retry(waits=[1], max_wait=1)), TrioClock(), MemoryStore()
    rig.sdk.script("call", trio_jobs.RetryAfter(HOUR), trio_jobs.Snooze(2 * HOUR))
    for expected in (HOUR, 2 * HOUR):
        async with rig.service.open(clock=clock, store=store) as queue:
            if not queue.list():
                await queue.submit("work", "a")
            [job] = queue.list()
            await until_state(queue, job.id, "retrying" if expected == HOUR else "scheduled")
        clock.set_wall(-YEAR)
        began = trio.current_time()
        async with rig.service.open(clock=clock, store=store) as queue:
            [job] = queue.list()
            while queue.get(job.id).state is job.state:
                await trio.sleep(1)
            assert trio.current_time() - began == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("how", ["deadline_after", "deadline_at"])
async def test_a_restored_job_expires_at_its_deadline(how: str, autojump_clock: MockClock) -> None:
    queues = Restarting(TrioClock())
    async with queues.open() as queue:
        receipt = await queue.submit("work", "a", **{how: 600 if how == "deadline_after" else date(queues.clock, 600)})
        await trio.sleep(100)
    async with queues.open() as queue:
        assert await seconds_until(queue, receipt.job_id, has_expired) == pytest.approx(500, abs=1)


@pytest.mark.parametrize("how", ["deadline_after", "deadline_at"])
async def test_a_job_that_is_retried_after_a_restart_expires_at_its_deadline(
    how: str, autojump_clock: MockClock
) -> None:
    queues = Restarting(TrioClock())
    async with queues.open() as queue:
        receipt = await queue.submit("work", "a", **{how: 600 if how == "deadline_after" else date(queues.clock, 600)})
        await queue.cancel(receipt.job_id)
        await trio.sleep(100)
    async with queues.open() as queue:
        await trio.sleep(100)
        await queue.retry(receipt.job_id)
        assert await seconds_until(queue, receipt.job_id, has_expired) == pytest.approx(400, abs=1)
        await queue.retry(receipt.job_id)
        assert queue.get(receipt.job_id).deadline_at is None, "it has passed"


@pytest.mark.parametrize(("step", "is_kept"), [(YEAR, True), (-YEAR, True), (YEAR, False), (-YEAR, False)])
async def test_a_new_run_keeps_a_deadline_in_seconds_if_they_have_not_passed(
    step: float, is_kept: bool, autojump_clock: MockClock
) -> None:
    """And the projection of another process agrees, which has the events alone."""
    queues = Restarting(TrioClock())
    async with queues.open() as queue:
        receipt = await queue.submit("work", "a", deadline_after=600)
        await queue.cancel(receipt.job_id)
        await trio.sleep(100 if is_kept else 700)
        queues.clock.set_wall(step)
        await queue.retry(receipt.job_id)
        assert (queue.get(receipt.job_id).deadline_at is not None) is is_kept
    async with queues.open() as queue:
        assert (queue.get(receipt.job_id).deadline_at is not None) is is_kept


async def test_a_job_that_waits_behind_its_attempt_still_expires_if_the_clock_was_set_back(
    autojump_clock: MockClock,
) -> None:
    """Its deadline was reached during an attempt that had not ended, and is reached a second time."""
    rig = make_rig("trio", retry=Retry(waits=[DAY], max_wait=DAY))

    async def fail_behind_a_shield() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(HOUR)
            clock.set_wall(-2 * HOUR)
        raise trio_jobs.RetryAfter(DAY)

    rig.sdk.script("call", fail_behind_a_shield)
    clock = TrioClock()
    async with rig.service.open(clock=clock) as queue:
        receipt = await queue.submit("work", "a", deadline_at=date(clock, HOUR / 2))
        await until_state(queue, receipt.job_id, "retrying")
        job = await until_state(queue, receipt.job_id, "failed")
        assert job.reason == "expired"
        assert trio.current_time() == pytest.approx(2.5 * HOUR, abs=LOOK_EVERY)


# any order of changes


SECONDS = st.sampled_from([0.5, 30.0, 61.0, 600.0, 4000.0, 20_000.0])
CHANGES = st.one_of(
    st.tuples(st.just("pass"), SECONDS),
    st.tuples(st.just("suspend"), SECONDS),
    st.tuples(st.just("set"), SECONDS),
    st.tuples(st.just("set"), SECONDS.map(lambda seconds: -seconds)),
    st.tuples(st.just("restart"), st.just(0.0)),
)


@attrs.define
class Expected:
    """What a job waits for."""

    job_id: str
    says: Callable[[Job], bool]
    seconds: float | None
    """None for a date."""
    at: float
    """The date, or that of the end of the seconds when they began."""
    ends: float = 0.0
    """In elapsed seconds, where it waits for seconds."""
    reached_for: float = 0.0
    """For how many seconds on Trio's clock that has been reached, without a break, while the queue was open."""
    is_over: bool = False
    """The job has become due, or has expired. It stays so, also if the wall clock is set back."""

    def left(self, clock: TrioClock) -> float:
        """The seconds that it still waits, if no clock is changed."""
        return self.at - clock.now() if self.seconds is None else self.ends - clock.elapsed()


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    changes=st.lists(CHANGES, max_size=12),
    seconds=st.sampled_from([20.0, 600.0, 5000.0]),
    ahead=st.sampled_from([0.0, YEAR, -YEAR]),
)
@example(changes=[("set", -4000.0), ("restart", 0.0), ("set", 4000.0), ("pass", 600.0)], seconds=600.0, ahead=0.0)
def test_waits_end_at_their_dates_and_after_their_seconds_whatever_happens_to_the_clocks(
    changes: list[tuple[str, float]], seconds: float, ahead: float
) -> None:
    """Never early; and at most a minute late while the queue runs."""

    async def main() -> None:
        clock = TrioClock()
        clock.set_wall(ahead)
        queues = Restarting(clock)
        waits: list[Expected] = []
        todo = [*changes, ("pass", 2 * seconds + 30_000.0)]
        async with queues.open() as queue:
            at = clock.now() + seconds
            for options, says in (
                ({"delay": seconds}, is_due),
                ({"due_at": date(clock, seconds)}, is_due),
                ({"deadline_after": seconds}, has_expired),
                ({"deadline_at": date(clock, seconds)}, has_expired),
            ):
                receipt = await queue.submit("work", "x", **options)
                by_date = "due_at" in options or "deadline_at" in options
                ends = clock.elapsed() + seconds
                waits.append(Expected(receipt.job_id, says, None if by_date else seconds, at, ends))
            while todo and (change := todo.pop(0))[0] != "restart":
                await _apply(queue, clock, waits, change)
        while todo:
            for wait in waits:
                wait.reached_for = 0.0
                if wait.seconds is not None:  # how long ago it began is known by the wall clock only
                    left = min(max(wait.at - clock.now(), 0.0), wait.seconds)
                    wait.ends = clock.elapsed() + left
            async with queues.open() as queue:
                await _apply(queue, clock, waits, ("pass", 0.0))  # what was over when it opened
                while todo and (change := todo.pop(0))[0] != "restart":
                    await _apply(queue, clock, waits, change)

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def _apply(queue: Queue, clock: TrioClock, waits: list[Expected], change: tuple[str, float]) -> None:
    what, seconds = change
    if what == "set":
        clock.set_wall(seconds)
    elif what == "suspend":
        clock.suspend(seconds)
    end = trio.current_time() + (seconds if what == "pass" else 0.0)
    while True:
        step = end - trio.current_time()
        for wait in waits:
            if wait.is_over:
                continue
            left = wait.left(clock)
            if wait.says(queue.get(wait.job_id)):
                assert left <= 1e-5, f"{wait} is over {left} s too early"
                wait.is_over = True
            elif left > 0:
                wait.reached_for = 0.0
                step = min(step, left)
            else:
                assert wait.reached_for <= LOOK_EVERY + 1.0, f"{wait} is not over"
                step = min(step, 15.0)
        if step <= 0:
            return
        reached = [wait for wait in waits if wait.left(clock) <= 0]
        await trio.sleep(step)
        for wait in reached:
            wait.reached_for += step
