"""The contract of the executors, each by itself (`_ports.SdkExecutor`), and what the queue makes of a session that is
lost."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.rig import HostKind, make_rig, pass_time, service_for, until_state
from support.turns import Turns
from support.waiting import deadline
from trio_jobs import MemoryStore, Opening, SdkCallStuck, State
from trio_jobs._call_report import CallReport
from trio_jobs._engine.events import Completed, Event, Started
from trio_jobs._executors.thread import ThreadExecutor
from trio_jobs._executors.trio_task import TrioExecutor
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._sdk_call import FunctionCall
from trio_jobs.testing import Blocker, FakeSdk, FakeSession

FIRST = Opening("start", 1, unclean=False)


class Wrong(Exception):
    """What a test raises on purpose."""


async def enter() -> None:
    """An `enter` that lets everything pass."""
    await trio.lowlevel.checkpoint()


def leave() -> None:
    """A `leave` that does nothing."""


def value_of(report: CallReport) -> Any:
    """What a call returned."""
    assert report.result is not None
    return msgspec.json.decode(report.result)


def made_by(fn: Callable[[Any], Any]) -> FunctionCall:
    """A call of this function."""
    return FunctionCall("test", fn)


# the thread host


async def test_a_call_makes_a_round_trip_to_the_sdks_thread() -> None:
    executor = ThreadExecutor(None)
    await executor.open(FIRST)
    assert executor.is_open
    result = await executor.call(made_by(lambda sdk: (sdk, threading.current_thread().name)))
    assert value_of(result) == [None, "trio-jobs SDK"]
    assert await executor.close()
    assert not executor.is_open
    await executor.stop()


async def test_a_close_that_is_abandoned_has_not_closed_the_session() -> None:
    sdk, hold = FakeSdk(), Blocker()
    sdk.script("close", hold)
    executor = ThreadExecutor(sdk.session)
    await executor.open(FIRST)
    closed: list[bool] = []

    async def close() -> None:
        closed.append(await executor.close())

    with deadline("the close to end"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(close)
            await hold.reached()
            executor.abandon()
    assert closed == [False]
    assert executor.inside
    hold.release()


async def test_a_session_that_could_not_be_opened_is_not_closed() -> None:
    sdk = FakeSdk()
    threads: list[threading.Thread] = []

    def refuse() -> None:
        threads.append(threading.current_thread())
        raise Wrong

    sdk.script("open", refuse)
    executor = ThreadExecutor(sdk.session)
    with pytest.raises(Wrong):
        await executor.open(FIRST)
    await executor.stop()
    await trio.to_thread.run_sync(threads[0].join, 10)
    assert not threads[0].is_alive()  # it has closed what it had opened
    assert sdk.count("close") == 0
    sdk.check()


async def test_an_error_of_a_call_is_returned_as_data() -> None:
    executor = ThreadExecutor(None)
    await executor.open(FIRST)
    for error in (Wrong(), StopIteration(), KeyboardInterrupt(), SystemExit(), GeneratorExit()):

        def fail(sdk: Any, error: BaseException = error) -> None:
            raise error

        report = await executor.call(made_by(fail))
        assert report.result is None
        assert report.error is not None
        assert report.error.info.type == type(error).__name__
    await executor.close()
    await executor.stop()


async def test_nothing_enters_while_a_call_is_inside() -> None:
    executor, hold = ThreadExecutor(None), Blocker("first")
    await executor.open(FIRST)
    answers: list[Any] = []

    async def call() -> None:
        answers.append(await executor.call(made_by(lambda sdk: hold.block())))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await hold.reached()
        assert executor.inside
        assert "a call is inside" in repr(executor)
        with pytest.raises(SdkCallStuck, match="nothing else can enter it"):
            await executor.call(made_by(lambda sdk: None))
        assert not await executor.close(), "nor is it closed under the call"
        assert executor.is_open
        await executor.stop()  # nor does the thread end
        hold.release()
    assert len(answers) == 1
    assert await executor.close()
    await executor.stop()


async def test_a_cancelled_call_is_awaited() -> None:
    executor, hold = ThreadExecutor(None), Blocker()
    await executor.open(FIRST)
    with trio.CancelScope() as scope:
        scope.cancel()
        trio.lowlevel.current_trio_token().run_sync_soon(hold.release)
        report = await executor.call(made_by(lambda sdk: hold.block() or "done"))  # type: ignore[func-returns-value]
        assert value_of(report) == "done"
    await executor.close()
    await executor.stop()


async def test_an_abandoned_call_raises_sdk_call_stuck_and_the_thread_closes_the_session() -> None:
    sdk, hold, closing = FakeSdk(), Blocker(), Blocker()
    sdk.script("call", hold)
    sdk.script("close", closing)
    executor = ThreadExecutor(sdk.session)
    await executor.open(FIRST)
    answers: list[Any] = []

    async def call() -> None:
        answers.append(await executor.call(made_by(lambda session: session.call("a"))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await hold.reached()
        executor.abandon()
    assert answers[0].error.stuck
    assert repr(executor) == "<ThreadExecutor abandoned, a call is inside>"
    assert not executor.is_open
    assert not await executor.close()
    with pytest.raises(SdkCallStuck):
        await executor.call(made_by(lambda session: None))
    executor.abandon()  # twice is harmless
    hold.release()
    await closing.reached()
    sdk.check(closed=False)
    closing.release()


@pytest.mark.parametrize("ended", ["stopped", "abandoned"])
async def test_an_executor_leaves_no_instrument_in_the_run_of_trio(ended: str, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[trio.abc.Instrument] = []
    add, remove = trio.lowlevel.add_instrument, trio.lowlevel.remove_instrument

    def adding(instrument: trio.abc.Instrument) -> None:
        add(instrument)
        installed.append(instrument)

    def removing(instrument: trio.abc.Instrument) -> None:
        remove(instrument)
        installed.remove(instrument)

    monkeypatch.setattr(trio.lowlevel, "add_instrument", adding)
    monkeypatch.setattr(trio.lowlevel, "remove_instrument", removing)
    sdk, hold = FakeSdk(), Blocker()
    executor = ThreadExecutor(sdk.session)
    await executor.open(FIRST)
    assert len(installed) == 1
    if ended == "stopped":
        await executor.close()
        await executor.stop()
    else:
        sdk.script("call", hold)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(executor.call, made_by(lambda session: session.call("a")))
            await hold.reached()
            executor.abandon()
    assert installed == []
    hold.release()


async def test_abandoning_an_idle_executor_changes_nothing() -> None:
    executor = ThreadExecutor(None)
    await executor.open(FIRST)
    executor.abandon()
    assert value_of(await executor.call(made_by(lambda sdk: "still here"))) == "still here"
    await executor.close()
    await executor.stop()


async def test_an_open_that_is_cancelled_and_returns_later_is_closed_on_its_thread() -> None:
    sdk, hold, closing = FakeSdk(), Blocker(), Blocker()
    sdk.script("open", hold)
    sdk.script("close", closing)
    executor = ThreadExecutor(sdk.session)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _cancel() -> None:
                await hold.reached()
                scope.cancel()

            await executor.open(FIRST)
    assert scope.cancelled_caught
    assert executor.inside
    assert not executor.is_open
    with pytest.raises(SdkCallStuck):
        await executor.open(FIRST)
    hold.release()
    await closing.reached()
    sdk.check(closed=False)
    closing.release()
    assert executor.session == 0


async def test_an_open_that_raises_can_be_tried_again_on_the_same_thread() -> None:
    sdk = FakeSdk()
    sdk.script("open", Wrong("first"))
    executor = ThreadExecutor(sdk.session)
    with pytest.raises(Wrong, match="first"):
        await executor.open(FIRST)
    assert not executor.is_open
    assert executor.session == 0
    await executor.open(FIRST)
    assert executor.session == 1
    await executor.close()
    await executor.stop()
    sdk.check()
    assert len({step.thread for step in sdk.steps}) == 1


async def test_an_error_of_a_close_is_reported_once() -> None:
    sdk = FakeSdk()
    sdk.script("close", Wrong("warm"))
    executor = ThreadExecutor(sdk.session)
    await executor.open(FIRST)
    assert await executor.close()
    assert executor.take_close_problem() == "Wrong: warm"
    assert executor.take_close_problem() is None
    assert await executor.close(), "closing twice is harmless"
    await executor.stop()
    await executor.stop()
    assert sdk.count("close") == 1


async def test_an_executor_that_was_never_opened_is_closed() -> None:
    executor = ThreadExecutor(None)
    assert await executor.close()
    await executor.stop()
    assert repr(executor) == "<ThreadExecutor closed>"


async def test_an_executor_can_be_opened_again_after_its_stop() -> None:
    sdk = FakeSdk()
    executor = ThreadExecutor(sdk.session)
    for _ in range(2):
        await executor.open(FIRST)
        await executor.close()
        await executor.stop()
    assert executor.session == 2
    sdk.check()


def test_a_thread_that_outlives_trio_closes_its_session_when_its_call_returns() -> None:
    sdk, hold, closing = FakeSdk(), Blocker(), Blocker()
    sdk.script("call", hold)
    sdk.script("close", closing)

    async def main() -> None:
        executor = ThreadExecutor(sdk.session)
        await executor.open(FIRST)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _call() -> None:
                await executor.call(made_by(lambda session: session.call("a")))

            await hold.reached()
            executor.abandon()

    trio.run(main)
    hold.release()
    trio.run(closing.reached)
    sdk.check(closed=False)
    closing.release()


async def test_a_handle_lets_one_call_in_at_a_time_and_raises_what_it_raised() -> None:
    executor = ThreadExecutor(None)
    await executor.open(FIRST)
    handle = executor.handle(enter, leave)
    assert await handle.call(lambda sdk, n: n + 1, 1) == 2

    def fail(sdk: Any) -> None:
        raise Wrong

    with pytest.raises(Wrong):
        await handle.call(fail)
    with trio.CancelScope() as scope:
        scope.cancel()
        await handle.call(fail)
    assert scope.cancelled_caught, "Cancelled before its turn: the call was not made"
    await executor.close()
    await executor.stop()


# the host in the loop


async def test_in_the_loop_a_session_is_opened_used_and_closed(nursery: trio.Nursery) -> None:
    sdk = FakeSdk()
    executor = TrioExecutor(sdk.async_session, nursery)
    assert repr(executor) == "<TrioExecutor closed>"
    await executor.open(FIRST)
    assert repr(executor) == "<TrioExecutor open>"
    assert executor.is_open
    assert not executor.inside
    session = executor.handle(enter, leave)
    assert isinstance(session, FakeSession)
    report = await executor.call(made_by(lambda session: session.acall("a")))
    assert value_of(report) == "a"
    assert await executor.close()
    assert await executor.close()
    await executor.stop()
    sdk.check()


async def test_an_opening_that_is_given_up_raises_to_its_caller(nursery: trio.Nursery) -> None:
    sdk = FakeSdk()
    hold = Blocker()
    sdk.script("open", hold)
    executor = TrioExecutor(sdk.async_session, nursery)
    with deadline("the opening is given up"):
        async with trio.open_nursery() as opening:

            @opening.start_soon
            async def open_it() -> None:
                with pytest.raises(SdkCallStuck):
                    await executor.open(FIRST)

            await hold.reached_in_trio()
            assert executor.inside
            executor.abandon()
    assert not executor.is_open
    assert not executor.inside
    await executor.open(FIRST)
    assert await executor.close()


async def test_in_the_loop_an_error_of_the_factory_is_raised_by_open(nursery: trio.Nursery) -> None:
    sdk = FakeSdk()
    sdk.script("open", Wrong())
    executor = TrioExecutor(sdk.async_session, nursery)
    with pytest.raises(Wrong):
        await executor.open(FIRST)
    assert executor.session == 0
    await executor.open(FIRST)
    assert executor.session == 1
    await executor.close()
    sdk.check()


async def test_in_the_loop_a_cancelled_open_is_broken_off(nursery: trio.Nursery) -> None:
    sdk = FakeSdk()
    sdk.script("open", Blocker())
    executor = TrioExecutor(sdk.async_session, nursery)
    with trio.CancelScope() as scope:

        @nursery.start_soon
        async def _cancel() -> None:
            await wait_all_tasks_blocked()
            assert executor.inside
            scope.cancel()

        await executor.open(FIRST)
    assert scope.cancelled_caught
    await wait_all_tasks_blocked()
    assert not executor.inside
    assert sdk.open_sessions == 0


async def test_in_the_loop_an_error_of_a_close_is_reported_once(nursery: trio.Nursery) -> None:
    sdk = FakeSdk()
    sdk.script("close", Wrong("warm"))
    executor = TrioExecutor(sdk.async_session, nursery)
    await executor.open(FIRST)
    assert await executor.close()
    assert executor.take_close_problem() == "Wrong: warm"
    assert executor.take_close_problem() is None


class Dying:
    """An async SDK whose session has a task of its own, which dies when it is told to."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.die = trio.Event()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[str]:
        self.opened += 1
        self.die = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_alive)
                yield f"session {self.opened}"
                nursery.cancel_scope.cancel()
        finally:
            self.closed += 1

    async def _keep_alive(self) -> None:
        await self.die.wait()
        raise Wrong("the connection is gone")


