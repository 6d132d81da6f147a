"""cancel_many and retry_many: what support people do to all jobs of a sort."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from support.recording_sdk import Blocker, Book, ThreadBook, Wrong, open_queue, until
from trio_jobs import Fail, Queue, QueueClosed, Retry, Service, State, UsageError
from trio_jobs._runtime.queue import runtime_of


class Odd(Exception):
    pass


def make_service(book: Book, **settings: Any) -> Service:
    service = book.service(**settings)
    for kind in ("red", "blue"):

        @service.handler(kind=kind, retry=Retry(1, waits=[1000]))
        async def work(book: Book, what: str) -> str:
            return await book.call(what, 1)

    return service


async def one_of_each(queue: Queue, book: Book) -> dict[str, str]:
    """A job in each of these states, by the state's name; the queue is left paused."""
    book.fails("failed", Fail())
    book.fails("retrying", Wrong())
    names = ("completed", "failed", "retrying")
    ids = {name: (await queue.submit("red", name)).job_id for name in names}
    await trio.sleep(5)
    await queue.pause()
    for name in ("cancelled", "pending"):
        ids[name] = (await queue.submit("red", name)).job_id
    ids["scheduled"] = (await queue.submit("red", "scheduled", delay=5000)).job_id
    await queue.cancel(ids["cancelled"])
    assert all(queue.get(job_id).state == name for name, job_id in ids.items())
    return ids


async def test_cancel_many_cancels_all_that_can_be_cancelled(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book)) as queue:
        ids = await one_of_each(queue, book)
        done = await queue.cancel_many(by="Ada")
        assert sorted(done) == sorted([ids["scheduled"], ids["pending"], ids["retrying"]])
        assert {queue.get(job_id).state for job_id in done} == {State.CANCELLED}
        assert queue.get(ids["completed"]).state is State.COMPLETED
        assert queue.get(ids["failed"]).state is State.FAILED


@pytest.mark.parametrize("state", list(State))
async def test_cancel_many_by_state(state: State, autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book)) as queue:
        ids = await one_of_each(queue, book)
        expected = (ids[state],) if state in ("scheduled", "pending", "retrying") else ()
        assert await queue.cancel_many(state=state) == expected


async def test_cancel_many_tells_the_attempt_under_way_to_end_and_says_so_once(autojump_clock: MockClock) -> None:
    """Whoever calls again for more gets more, not the one that is still ending."""
    service = Service()
    may_end = trio.Event()

    @service.handler
    async def stubborn(what: str) -> None:
        with trio.CancelScope(shield=True):
            await may_end.wait()
        await trio.sleep(0)

    async with open_queue(service) as queue:
        first = await queue.submit(stubborn, "a")
        second = await queue.submit(stubborn, "b")
        await wait_all_tasks_blocked()
        told = [await queue.cancel_many(limit=1) for _ in range(3)]
        may_end.set()
        assert told == [(first.job_id,), (second.job_id,), ()]
        await until(queue, first.job_id, "cancelled")


async def test_cancel_many_leaves_doubts_to_those_who_resolve_them(autojump_clock: MockClock) -> None:
    book = Book()
    service = book.service()

    @service.handler(attempt_timeout=1)
    async def work(book: Book, what: str) -> None:
        await book.call(what, 5)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "a")
        await until(queue, receipt.job_id, "in_doubt")
        assert await queue.cancel_many() == ()
        assert await queue.cancel_many(state="in_doubt") == ()
        assert queue.get(receipt.job_id).state is State.IN_DOUBT


async def test_retry_many_begins_a_new_run_of_all_that_failed_or_were_cancelled(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book)) as queue:
        ids = await one_of_each(queue, book)
        done = await queue.retry_many(by="Ada")
        assert done == (ids["failed"], ids["cancelled"])
        await queue.resume()
        for job_id in done:
            await queue.result(job_id)
            assert queue.get(job_id).run == 2


@pytest.mark.parametrize("state", list(State))
async def test_retry_many_by_state(state: State, autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book)) as queue:
        ids = await one_of_each(queue, book)
        expected = (ids[state],) if state in ("failed", "cancelled") else ()
        assert await queue.retry_many(state=state) == expected


