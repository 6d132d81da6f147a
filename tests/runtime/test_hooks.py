"""service.on: whoever must know is told of doubts, stuck calls and failures."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import Blocker, Book, ThreadBook, Wrong, open_queue, until
from trio_jobs import Done, Fail, Job, Retry, Service, Unknown


def make_service(book: Book, **rules: Any) -> Service:
    service = book.service(drain_timeout=0)

    @service.handler(retry=Retry(0), attempt_timeout=2, **rules)
    async def work(book: Book, what: str) -> str:
        return await book.call(what, 5 if what.startswith("slow") else 1)

    return service


async def test_a_doubt_is_told_once_with_the_job_as_it_stood(autojump_clock: MockClock) -> None:
    book, told = Book(), list[Job]()
    service = make_service(book)
    service.on("in_doubt", told.append)
    async with open_queue(service) as queue:
        receipt = await queue.submit("work", "slow")
        await until(queue, receipt.job_id, "in_doubt")
        await queue.resolve(receipt.job_id, "done")  # before it is the hooks' turn
        await trio.sleep(10)
    [job] = told
    assert isinstance(job, Job)
    assert (job.id, job.state, job.reason) == (receipt.job_id, "in_doubt", "timed_out")


async def test_a_doubt_that_verify_settles_is_not_told(autojump_clock: MockClock) -> None:
    told: list[Job] = []

    async def verify(book: Book, job: trio_jobs.AsyncJobContext) -> Done:
        return Done()

    service = make_service(Book(), verify=verify)
    service.on("in_doubt", told.append)
    async with open_queue(service) as queue:
        await queue.result((await queue.submit("work", "slow")).job_id)
    assert told == []


async def test_a_doubt_that_verify_cannot_settle_is_told(autojump_clock: MockClock) -> None:
    told: list[Job] = []

    async def verify(book: Book, job: trio_jobs.AsyncJobContext) -> Unknown:
        return Unknown()

    service = make_service(Book(), verify=verify)
    service.on("in_doubt", told.append)
    async with open_queue(service) as queue:
        await queue.submit("work", "slow")
        await trio.sleep(10)
    assert [job.state for job in told] == ["in_doubt"]


@pytest.mark.parametrize("on_doubt", ["retry", "fail"])
async def test_a_doubt_that_the_policy_settles_is_not_told(on_doubt: str, autojump_clock: MockClock) -> None:
    told: list[Job] = []
    service = make_service(Book(), on_doubt=on_doubt)
    service.on("in_doubt", told.append)
    async with open_queue(service) as queue:
        receipt = await queue.submit("work", "slow")
        await until(queue, receipt.job_id, "failed")
    assert told == []


async def test_a_failure_is_told_with_its_error(autojump_clock: MockClock) -> None:
    book, told = Book(), list[Job]()
    book.fails("a", Wrong("no paper"))
    book.fails("b", Fail("no ink"))
    service = make_service(book)
    service.on("failed", told.append)
    async with open_queue(service) as queue:
        for what in "abc":
            await queue.submit("work", what)
        await trio.sleep(10)
    assert [str(job.error) for job in told] == ["Wrong: no paper", "Fail: no ink"]


async def test_an_expired_job_is_told_as_failed_and_a_cancelled_one_is_not(autojump_clock: MockClock) -> None:
    told: list[Job] = []
    service = make_service(Book())
    service.on("failed", told.append)
    async with open_queue(service) as queue:
        await queue.pause()
        await queue.submit("work", "expires", deadline_after=3)
        cancelled = await queue.submit("work", "cancelled")
        await queue.cancel(cancelled.job_id)
        await trio.sleep(10)
    assert [job.reason for job in told] == ["expired"]


async def test_an_async_hook_is_awaited_and_hooks_are_told_in_order(autojump_clock: MockClock) -> None:
    book = Book()
    book.fails("a", Fail("first"))
    book.fails("b", Fail("second"))
    told: list[tuple[float, str]] = []

    async def mail(job: Job) -> None:
        await trio.sleep(20)
        told.append((trio.current_time(), f"mail {job.error}"))

    service = make_service(book)
    service.on("failed", mail)
    service.on("failed", lambda job: told.append((trio.current_time(), f"page {job.error}")))
    async with open_queue(service) as queue:
        await queue.submit("work", "a")
        await queue.submit("work", "b")
        await trio.sleep(100)
    assert told == [
        (21, "mail Fail: first"),
        (21, "page Fail: first"),
        (41, "mail Fail: second"),
        (41, "page Fail: second"),
    ]


async def test_a_slow_hook_delays_no_job(autojump_clock: MockClock) -> None:
    book = Book()
    book.fails("a", Fail())
    service = make_service(book)
    service.on("failed", lambda job: trio.sleep(25))
    async with open_queue(service) as queue:
        await queue.submit("work", "a")
        await queue.result((await queue.submit("work", "b")).job_id)
        assert trio.current_time() == 2


async def test_what_a_hook_raises_is_logged_and_touches_neither_job_nor_other_hooks(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    book, told = Book(), list[Job]()
    book.fails("a", Fail())

    def broken(job: Job) -> None:
        raise Wrong("the mail server is away")

    service = make_service(book)
    service.on("failed", broken)
    service.on("failed", told.append)
    async with open_queue(service) as queue:
        receipt = await queue.submit("work", "a")
        assert await queue.result((await queue.submit("work", "b")).job_id) == "b"
        await wait_all_tasks_blocked()
        assert queue.get(receipt.job_id).state == "failed"
    assert len(told) == 1
    [record] = [record for record in caplog.records if record.name == "trio_jobs.hooks"]
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "the hook for failed raised")


async def test_a_hook_that_does_not_return_is_given_up_after_thirty_seconds(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    book, told = Book(), list[float]()
    book.fails("a", Fail())
    service = make_service(book)
    service.on("failed", lambda job: trio.sleep_forever())
    service.on("failed", lambda job: told.append(trio.current_time()))
    async with open_queue(service) as queue:
        await queue.submit("work", "a")
        await trio.sleep(100)
    assert told == [31]
    assert "the hook for failed did not return within 30 s" in caplog.text


async def test_a_hook_does_not_keep_the_stop_waiting(autojump_clock: MockClock) -> None:
    book = Book()
    book.fails("a", Fail())
    service = make_service(book)
    service.on("failed", lambda job: trio.sleep_forever())
    async with open_queue(service) as queue:
        await queue.submit("work", "a")
        await trio.sleep(2)
    assert trio.current_time() == 2


async def test_a_stuck_call_is_told_once(mock_clock: MockClock) -> None:
    book, hold, told = ThreadBook(), Blocker(), list[Any]()
    book.does("held", hold)
    service = Service(sdk=book.session)

    @service.handler(attempt_timeout=10, stuck_after=5)
    def work(book: ThreadBook, what: str) -> str:
        return book.call(what)

    service.on("stuck", told.append)
    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "held")
        await hold.reached()
        await wait_all_tasks_blocked()
        mock_clock.jump(10)
        await wait_all_tasks_blocked()
        assert told == []
        mock_clock.jump(5)
        await wait_all_tasks_blocked()
        mock_clock.jump(100)
        await wait_all_tasks_blocked()
        hold.let_go()
        assert await queue.result(receipt.job_id) == "held"
    assert [job.id for job in told] == [receipt.job_id]


async def test_a_doubt_left_behind_by_an_abandoned_call_is_told_and_logged_at_the_next_start(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    book, hold, told = ThreadBook(), Blocker(), list[Any]()
    book.does("held", hold)
    store = trio_jobs.MemoryStore()

    def service(book: ThreadBook) -> Service:
        made = Service(sdk=book.session, drain_timeout=0, cancel_timeout=0)

        @made.handler
        def work(book: ThreadBook, what: str) -> str:
            return book.call(what)

        made.on("in_doubt", lambda job: told.append((job.reason, job.inside)))
        return made

    async with open_queue(service(book), store=store) as queue:
        await queue.submit("work", "held")
        await hold.reached()
    hold.let_go()
    told.clear()
    caplog.clear()
    async with open_queue(service(ThreadBook()), store=store):
        await wait_all_tasks_blocked()
    assert told == [("crashed", False)]
    assert "is in doubt: crashed; it is not known what attempt 1 did" in caplog.text


def test_an_unknown_hook_is_refused() -> None:
    with pytest.raises(trio_jobs.UsageError, match="there is no hook 'completed'; there are in_doubt, stuck"):
        Service().on("completed", print)  # type: ignore[arg-type]