async def test_a_session_that_dies_while_idle_is_replaced_before_the_next_job(autojump_clock: MockClock) -> None:
    dying = Dying()
    service = trio_jobs.Service(async_sdk=dying.session)

    @service.handler(on_doubt="hold")
    async def work(session: str, what: str) -> str:
        return session

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        first = await queue.submit(work, "a")
        assert await queue.result(first.job_id) == "session 1"
        dying.die.set()
        await wait_all_tasks_blocked()
        second = await queue.submit(work, "b")
        assert await queue.result(second.job_id) == "session 2"
        assert queue.health().ok
        assert queue.statistics().session == 2
    assert (dying.opened, dying.closed) == (2, 2)


async def test_a_session_that_dies_while_a_job_waits_for_it_does_not_lose_the_job(autojump_clock: MockClock) -> None:
    """The consumer stands at an empty line, with the gate behind it, when the session dies and a job comes."""
    dying = Dying()
    service = trio_jobs.Service(async_sdk=dying.session)

    @service.handler(on_doubt="hold")
    async def work(session: str, what: str) -> str:
        return session

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        await wait_all_tasks_blocked()
        dying.die.set()
        receipt = queue.submit_nowait(work, "a")
        await wait_all_tasks_blocked()
        assert await queue.result(receipt.job_id) in ("session 1", "session 2")
    assert dying.opened == dying.closed