async def test_by_kind_by_error_and_by_age_and_all_of_them_at_once(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book)) as queue:
        ids = {}
        for at, (kind, error) in enumerate([("red", Fail()), ("blue", Fail()), ("red", Odd()), ("blue", Odd())]):
            name = f"{kind} {type(error).__name__}"
            book.fails(name, error, error)
            ids[name] = (await queue.submit(kind, name)).job_id
            await trio.sleep(10 if at < 3 else 1)
        await trio.sleep(2000)
        now = trio.current_time()
        assert [job.state for job in queue.list()] == ["failed"] * 4
        await queue.pause()

        async def found(**how: Any) -> set[str]:
            """Retried, and cancelled again, so that nothing has changed."""
            done = await queue.retry_many(**how)
            await queue.cancel_many(state="pending")
            return {name for name, job_id in ids.items() if job_id in done}

        assert await found(error_type="Odd") == {"red Odd", "blue Odd"}
        assert await queue.retry_many(error_type="Nothing") == ()
        assert await found(kind="red", older_than=now - 5) == {"red Fail"}
        assert await found(kind="blue") == {"blue Fail", "blue Odd"}
        assert await found(older_than=now - 10) == {"red Fail", "blue Fail"}
        assert await found(older_than=now + 1) == set()


async def test_a_retry_before_it_began_forgets_the_error_it_is_asked_by(autojump_clock: MockClock) -> None:
    book = Book()
    book.fails("a", Fail())
    async with open_queue(make_service(book)) as queue:
        receipt = await queue.submit("red", "a")
        await until(queue, receipt.job_id, "failed")
        await queue.pause()
        assert await queue.retry_many(error_type="Fail") == (receipt.job_id,)
        assert await queue.cancel_many(error_type="Fail") == ()


async def test_the_oldest_come_first_and_whoever_calls_again_gets_more(autojump_clock: MockClock) -> None:
    async with open_queue(make_service(Book())) as queue:
        await queue.pause()
        ids = [(await queue.submit("red", str(n), delay=100 if n % 2 else None)).job_id for n in range(10)]
        assert await queue.cancel_many(limit=3) == tuple(ids[:3])
        assert await queue.cancel_many(limit=3) == tuple(ids[3:6])
        assert await queue.cancel_many() == tuple(ids[6:])
        assert await queue.cancel_many() == ()


async def test_cancelled_jobs_leave_the_line_and_free_their_places(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book, buffer=3)) as queue:
        await queue.pause()
        for n in range(3):
            await queue.submit("red" if n else "blue", str(n))
        assert len(await queue.cancel_many(kind="red")) == 2
        assert queue.statistics().free == 2
        await queue.resume()
    assert book.calls == ["0"]


async def test_a_job_whose_call_is_inside_is_not_retried(mock_clock: MockClock) -> None:
    book, hold = ThreadBook(), Blocker()
    book.does("held", hold)
    service = Service(sdk=book.session)

    @service.handler(attempt_timeout=10, stuck_after=5)
    def work(book: ThreadBook, what: str) -> str:
        return book.call(what)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "held")
        await hold.reached()
        for seconds in (10, 5):
            await wait_all_tasks_blocked()
            mock_clock.jump(seconds)
        await wait_all_tasks_blocked()
        await queue.resolve(receipt.job_id, "failed")
        assert await queue.retry_many() == ()
        hold.let_go()
        await runtime_of(queue).slot.wait_empty()
        assert await queue.retry_many() == (receipt.job_id,)
    assert book.calls == ["held", "held"]


@pytest.mark.parametrize("how", [{"limit": 0}, {"limit": 1001}, {"state": "nowhere"}, {"older_than": -1}], ids=str)
async def test_filters_that_cannot_be_are_refused(how: dict[str, Any], autojump_clock: MockClock) -> None:
    async with open_queue(make_service(Book())) as queue:
        with pytest.raises(UsageError):
            await queue.cancel_many(**how)
        with pytest.raises(UsageError):
            await queue.retry_many(**how)


async def test_a_closed_queue_retries_nothing(autojump_clock: MockClock) -> None:
    async with open_queue(make_service(Book())) as queue:
        await queue.drain()
        with pytest.raises(QueueClosed):
            await queue.retry_many()
