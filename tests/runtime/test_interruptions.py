"""Service(interrupt=): a call that has exceeded its limit is freed from another thread, and no other call is hit."""

from __future__ import annotations

import logging
import socket
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.rig import open_queue, pass_time, until_state
from support.waiting import DEADLINE, deadline
from trio_jobs import Fail, Job, NotDone, Outcome, Queue, Retry, Service, State, Unknown
from trio_jobs._executors.call_boundary import CallBoundary
from trio_jobs._runtime import interrupter
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing import Blocker, FakeSdk, FakeSession, drain
from trio_jobs.testing import open_queue as open_virtual_queue


class Freed(Exception):
    """What a call raises that was interrupted."""


class Device:
    """An SDK whose calls hang until they are interrupted."""

    def __init__(self, *, then: Callable[[], Any] | None = None) -> None:
        self.then = then  # what a call does after it was interrupted; None raises Freed
        self.calls: list[str] = []
        self.closes: list[BaseException | None] = []
        self.interrupted: list[str] = []  # the calls that were inside
        self.threads: set[int] = set()
        self._reached = threading.Event()
        self._freed = threading.Event()

    @contextmanager
    def session(self) -> Iterator[Device]:
        thrown: BaseException | None = None
        try:
            yield self
        except BaseException as error:
            thrown = error
            raise
        finally:
            self.closes.append(thrown)

    def call(self, what: str) -> Any:
        self.calls.append(what)
        if not what.startswith("hangs"):
            return what
        self._freed.clear()
        self._reached.set()
        assert self._freed.wait(DEADLINE), "the call was not interrupted"
        if self.then is None:
            raise Freed(what)
        return self.then()

    def interrupt(self) -> None:
        """`Service(interrupt=Device.interrupt)`."""
        self.interrupted.append(self.calls[-1])
        self.threads.add(threading.get_ident())
        self._freed.set()

    async def reached(self) -> None:
        assert await trio.to_thread.run_sync(self._reached.wait, DEADLINE), "no call hangs"
        self._reached.clear()


def service_with(device: Device, *, interrupt: Any = Device.interrupt, **rules: Any) -> Service:
    settings = {name: rules.pop(name) for name in ("drain_timeout", "cancel_timeout", "on_stuck") if name in rules}
    service = Service(sdk=device.session, interrupt=interrupt, **settings)

    @service.handler(**{"attempt_timeout": 10, "on_doubt": "hold", **rules})
    def work(device: Device, what: str) -> Any:
        return device.call(what)

    return service


def last(job: Job) -> trio_jobs.Attempt:
    assert job.attempts
    return job.attempts[-1]


async def test_a_call_that_exceeds_its_timeout_is_interrupted_on_another_thread(mock_clock: MockClock) -> None:
    device = Device()
    async with open_queue(service_with(device)) as queue:
        receipt = await queue.submit("work", "hangs")
        await device.reached()
        await pass_time(mock_clock, 9)
        assert device.interrupted == []
        await pass_time(mock_clock, 1)
        job = await until_state(queue, receipt.job_id, "in_doubt")
        assert queue.health().ok
    assert device.interrupted == ["hangs"]
    assert threading.get_ident() not in device.threads
    attempt = last(job)
    # the limit has ended it, not an error that the retry policy may repeat; and it was not overdue
    assert (attempt.outcome, attempt.ended_by, attempt.overdue) == (Outcome.TIMED_OUT, "attempt_timeout", False)
    assert attempt.error is not None
    assert str(attempt.error) == "Freed: hangs"


