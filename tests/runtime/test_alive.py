"""`alive`: an idle session is asked before a job whether it still works, and replaced if not."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.rig import NO_RETRY
from support.waiting import deadline
from trio_jobs import Opening, Service, TrioClock, UsageError
from trio_jobs.testing import Blocker


class Gone(Exception):
    """What a test raises on purpose."""


class Line:
    """An SDK whose sessions die, and the calls into it, in their order.

    Args:
        answers: Of `alive`, one each; an exception is raised. True when there are none left.
    """

    def __init__(self, *answers: object) -> None:
        self.log: list[str] = []
        self.answers = list(answers)
        self.openings: list[Opening] = []
        self.thrown: list[BaseException] = []

    @contextlib.contextmanager
    def session(self, opening: Opening) -> Iterator[Line]:
        self.openings.append(opening)
        self.log.append(f"open {opening.number}")
        try:
            yield self
        except BaseException as error:
            self.thrown.append(error)
            raise
        finally:
            self.log.append("close")

    @contextlib.asynccontextmanager
    async def async_session(self, opening: Opening) -> AsyncIterator[Line]:
        with self.session(opening):
            yield self

    def alive(self) -> object:
        self.log.append("alive?")
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def async_alive(self) -> object:
        return self.alive()


def service_for(line: Line, **settings: Any) -> Service:
    service = Service(**{"async_sdk": line.async_session, "alive": Line.alive, **settings})

    @service.handler(kind="work", retry=NO_RETRY, on_doubt="hold")
    async def work(line: Line, what: str) -> None:
        line.log.append(what)

    return service


async def submit(queue: trio_jobs.Queue, what: str) -> trio_jobs.Job:
    receipt = await queue.submit("work", what)
    await queue.result(receipt.job_id)
    return queue.get(receipt.job_id)


async def test_alive_is_asked_before_a_job_after_check_after_idle_seconds(autojump_clock: MockClock) -> None:
    line = Line()
    async with service_for(line).open(clock=TrioClock()) as queue:
        await submit(queue, "a")
        await trio.sleep(59)
        await submit(queue, "b")
        await trio.sleep(61)
        assert line.log[-1] == "b", "without a job nothing is asked"
        await submit(queue, "c")
        await submit(queue, "d")
    assert line.log == ["open 1", "a", "b", "alive?", "c", "d", "close"]


@pytest.mark.parametrize("answer", [False, None, Gone("the cable is out")])
@pytest.mark.parametrize("asks", [Line.alive, Line.async_alive])
async def test_a_session_that_is_not_alive_is_replaced_before_the_job_which_loses_no_attempt(
    asks: Any, answer: object, autojump_clock: MockClock
) -> None:
    line = Line(answer)
    async with service_for(line, alive=asks, check_after=10).open(clock=TrioClock()) as queue:
        await trio.sleep(11)
        job = await submit(queue, "a")
        events = queue.events(after=0)
    assert line.log == ["open 1", "alive?", "close", "open 2", "a", "close"]
    assert line.openings[1].reason == "lost"
    assert line.openings[1].unclean is False
    assert len(line.thrown) == 1, "the session is discarded, so that a manager does not commit what is in it"
    assert len(job.attempts or ()) == 1
    assert [type(event).__name__ async for event in events if isinstance(event, trio_jobs.events.Started)] == [
        "Started"
    ]


async def test_with_check_after_0_alive_is_asked_once_before_each_job(autojump_clock: MockClock) -> None:
    line = Line()
    async with service_for(line, check_after=0).open(clock=TrioClock()) as queue:
        for what in "ab":
            await submit(queue, what)
    assert line.log == ["open 1", "a", "alive?", "b", "close"], "a session that was just opened is alive"


async def test_a_suspend_counts_as_idle_time(autojump_clock: MockClock) -> None:
    line, clock = Line(), TrioClock()
    async with service_for(line).open(clock=clock) as queue:
        await submit(queue, "a")
        clock.suspend(3600)
        await submit(queue, "b")
    assert line.log == ["open 1", "a", "alive?", "b", "close"]


async def test_alive_runs_on_the_thread_of_the_sdk() -> None:
    line = Line(False)
    service = Service(sdk=line.session, alive=Line.alive)

    @service.handler(kind="work", idempotent=True)
    def work(line: Line, what: str) -> None:
        line.log.append(what)

    clock = TrioClock()
    with deadline("the job"):
        async with service.open(clock=clock) as queue:
            clock.suspend(61)
            await queue.result((await queue.submit("work", "a")).job_id)
    assert line.log[:4] == ["open 1", "alive?", "close", "open 2"]
    assert line.log[-2:] == ["a", "close"]


async def test_an_alive_that_does_not_answer_is_cancelled_in_trio(autojump_clock: MockClock) -> None:
    async def hang(line: Line) -> bool:
        await trio.sleep_forever()
        return True

    line = Line()
    asked: list[float] = []

    async def hang_once(line: Line) -> bool:
        asked.append(trio.current_time())
        return await hang(line) if len(asked) == 1 else True

    async with service_for(line, alive=hang_once, check_after=10).open(clock=TrioClock()) as queue:
        await trio.sleep(11)
        await submit(queue, "a")
        assert trio.current_time() == 11 + 30
    assert line.log == ["open 1", "close", "open 2", "a", "close"]


async def test_an_alive_that_hangs_on_a_thread_is_overdue_then_stuck(mock_clock: MockClock) -> None:
    blocker = Blocker(then=False)
    line = Line()
    service = Service(sdk=line.session, alive=lambda line: blocker.block(), check_after=10)

    @service.handler(kind="work", idempotent=True)
    def work(line: Line, what: str) -> None:
        line.log.append(what)

    with deadline("alive"):
        async with service.open(clock=TrioClock()) as queue:
            mock_clock.jump(11)
            job = (await queue.submit("work", "a")).job_id
            await blocker.reached()
            for seconds, problem in ((31, "overdue"), (30, "stuck")):
                await wait_all_tasks_blocked()
                mock_clock.jump(seconds)
                await wait_all_tasks_blocked()
                assert problem in queue.health().problems
            blocker.release()
            await queue.result(job)
            assert queue.health().ok
    assert line.log[:3] == ["open 1", "close", "open 2"]


class StepLimit(trio.abc.Instrument):
    """Cancels `scope` after so many steps of tasks: in virtual time a loop without a sleep has no other end."""

    def __init__(self, scope: trio.CancelScope, limit: int) -> None:
        self._scope = scope
        self._left = limit

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self._scope.cancel()


@pytest.mark.parametrize("answer", [True, False])
async def test_alive_is_asked_once_before_a_job_while_work_is_not_saved(
    answer: bool, autojump_clock: MockClock
) -> None:
    line = Line(answer)
    service = service_for(
        line, save=lambda line: line.log.append("save"), save_after_jobs=5, save_after=30, check_after=10
    )
    async with service.open(clock=TrioClock()) as queue:
        first = (await queue.submit("work", "a")).job_id
        await trio.sleep(11)
        with trio.CancelScope() as scope:
            steps = StepLimit(scope, 500)
            trio.lowlevel.add_instrument(steps)
            second = (await queue.submit("work", "b")).job_id
            await trio.sleep(1)
            trio.lowlevel.remove_instrument(steps)
        assert not scope.cancelled_caught, "the job is received and put back without end"
        await trio.sleep(60)
        states = [queue.get(job).state for job in (first, second)]
    if answer:
        assert line.log == ["open 1", "a", "alive?", "b", "save", "close"]
        assert states == ["completed", "completed"]
    else:
        assert line.log == ["open 1", "a", "alive?", "close", "open 2", "b", "save", "close"]
        assert states == ["in_doubt", "completed"], "what was in the memory of the lost session may be gone"


@pytest.mark.parametrize("saves", [False, True])
async def test_p1_a_stop_waits_for_an_alive_that_is_cancelled_in_trio(saves: bool, autojump_clock: MockClock) -> None:
    """And does not save: whether the session is in the middle of an answer is not known."""
    line = Line()
    asked = trio.Event()

    async def slow_to_leave(line: Line) -> bool:
        asked.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)
            line.log.append("left")
        return True

    saving = {"save": lambda line: line.log.append("save"), "save_after_jobs": 5, "save_after": 300} if saves else {}
    service = service_for(line, alive=slow_to_leave, check_after=10, drain_timeout=0, **saving)
    async with service.open(clock=TrioClock()) as queue:
        await queue.submit("work", "a")
        await trio.sleep(11)
        await queue.submit("work", "b")
        await asked.wait()
    assert line.log == ["open 1", "a", "left", "close"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"alive": Line.alive}, "alive= needs an SDK"),
        ({"sdk": Line().session, "alive": Line.async_alive}, "alive must be a plain function of the SDK"),
        ({"sdk": Line().session, "alive": 3}, "alive must be a plain function of the SDK, not 3"),
        ({"sdk": Line().session, "check_after": -1}, "check_after must be a number of seconds, 0 or more"),
    ],
)
def test_an_alive_that_cannot_be_asked_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Service(**settings)
