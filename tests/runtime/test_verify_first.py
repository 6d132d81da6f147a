"""verify_first: in memory, what an earlier process may have done is asked about before the first attempt."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.recording_sdk import Book, Wrong, open_queue, outcomes, until
from trio_jobs import Done, InvalidHandler, NotDone, Retry, Service, Unknown


def make_service(book: Book, *answers: Any, **rules: Any) -> Service:
    left = list(answers)
    service = book.service()

    async def verify(book: Book, job: trio_jobs.AsyncJobContext) -> Any:
        await book.call(f"verify {job.key}")
        return left.pop(0)

    @service.handler(verify=verify, verify_first=True, retry=Retry(2, waits=[1]), **rules)
    async def work(book: Book, what: str) -> str:
        return await book.call(what)

    return service


async def test_what_is_done_already_is_not_done_again(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book, Done("voucher 7"))) as queue:
        receipt = await queue.submit("work", "a", key="k")
        assert await queue.result(receipt.job_id) == "voucher 7"
        job = queue.get(receipt.job_id)
    assert book.calls == ["verify k"]
    assert (job.reason, outcomes(job), job.may_have_acted) == ("verified", ["already_done"], False)


async def test_what_is_not_done_is_done(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book, NotDone())) as queue:
        receipt = await queue.submit("work", "a", key="k")
        assert await queue.result(receipt.job_id) == "a"
    assert book.calls == ["verify k", "a"]


async def test_what_nobody_can_tell_is_a_doubt_before_anything_is_done(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book, Unknown())) as queue:
        receipt = await queue.submit("work", "a", key="k")
        job = await until(queue, receipt.job_id, "in_doubt")
    assert (job.reason, outcomes(job)) == ("unverified", ["unverified"])
    assert book.calls == ["verify k"]


async def test_on_doubt_retry_goes_on_without_an_answer(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book, Unknown(), on_doubt="retry")) as queue:
        receipt = await queue.submit("work", "a", key="k")
        assert await queue.result(receipt.job_id) == "a"


async def test_on_doubt_fail_ends_it(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book, Unknown(), on_doubt="fail")) as queue:
        receipt = await queue.submit("work", "a", key="k")
        with pytest.raises(trio_jobs.JobFailed, match="may have acted"):
            await queue.result(receipt.job_id)
    assert book.calls == ["verify k"]


async def test_a_person_who_says_not_done_has_it_asked_again(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book, Unknown(), NotDone())) as queue:
        receipt = await queue.submit("work", "a", key="k")
        await until(queue, receipt.job_id, "in_doubt")
        await queue.resolve(receipt.job_id, "not_done")
        assert await queue.result(receipt.job_id) == "a"
    assert book.calls == ["verify k", "verify k", "a"]


async def test_it_is_asked_before_a_retry_too(autojump_clock: MockClock) -> None:
    book = Book()
    book.fails("a", Wrong())
    async with open_queue(make_service(book, NotDone(), NotDone(), NotDone())) as queue:
        receipt = await queue.submit("work", "a", key="k")
        assert await queue.result(receipt.job_id) == "a"
    assert book.calls == ["verify k", "a", "verify k", "verify k", "a"]


async def test_the_attempt_s_clock_starts_after_the_answer(autojump_clock: MockClock) -> None:
    book = Book()
    service = book.service()

    async def slow(book: Book, job: trio_jobs.AsyncJobContext) -> NotDone:
        await trio.sleep(20)
        return NotDone()

    @service.handler(verify=slow, verify_first=True, attempt_timeout=5)
    async def work(book: Book, what: str) -> str:
        return await book.call(what, 4)

    async with open_queue(service) as queue:
        assert await queue.result((await queue.submit(work, "a")).job_id) == "a"


async def test_a_first_verify_lets_what_an_earlier_process_did_settle(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book, NotDone(), verify_delay=30)) as queue:
        await queue.result((await queue.submit("work", "a", key="k")).job_id)
    assert book.record[1:3] == [(30, "verify k"), (30, "a")]


async def test_settling_is_counted_from_the_end_of_the_last_attempt(autojump_clock: MockClock) -> None:
    """Not once more from the start of the next: by then it has long settled."""
    book = Book()
    book.fails("a", trio_jobs.RetryAfter(100))
    async with open_queue(make_service(book, NotDone(), NotDone(), verify_delay=30)) as queue:
        await queue.result((await queue.submit("work", "a", key="k")).job_id)
    assert book.record[1:-1] == [(30, "verify k"), (30, "a"), (130, "verify k"), (130, "a")]


@pytest.mark.parametrize(("answer", "state"), [(NotDone(), "cancelled"), (Done(), "completed")])
async def test_a_cancel_while_it_settles_leaves_it_to_the_answer(
    answer: Any, state: str, autojump_clock: MockClock
) -> None:
    book = Book()
    async with open_queue(make_service(book, answer, verify_delay=30)) as queue:
        receipt = await queue.submit("work", "a", key="k")
        await trio.sleep(5)
        assert await queue.cancel(receipt.job_id) == "requested"
        await until(queue, receipt.job_id, state)
        assert trio.current_time() == 30
    assert book.calls == ["verify k"]


def test_it_needs_a_verify() -> None:
    with pytest.raises(InvalidHandler, match="verify_first=True needs verify="):

        @Service().handler(verify_first=True)
        def work(what: str) -> None: ...