async def test_each_limit_interrupts_and_is_what_the_call_ended_by(mock_clock: MockClock) -> None:
    device = Device()
    async with open_queue(service_with(device, attempt_timeout=100, drain_timeout=0)) as queue:
        expires = await queue.submit("work", "hangs 1", deadline_after=5)
        await device.reached()
        await pass_time(mock_clock, 5)
        job = await until_state(queue, expires.job_id, "in_doubt")
        assert (last(job).outcome, last(job).ended_by) == (Outcome.EXPIRED, "deadline")
        cancelled = await queue.submit("work", "hangs 2")
        await device.reached()
        assert await queue.cancel(cancelled.job_id) == "requested"
        job = await until_state(queue, cancelled.job_id, "in_doubt")
        assert (last(job).outcome, last(job).ended_by) == (Outcome.CANCELLED, "cancel")
        stopped = await queue.submit("work", "hangs 3")
        await device.reached()
    job = queue.get(stopped.job_id)
    assert (job.state, last(job).outcome, last(job).ended_by) == ("in_doubt", Outcome.STOPPED, "stop")
    assert queue.report is not None
    assert queue.report.sdk_closed
    assert device.interrupted == ["hangs 1", "hangs 2", "hangs 3"]
    assert len(device.closes) == 3


async def test_an_idempotent_call_that_was_interrupted_follows_its_limit(mock_clock: MockClock) -> None:
    device = Device()
    async with open_queue(service_with(device, idempotent=True, retry=Retry(1, waits=[3]))) as queue:
        receipt = await queue.submit("work", "hangs")
        await device.reached()
        await queue.cancel(receipt.job_id)
        job = await until_state(queue, receipt.job_id, "cancelled")
        assert last(job).outcome is Outcome.CANCELLED


async def test_a_call_that_returns_after_its_interruption_is_completed_and_its_session_is_closed_well(
    mock_clock: MockClock,
) -> None:
    device = Device(then=lambda: "done all the same")
    async with open_queue(service_with(device)) as queue:
        receipt = await queue.submit("work", "hangs")
        await device.reached()
        await pass_time(mock_clock, 10)
        assert await queue.result(receipt.job_id) == "done all the same"
        session = queue.statistics().session
        # an interruption of a call that was about to return may be felt by the next call: there is a new session
        assert await queue.result((await queue.submit("work", "next")).job_id) == "next"
        assert queue.statistics().session == session + 1
    assert device.closes == [None, None]


async def test_a_call_that_returns_after_its_interruption_is_saved_before_its_session_is_closed(
    mock_clock: MockClock,
) -> None:
    device, saves = Device(then=lambda: "done all the same"), list[int]()
    service = Service(
        sdk=device.session, interrupt=Device.interrupt, save=lambda device: saves.append(len(device.closes))
    )

    @service.handler(attempt_timeout=10, on_doubt="hold")
    def work(device: Device, what: str) -> Any:
        return device.call(what)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "hangs")
        await device.reached()
        await pass_time(mock_clock, 10)
        assert await queue.result(receipt.job_id) == "done all the same"
        assert saves == [0]
    assert device.closes == [None]
    assert device.interrupted == ["hangs"]


async def test_a_save_that_overruns_is_interrupted(mock_clock: MockClock) -> None:
    device = Device()
    service = Service(
        sdk=device.session,
        interrupt=Device.interrupt,
        save=lambda device: device.call("hangs in save"),
        save_timeout=20,
    )

    @service.handler(attempt_timeout=10, on_doubt="hold")
    def work(device: Device, what: str) -> Any:
        return device.call(what)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "a")
        await device.reached()
        await pass_time(mock_clock, 19)  # the limit of the attempt is not that of the save
        assert device.interrupted == []
        await pass_time(mock_clock, 1)
        job = await until_state(queue, receipt.job_id, "in_doubt")
        assert job.reason == "save_timed_out"
    assert device.interrupted == ["hangs in save"]
    assert len(device.closes) == 1
    assert device.closes[0] is not None


async def test_a_directive_after_an_interruption_is_followed(mock_clock: MockClock) -> None:
    def vouch() -> None:
        raise Fail("the device has done nothing")

    device = Device(then=vouch)
    async with open_queue(service_with(device)) as queue:
        receipt = await queue.submit("work", "hangs")
        await device.reached()
        await pass_time(mock_clock, 10)
        job = await until_state(queue, receipt.job_id, "failed")
        assert job.reason == "fail"