async def test_with_on_open_failed_stop_a_session_that_cannot_be_opened_again_stops_the_queue(
    autojump_clock: MockClock,
) -> None:
    dying = Dying()
    service = trio_jobs.Service(async_sdk=dying.session, open_retry=trio_jobs.Retry(1), on_open_failed="stop")

    @service.handler(on_doubt="hold")
    async def work(session: str, what: str) -> str:
        return session

    def never() -> Any:
        raise Wrong("no licence left")

    with pytest.raises(trio_jobs.SdkOpenFailed, match=r"\(tries: 2\): Wrong: no licence left"):
        async with service.open(clock=trio_jobs.TrioClock()) as queue:
            dying.die.set()
            await wait_all_tasks_blocked()
            runtime_of(queue).executor._factory = never  # type: ignore[attr-defined]
            await queue.submit(work, "a")
            await trio.sleep_forever()
    assert queue.report is not None
    assert queue.report.sdk_closed
    [left] = queue.report.unfinished
    assert left.state is State.PENDING, "no job is consumed while the SDK cannot be opened"


async def test_a_stop_while_the_sdk_is_being_opened_again_waits_for_close_timeout(autojump_clock: MockClock) -> None:
    dying = Dying()
    service = trio_jobs.Service(async_sdk=dying.session, drain_timeout=1, close_timeout=3)

    @service.handler(on_doubt="hold")
    async def work(session: str, what: str) -> str:
        return session

    @asynccontextmanager
    async def never() -> AsyncIterator[str]:
        await trio.sleep_forever()
        yield "never"

    began = trio.current_time()
    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        dying.die.set()
        await wait_all_tasks_blocked()
        runtime_of(queue).executor._factory = never  # type: ignore[attr-defined]
        await queue.submit(work, "a")
        await wait_all_tasks_blocked()
    assert trio.current_time() - began == 1 + 3
    assert queue.report is not None
    assert queue.report.sdk_closed
    assert [left.state for left in queue.report.unfinished] == [State.PENDING]


