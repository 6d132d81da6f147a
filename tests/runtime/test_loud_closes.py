"""P3: a close of the SDK that raises is loud: in the log, in health, in the events, in the report and the exit code."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.processes import Process
from support.rig import NO_RETRY, HostKind, make_rig, until_state

LOST = "whose work may be lost: "


class Wrong(Exception):
    """What a handler raises."""


async def test_p3_a_close_that_raises_names_the_jobs_completed_since_the_last_good_close(
    kind: HostKind, clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig(kind, settings={"renew_after_jobs": 2})
    rig.sdk.script("close", None, OSError("saving failed"))
    async with rig.open() as queue:
        for n in range(4):
            await queue.submit("work", str(n), key=f"A-{n}")
    [line] = [record.getMessage() for record in caplog.records if LOST in record.getMessage()]
    assert line == (
        "closing SDK session 2 failed: OSError: saving failed; jobs completed since a session last closed well, "
        "whose work may be lost: 2 (A-2, A-3)"
    )
    assert queue.report is not None
    assert (queue.report.sdk_closed, queue.report.sdk_problem) == (True, "OSError: saving failed")


async def test_p7_health_is_degraded_until_a_session_has_closed_well(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind, settings={"renew_after_jobs": 1})
    rig.sdk.script("close", OSError("saving failed"))
    async with rig.open() as queue:
        for n, problems in enumerate([(), ("close_failed",), ()]):
            await queue.result((await queue.submit("work", str(n))).job_id)
            assert queue.health().problems == problems
    assert queue.report is not None
    assert queue.report.sdk_problem is None


async def test_p3_a_failed_close_of_a_discarded_session_is_in_the_report(
    kind: HostKind, clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig(kind, retry=NO_RETRY)
    rig.sdk.script("call", "ok", Wrong())
    rig.sdk.script("close", OSError("cannot roll back"))
    async with rig.open() as queue:
        await queue.result((await queue.submit("work", "a")).job_id)
        failed = await queue.submit("work", "b")
        await until_state(queue, failed.job_id, "failed")
    assert queue.report is not None
    assert queue.report.sdk_problem is not None
    assert queue.report.sdk_problem.startswith("OSError: cannot roll back (when the session was discarded because of")
    assert f"{LOST}1 (" in caplog.text


async def test_a_clean_stop_has_no_close_problem(
    kind: HostKind, clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig(kind)
    async with rig.open() as queue:
        await queue.submit("work", "a")
    assert queue.report is not None
    assert queue.report.sdk_problem is None
    assert LOST not in caplog.text


async def test_of_many_jobs_the_last_thousand_are_named(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig("trio")
    rig.sdk.script("close", OSError("saving failed"))
    async with rig.open() as queue:
        for n in range(1003):
            await queue.submit("work", str(n), key=f"A-{n}")
    assert f"{LOST}1003 (3 earlier ones, A-3, A-4, " in caplog.text
    assert caplog.text.count("A-1002)") == 1


SHOP = """
import contextlib, trio_jobs

@contextlib.contextmanager
def ledger():
    try:
        yield []
    finally:
        raise OSError("saving failed")

service = trio_jobs.Service(sdk=ledger)

@service.handler(on_doubt="hold")
def post(ledger, n: int) -> int:
    return n
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM is POSIX")
async def test_serve_exits_with_71_when_the_close_of_the_sdk_has_raised(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    command = [sys.executable, "-m", "trio_jobs._cli", "serve", "shop:service", "--port", "0", "--no-token"]
    with Process(command, cwd=tmp_path) as process:
        line = await trio.to_thread.run_sync(process.err.line_with, "serves shop:service at ")
        async with trio_jobs.connect(line.split(" at ")[1].strip()) as client:
            receipt = await client.submit("post", 1, key="A-1")
            assert await client.result(receipt.job_id) == 1
        process.send_signal(signal.SIGTERM)
        done = await trio.to_thread.run_sync(process.finish)
    assert done.returncode == 71, done.stderr
    assert f"{LOST}1 (A-1)" in done.stderr
    assert "the SDK is closed with an error" in done.stderr