async def test_a_call_is_interrupted_once_whatever_limits_follow(mock_clock: MockClock) -> None:
    device, going_on = Device(), threading.Event()

    def linger() -> None:
        assert going_on.wait(DEADLINE)
        raise Freed

    device.then = linger
    async with open_queue(service_with(device, stuck_after=20)) as queue:
        receipt = await queue.submit("work", "hangs", deadline_after=15)
        await device.reached()
        await pass_time(mock_clock, 10)
        await until_interrupted(queue)
        await pass_time(mock_clock, 1)
        assert queue.health().problems == ("overdue",)  # it has not returned a second after its interruption
        await pass_time(mock_clock, 4)
        await queue.cancel(receipt.job_id)
        await pass_time(mock_clock, 15)
        assert queue.health().problems == ("stuck",)
        going_on.set()
        job = await until_state(queue, receipt.job_id, "in_doubt")
        with deadline("the end of the late call"):
            while queue.get(receipt.job_id).inside:
                await trio.lowlevel.checkpoint()
        job = queue.get(receipt.job_id)
    assert device.interrupted == ["hangs"]
    assert last(job).ended_by == "attempt_timeout"


async def until_interrupted(queue: Queue) -> None:
    """Wait until an interruption has been made."""
    executor: Any = runtime_of(queue).executor
    with deadline("an interruption"):
        while not executor.interrupted_call:
            await trio.lowlevel.checkpoint()


async def test_the_next_call_is_not_interrupted_by_the_limit_of_the_one_before(mock_clock: MockClock) -> None:
    device = Device()
    async with open_queue(service_with(device)) as queue:
        first = await queue.submit("work", "hangs 1")
        await device.reached()
        await pass_time(mock_clock, 10)
        await until_state(queue, first.job_id, "in_doubt")
        second = await queue.submit("work", "hangs 2")
        await device.reached()
        await pass_time(mock_clock, 9)
        assert device.interrupted == ["hangs 1"]
        await pass_time(mock_clock, 1)
        await until_state(queue, second.job_id, "in_doubt")
    assert device.interrupted == ["hangs 1", "hangs 2"]


async def test_each_call_of_an_async_handler_can_be_interrupted(mock_clock: MockClock) -> None:
    device = Device()
    service = Service(sdk=device.session, interrupt=Device.interrupt)

    @service.handler(attempt_timeout=10, on_doubt="hold")
    async def work(sdk: trio_jobs.SdkHandle, what: str) -> None:
        await sdk.call(Device.call, "first")
        await sdk.call(Device.call, "hangs")
        raise AssertionError("the attempt has ended")

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "")
        await device.reached()
        await pass_time(mock_clock, 10)
        job = await until_state(queue, receipt.job_id, "in_doubt")
    assert last(job).outcome is Outcome.TIMED_OUT
    assert device.interrupted == ["hangs"]
    assert device.closes[0] is not None  # the session was discarded


async def test_a_verify_that_overruns_is_interrupted_and_its_answer_is_unknown(mock_clock: MockClock) -> None:
    device = Device()
    service = Service(sdk=device.session, interrupt=Device.interrupt)

    def verify(device: Device, job: trio_jobs.JobContext) -> NotDone:
        device.call("hangs in verify")
        return NotDone()

    @service.handler(verify=verify, verify_timeout=5, retry=Retry(0))
    def work(device: Device, what: str) -> None:
        raise OSError("no answer")

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "")
        await device.reached()
        # a cancel does not end verify: what the attempt did must still be found out
        await pass_time(mock_clock, 4)
        assert device.interrupted == []
        await pass_time(mock_clock, 1)
        with deadline("the answer of verify"):
            while not queue.health().in_doubt or runtime_of(queue).slot.current is not None:
                await trio.lowlevel.checkpoint()
        job = queue.get(receipt.job_id)
    assert (job.state, job.reason) == ("in_doubt", "error")
    assert device.interrupted == ["hangs in verify"]


