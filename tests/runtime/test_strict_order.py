"""strict_order: nobody passes the job at the head of the line. Proven by the SDK's own record of its calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import Book, Wrong, open_queue, outcomes, until
from trio_jobs import Done, MemoryStore, NotDone, Queue, Retry, RetryAfter, Service, Snooze, State, TrioClock, Unknown


def make_service(book: Book, **settings: Any) -> Service:
    """Kinds: "work"; "doubtful", which is cut off after 2 seconds; "asked", the same with a verify that answers what
    `book.script["verify"]` holds."""
    service = book.service(strict_order=True, **settings)

    @service.handler(retry=Retry(3, waits=[10]))
    async def work(book: Book, what: str) -> str:
        return await book.call(what, 1)

    @service.handler(attempt_timeout=2, retry=Retry(3, waits=[10]))
    async def doubtful(book: Book, what: str) -> str:
        return await book.call(what, 3)

    return service


async def submit_all(queue: Queue, *whats: str) -> list[str]:
    return [(await queue.submit("work", what)).job_id for what in whats]


async def test_jobs_are_called_in_the_order_in_which_they_came(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book)) as queue:
        await submit_all(queue, "a", "b", "c")
    assert book.calls == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("errors", "times"),
    [
        ([Wrong(), Wrong()], [0, 11, 22]),
        ([Snooze(5), Snooze(7)], [0, 6, 14]),
        ([RetryAfter(0.5), Wrong()], [0, 1.5, 12.5]),
    ],
    ids=["retrying", "snoozed", "mixed"],
)
async def test_nobody_passes_a_job_that_is_put_off(
    errors: list[Exception], times: list[float], autojump_clock: MockClock
) -> None:
    book = Book()
    book.fails("a", *errors)
    async with open_queue(make_service(book)) as queue:
        ids = await submit_all(queue, "a", "b", "c")
        for job_id in ids:
            await queue.result(job_id)
    assert book.calls == ["a", "a", "a", "b", "c"]
    assert [at for at, what in book.record if what == "a"] == times


async def test_without_it_others_pass(autojump_clock: MockClock) -> None:
    book = Book()
    book.fails("a", Wrong())
    service = book.service()

    @service.handler(retry=Retry(1, waits=[10]))
    async def work(book: Book, what: str) -> str:
        return await book.call(what)

    async with open_queue(service) as queue:
        await submit_all(queue, "a", "b")
    assert book.calls == ["a", "b", "a"]


async def test_nobody_passes_a_job_in_doubt(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book, drain_timeout=0)) as queue:
        doubtful = await queue.submit("doubtful", "a")
        await submit_all(queue, "b", "c")
        await until(queue, doubtful.job_id, "in_doubt")
        await trio.sleep(1000)
        assert book.calls == ["a"]


Release = Callable[[Queue, str], Awaitable[Any]]


@pytest.mark.parametrize(
    ("release", "state", "calls"),
    [
        (lambda queue, job: queue.resolve(job, "done"), "completed", ["a", "b"]),
        (lambda queue, job: queue.resolve(job, "failed"), "failed", ["a", "b"]),
        (lambda queue, job: queue.resolve(job, "not_done"), "in_doubt", ["a", "a"]),
    ],
    ids=["done", "failed", "not_done"],
)
async def test_resolving_the_job_at_the_head_lets_the_line_go_on_at_once(
    release: Release, state: str, calls: list[str], autojump_clock: MockClock
) -> None:
    book = Book()
    async with open_queue(make_service(book, drain_timeout=0)) as queue:
        doubtful = await queue.submit("doubtful", "a")
        await submit_all(queue, "b")
        await trio.sleep(50)
        await release(queue, doubtful.job_id)
        await wait_all_tasks_blocked()
        assert book.record[-1][0] == 50
        await trio.sleep(5)
        assert queue.get(doubtful.job_id).state == state
    assert book.calls == calls


@pytest.mark.parametrize("error", [Wrong(), Snooze(100)], ids=["retrying", "snoozed"])
async def test_cancelling_the_job_at_the_head_lets_the_line_go_on_at_once(
    error: Exception, autojump_clock: MockClock
) -> None:
    book = Book()
    book.fails("a", error)
    async with open_queue(make_service(book)) as queue:
        ids = await submit_all(queue, "a", "b")
        await trio.sleep(2)
        assert book.calls == ["a"]
        await queue.cancel(ids[0])
        await queue.result(ids[1])
        assert book.record[-1] == (2, "b")


@pytest.mark.parametrize("error", [Wrong(), Snooze(100)], ids=["retrying", "snoozed"])
async def test_when_the_job_at_the_head_expires_the_line_goes_on_at_once(
    error: Exception, autojump_clock: MockClock
) -> None:
    book = Book()
    book.fails("a", error)
    async with open_queue(make_service(book)) as queue:
        first = await queue.submit("work", "a", deadline_after=4)
        second = await queue.submit("work", "b")
        await queue.result(second.job_id)
        assert queue.get(first.job_id).reason == "expired"
    assert (4, "b") in book.record


async def test_a_job_for_later_is_passed_since_it_has_not_been_at_the_head(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book)) as queue:
        later = await queue.submit("work", "later", delay=5)
        await submit_all(queue, "a", "b")
        await queue.result(later.job_id)
    assert book.calls == ["a", "b", "later"]


async def test_a_job_retried_by_a_person_joins_the_end(autojump_clock: MockClock) -> None:
    book = Book()
    book.fails("a", trio_jobs.Fail())
    async with open_queue(make_service(book)) as queue:
        ids = await submit_all(queue, "a", "b", "c")
        await until(queue, ids[0], "failed")
        await queue.retry(ids[0])
    assert book.calls == ["a", "b", "c", "a"]


# verify


def make_asked(book: Book, *answers: Any, verify_delay: float = 0, **settings: Any) -> Service:
    """A service with a kind "asked", cut off after 2 seconds, whose verify gives these answers one after another."""
    left = list(answers)
    service = make_service(book, **settings)

    async def verify(book: Book, job: trio_jobs.AsyncJobContext) -> Any:
        await book.call("verify")
        return left.pop(0)

    @service.handler(attempt_timeout=2, retry=Retry(3, waits=[10]), verify=verify, verify_delay=verify_delay)
    async def asked(book: Book, what: str) -> str:
        return await book.call(what, 1 if book.calls.count(what) else 3)

    return service


@pytest.mark.parametrize("verify_delay", [0, 20])
async def test_verify_is_asked_before_anybody_else_s_turn(verify_delay: float, autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_asked(book, NotDone(), verify_delay=verify_delay)) as queue:
        first = await queue.submit("asked", "a")
        await submit_all(queue, "b")
        await queue.result(first.job_id)
    assert book.record[1:-1] == [
        (0, "a"),
        (2 + verify_delay, "verify"),
        (12 + verify_delay, "a"),
        (13 + verify_delay, "b"),
    ]


@pytest.mark.parametrize("verify_delay", [0, 20])
async def test_what_verify_finds_done_is_not_done_again(verify_delay: float, autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_asked(book, Done(7), verify_delay=verify_delay)) as queue:
        first = await queue.submit("asked", "a")
        await submit_all(queue, "b")
        assert await queue.result(first.job_id) == 7
    assert book.calls == ["a", "verify", "b"]


@pytest.mark.parametrize("verify_delay", [0, 20])
async def test_what_verify_cannot_tell_holds_the_line(verify_delay: float, autojump_clock: MockClock) -> None:
    book = Book()
    service = make_asked(book, Unknown(), verify_delay=verify_delay, drain_timeout=0)
    async with open_queue(service) as queue:
        first = await queue.submit("asked", "a")
        await submit_all(queue, "b")
        await trio.sleep(1000)
        assert queue.get(first.job_id).state is State.IN_DOUBT
        assert book.calls == ["a", "verify"]
        await queue.resolve(first.job_id, "done")
        await trio.sleep(1)
    assert book.calls == ["a", "verify", "b"]


@pytest.mark.parametrize(
    ("resolution", "calls"),
    [("done", ["a", "b"]), ("failed", ["a", "b"]), ("not_done", ["a", "a", "b"])],
)
async def test_a_person_who_resolves_while_it_settles_is_heard_at_once(
    resolution: Any, calls: list[str], autojump_clock: MockClock
) -> None:
    book = Book()
    async with open_queue(make_asked(book, verify_delay=100)) as queue:
        first = await queue.submit("asked", "a")
        await submit_all(queue, "b")
        await trio.sleep(5)
        await queue.resolve(first.job_id, resolution)
        await wait_all_tasks_blocked()
        assert book.record[-1][0] == 5
    assert book.calls == calls
    assert outcomes(queue.get(first.job_id))[0] == "timed_out"


async def test_a_verify_waits_for_the_end_of_a_pause(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_asked(book, Done())) as queue:
        first = await queue.submit("asked", "a")
        await wait_all_tasks_blocked()
        await queue.pause()
        await trio.sleep(50)
        assert queue.get(first.job_id).state is State.IN_DOUBT
        await queue.resume()
        await queue.result(first.job_id)
    assert (50, "verify") in book.record


# restart


@pytest.mark.parametrize("error", [Wrong(), Snooze(30)], ids=["retrying", "snoozed"])
async def test_after_a_restart_nobody_passes_a_job_that_was_put_off(
    error: Exception, autojump_clock: MockClock
) -> None:
    book, store = Book(), MemoryStore()
    book.fails("a", error)
    service = make_service(book, drain_timeout=0)
    async with open_queue(service, store=store) as queue:
        await submit_all(queue, "a", "b", "c")
        await trio.sleep(5)
    async with open_queue(service, store=store) as queue:
        await submit_all(queue, "d")
        await trio.sleep(100)
    assert book.calls == ["a", "a", "b", "c", "d"]


async def test_a_restart_keeps_the_order_of_the_line(autojump_clock: MockClock) -> None:
    book, store = Book(), MemoryStore()
    service = make_service(book, drain_timeout=0, cancel_timeout=0)
    names = [str(n) for n in range(20)]
    async with open_queue(service, store=store) as queue:
        await queue.pause()
        await submit_all(queue, *names)
    for _ in range(3):
        async with open_queue(service, store=store) as queue:
            pass
    async with open_queue(service, store=store) as queue:
        await queue.resume()
        await trio.sleep(100)
    assert book.calls == names


async def test_after_a_restart_a_job_retried_by_a_person_does_not_pass_the_one_at_the_head(
    autojump_clock: MockClock,
) -> None:
    """It was submitted first, and has been tried, as the one at the head has."""
    book, store = Book(), MemoryStore()
    book.fails("a", trio_jobs.Fail())
    book.fails("b", Snooze(30))
    service = make_service(book, drain_timeout=0)
    async with open_queue(service, store=store) as queue:
        first, _ = await submit_all(queue, "a", "b")
        await until(queue, first, "failed")
        await queue.retry(first)
        await trio.sleep(5)
    assert book.calls == ["a", "b"]
    async with open_queue(service, store=store) as queue:
        await trio.sleep(100)
    assert book.calls == ["a", "b", "b", "a"]


async def test_after_a_restart_nobody_passes_a_job_in_doubt(autojump_clock: MockClock) -> None:
    book, store = Book(), MemoryStore()
    service = make_service(book, drain_timeout=0)
    async with open_queue(service, store=store) as queue:
        first = await queue.submit("doubtful", "a")
        await submit_all(queue, "b")
        await trio.sleep(5)
    async with open_queue(service, store=store) as queue:
        await trio.sleep(100)
        assert book.calls == ["a"]
        await queue.resolve(first.job_id, "done")
        await trio.sleep(5)
    assert book.calls == ["a", "b"]


@pytest.mark.parametrize("verify_delay", [0, 20])
async def test_after_a_restart_verify_is_asked_first_of_all(verify_delay: float, autojump_clock: MockClock) -> None:
    """The stop cut the attempt off; only the next start can ask."""
    book, store = Book(), MemoryStore()
    service = make_asked(book, NotDone(), verify_delay=verify_delay, drain_timeout=0)
    async with open_queue(service, store=store) as queue:
        first = await queue.submit("asked", "a")
        await submit_all(queue, "b")
        await trio.sleep(1)
    assert queue.get(first.job_id).state is State.IN_DOUBT
    async with open_queue(service, store=store) as queue:
        await queue.result(first.job_id)
        await trio.sleep(5)
    assert book.calls == ["a", "verify", "a", "b"]


async def test_after_a_restart_several_that_were_put_off_are_taken_up_in_order(autojump_clock: MockClock) -> None:
    """They were put off by a service that let others pass; the one that is strict takes them one by one."""
    book, store = Book(), MemoryStore()
    for name in "abc":
        book.fails(name, Snooze(5))

    def service(*, strict: bool) -> Service:
        made = book.service(strict_order=strict, drain_timeout=0)

        @made.handler
        async def work(book: Book, what: str) -> str:
            return await book.call(what)

        return made

    async with open_queue(service(strict=False), store=store) as queue:
        await submit_all(queue, "a", "b", "c")
        await trio.sleep(1)
    book.record.clear()
    async with open_queue(service(strict=True), store=store) as queue:
        await submit_all(queue, "d")
        await trio.sleep(100)
    assert book.calls == ["a", "b", "c", "d"]


async def test_after_a_restart_more_jobs_than_the_line_holds_come_before_every_new_one(
    autojump_clock: MockClock,
) -> None:
    book, store = Book(), MemoryStore()
    old, new = list("abcdefgh"), list("uvwxyz")

    def service(buffer: int) -> Service:
        made = book.service(strict_order=True, drain_timeout=0, buffer=buffer)

        @made.handler
        async def work(book: Book, what: str) -> str:
            return await book.call(what)

        return made

    async with open_queue(service(10), store=store) as queue:
        await queue.pause()
        await submit_all(queue, *old)
    book.record.clear()
    async with open_queue(service(2), store=store, seed=2) as queue, trio.open_nursery() as nursery:
        for name in new:
            nursery.start_soon(queue.submit, "work", name)
            await wait_all_tasks_blocked()
        await queue.resume()
        await trio.sleep(1000)
    assert book.calls[: len(old)] == old
    assert sorted(book.calls[len(old) :]) == new  # these were submitted side by side


# health


async def test_health_says_which_job_holds_the_line_and_since_when(autojump_clock: MockClock) -> None:
    book = Book()
    book.fails("a", Snooze(30))
    async with open_queue(make_service(book)) as queue:
        assert queue.health().held_by is None
        [first] = await submit_all(queue, "a")
        await trio.sleep(10)
        health = queue.health()
        assert health.held_by == first
        assert health.held_since == datetime.fromtimestamp(TrioClock().epoch + 1, UTC)
        assert health.ok
        await queue.result(first)
        await wait_all_tasks_blocked()
        assert (queue.health().held_by, queue.health().held_since) == (None, None)
        [second] = await submit_all(queue, "b")
        await trio.sleep(0.5)
        assert queue.get(second).state is State.PROCESSING
        assert queue.health().held_by is None, "it is its turn, and holds nobody up who could go on"
