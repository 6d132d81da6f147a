"""What is logged: documented loggers and fields, no payloads, results or tracebacks, foreign text escaped."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import RecordingSdk, RecordingThreadSdk, Wrong
from support.rig import open_queue, until_state
from trio_jobs import Retry, SdkOpenFailed, Service
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing import Blocker

PAGE = (Path(__file__).parents[2] / "docs" / "logging.md").read_text()
SECRET = "SECRET-PAYLOAD"
FIELDS = {"job_id", "kind", "key", "attempt", "reason"}


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """All that is logged is documented, and tells no secret."""
    caplog.set_level(logging.DEBUG, "trio_jobs")
    yield caplog
    records = caplog.get_records("call")
    for record in records:
        if record.name.startswith("trio_jobs"):
            rows = re.findall(rf"^\| `{record.name}` \| ([A-Z, ]+) \|", PAGE, re.MULTILINE)
            assert any(record.levelname in row for row in rows), f"{record.name} {record.levelname} is not documented"
            text = logging.Formatter().format(record)
            assert SECRET not in text + repr(record.__dict__.get("key")) + str(record.__dict__.get("reason"))
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", record.getMessage())


def about_jobs(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if hasattr(record, "job_id")]


async def test_a_job_in_doubt_is_logged_as_an_error_with_all_fields(
    autojump_clock: MockClock, everything: pytest.LogCaptureFixture
) -> None:
    sdk = RecordingSdk()
    service = sdk.service()

    @service.handler(attempt_timeout=1, on_doubt="hold")
    async def work(sdk: RecordingSdk, what: str) -> None:
        await sdk.call(what, 5)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, SECRET, key="key\x1b[2J")
        await until_state(queue, receipt.job_id, "in_doubt")
    [record] = about_jobs(everything)
    assert (record.name, record.levelname) == ("trio_jobs.queue", "ERROR")
    assert vars(record).keys() >= FIELDS
    fields = {name: vars(record)[name] for name in FIELDS}
    assert fields == {
        "job_id": receipt.job_id,
        "kind": "work",
        "key": "key\\x1b[2J",
        "attempt": 1,
        "reason": "timed_out",
    }
    assert "key\\x1b[2J" in record.getMessage()


async def test_jobs_that_complete_fail_or_are_retried_are_not_logged(
    autojump_clock: MockClock, everything: pytest.LogCaptureFixture
) -> None:
    sdk = RecordingSdk()
    sdk.fails(SECRET, Wrong(SECRET), Wrong(SECRET))
    service = sdk.service()

    @service.handler(retry=Retry(1, waits=[1]))
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what)

    async with open_queue(service) as queue:
        for _ in range(2):
            await queue.submit(work, SECRET)
    assert everything.records == []


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Wrong(SECRET), "verify raised Wrong"),
        ("yes", "verify must answer Done, NotDone or Unknown, not <class 'str'>"),
        (None, "verify did not answer within 2 s"),
    ],
    ids=["raised", "odd", "late"],
)
async def test_a_verify_without_an_answer_is_logged_as_a_warning(
    answer: Any, says: str, autojump_clock: MockClock, everything: pytest.LogCaptureFixture
) -> None:
    sdk = RecordingSdk()
    sdk.fails("a", Wrong(SECRET))
    service = sdk.service()

    async def verify(sdk: RecordingSdk, job: trio_jobs.AsyncJobContext) -> Any:
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            await trio.sleep_forever()
        return answer

    @service.handler(verify=verify, verify_timeout=2)
    async def work(sdk: RecordingSdk, what: str) -> str:
        return await sdk.call(what)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "a")
        await until_state(queue, receipt.job_id, "in_doubt")
    warning = about_jobs(everything)[0]
    assert (warning.name, warning.levelname) == ("trio_jobs.consumer", "WARNING")
    assert says in warning.getMessage()


async def test_an_overdue_attempt_and_a_late_return_are_warnings_and_a_stuck_call_is_an_error(
    mock_clock: MockClock, everything: pytest.LogCaptureFixture
) -> None:
    sdk, hold = RecordingThreadSdk(), Blocker()
    sdk.does("held", hold)
    service = Service(sdk=sdk.session)

    @service.handler(attempt_timeout=10, stuck_after=5, on_doubt="hold")
    def work(sdk: RecordingThreadSdk, what: str) -> str:
        return sdk.call(what)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "held")
        await hold.reached()
        for seconds in (10, 5):
            await wait_all_tasks_blocked()
            mock_clock.jump(seconds)
        await wait_all_tasks_blocked()
        await queue.resolve(receipt.job_id, "failed")
        hold.release()
        await runtime_of(queue).slot.wait_empty()
    told = [(r.name.removeprefix("trio_jobs."), r.levelname) for r in about_jobs(everything)]
    assert [line for line in told if line[0] != "queue"] == [
        ("overrun_monitor", "WARNING"),
        ("overrun_monitor", "ERROR"),
        ("consumer", "WARNING"),
    ]


async def test_a_failed_opening_is_logged_as_a_warning_with_its_message_escaped(
    autojump_clock: MockClock, everything: pytest.LogCaptureFixture
) -> None:
    """A queue that opens the SDK again and again raises nothing, so the log is the only place that has the message."""

    def session() -> Any:
        raise Wrong("no licence\x1b[2J")

    with pytest.raises(SdkOpenFailed):
        async with open_queue(Service(async_sdk=session, open_retry=Retry(1, waits=[1]))):
            raise AssertionError
    assert [record.getMessage() for record in everything.records] == [
        "opening the SDK failed (1): Wrong: no licence\\x1b[2J",
        "opening the SDK failed (2): Wrong: no licence\\x1b[2J",
    ]


async def test_sessions_that_fail_in_a_row_are_logged_with_the_wait_before_the_next(
    autojump_clock: MockClock, everything: pytest.LogCaptureFixture
) -> None:
    sdk = RecordingSdk()
    service = sdk.service(open_retry=Retry(2, waits=[10, 100]))

    @service.handler(idempotent=True, retry=Retry(0))
    async def work(sdk: RecordingSdk, what: str) -> None:
        await sdk.call(what)

    sdk.fails(SECRET, *[Wrong(SECRET)] * 5)
    async with open_queue(service) as queue:
        for _ in range(5):
            await queue.submit(work, SECRET)
        await trio.sleep(200)
        await queue.submit(work, "good")
        await trio.sleep(200)
    why = "ended because of an error, and no attempt completed in them"
    said = f"SDK sessions in a row {why}; the next one is opened after"
    assert [record.getMessage() for record in everything.records if record.levelname == "WARNING"] == [
        f"3 {said} 10 s",
        f"4 {said} 60 s",
        f"5 {said} 60 s",
    ]


async def test_a_stop_names_unfinished_jobs_with_their_keys_escaped(
    autojump_clock: MockClock, everything: pytest.LogCaptureFixture
) -> None:
    service = Service(drain_timeout=0)

    @service.handler
    async def work(what: str) -> None: ...

    async with open_queue(service) as queue:
        await queue.submit(work, SECRET, key="a\nb\u202e", delay=50)
    [record] = everything.records
    assert (record.name, record.levelname) == ("trio_jobs.queue", "WARNING")
    assert record.getMessage() == "stopped with unfinished jobs (1, lost): a\\nb\\u202e (scheduled)"