async def test_a_stop_interrupts_verify_which_is_asked_again_at_the_next_start(mock_clock: MockClock) -> None:
    device, store = Device(), trio_jobs.MemoryStore()
    asked: list[int] = []

    def service() -> Service:
        made = Service(sdk=device.session, interrupt=Device.interrupt, drain_timeout=0)

        def verify(device: Device, job: trio_jobs.JobContext) -> Unknown | trio_jobs.Done:
            asked.append(job.attempt)
            if len(asked) == 1:
                device.call("hangs in verify")
            return trio_jobs.Done("found")

        @made.handler(verify=verify)
        def work(device: Device, what: str) -> None:
            raise OSError("no answer")

        return made

    async with open_queue(service(), store=store) as queue:
        receipt = await queue.submit("work", "")
        await device.reached()
    assert queue.report is not None
    assert queue.report.sdk_closed
    async with open_queue(service(), store=store) as queue:
        await until_state(queue, receipt.job_id, "completed")
        assert await queue.result(receipt.job_id) == "found"
    assert asked == [1, 1]


async def test_an_interrupt_that_raises_is_logged_and_counted_and_the_call_is_overdue(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    device = Device()

    def interrupt(device: Device) -> None:
        device.interrupted.append("tried")
        raise SystemExit("no such port")

    async with open_queue(service_with(device, interrupt=interrupt)) as queue:
        receipt = await queue.submit("work", "hangs")
        await device.reached()
        await pass_time(mock_clock, 10)
        with deadline("the error"):
            while not runtime_of(queue).interrupter.errors:
                await trio.lowlevel.checkpoint()
        await pass_time(mock_clock, 1)
        assert queue.health().problems == ("overdue",)
        await pass_time(mock_clock, 9)
        assert queue.health().problems == ("stuck",)
        device.interrupt()
        await until_state(queue, receipt.job_id, "in_doubt")
    [record] = [record for record in caplog.records if record.name == "trio_jobs.interrupter"]
    assert record.levelno == logging.ERROR
    assert "was to be interrupted, but interrupt raised SystemExit: no such port" in record.getMessage()


async def test_an_interrupt_that_hangs_keeps_the_call_inside_and_nothing_else_waits_for_it(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    device, hangs, entered = Device(), threading.Event(), threading.Event()

    def interrupt(device: Device) -> None:
        device.interrupt()  # the call could return now
        entered.set()
        assert hangs.wait(DEADLINE)

    async with open_queue(service_with(device, interrupt=interrupt)) as queue:
        receipt = await queue.submit("work", "hangs")
        await device.reached()
        await pass_time(mock_clock, 10)
        assert await trio.to_thread.run_sync(entered.wait, DEADLINE)
        await pass_time(mock_clock, interrupter.TIMEOUT)
        assert runtime_of(queue).interrupter.errors == 1
        assert queue.statistics().sdk_busy  # an interruption that goes on could hit the next call
        await pass_time(mock_clock, 10 - interrupter.TIMEOUT)
        assert queue.health().problems == ("stuck",)
        hangs.set()
        with deadline("the end of the late call"):
            while queue.statistics().sdk_busy:
                await trio.lowlevel.checkpoint()
        await until_state(queue, receipt.job_id, "in_doubt")
    assert "but interrupt has not returned within 5 s" in caplog.text


async def test_an_sdk_on_a_thread_without_interrupt_is_overdue_at_once(mock_clock: MockClock) -> None:
    device = Device()
    async with open_queue(service_with(device, interrupt=None, retry=Retry(0))) as queue:
        receipt = await queue.submit("work", "hangs")
        await device.reached()
        await pass_time(mock_clock, 10)
        assert queue.health().problems == ("overdue",)
        device.interrupt()
        job = await until_state(queue, receipt.job_id, "failed")
    assert last(job).outcome is Outcome.ERROR  # an error of its own


async def test_an_interruption_takes_no_virtual_time(autojump_clock: MockClock) -> None:
    sdk, hold = FakeSdk(), Blocker(OSError("cancelled"))
    sdk.script("call", hold)
    service = Service(sdk=sdk.session, interrupt=lambda session: trio.from_thread.run_sync(hold.release))

    @service.handler(attempt_timeout=10, on_doubt="hold")
    def work(session: FakeSession, what: str) -> Any:
        return session.call(what)

    async with open_virtual_queue(service) as queue:
        receipt = await queue.submit(work, "a")
        [job] = (await drain(queue)).values()
        assert job.id == receipt.job_id
        assert trio.current_time() == 10
    assert (job.state, last(job).outcome, str(last(job).error)) == ("in_doubt", Outcome.TIMED_OUT, "OSError: cancelled")


# the boundary of a call, at each of its moments


def in_thread(do: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(do()), daemon=True)
    thread.start()
    return thread, result


def test_an_interruption_waits_for_a_call_that_has_not_begun() -> None:
    boundary, hits = CallBoundary(), list[str]()
    thread, result = in_thread(lambda: boundary.interrupt(1, lambda: hits.append("hit")))
    thread.join(0.05)
    assert (result, hits) == ([], [])
    boundary.enter(1)
    thread.join(DEADLINE)
    assert (result, hits, boundary.interrupted) == ([True], ["hit"], 1)


@pytest.mark.parametrize("moment", ["after", "in the next call", "after the next call"])
def test_an_interruption_of_a_call_that_has_left_calls_nothing(moment: str) -> None:
    boundary, hits = CallBoundary(), list[str]()
    boundary.enter(1)
    boundary.leave(1)
    if moment != "after":
        boundary.enter(2)
    if moment == "after the next call":
        boundary.leave(2)
    assert boundary.interrupt(1, lambda: hits.append("hit")) is False
    assert (hits, boundary.interrupted) == ([], 0)


def test_a_call_does_not_leave_while_it_is_interrupted() -> None:
    boundary, hits, release = CallBoundary(), threading.Event(), threading.Event()

    def interrupt() -> None:
        hits.set()
        assert release.wait(DEADLINE)

    boundary.enter(1)
    interrupting, _ = in_thread(lambda: boundary.interrupt(1, interrupt))
    assert hits.wait(DEADLINE)

    def leave() -> None:
        boundary.leave(1)
        boundary.enter(2)

    leaving, _ = in_thread(leave)
    leaving.join(0.05)
    assert leaving.is_alive()
    release.set()
    leaving.join(DEADLINE)
    interrupting.join(DEADLINE)
    assert not leaving.is_alive()
    assert boundary.interrupted == 1


def test_a_call_can_leave_after_an_interruption_that_raised() -> None:
    boundary = CallBoundary()
    boundary.enter(1)

    def interrupt() -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        boundary.interrupt(1, interrupt)
    boundary.leave(1)
    assert boundary.interrupted == 1


def test_an_interruption_hits_its_own_call_only_whenever_it_comes() -> None:
    boundary, calls = CallBoundary(), 1000
    hits: list[tuple[int, int]] = []
    ended = threading.Event()

    def run() -> None:
        for number in range(1, calls + 1):
            boundary.enter(number)
            time.sleep(0)  # lets the other thread run
            boundary.leave(number)
        ended.set()

    running, _ = in_thread(run)
    while not ended.is_set():
        number = min(boundary.entered + 1, calls)  # about to begin, inside, leaving or gone when it is interrupted
        boundary.interrupt(number, lambda number=number: hits.append((number, boundary.entered)))  # type: ignore[misc]
    running.join(DEADLINE)
    assert hits
    assert all(number == entered for number, entered in hits)


# real ones


async def test_sqlite3_interrupt_ends_a_long_query(mock_clock: MockClock) -> None:
    begun = threading.Event()

    @contextmanager
    def database() -> Iterator[sqlite3.Connection]:
        # check_same_thread: interrupt is the one method that another thread may call
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        connection.create_function("begun", 0, begun.set)
        try:
            yield connection
        finally:
            connection.close()

    service = Service(sdk=database, interrupt=sqlite3.Connection.interrupt)

    @service.handler(attempt_timeout=30, idempotent=True, retry=Retry(0))
    def count(database: sqlite3.Connection, n: int) -> int:
        query = "WITH RECURSIVE c(x) AS (SELECT begun() UNION ALL SELECT 1 FROM c LIMIT ?) SELECT count(*) FROM c"
        [row] = database.execute(query, (n,))
        return int(row[0])

    async with open_queue(service) as queue:
        receipt = await queue.submit(count, 10**12)
        assert await trio.to_thread.run_sync(begun.wait, DEADLINE)
        await pass_time(mock_clock, 30)
        job = await until_state(queue, receipt.job_id, "failed")
        assert last(job).outcome is Outcome.TIMED_OUT
        assert str(last(job).error) == "OperationalError: interrupted"
        assert await queue.result((await queue.submit(count, 5)).job_id) == 5


async def test_a_read_of_a_socket_ends_when_interrupt_shuts_it_down(mock_clock: MockClock) -> None:
    devices: list[socket.socket] = []

    @contextmanager
    def connection() -> Iterator[socket.socket]:
        ours, device = socket.socketpair()
        devices.append(device)
        with ours, device:
            yield ours

    service = Service(sdk=connection, interrupt=lambda ours: ours.shutdown(socket.SHUT_RDWR))

    @service.handler(attempt_timeout=30, idempotent=True, retry=Retry(1, waits=[1]))
    def measure(ours: socket.socket, what: str) -> str:
        ours.sendall(what.encode())
        answer = ours.recv(100)
        if not answer:
            raise ConnectionError("the connection is closed")
        return answer.decode()

    async with open_queue(service) as queue:
        receipt = await queue.submit(measure, "volts?")
        await trio.to_thread.run_sync(devices[0].recv, 100)
        await pass_time(mock_clock, 30)
        job = await until_state(queue, receipt.job_id, "retrying")
        assert last(job).outcome is Outcome.TIMED_OUT
        await pass_time(mock_clock, 1)
        with deadline("a new connection"):  # the session was renewed
            while len(devices) < 2:
                await trio.lowlevel.checkpoint()
        await trio.to_thread.run_sync(devices[1].recv, 100)
        devices[1].sendall(b"5")
        assert await queue.result(receipt.job_id) == "5"
        assert queue.get(receipt.job_id).state is State.COMPLETED


# mistakes


@asynccontextmanager
async def async_sdk() -> AsyncIterator[str]:
    yield "sdk"


class Plain:
    """An executor that cannot interrupt calls."""

    session = 0
    is_open = inside = False

    def take_close_problem(self) -> None: ...

    open = call = handle = abandon = close = stop = take_close_problem


async def test_interrupt_is_refused_where_no_call_can_be_interrupted() -> None:
    with pytest.raises(trio_jobs.UsageError, match="calls of async_sdk= end when they are cancelled"):
        Service(async_sdk=async_sdk, interrupt=print)
    with pytest.raises(trio_jobs.UsageError, match="without an SDK there is nothing to interrupt"):
        Service(interrupt=print)
    service: Service = Service(executor=lambda nursery: Plain(), interrupt=print)  # type: ignore[arg-type, return-value]
    with pytest.raises(trio_jobs.UsageError, match=r"conforms to trio_jobs.ports.Interrupts, which .*Plain.* does not"):
        async with service.open():
            pass


def not_of_an_sdk() -> None: ...


async def asynchronous(sdk: Any) -> None: ...


@pytest.mark.parametrize(
    ("fn", "why"),
    [
        ("stop", "interrupt must be a plain function of the SDK, not 'stop'"),
        (asynchronous, "not an async function, which a thread cannot await"),
        (not_of_an_sdk, "interrupt must be a plain function of the SDK: too many positional arguments"),
    ],
)
def test_interrupt_is_a_plain_function_of_the_sdk(fn: Any, why: str) -> None:
    with pytest.raises(trio_jobs.UsageError, match=why):
        Service(sdk=Device().session, interrupt=fn)
