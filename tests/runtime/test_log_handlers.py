"""Filters and log handlers of the program that raise end nothing: no loop, no thread, no caller."""

from __future__ import annotations

import ast
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import RecordingSdk
from support.rig import open_queue, until_state
from trio_jobs import Fail, Job, Retry, Service
from trio_jobs._log import Log

SOURCE = Path(trio_jobs.__file__).parent


class Unusual(BaseException):
    """No subclass of Exception."""


each_error = pytest.mark.parametrize("error", [ValueError, OSError, SystemExit, KeyboardInterrupt, Unusual])


class Broken(logging.Handler):
    """Raises for each record, as a handler or as a filter."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())
        raise self.error("from outside")

    def filter(self, record: logging.LogRecord) -> bool:
        return True


class BrokenFilter(Broken):
    def filter(self, record: logging.LogRecord) -> bool:
        self.emit(record)
        return True


@contextmanager
def on_all_loggers(handler: logging.Handler) -> Iterator[None]:
    """Attach the handler to the loggers of this package, and only it, since pytest's own would print the records."""
    logger = logging.getLogger("trio_jobs")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


@each_error
@pytest.mark.parametrize("broken", [Broken, BrokenFilter])
async def test_no_error_of_a_log_handler_or_filter_ends_the_queue(
    broken: type[Broken], error: type[BaseException], autojump_clock: MockClock
) -> None:
    sdk = RecordingSdk()
    service = sdk.service(drain_timeout=0)

    @service.handler(attempt_timeout=1, on_doubt="hold")
    async def work(sdk: RecordingSdk, what: str) -> None:
        await sdk.call(what, 5 if what == "slow" else 0)

    def hook(job: Job) -> None:
        raise ValueError("the hook is broken too")

    service.on("in_doubt", hook)
    handler = broken(error)
    with on_all_loggers(handler):
        async with open_queue(service) as queue:
            slow = await queue.submit(work, "slow")
            await until_state(queue, slow.job_id, "in_doubt")  # logged by the reactions and by the hooks
            fast = await queue.submit(work, "fast")
            await queue.result(fast.job_id)
            await wait_all_tasks_blocked()
            assert queue.health().ok
        assert queue.report is not None
        assert queue.report.sdk_closed
    assert len(handler.records) == 3, "the doubt, the hook, and the unfinished job at the stop"


@each_error
def test_a_log_call_does_not_raise_in_any_thread(
    error: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log("trio_jobs.test")
    raised: list[BaseException] = []

    def write() -> None:
        try:
            log.warning("one of %d", 3)
            log.error("two", extra={"job_id": "1"})
            try:
                raise LookupError
            except LookupError:
                log.exception("three")
        except BaseException as escaped:
            raised.append(escaped)

    handler = Broken(error)
    with on_all_loggers(handler):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert raised == []
    assert handler.records == ["one of 3", "two", "three"]
    assert log.failures == 3
    printed = capsys.readouterr().err
    assert "A filter or a handler of the logger 'trio_jobs.test' raised" in printed
    assert printed.count("Traceback") == 1, "the first error is printed, the others are not"


def test_a_log_call_does_not_raise_without_a_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with on_all_loggers(Broken(ValueError)):
        Log("trio_jobs.test").warning("text")


def test_ctrl_c_outside_of_trio_is_not_mistaken_for_an_error_of_a_log_handler() -> None:
    with on_all_loggers(Broken(KeyboardInterrupt)), pytest.raises(KeyboardInterrupt):
        Log("trio_jobs.test").warning("text")


def test_an_error_whose_text_utf8_cannot_encode_is_logged_with_its_traceback(tmp_path: Path) -> None:
    """A handler that writes UTF-8 would lose the record."""
    handler = logging.FileHandler(tmp_path / "log", encoding="utf-8")
    with on_all_loggers(handler):
        try:
            raise ValueError("100 % \udcff")
        except ValueError:
            Log("trio_jobs.test").exception("the hook for %s raised", "failed")
    handler.close()
    text = (tmp_path / "log").read_text(encoding="utf-8")
    assert text.startswith("the hook for failed raised\nTraceback (most recent call last):\n")
    assert text.endswith("ValueError: 100 % \\udcff\n")


def test_a_log_record_names_the_line_of_its_caller(caplog: pytest.LogCaptureFixture) -> None:
    Log("trio_jobs.test").warning("text")
    [record] = caplog.records
    assert (record.filename, record.funcName) == (Path(__file__).name, "test_a_log_record_names_the_line_of_its_caller")


def test_all_modules_log_through_log() -> None:
    """`logging` is imported where records are made safe, where `serve` configures it, and by the test tools."""
    allowed = {"_log.py", "_cli/logs.py", "testing/_quiet_log.py"}
    found = {
        file.relative_to(SOURCE).as_posix()
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "logging" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "logging")
    }
    assert found == allowed


@each_error
async def test_a_hook_that_raises_anything_ends_nothing_and_is_counted(
    error: type[BaseException], autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sdk, notified = RecordingSdk(), list[str]()
    sdk.fails("a", Fail())
    sdk.fails("b", Fail())
    service = Service(async_sdk=sdk.session, drain_timeout=0)

    @service.handler(retry=Retry(0))
    async def work(sdk: RecordingSdk, what: str) -> None:
        await sdk.call(what)

    def plain(job: Job) -> None:
        raise error("from outside")

    async def slow(job: Job) -> None:
        await trio.sleep(1)
        raise error("from outside")

    for hook in (plain, slow, lambda job: notified.append(job.id)):
        service.on("failed", hook)
    async with open_queue(service) as queue:
        receipts = [await queue.submit(work, what) for what in ("a", "b")]
        await trio.sleep(10)
        assert queue.backend.hook_errors == 4
        assert queue.health().ok
    assert notified == [receipt.job_id for receipt in receipts]
    assert [r.getMessage() for r in caplog.records if r.name == "trio_jobs.hooks"] == [
        f"the hook for failed raised (job {receipt.job_id})" for receipt in receipts for _ in range(2)
    ]


def test_ctrl_c_within_a_hook_ends_the_program() -> None:
    async def main() -> None:
        service = Service(drain_timeout=0)

        @service.handler(retry=Retry(0))
        async def work(what: str) -> None:
            raise Fail("no")

        service.on("failed", lambda job: signal.raise_signal(signal.SIGINT))
        async with service.open() as queue:
            await queue.submit(work, "a")
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


async def test_an_error_of_a_hook_during_the_stop_does_not_end_the_queue_as_broken(autojump_clock: MockClock) -> None:
    """Its error, raised while it is cancelled, replaces Cancelled."""
    sdk = RecordingSdk()
    sdk.fails("a", Fail())
    service = sdk.service(drain_timeout=0)
    calls: list[str] = []

    @service.handler(retry=Retry(0))
    async def work(sdk: RecordingSdk, what: str) -> None:
        await sdk.call(what)

    async def hook(job: Job) -> None:
        calls.append("hook")
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("cannot say goodbye to the mail server")

    service.on("failed", hook)
    service.on("failed", lambda job: calls.append("called after the stop"))
    async with open_queue(service) as queue:
        await queue.submit(work, "a")
        await trio.sleep(1)
    assert calls == ["hook"]
