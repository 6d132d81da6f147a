"""min_interval: a rest from the end of one call into the SDK to the start of the next, whoever makes them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import Book, ThreadBook, Wrong, open_queue, outcomes, until
from trio_jobs import Done, MemoryStore, NotDone, Retry, SdkHandle, Service, State

REST = 4
AT_ONCE = Retry(3, waits=[0])


def make_service(book: Book, *, retry: Retry = AT_ONCE, **rules: Any) -> Service:
    service = book.service(min_interval=REST)

    @service.handler(retry=retry, **rules)
    async def work(book: Book, what: str) -> str:
        return await book.call(what, 1)

    return service


def gaps(book: Book, seconds: float = 1) -> list[float]:
    """From the end of each call, which took `seconds`, to the start of the next."""
    starts = [at for at, what in book.record if what not in ("open", "close")]
    return [after - before - seconds for before, after in pairwise(starts)]


async def test_between_two_jobs_lies_the_rest(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book)) as queue:
        for what in "abc":
            await queue.submit("work", what)
    assert book.calls == ["a", "b", "c"]
    assert gaps(book) == [REST, REST]


async def test_the_first_call_does_not_wait(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book)) as queue:
        await queue.submit("work", "a")
    assert (0, "a") in book.record


async def test_a_job_that_comes_after_the_rest_begins_at_once(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book)) as queue:
        await queue.submit("work", "a")
        await trio.sleep(20)
        await queue.submit("work", "b")
    assert (20, "b") in book.record


async def test_a_call_that_failed_is_rested_from_too(autojump_clock: MockClock) -> None:
    book = Book()
    book.fails("a", Wrong())
    async with open_queue(make_service(book)) as queue:
        await queue.submit("work", "a")
    assert book.calls == ["a", "a"]
    assert gaps(book) == [REST]


async def test_the_attempt_s_clock_starts_after_the_rest(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book, attempt_timeout=1.5)) as queue:
        for what in "abc":
            await queue.submit("work", what)
    assert [outcomes(job) for job in queue.list()] == [["completed"]] * 3


async def test_a_verify_is_a_call_and_rests_before_and_after(autojump_clock: MockClock) -> None:
    book = Book()
    book.fails("a", Wrong())

    async def verify(book: Book, job: trio_jobs.AsyncJobContext) -> NotDone:
        await book.call("verify", 1)
        return NotDone()

    async with open_queue(make_service(book, verify=verify)) as queue:
        await queue.submit("work", "a")
        await queue.submit("work", "b")
    assert book.calls[:2] == ["a", "verify"]
    assert sorted(book.calls) == ["a", "a", "b", "verify"]
    assert gaps(book) == [REST, REST, REST]


async def test_between_a_verify_that_comes_first_and_its_handler_lies_the_rest_too(autojump_clock: MockClock) -> None:
    """And the attempt's clock starts after it."""
    book = Book()

    async def verify(book: Book, job: trio_jobs.AsyncJobContext) -> NotDone:
        await book.call("verify", 1)
        return NotDone()

    service = make_service(book, verify=verify, verify_first=True, attempt_timeout=1.5)
    async with open_queue(service) as queue:
        receipt = await queue.submit("work", "a")
        assert await queue.result(receipt.job_id) == "a"
    assert book.calls == ["verify", "a"]
    assert gaps(book) == [REST]
    assert outcomes(queue.get(receipt.job_id)) == ["completed"]


async def test_a_verify_in_doubt_rests_too(autojump_clock: MockClock) -> None:
    book = Book()

    async def verify(book: Book, job: trio_jobs.AsyncJobContext) -> Done:
        await book.call("verify", 0.5)
        return Done()

    async with open_queue(make_service(book, verify=verify, attempt_timeout=0.5)) as queue:
        receipt = await queue.submit("work", "a")
        await queue.result(receipt.job_id)
    assert book.record[1:-1] == [(0, "a"), (0.5 + REST, "verify")]


async def test_a_person_s_cancel_in_the_rest_before_a_verify_leaves_the_doubt_to_it(
    autojump_clock: MockClock,
) -> None:
    book = Book()
    book.fails("a", Wrong())

    async def verify(book: Book, job: trio_jobs.AsyncJobContext) -> NotDone:
        await book.call("verify", 1)
        return NotDone()

    async with open_queue(make_service(book, verify=verify)) as queue:
        receipt = await queue.submit("work", "a")
        await trio.sleep(2)
        assert await queue.cancel(receipt.job_id) == "requested"
        job = await until(queue, receipt.job_id, "cancelled")
    assert book.calls == ["a", "verify"]
    assert gaps(book) == [REST]
    assert not job.may_have_acted


