"""The records of simulated queues do not reach the handlers of the user's tests, unless he asks for them."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from trio_jobs import Retry, Service
from trio_jobs._log import Log, diversion
from trio_jobs._stores.sqlite.durable_log import SqliteLog
from trio_jobs._stores.sqlite.store import SqliteStore
from trio_jobs.testing import CheckReport, Finding, check_bad_handlers, check_executor, check_handler, check_store
from trio_jobs.testing._quiet_log import QuietLog, quiet_log

LOG = Log("trio_jobs.store")


class Books:
    """An SDK with a handler that books, and cannot be repeated: a person must resolve its doubts."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    @contextmanager
    def session(self) -> Any:
        yield self

    def book(self, what: str) -> None:
        self.entries.append(what)

    def commit(self) -> None:
        pass

    def service(self, **rules: Any) -> Service:
        service = Service(sdk=self.session)

        def post(books: Books, what: str) -> None:
            books.book(what)
            books.commit()

        service.handler(kind="post", **rules)(post)
        return service

    async def check(self, **options: Any) -> CheckReport:
        rules = options.pop("rules", {"on_doubt": "hold"})
        return await check_handler(
            self.service(**rules), "post", ["a"], effects=lambda: self.entries, reset=self.entries.clear, **options
        )


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.names.add(record.name)


@pytest.fixture(name="records")
def _records() -> Any:
    """The handlers of a user: of all loggers, and of one of the queue's own."""
    records = Records()
    loggers = [logging.getLogger(), logging.getLogger("trio_jobs.queue")]
    for logger in loggers:
        logger.addHandler(records)
    yield records
    for logger in loggers:
        logger.removeHandler(records)


async def on_handler(**options: Any) -> CheckReport:
    return await Books().check(**options)


@pytest.mark.parametrize("check", [on_handler, check_bad_handlers])
async def test_what_a_simulated_queue_logs_reaches_the_user_only_if_he_asks(
    check: Callable[..., Awaitable[CheckReport]], records: Records, autojump_clock: MockClock
) -> None:
    await check()
    assert records.names == set()
    await check(log=True)
    assert "trio_jobs.queue" in records.names


async def test_the_other_checks_are_quiet_too(records: Records) -> None:
    class LoudStore(trio_jobs.MemoryStore):
        async def aclose(self) -> None:
            LOG.error("closed")
            await super().aclose()

    def executor(opens: Any, nursery: trio.Nursery) -> Any:
        LOG.error("made")
        raise LookupError

    await check_store(LoudStore, persistent=False)
    assert records.names == set()
    await check_store(LoudStore, persistent=False, log=True)
    assert records.names == {"trio_jobs.store"}
    with pytest.raises(BaseExceptionGroup):
        await check_executor(executor)


async def test_records_of_the_program_itself_reach_its_handlers(records: Records, autojump_clock: MockClock) -> None:
    books = Books()
    books.commit = lambda: logging.getLogger("books").error("committed")  # type: ignore[method-assign]
    await books.check()
    assert records.names == {"books"}


async def test_a_finding_has_the_log_of_its_run(autojump_clock: MockClock) -> None:
    calls: list[object] = []

    def verify(books: Books, job: trio_jobs.JobContext) -> Any:
        calls.append(job)
        if len(calls) == 1:  # after the run without a fault
            return trio_jobs.Done()
        raise LookupError

    report = await Books().check(rules={"verify": verify, "on_doubt": "retry", "retry": Retry(1)}, raises=False)
    raised, died = report.findings[:2]
    lines = [line for line in raised.log if line.endswith("verify raised LookupError")]
    assert len(lines) == 2, "one after each attempt, and none of another run"
    assert lines[0].startswith("WARNING trio_jobs.consumer: job ")
    assert f"\n    log: {lines[0]}" in str(raised)
    assert died.log == (), "the end of a process is planned"


def test_a_report_has_the_first_lines_of_a_long_log() -> None:
    assert str(Finding("rule", "sentence", log=("line",) * 100)).count("log: line") == 5


def test_handlers_get_records_again_when_the_last_check_has_ended(records: Records) -> None:
    first, second = QuietLog(), QuietLog()
    first.start()
    second.start()
    LOG.error("%s", "one")
    LOG.info("too low")
    first.stop()
    first.stop()
    LOG.error("two")
    assert records.names == set()
    second.stop()
    assert (first.lines, len(second.lines)) == (["ERROR trio_jobs.store: one"], 2)
    LOG.error("three")
    assert records.names == {"trio_jobs.store"}


def test_a_check_that_ends_in_another_context_ends_in_all(records: Records) -> None:
    quiet = QuietLog()
    quiet.start()
    contextvars.copy_context().run(quiet.stop)
    LOG.error("afterwards")
    assert records.names == {"trio_jobs.store"}
    again = QuietLog()
    again.start()
    assert again.outer is None, "what has stopped is not kept"
    again.stop()
    assert diversion.get() is None


async def test_a_queue_that_runs_beside_a_check_logs_as_ever(records: Records, autojump_clock: MockClock) -> None:
    service = Service(watchdog=None)

    @service.handler
    async def work(number: int) -> None: ...

    def hook(job: trio_jobs.Job) -> None:
        raise LookupError

    service.on("completed", hook)
    books = Books()
    async with service.open() as queue:

        def reset() -> None:
            books.entries.clear()
            queue.submit_nowait(work, 1)

        await check_handler(books.service(on_doubt="hold"), "post", ["a"], effects=lambda: books.entries, reset=reset)
        assert records.names == {"trio_jobs.hooks"}
        await check_handler(
            books.service(on_doubt="hold"), "post", ["a"], effects=lambda: books.entries, reset=reset, log=True
        )
        assert records.names >= {"trio_jobs.hooks", "trio_jobs.queue"}


async def test_the_thread_of_a_journal_logs_as_the_task_that_opens_it(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = SqliteLog.open

    def loud(log: SqliteLog) -> Any:
        LOG.error("in the thread")
        return opened(log)

    monkeypatch.setattr(SqliteLog, "open", loud)
    for name, names in (("quiet", set[str]()), ("loud", {"trio_jobs.store"})):
        with quiet_log(name == "loud") as lines:
            store = SqliteStore(tmp_path / name)
            await store.open(lambda events: None)
            await store.aclose()
        assert (records.names, len(lines)) == (names, name == "quiet")