# the queue before them


@pytest.mark.parametrize("after", [1, 3])
async def test_a_session_is_renewed_after_renew_after_jobs(after: int, kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, settings={"renew_after_jobs": after})
    async with rig.open() as queue:
        for n in range(6):
            await queue.submit("work", str(n))
    rig.sdk.check()
    sessions = [step.session for step in rig.sdk.steps if step.operation == "call"]
    assert sessions == [1 + n // after for n in range(6)]


async def test_a_session_is_renewed_after_it_was_idle(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"renew_after_idle": 100})
    async with rig.open() as queue:
        for pause in (99, 101, 0):
            await queue.result((await queue.submit("work", "a")).job_id)
            await trio.sleep(pause)
        await queue.result((await queue.submit("work", "a")).job_id)
    assert [step.session for step in rig.sdk.steps if step.operation == "call"] == [1, 1, 2, 2]
    rig.sdk.check()


async def test_a_handler_can_report_its_session_as_lost(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, verifies=True, retry=trio_jobs.Retry(1, waits=[0]))
    rig.sdk.script("call", trio_jobs.SessionLost("the line went dead"), "second")
    rig.sdk.script("verify", trio_jobs.NotDone())
    async with rig.open() as queue:
        receipt = await queue.submit("work", "a")
        assert await queue.result(receipt.job_id) == "second"
    doors = [(step.operation, step.session) for step in rig.sdk.steps]
    assert doors == [
        ("open", 1), ("call", 1), ("close", 1), ("open", 2), ("verify", 2), ("call", 2), ("close", 2),
    ]  # fmt: skip
    rig.sdk.check()


