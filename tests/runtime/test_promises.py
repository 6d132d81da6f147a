"""The promises of the queue, each by its number. P8 has its tests in test_event_stream; P4 under cancellation in
test_cancellations."""

from __future__ import annotations

import logging
import re
import sys
import textwrap
import threading
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.process_rig import IN_A_PROCESS, make_service, serve_sdk
from support.processes import run
from support.rig import (
    IN_PROCESS,
    NO_RETRY,
    HostKind,
    Rig,
    busy_queue,
    ended,
    last,
    make_rig,
    pass_time,
    service_for,
    until,
    until_state,
)
from trio_jobs import EndedBy, Outcome, QueueBroken, QueueFull, SdkCallError, SdkOpenFailed, Service, State, TrioClock
from trio_jobs._engine.json_values import moment
from trio_jobs._executors.process_child import STACK_WAIT
from trio_jobs._runtime.overrun_monitor import KILL_GRACE
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._runtime.watchdog import Watchdog
from trio_jobs.testing import Blocker, FakeSdk, FakeSession, Slow
from trio_jobs.testing._remote_session import Die, open_session


class Wrong(Exception):
    """What a test raises on purpose."""


# P1: one at a time


async def test_p1_attempts_never_overlap(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    async with rig.open() as queue, trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(queue.submit, "work", str(n))
    rig.sdk.check()
    assert sorted(rig.sdk.calls(), key=int) == [str(n) for n in range(20)]


async def test_p1_nothing_enters_the_sdk_while_a_timed_out_call_is_inside(mock_clock: MockClock) -> None:
    rig = make_rig("thread", attempt_timeout=1, verifies=True)
    hold = Blocker("late")
    rig.sdk.script("call", hold)
    async with rig.open() as queue:
        first = await queue.submit("work", "first")
        second = await queue.submit("work", "second")
        await hold.reached()
        await pass_time(mock_clock, 100)
        assert [step.operation for step in rig.sdk.steps] == ["open", "call"]
        assert queue.get(second.job_id).state is State.PENDING
        hold.release()
        assert (await ended(queue, first.job_id)).state is State.COMPLETED
    assert rig.sdk.calls() == ["first", "second"]
    rig.sdk.check()


async def test_p1_a_stop_does_not_close_a_session_while_a_call_is_inside(mock_clock: MockClock) -> None:
    rig = make_rig("thread", settings={"drain_timeout": 1, "cancel_timeout": 1, "close_timeout": 1})
    hold = Blocker()
    rig.sdk.script("call", hold)
    leaving = trio.Event()

    async def life() -> None:
        async with rig.open() as queue:
            await queue.submit("work", "first")
            await hold.reached()
            leaving.set()
        assert queue.report is not None
        assert not queue.report.sdk_closed

    async with trio.open_nursery() as nursery:
        nursery.start_soon(life)
        await leaving.wait()
        await pass_time(mock_clock, 1)
        await pass_time(mock_clock, 1)
    assert [step.operation for step in rig.sdk.steps] == ["open", "call"]
    hold.release()


async def both(handle: trio_jobs.SdkHandle, n: int) -> list[str]:
    answers: list[str] = []

    async def one(what: str) -> None:
        answers.append(await handle.call(FakeSession.call, what))

    async with trio.open_nursery() as nursery:
        for i in range(n):
            nursery.start_soon(one, str(i))
    return sorted(answers)


async def twice(handle: trio_jobs.SdkHandle, what: str) -> list[str]:
    return [await handle.call(FakeSession.call, what), await handle.call(FakeSession.call, what)]


async def fail_late(sdk: Any, seconds: float) -> None:
    """Fail so many seconds after the cancellation, behind a shield."""
    await (sdk.call(FakeSession.call, "a") if isinstance(sdk, trio_jobs.SdkHandle) else sdk.acall("a"))
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)
        raise OSError("late")


def process_handle_service(settings: dict[str, Any]) -> Service:
    return with_async_handlers(Service(sdk=open_session, **IN_A_PROCESS, **settings))


def with_async_handlers(service: Service) -> Service:
    for handler in (both, twice, fail_late):
        service.handler(on_doubt="hold")(handler)
    return service