async def test_a_stop_does_not_wait_for_the_rest_of_a_verify_and_the_next_start_asks_it(
    autojump_clock: MockClock,
) -> None:
    book, store = Book(), MemoryStore()
    book.fails("a", Wrong())

    async def verify(book: Book, job: trio_jobs.AsyncJobContext) -> Done:
        await book.call("verify", 1)
        return Done("found")

    service = book.service(min_interval=1000, drain_timeout=0)

    @service.handler(verify=verify, on_doubt="fail")
    async def work(book: Book, what: str) -> str:
        return await book.call(what, 1)

    async with open_queue(service, store=store) as queue:
        receipt = await queue.submit("work", "a")
        await trio.sleep(2)
    assert trio.current_time() == 2
    assert queue.get(receipt.job_id).state is State.IN_DOUBT
    async with open_queue(service, store=store) as queue:
        assert await queue.result(receipt.job_id) == "found"
    assert book.calls == ["a", "verify"]


async def test_the_rest_is_kept_across_a_new_session(autojump_clock: MockClock) -> None:
    book = Book()
    service = book.service(min_interval=REST, renew_after_jobs=1)

    @service.handler
    async def work(book: Book, what: str) -> str:
        return await book.call(what, 1)

    async with open_queue(service) as queue:
        for what in "ab":
            await queue.submit("work", what)
    assert gaps(book) == [REST]
    assert (1, "close") in book.record, "the new session is opened while it rests"


async def test_a_pause_in_the_rest_holds_what_would_have_begun_after_it(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book)) as queue:
        await queue.submit("work", "a")
        await queue.submit("work", "b")
        await trio.sleep(2)
        await queue.pause()
        await trio.sleep(50)
        assert book.calls == ["a"]
        await queue.resume()
    assert (52, "b") in book.record


# on a thread: time stands still until the test moves it


async def test_each_call_of_an_async_handler_rests(mock_clock: MockClock) -> None:
    book = ThreadBook(mock_clock.current_time)
    service = Service(sdk=book.session, min_interval=REST)
    about_to_call = [trio.Event() for _ in range(3)]

    @service.handler
    async def work(sdk: SdkHandle, what: str) -> None:
        for n, event in enumerate(about_to_call):
            event.set()
            await sdk.call(ThreadBook.call, f"{what}{n}")

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "a")
        for n in (1, 2):
            await about_to_call[n].wait()
            await wait_all_tasks_blocked()
            assert book.calls == [f"a{i}" for i in range(n)], "it rests"
            mock_clock.jump(REST)
        await queue.result(receipt.job_id)
    assert [at for at, _ in book.record[1:-1]] == [0, REST, 2 * REST]


async def test_each_call_of_an_async_verify_rests(mock_clock: MockClock) -> None:
    book = ThreadBook(mock_clock.current_time)
    service = Service(sdk=book.session, min_interval=REST)
    came_to = {"second call": trio.Event(), "end": trio.Event()}

    async def verify(sdk: SdkHandle, job: trio_jobs.AsyncJobContext) -> NotDone:
        await sdk.call(ThreadBook.call, "verify 1")
        came_to["second call"].set()
        await sdk.call(ThreadBook.call, "verify 2")
        came_to["end"].set()
        return NotDone()

    @service.handler(verify=verify, verify_first=True)
    async def work(sdk: SdkHandle, what: str) -> None:
        await sdk.call(ThreadBook.call, what)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "a")
        for event in came_to.values():
            await event.wait()
            await wait_all_tasks_blocked()
            mock_clock.jump(REST)
        await queue.result(receipt.job_id)
    assert book.record[1:-1] == [(0, "verify 1"), (REST, "verify 2"), (2 * REST, "a")]


async def test_plain_handlers_rest_as_well(mock_clock: MockClock) -> None:
    book = ThreadBook(mock_clock.current_time)
    service = Service(sdk=book.session, min_interval=REST)

    @service.handler
    def work(book: ThreadBook, what: str) -> str:
        return book.call(what)

    async with open_queue(service) as queue:
        first = await queue.submit(work, "a")
        second = await queue.submit(work, "b")
        await queue.result(first.job_id)
        await wait_all_tasks_blocked()
        assert book.calls == ["a"]
        mock_clock.jump(REST)
        await queue.result(second.job_id)
    assert [at for at, _ in book.record[1:-1]] == [0, REST]


@pytest.mark.parametrize("value", [-1, float("nan"), "1", True])
def test_a_rest_that_is_no_number_of_seconds_is_refused(value: Any) -> None:
    with pytest.raises(trio_jobs.UsageError, match="min_interval"):
        Service(min_interval=value)