async def test_a_verify_can_report_its_session_as_lost(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, verifies=True)
    rig.sdk.script("call", Wrong())
    rig.sdk.script("verify", trio_jobs.SessionLost())
    async with rig.open() as queue:
        await until_state(queue, (await queue.submit("work", "a")).job_id, "in_doubt")
        receipt = await queue.submit("work", "b")
        assert await queue.result(receipt.job_id) == "b"
    assert [(step.operation, step.session) for step in rig.sdk.steps if step.operation != "close"] == [
        ("open", 1), ("call", 1), ("open", 2), ("verify", 2), ("open", 3), ("call", 3),
    ]  # fmt: skip
    rig.sdk.check()


async def test_a_session_that_cannot_be_closed_to_be_renewed_stops_the_queue(mock_clock: MockClock) -> None:
    rig = make_rig("thread", settings={"renew_after_jobs": 1, "close_timeout": 5})
    hold = Blocker()
    rig.sdk.script("close", hold)
    failed = trio.Event()

    async def life() -> None:
        with pytest.raises(SdkCallStuck, match="to be renewed, but it did not close in time"):
            async with rig.open() as queue:
                await queue.submit("work", "a")
                await queue.submit("work", "b")
                await trio.sleep_forever()
        assert queue.report is not None
        assert not queue.report.sdk_closed
        failed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(life)
        await hold.reached()
        await pass_time(mock_clock, 5)
        await failed.wait()
    assert rig.sdk.calls() == ["a"], "no second session while the first is being closed (P1)"
    hold.release()


async def test_min_interval_passes_between_the_end_of_a_call_and_the_next(autojump_clock: MockClock) -> None:
    rig = make_rig(
        "trio",
        verifies=True,
        settings={"min_interval": 10, "drain_timeout": 100},
        retry=trio_jobs.Retry(1, waits=[0]),
    )
    times: list[float] = []

    async def slow() -> str:
        times.append(trio.current_time())
        await trio.sleep(3)
        return "done"

    async def bad() -> None:
        times.append(trio.current_time())
        raise Wrong

    async def look() -> trio_jobs.NotDone:
        times.append(trio.current_time())
        return trio_jobs.NotDone()

    rig.sdk.script("call", slow, bad, slow)
    rig.sdk.script("verify", look)
    async with rig.open() as queue:
        began = trio.current_time()
        for what in "ab":
            await queue.submit("work", what)
    assert [at - began for at in times] == pytest.approx([0, 13, 23, 33])