def make_handle_rig(kind: HostKind, **settings: Any) -> Rig:
    """A rig whose handlers "both", "twice" and "fail_late" are asynchronous, and make calls by a handle."""
    if kind == "process":
        served = serve_sdk()
        return Rig(served, kind, make_service(process_handle_service, settings))
    sdk = FakeSdk()
    return Rig(sdk, kind, with_async_handlers(service_for(sdk, kind, **settings)))


@pytest.mark.parametrize("cancel_timeout", [2, 1000], ids=["exceeded", "kept"])
async def test_p3_a_stop_waits_for_the_close_of_the_session_of_an_attempt_that_ended_late(
    kind: HostKind, cancel_timeout: float, autojump_clock: MockClock
) -> None:
    """The close has all of its time, whatever the attempt took, and is recorded."""
    rig = make_handle_rig(kind, drain_timeout=5, cancel_timeout=cancel_timeout, close_timeout=10)
    hold = Blocker()
    rig.sdk.script("close", hold if kind == "thread" else Slow(8))  # no virtual time passes on a thread that closes
    store = trio_jobs.MemoryStore()

    async def let_the_thread_close() -> None:
        if kind == "thread":
            await hold.reached()
            await wait_all_tasks_blocked()
            hold.release()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(let_the_thread_close)
        async with rig.open_jumping(store=store) as queue:
            await queue.submit("fail_late", 100.0)
    assert trio.current_time() == 105 + (0 if kind == "thread" else 8)
    assert queue.report is not None
    assert queue.report.sdk_closed
    assert [type(error) for error in rig.sdk.thrown] == [OSError if kind == "trio" else trio_jobs.SessionDiscarded]
    assert [type(event).__name__ for event in await store.events(0, 100)][-1] == "SessionClosed"
    rig.sdk.check()


@pytest.mark.parametrize("kind", ["thread", *IN_PROCESS], indirect=True)
async def test_p1_two_calls_of_one_async_handler_take_turns(kind: HostKind, clock: MockClock) -> None:
    rig = make_handle_rig(kind)
    async with rig.open() as queue:
        receipt = await queue.submit("both", 5)
        assert await queue.result(receipt.job_id) == ["0", "1", "2", "3", "4"]
    rig.sdk.check()


# P2: one thread


@pytest.mark.parametrize("kind", ["thread", *IN_PROCESS], indirect=True)
async def test_p2_open_calls_verify_and_close_happen_on_one_thread_and_not_on_trios(
    kind: HostKind, mock_clock: MockClock
) -> None:
    rig = make_rig(kind, verifies=True, retry=trio_jobs.Retry(1, waits=[0]))
    rig.sdk.script("call", Wrong())
    rig.sdk.script("verify", trio_jobs.NotDone())
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        assert await queue.result(receipt.job_id) == "a"
    operations = [step.operation for step in rig.sdk.steps]
    assert operations == ["open", "call", "close", "open", "verify", "call", "close"]
    threads = {step.thread for step in rig.sdk.steps}
    assert len(threads) == 1  # sessions of one queue follow each other on one thread
    assert threads != {threading.get_ident()}


@pytest.mark.parametrize("kind", ["thread", *IN_PROCESS], indirect=True)
async def test_p2_calls_of_async_handlers_go_to_the_sdks_thread(kind: HostKind, clock: MockClock) -> None:
    rig = make_handle_rig(kind)
    async with rig.open() as queue:
        assert await queue.result((await queue.submit("twice", "a")).job_id) == ["a", "a"]
    rig.sdk.check()
    assert len({step.thread for step in rig.sdk.steps}) == 1


# P3: always closed


