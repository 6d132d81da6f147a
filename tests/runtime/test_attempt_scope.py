"""Rules of the scope that one attempt after the other runs in: no attempt is felt by the next one, or by the queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
import trio
from trio.testing import MockClock

from support.rig import NO_RETRY, ended, open_queue
from support.waiting import deadline
from trio_jobs import Outcome, Service, State
from trio_jobs._runtime import attempt_scope
from trio_jobs._runtime.attempt_scope import _place

Body = Callable[[], Awaitable[None]]

entered: list[object] = []
"""Keeps scopes that a handler has entered and not left, as a global variable of a program does."""


async def leave_a_deadline_open() -> None:
    entered.append(trio.move_on_after(0.05).__enter__())


async def leave_a_cancelled_scope_open() -> None:
    scope = trio.CancelScope()
    scope.__enter__()
    scope.cancel()
    entered.append(scope)


async def leave_a_deadline_open_and_raise() -> None:
    await leave_a_deadline_open()
    raise ValueError("no")


async def raise_a_stored_cancelled() -> None:
    stored: list[trio.Cancelled] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            stored.append(cancelled)
    raise stored[0]


async def return_nothing() -> None:
    pass


def make_service(bodies: dict[str, Body], attempt_timeout: float | None = None) -> Service:
    service = Service(cancel_timeout=1.0)

    @service.handler(retry=NO_RETRY, attempt_timeout=attempt_timeout)
    async def work(what: str) -> None:
        await bodies[what]()

    return service


@contextmanager
def all_jobs_are_processed() -> Iterator[None]:
    """As `deadline`. A Cancelled that leaves the queue is a failure too; pytest-trio would ignore it."""
    try:
        with deadline("the queue has processed all jobs"):
            yield
    except trio.Cancelled as cancelled:
        raise AssertionError("the cancellation of an attempt has left the queue") from cancelled


@pytest.fixture(params=["trio says where a task is", "trio does not say it"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the scope kept from one attempt to the next, and with one for each attempt."""
    if request.param == "trio does not say it":
        monkeypatch.setattr(attempt_scope, "_place", lambda task: None)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("limit", [None, 60.0])
@pytest.mark.parametrize(
    ("body", "error"),
    [
        (leave_a_deadline_open, "RuntimeError"),
        (leave_a_cancelled_scope_open, "RuntimeError"),
        (leave_a_deadline_open_and_raise, "RuntimeError"),
        (raise_a_stored_cancelled, "Cancelled"),
    ],
)
async def test_a_scope_that_a_handler_does_not_leave_is_the_error_of_its_attempt_alone(
    body: Body, error: str, limit: float | None, autojump_clock: MockClock
) -> None:
    bodies = {"good": return_nothing, "bad": body}
    with all_jobs_are_processed():
        async with open_queue(make_service(bodies, limit)) as queue:
            for _ in range(2):  # the second time in the scope that follows
                good = await ended(queue, (await queue.submit("work", "good")).job_id)
                bad = await ended(queue, (await queue.submit("work", "bad")).job_id)
                assert (good.state, bad.state) == (State.COMPLETED, State.FAILED)
                assert bad.error is not None
                assert bad.error.type == error
                await trio.sleep(1)  # beyond the deadline that the handler has left behind
            last = await ended(queue, (await queue.submit("work", "good")).job_id)
            assert last.state is State.COMPLETED
    entered.clear()


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("swallows", [False, True])
async def test_a_cancel_ends_its_own_attempt_alone(swallows: bool, autojump_clock: MockClock) -> None:
    started = trio.Event()

    async def wait() -> None:
        started.set()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            if not swallows:
                raise

    with all_jobs_are_processed():
        async with open_queue(make_service({"good": return_nothing, "wait": wait})) as queue:
            for _ in range(2):
                started = trio.Event()
                receipt = await queue.submit("work", "wait")
                following = await queue.submit("work", "good")
                await started.wait()
                await queue.cancel(receipt.job_id)
                job = await ended(queue, receipt.job_id)
                assert job.state is (State.COMPLETED if swallows else State.CANCELLED)
                assert (await ended(queue, following.job_id)).state is State.COMPLETED


async def test_a_cancel_after_the_handler_has_returned_does_not_end_the_next_attempt(autojump_clock: MockClock) -> None:
    answers: list[str] = []

    async def cancel_oneself() -> None:
        answer = await queue.cancel(receipt.job_id)  # takes effect at the next checkpoint, which does not come
        answers.append(answer)

    bodies: dict[str, Body] = {"self": cancel_oneself, "wait": lambda: trio.sleep(1)}
    with all_jobs_are_processed():
        async with open_queue(make_service(bodies)) as queue:
            receipt = await queue.submit("work", "self")
            following = await queue.submit("work", "wait")
            await ended(queue, receipt.job_id)
            job = await ended(queue, following.job_id)
    assert answers
    assert job.state is State.COMPLETED
    assert [attempt.outcome for attempt in job.attempts or ()] == [Outcome.COMPLETED]


async def test_attempts_without_a_limit_run_in_the_same_scope(autojump_clock: MockClock) -> None:
    places: list[object] = []

    async def note() -> None:
        places.append(_place(trio.lowlevel.current_task()))

    async with open_queue(make_service({"note": note})) as queue:
        for _ in range(3):
            await ended(queue, (await queue.submit("work", "note")).job_id)
    assert len({id(place) for place in places}) == 1


async def test_trio_says_in_which_scope_a_task_is() -> None:
    """If this fails with a new version of Trio, attempts have a scope each, and take longer."""
    task = trio.lowlevel.current_task()
    outside = _place(task)
    with trio.CancelScope():
        inside = _place(task)
        with trio.CancelScope():
            assert _place(task) not in (outside, inside, None)
        assert _place(task) is inside
    assert _place(task) is outside
    assert None not in (outside, inside)