async def test_min_interval_passes_between_the_calls_of_an_async_handler(mock_clock: MockClock) -> None:
    sdk = FakeSdk()
    service = service_for(sdk, "thread", min_interval=10)
    called = [trio.Event(), trio.Event()]

    @service.handler(on_doubt="hold")
    async def work(handle: trio_jobs.SdkHandle, what: str) -> None:
        for event in called:
            await handle.call(FakeSession.call, what)
            event.set()

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        receipt = await queue.submit(work, "a")
        await called[0].wait()
        await wait_all_tasks_blocked()
        assert sdk.count("call") == 1
        mock_clock.jump(10)
        await queue.result(receipt.job_id)
    assert sdk.count("call") == 2


async def test_a_stop_does_not_wait_for_the_next_try_to_open_the_sdk(autojump_clock: MockClock) -> None:
    dying = Dying()
    service = trio_jobs.Service(async_sdk=dying.session, drain_timeout=1, open_retry=trio_jobs.Retry(5, waits=[50]))

    @service.handler(on_doubt="hold")
    async def work(session: str, what: str) -> str:
        return session

    def never() -> Any:
        raise Wrong("no licence left")

    began = trio.current_time()
    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        dying.die.set()
        await wait_all_tasks_blocked()
        runtime_of(queue).executor._factory = never  # type: ignore[attr-defined]
        await queue.submit(work, "a")
        await wait_all_tasks_blocked()
    assert trio.current_time() - began == 1


def test_the_repr_of_a_fake_shows_its_state() -> None:
    sdk, hold = FakeSdk(), Blocker()
    assert repr(sdk) == "<FakeSdk 0 steps, 0 open>"
    assert repr(hold) == "<Blocker not reached>"
    hold.release()
    hold.block()
    assert repr(hold) == "<Blocker released>"
    with sdk.session() as session:
        assert repr(session) == "<FakeSession 1 open>"
    assert repr(session) == "<FakeSession 1 closed>"
    session.call("after its close")
    with pytest.raises(AssertionError, match="which is not open"):
        sdk.check()


# the turns of the loop between two jobs


class RecordingStore(MemoryStore):
    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self.turns = turns

    def append(self, events: Sequence[Event]) -> None:
        self.turns.record(events)
        super().append(events)


async def turns_of_jobs(service: trio_jobs.Service, jobs: int) -> Turns:
    """Run so many jobs that wait together."""
    turns = Turns()
    trio.lowlevel.add_instrument(turns)
    with deadline("the jobs"):
        async with service.open(store=RecordingStore(turns)) as queue:
            await queue.pause()
            receipts = [await queue.submit("work", number) for number in range(jobs)]
            await queue.resume()
            for receipt in receipts:
                await queue.result(receipt.job_id)
    trio.lowlevel.remove_instrument(turns)
    return turns


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_next_attempt_starts_in_the_turn_of_the_loop_in_which_the_last_one_has_ended(is_async: bool) -> None:
    @contextmanager
    def sdk() -> Iterator[object]:
        yield object()

    service = trio_jobs.Service(sdk=sdk, seat_lock=None)

    def work(sdk: object, number: int) -> None:
        pass

    async def work_through_handle(sdk: trio_jobs.SdkHandle, number: int) -> None:
        await sdk.call(work, number)

    service.handler(kind="work", on_doubt="hold")(work_through_handle if is_async else work)
    turns = await turns_of_jobs(service, 10)
    assert turns.of(Started)[1:] == turns.of(Completed)[:-1]


async def test_other_tasks_run_between_jobs_of_an_asynchronous_sdk_that_never_waits() -> None:
    @asynccontextmanager
    async def sdk() -> AsyncIterator[object]:
        yield object()

    service = trio_jobs.Service(async_sdk=sdk, seat_lock=None)

    @service.handler(on_doubt="hold")
    async def work(sdk: object, number: int) -> None:
        pass

    turns = await turns_of_jobs(service, 10)
    assert len(set(turns.of(Completed))) == 10


def test_a_session_is_closed_where_the_run_of_trio_has_ended_without_a_close() -> None:
    """Trio itself can fail: its clock raises, for example. Then no task is run to its end."""
    sdk = FakeSdk()

    async def main() -> None:
        executor = ThreadExecutor(sdk.session)
        await executor.open(FIRST)

    trio.run(main)
    sdk.check()
    assert sdk.count("close") == 1