@pytest.mark.parametrize("way", ["return", "error", "cancel", "deadline"])
async def test_p3_a_session_is_closed_once_however_the_block_ends(way: str, kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    queue: trio_jobs.Queue | None = None
    with trio.CancelScope() as outside:
        try:
            async with rig.open() as queue:
                await queue.result((await queue.submit("work", "a")).job_id)
                if way == "error":
                    raise Wrong
                if way == "cancel":
                    outside.cancel()
                if way == "deadline":
                    outside.deadline = trio.current_time()
                await trio.lowlevel.checkpoint()
        except Wrong:
            assert way == "error"
    assert outside.cancelled_caught == (way in ("cancel", "deadline"))
    rig.sdk.check()
    assert rig.sdk.count("close") == 1
    assert queue is not None and queue.report is not None
    assert queue.report.sdk_closed
    assert queue.report.sdk_problem is None


async def test_p3_the_owners_error_is_raised_bare(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    error = Wrong("mine")
    with pytest.raises(Wrong) as caught:
        async with rig.open():
            raise error
    assert caught.value is error


@pytest.mark.parametrize("kind", ["thread", *IN_PROCESS], indirect=True)
async def test_p3_a_cancel_while_a_call_is_inside_waits_for_the_call_and_closes(
    kind: HostKind, clock: MockClock
) -> None:
    rig = make_rig(kind)
    hold = Blocker()
    rig.sdk.script("call", hold)
    with trio.CancelScope() as outside:
        async with rig.open() as queue:
            await queue.submit("work", "a")
            await hold.reached()
            outside.cancel()
            trio.lowlevel.current_trio_token().run_sync_soon(hold.release)
            await trio.sleep_forever()
    rig.sdk.check()
    assert queue.report is not None
    assert queue.report.sdk_closed
    assert queue.report.jobs[State.COMPLETED] == 1, "a stop never turns a success into a failure"


@pytest.mark.parametrize("error", [Wrong("no such book"), SystemExit(3), GeneratorExit()], ids=repr)
async def test_p3_if_opening_fails_no_job_is_consumed(error: BaseException, kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, settings={"open_retry": NO_RETRY})
    rig.sdk.script("open", error)
    with pytest.raises(SdkOpenFailed, match=r"could not be opened \(tries: 1\)") as caught:
        async with rig.open():
            raise AssertionError("the block must not begin")
    cause = caught.value.__cause__
    assert cause is error or (isinstance(cause, SdkCallError) and cause.class_name == type(error).__name__)
    assert (kind == "process") == isinstance(cause, SdkCallError)
    assert [step.operation for step in rig.sdk.steps] == ["open"]
    rig.sdk.check()


async def test_p3_opening_is_tried_again_with_growing_waits(kind: HostKind, autojump_clock: MockClock) -> None:
    rig = make_rig(kind)
    rig.sdk.script("open", Wrong(), Wrong(), Wrong())
    began = trio.current_time()
    async with rig.open_jumping():
        assert trio.current_time() - began == 1 + 2 + 4
    rig.sdk.check()
    assert rig.sdk.count("open") == 4


@pytest.mark.parametrize("kind", ["trio", *IN_PROCESS], indirect=True)
async def test_p3_an_open_that_hangs_is_broken_off(kind: HostKind, autojump_clock: MockClock) -> None:
    rig, hold = make_rig(kind, settings={"open_timeout": 5}), Blocker()
    rig.sdk.script("open", hold)
    began = trio.current_time()
    with pytest.raises(SdkOpenFailed, match=r"within 5 s|has not returned"):
        async with rig.open_jumping():
            raise AssertionError("the block must not begin")
    assert trio.current_time() - began == pytest.approx(5 + (STACK_WAIT if kind == "process" else 0))
    hold.release()
    assert rig.sdk.open_sessions == 0


async def test_p3_an_open_that_returns_too_late_is_closed_by_its_own_thread(mock_clock: MockClock) -> None:
    rig = make_rig("thread", settings={"open_timeout": 5})
    hold, closed = Blocker(), Blocker()
    rig.sdk.script("open", hold)
    rig.sdk.script("close", closed)
    raised: list[SdkOpenFailed] = []

    async def life() -> None:
        with pytest.raises(SdkOpenFailed, match="its opening has not returned") as caught:
            async with rig.open():
                raise AssertionError("the block must not begin")
        raised.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(life)
        await hold.reached()
        await pass_time(mock_clock, 5)
    assert raised
    hold.release()
    await closed.reached()  # nobody waits for it any more, and it is closed all the same
    assert [step.operation for step in rig.sdk.steps] == ["open", "close"]
    rig.sdk.check(closed=False)
    closed.release()


async def test_p3_a_call_that_hangs_is_reported_as_sdk_not_closed(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig("thread", settings={"drain_timeout": 0, "cancel_timeout": 1, "close_timeout": 1})
    hold, closed = Blocker(), Blocker()
    rig.sdk.script("call", hold)
    rig.sdk.script("close", closed)
    reports: list[trio_jobs.ShutdownReport | None] = []
    leaving = trio.Event()

    async def life() -> None:
        async with rig.open() as queue:
            await queue.submit("work", "a")
            await hold.reached()
            leaving.set()
        reports.append(queue.report)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(life)
        await leaving.wait()
        await pass_time(mock_clock, 1)
    [report] = reports
    assert report is not None
    assert not report.sdk_closed
    assert report.sdk_problem == "a call has not returned"
    [left] = report.unfinished
    assert left.state is State.IN_DOUBT
    assert "sdk_not_closed: a call has not returned" in caplog.text
    hold.release()
    await closed.reached()  # when the call returns after all, its thread closes the session
    closed.release()
    assert [step.operation for step in rig.sdk.steps] == ["open", "call", "close"]


async def test_p3_a_close_that_hangs_is_given_up_after_close_timeout(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, settings={"close_timeout": 3})
    hold = Blocker()
    rig.sdk.script("close", hold)
    reports: list[trio_jobs.ShutdownReport | None] = []

    async def life() -> None:
        async with rig.open() as queue:
            pass
        reports.append(queue.report)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(life)
        await rig.reached(hold)
        if kind != "trio":
            await pass_time(clock, 3)
        if kind == "process":
            await pass_time(clock, STACK_WAIT)
    [report] = reports
    assert report is not None
    assert report.sdk_closed == (kind == "process")
    if kind == "process":
        assert report.sdk_problem == "it did not close in time; its process was killed"
    else:
        assert report.sdk_problem in ("a call has not returned", "it did not close in time")
    assert rig.sdk.count("close") == 1
    hold.release()


async def test_p3_a_close_that_raises_is_closed_and_reported(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    rig.sdk.script("close", Wrong("the book is warm"))
    async with rig.open() as queue:
        events = queue.events(after=0)
    assert queue.report is not None
    assert queue.report.sdk_closed
    assert queue.report.sdk_problem == "Wrong: the book is warm"
    assert [type(event).__name__ async for event in events] == ["SessionOpening", "SessionOpened", "SessionClosed"]
    rig.sdk.check()


async def test_p3_a_crashed_loop_closes_the_sdk_and_raises_from_the_block(
    kind: HostKind, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig(kind)
    died = Wrong("a bug of ours")

    async def die(self: Any) -> None:
        raise died

    monkeypatch.setattr("trio_jobs._runtime.pruner.Pruner.run", die)
    with pytest.raises(QueueBroken, match="a part of the queue has failed") as caught:
        async with rig.open() as queue:
            await trio.sleep_forever()
    assert caught.value.__cause__ is died
    assert queue.report is not None
    assert queue.report.sdk_closed
    rig.sdk.check()


_INTERRUPTED = """
    import contextlib, signal, threading, trio, trio_jobs

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have left it ignored for us

    @contextlib.contextmanager
    def sdk():
        print("open", flush=True)
        try:
            yield "sdk"
        finally:
            print("close", flush=True)

    service = trio_jobs.Service(sdk=sdk)

    @service.handler(on_doubt="hold")
    def work(sdk: str, where: str) -> None:
        pass

    @service.handler(on_doubt="hold")
    async def awork(sdk: trio_jobs.SdkHandle, where: str) -> None:
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()

    async def main():
        async with service.open() as queue:
            try:
                if WHERE == "body":
                    signal.raise_signal(signal.SIGINT)
                    await trio.sleep_forever()
                else:
                    await queue.submit(awork, "x")
                    await trio.sleep_forever()
            finally:
                print("body left", flush=True)

    try:
        trio.run(main)
    except BaseException as error:
        alone = type(error) is KeyboardInterrupt
        while isinstance(error, BaseExceptionGroup):
            [error] = error.exceptions
        print(type(error).__name__, alone, flush=True)
"""


@pytest.mark.parametrize("where", ["body", "handler"])
def test_p3_ctrl_c_closes_the_session_once(where: str) -> None:
    script = f"WHERE = {where!r}\n" + textwrap.dedent(_INTERRUPTED)
    done = run([sys.executable, "-c", script])
    assert done.stdout.split("\n")[:4] == ["open", "body left", "close", "KeyboardInterrupt True"], done


# P4: accepted is kept


async def test_p4_an_accepted_job_is_in_the_store_when_submit_returns(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    store = trio_jobs.MemoryStore()
    async with busy_queue(rig, store=store) as (queue, _, _first):
        receipt = await queue.submit("work", "a")
        kept = await store.events(0, 1000)
        assert any(getattr(event, "job", None) == receipt.job_id for event in kept)
        assert queue.get(receipt.job_id).state is State.PENDING


async def test_p4_a_submit_that_is_cancelled_while_it_waits_leaves_no_job(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, settings={"buffer": 1})
    async with busy_queue(rig) as (queue, _, _first):
        await queue.submit("work", "a")
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def _cancel() -> None:
                    await wait_all_tasks_blocked()
                    assert queue.statistics().waiting_callers == 1
                    scope.cancel()

                await queue.submit("work", "ghost")
        assert scope.cancelled_caught
        assert len(queue.list()) == 2
        assert queue.statistics().waiting_callers == 0
    assert rig.sdk.calls() == ["first", "a"]


async def test_p4_a_submit_in_a_cancelled_scope_accepts_nothing(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    async with rig.open() as queue:
        with trio.CancelScope() as scope:
            scope.cancel()
            await queue.submit("work", "ghost")
        assert scope.cancelled_caught
        assert queue.list() == []


# P5: one end


async def test_p5_every_accepted_job_is_final_or_named_in_the_report(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, settings={"drain_timeout": 0}, retry=NO_RETRY)
    rig.sdk.script("call", "ok", Wrong(), Blocker("held"))
    hold = rig.sdk._scripts["call"][-1]
    accepted: set[str] = set()
    with pytest.raises(Wrong):
        async with rig.open() as queue:
            for n in range(6):
                accepted.add((await queue.submit("work", str(n), delay=1000 if n == 5 else None)).job_id)
            await rig.reached(hold)
            trio.lowlevel.current_trio_token().run_sync_soon(hold.release)
            raise Wrong
    assert queue.report is not None
    left = {job.job_id for job in queue.report.unfinished}
    final = {job.id for job in queue.list() if job.is_final}
    assert left | final == accepted
    assert not left & final
    assert sum(queue.report.jobs.values()) == len(accepted)


async def test_p5_a_job_ends_once_per_run(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, retry=NO_RETRY)
    rig.sdk.script("call", Wrong(), "ok")
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        assert (await ended(queue, receipt.job_id)).state is State.FAILED
        await queue.retry(receipt.job_id, by="ann", even_if_acted=True)
        assert await queue.result(receipt.job_id) == "ok"
        names = [type(e).__name__ for e in await runtime_of(queue).event_log.store.events(0, 1000)]
    assert names.count("Failed") == 1
    assert names.count("Completed") == 1
    job = queue.get(receipt.job_id)
    assert [attempt.run for attempt in job.attempts or ()] == [1, 2]
    assert [attempt.number for attempt in job.attempts or ()] == [1, 2]


# P6: honest


async def test_p6_a_job_is_completed_only_if_its_handler_returned(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, retry=NO_RETRY)
    rig.sdk.script("call", Wrong("half done"))
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        job = await ended(queue, receipt.job_id)
    assert job.state is State.FAILED
    assert job.may_have_acted, "it was in the SDK, and nobody said what that left behind"
    with pytest.raises(trio_jobs.JobFailed, match="it may have acted") as caught:
        await queue.result(receipt.job_id)
    assert caught.value.may_have_acted


@pytest.mark.parametrize("kind", ["trio", *IN_PROCESS], indirect=True)
async def test_p6_a_job_with_an_unknown_outcome_is_in_doubt(
    kind: HostKind, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig, hold = make_rig(kind, attempt_timeout=1), Blocker()
    rig.sdk.script("call", hold)
    async with rig.open_jumping() as queue:
        receipt = await queue.submit("work", "a", key="K\x1b[2J")
        job = await until_state(queue, receipt.job_id, "in_doubt")
        hold.release()
        assert last(job).outcome is (Outcome.KILLED if kind == "process" else Outcome.TIMED_OUT)
        assert queue.health().in_doubt == 1
        await wait_all_tasks_blocked()
    assert r"key K\x1b[2J" in caplog.text, "foreign text is shown escaped"
    assert "is in doubt" in caplog.text


# P7: loud


@pytest.mark.parametrize(
    "loop", ["consumer.Consumer", "scheduler.Scheduler", "feed.Feed", "overrun_monitor.OverrunMonitor", "pruner.Pruner"]
)
@pytest.mark.parametrize("error", [Wrong("bug"), SystemExit(1)], ids=["error", "exit"])
async def test_p7_health_reports_a_loop_that_has_died(
    loop: str, error: BaseException, kind: HostKind, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig(kind)
    is_open = trio.Event()

    async def die(self: Any) -> None:
        await is_open.wait()
        raise error

    monkeypatch.setattr(f"trio_jobs._runtime.{loop}.run", die)
    with pytest.raises(QueueBroken if isinstance(error, Exception) else SystemExit):
        async with rig.open():
            is_open.set()
            await trio.sleep_forever()
    rig.sdk.check()
    assert [step.operation for step in rig.sdk.steps] == ["open", "close"]


async def test_p7_a_loop_that_dies_does_not_hide_what_the_body_raised(
    kind: HostKind, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig(kind)

    async def die(self: Any) -> None:
        raise trio_jobs.StoreError("gone")

    monkeypatch.setattr("trio_jobs._runtime.pruner.Pruner.run", die)
    with pytest.raises(trio_jobs.StoreError, match="gone") as caught:
        async with rig.open():
            try:
                await trio.sleep_forever()
            finally:
                raise Wrong
    assert isinstance(caught.value.__cause__, Wrong)


async def test_p7_health_names_each_problem_until_it_is_over(kind: HostKind, autojump_clock: MockClock) -> None:
    """A call that outlives its limit is overdue; then it is stuck on a thread, is killed in a process, and in the loop
    it ends at its limit."""
    settings = {"renew_after_jobs": 1}
    rig = make_rig(kind, attempt_timeout=10, stuck_after=20, verifies=True, settings=settings)
    hold = Blocker("late")
    rig.sdk.script("call", hold)
    rig.sdk.script("verify", trio_jobs.Done("found"))
    seen: list[tuple[float, tuple[str, ...]]] = []
    async with rig.open_jumping() as queue:
        assert queue.health() == trio_jobs.Health(ok=True, problems=(), in_doubt=0, without_handler=0)
        began = trio.current_time()
        receipt = await queue.submit("work", "a")
        await trio.sleep(0.5)
        for _ in range(32):
            if not seen or seen[-1][1] != queue.health().problems:
                seen.append((trio.current_time() - began, queue.health().problems))
            await trio.sleep(1)
        hold.release()
        assert await queue.result(receipt.job_id) == ("late" if kind == "thread" else "found")
        for what in "bc":  # each closes the session before it
            await queue.result((await queue.submit("work", what)).job_id)
        assert queue.health().problems == ()
        queue.close_to_submits()
        assert "stopping" in queue.health().problems
    assert (
        seen
        == {
            "thread": [(0.5, ()), (10.5, ("overdue",)), (30.5, ("stuck",))],
            "process": [(0.5, ()), (10.5, ("overdue",)), (11.5, ("close_failed",))],
            "trio": [(0.5, ())],
        }[kind]
    )


@pytest.mark.parametrize("problem", ["paused", "opening_sdk", "sessions_failing"])
async def test_p7_health_is_degraded_while_no_job_can_run_and_recovers_by_itself(
    problem: str, kind: HostKind, autojump_clock: MockClock
) -> None:
    rig = make_rig(kind, retry=NO_RETRY, settings={"renew_after_jobs": 1, "open_retry": trio_jobs.Retry(1, waits=[60])})
    async with rig.open_jumping() as queue:
        if problem == "paused":
            await queue.pause(until=moment(TrioClock().now() + 60))
        else:
            fails = 1 if problem == "opening_sdk" else 3
            rig.sdk.script("call", *(Wrong() for _ in range(fails)))
            for n in range(fails):
                failed = await queue.submit("work", f"fails {n}")
                await until_state(queue, failed.job_id, "failed")
            if problem == "opening_sdk":
                rig.sdk.script("open", Wrong("not yet"), "open")
        receipt = await queue.submit("work", "a")
        await trio.sleep(30)
        assert problem in queue.health().problems
        assert not queue.health().ok
        assert await queue.result(receipt.job_id) == "a"
        await queue.result((await queue.submit("work", "b")).job_id)
        assert queue.health().problems == ()
    rig.sdk.check()


# P9: bounded


async def test_p9_the_queue_has_exactly_buffer_slots(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, settings={"buffer": 3})
    async with busy_queue(rig) as (queue, _, _first):
        for n in range(3):
            queue.submit_nowait("work", str(n))
        with pytest.raises(QueueFull, match="all 3 places are taken"):
            queue.submit_nowait("work", "one too many")
        assert queue.statistics().free == 0
        assert len(queue.list()) == 4


async def test_p9_jobs_outside_the_channel_are_bounded_by_max_waiting(
    kind: HostKind, autojump_clock: MockClock
) -> None:
    rig = make_rig(kind, settings={"max_waiting": 2})
    async with rig.open_jumping() as queue:
        for n in range(2):
            await queue.submit("work", str(n), delay=100)
        with pytest.raises(QueueFull) as caught:
            await queue.submit("work", "one too many", delay=100)
        assert (caught.value.capacity, caught.value.waiting) == (2, 2)
        await queue.result((await queue.submit("work", "now")).job_id)
    assert rig.sdk.calls()[0] == "now"


async def test_p9_final_jobs_beyond_their_maximum_are_pruned(kind: HostKind, autojump_clock: MockClock) -> None:
    rig = make_rig(kind, settings={"max_finished_jobs": 10})
    async with rig.open_jumping() as queue:
        for n in range(30):
            await queue.result((await queue.submit("work", str(n))).job_id)
        await trio.sleep(61)
        assert len(queue.list()) == 10


# P10: deadlines nest


@attrs.frozen
class Bound:
    """The bounds of one attempt, in seconds, and which of them must end it."""

    attempt_timeout: float | None
    deadline_after: float | None
    stop_at: float | None
    ended_by: EndedBy
    outcome: Outcome


@pytest.mark.parametrize(
    "bound",
    [
        Bound(5, 10, None, EndedBy.ATTEMPT_TIMEOUT, Outcome.TIMED_OUT),
        Bound(10, 5, None, EndedBy.DEADLINE, Outcome.EXPIRED),
        Bound(5, 5, None, EndedBy.DEADLINE, Outcome.EXPIRED),
        Bound(None, 5, None, EndedBy.DEADLINE, Outcome.EXPIRED),
        Bound(5, None, None, EndedBy.ATTEMPT_TIMEOUT, Outcome.TIMED_OUT),
        Bound(10, 10, 5, EndedBy.STOP, Outcome.STOPPED),
        Bound(None, None, 5, EndedBy.STOP, Outcome.STOPPED),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["trio", *IN_PROCESS], indirect=True)
async def test_p10_the_record_says_which_bound_ended_the_attempt(
    bound: Bound, kind: HostKind, autojump_clock: MockClock
) -> None:
    """In a process a call is killed that does not end by itself."""
    rig = make_rig(kind, attempt_timeout=bound.attempt_timeout, settings={"drain_timeout": 0, "cancel_timeout": 3})
    hold = Blocker()
    rig.sdk.script("call", hold)
    began = trio.current_time()
    with trio.move_on_after(bound.stop_at or 1000) as stop:
        async with rig.open_jumping() as queue:
            receipt = await queue.submit("work", "a", deadline_after=bound.deadline_after)
            await until_state(queue, receipt.job_id, "in_doubt")
    if bound.stop_at is None:
        assert not stop.cancelled_caught
    attempt = last(queue.get(receipt.job_id))
    assert attempt.ended_by is bound.ended_by
    took = trio.current_time() - began
    hold.release()
    if kind == "trio":
        assert (attempt.outcome, took) == (bound.outcome, 5)
    else:
        outcome = Outcome.KILLED if bound.outcome is Outcome.TIMED_OUT else bound.outcome
        grace = 3 if bound.stop_at else KILL_GRACE
        assert attempt.outcome is outcome
        assert took == pytest.approx(5 + grace + STACK_WAIT)


async def test_p10_a_job_that_waits_expires_at_its_deadline_while_the_sdk_is_busy(
    kind: HostKind, clock: MockClock
) -> None:
    rig = make_rig(kind)
    async with busy_queue(rig) as (queue, hold, first):
        late = await queue.submit("work", "late", deadline_after=5)
        await pass_time(clock, 5.1)
        job = queue.get(late.job_id)
        assert (job.state, job.reason, job.attempt_count) == (State.FAILED, "expired", 0)
        hold.release()
        await queue.result(first)
    assert rig.sdk.calls() == ["first"]


@pytest.mark.parametrize("kind", ["trio", *IN_PROCESS], indirect=True)
async def test_p10_the_first_cause_of_an_end_is_recorded(kind: HostKind, autojump_clock: MockClock) -> None:
    rig, hold = make_rig(kind, attempt_timeout=5), Blocker()

    async def linger() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(4)

    rig.sdk.script("call", linger if kind == "trio" else hold)
    async with rig.open_jumping() as queue:
        receipt = await queue.submit("work", "a")
        await trio.sleep(2)
        assert await queue.cancel(receipt.job_id) == "requested"
        job = await until(queue, receipt.job_id, lambda job: last(job).outcome is not None if job.attempts else False)
    hold.release()
    assert last(job).ended_by is EndedBy.CANCEL


@pytest.mark.parametrize("strict_order", [False, True], ids=["", "strict_order"])
@pytest.mark.parametrize("kind", IN_PROCESS, indirect=True)
async def test_p10_a_job_that_comes_back_after_its_deadline_expires_although_the_sdk_cannot_be_opened(
    strict_order: bool, kind: HostKind, autojump_clock: MockClock
) -> None:
    """The machine was suspended, so the deadline passed during the call, which then ended with its process."""
    settings = {"strict_order": strict_order, "open_retry": trio_jobs.Retry(1, waits=[600])}
    rig, clock, hold = make_rig(kind, idempotent=True, settings=settings), TrioClock(), Blocker(then=Die())
    rig.sdk.script("call", hold)
    rig.sdk.script("open", "open", Wrong("not yet"))
    async with rig.open_jumping(clock=clock) as queue:
        receipt = await queue.submit("work", "a", deadline_after=50)
        await trio.sleep(1)
        clock.suspend(100)
        began = trio.current_time()
        hold.release()
        job = await ended(queue, receipt.job_id)
        assert (job.state, job.reason, trio.current_time() - began) == (State.FAILED, "expired", 0)
    assert rig.sdk.calls() == ["a"]


@pytest.mark.parametrize("kind", ["trio", *IN_PROCESS], indirect=True)
async def test_p10_a_deadline_cannot_make_an_attempt_outlive_the_stop(
    kind: HostKind, autojump_clock: MockClock
) -> None:
    settings = {"drain_timeout": 7, "cancel_timeout": 1}
    rig, hold = make_rig(kind, attempt_timeout=1000, on_doubt="hold", settings=settings), Blocker()
    rig.sdk.script("call", hold)
    began = trio.current_time()
    async with rig.open_jumping() as queue:
        await queue.submit("work", "a", deadline_after=500)
    hold.release()
    assert trio.current_time() - began == pytest.approx(7 + (1 + STACK_WAIT if kind == "process" else 0))
    assert queue.report is not None
    assert queue.report.sdk_closed


def test_p7_a_blocked_loop_is_logged_with_its_stack() -> None:
    warned, told_that_it_goes_on = threading.Event(), threading.Event()
    messages: list[str] = []

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())
            (told_that_it_goes_on if warned.is_set() else warned).set()

    async def main() -> None:
        watchdog = Watchdog(0.05)
        hold_up_the_loop(watchdog)
        assert watchdog.blocked == 1
        await trio.to_thread.run_sync(told_that_it_goes_on.wait, 20)
        watchdog.stop()

    def hold_up_the_loop(watchdog: Watchdog) -> None:
        watchdog.start()  # here, so that a busy machine cannot block the loop at another place first
        assert warned.wait(20)

    log = logging.getLogger("trio_jobs.watchdog")
    handler = Told()
    log.addHandler(handler)
    try:
        trio.run(main)
    finally:
        log.removeHandler(handler)
    assert re.match(r"the event loop has been blocked for \d\.\d\d s, here:", messages[0])
    assert "hold_up_the_loop" in messages[0]
    assert messages[1].startswith("the event loop continues after")
