"""What an SDK in a process of its own can do to it, and when the process can die: the queue goes on, the work is done
once (P6, P11).

Each test has real processes, and every wait has a deadline.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support import process_ledger
from support.forked_sdk import fork_sdk_processes
from support.process_queues import (
    LIMIT,
    answer_before_the_kill,
    has_ended,
    let_time_pass_when,
    result_of,
    use_seat,
    with_settings,
)
from support.rig import until, until_state
from support.waiting import deadline, wait_until
from trio_jobs import JobFailed, Outcome, State
from trio_jobs._executors import process_child
from trio_jobs._executors import process_messages as pm
from trio_jobs._executors.process_child import SdkProcess
from trio_jobs._executors.process_pipes import ProcessPipes
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._sdk_process import child

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the process executor does not work on Windows yet")


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The file of the SDK."""
    if request.node.get_closest_marker("started") is None:
        fork_sdk_processes(monkeypatch)
    return use_seat(tmp_path, monkeypatch)


# the process is killed at each step of the protocol

SENT: Final = (
    *("Ready", "SessionOpened", "CallReported of RunVerify", "StartStep", "SaveStep", "FinishStep"),
    *("CallReported of RunHandler", "CallReported of RunSave", "SessionClosed", "CallReported of RunAlive"),
)
RECEIVED: Final = (*("OpenSession", "RunVerify", "RunHandler", "StepRecorded", "RunSave", "CloseSession", "RunAlive"),)
STEPS: Final = (
    *(f"received {message}" for message in RECEIVED),
    *(f"{moment} {message}" for message in SENT for moment in ("sending", "half of", "sent")),
)


@pytest.mark.parametrize("steps", [pytest.param(STEPS, id="all", marks=pytest.mark.campaign), STEPS[::5]])
async def test_p6_a_process_that_is_killed_at_any_step_of_its_protocol_does_each_work_once(
    steps: tuple[str, ...], ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies_at = ledger.with_name("dies-at")
    monkeypatch.setenv("DIES_AT", str(dies_at))
    done: list[str] = []
    async with process_ledger.chained_service.open() as queue:
        with deadline("the first job", LIMIT):
            done.append(await _do_one_job(queue, ledger))
        for step in steps:
            if "Ready" in step:
                await _end_the_process(queue)
            dies_at.write_text(step)
            with deadline(f"the job of a process that is killed: {step}", LIMIT):
                done.append(await _do_one_job(queue, ledger))
                while dies_at.exists():  # it comes after the job
                    done.append(await _do_one_job(queue, ledger))
        assert {job.state for job in queue.list()} == {State.COMPLETED}
    booked = Counter(ledger.read_text().splitlines())
    assert booked == dict.fromkeys(done, 1)


async def _do_one_job(queue: trio_jobs.Queue, ledger: Path) -> str:
    """Returns its id. If the process dies during verify, what that would have said is not known, and a person looks."""
    job_id = (await queue.submit("chained", "a")).job_id
    job = await until(queue, job_id, lambda job: job.is_final or job.reason == "unverified")
    if not job.is_final:
        assert job_id not in ledger.read_text()
        await queue.resolve(job_id, "not_done")
    await queue.result(job_id)
    return job_id


async def _end_the_process(queue: trio_jobs.Queue) -> None:
    executor: Any = runtime_of(queue).executor
    os.kill(executor.pid, signal.SIGKILL)
    with deadline("the death to be noticed", LIMIT):
        while executor.is_open:
            await trio.sleep(0.01)


@pytest.mark.started
async def test_a_job_needs_every_message_at_which_its_process_is_killed(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that is new belongs into the list of the test before."""
    monkeypatch.setenv("DIES_AT", str(ledger.with_name("dies-at")))
    async with process_ledger.chained_service.open() as queue:
        for n in range(3):
            await result_of(queue, "chained", str(n))
    assert set(ledger.with_name("steps").read_text().splitlines()) == set(STEPS)


@pytest.mark.started
async def test_a_process_that_is_killed_while_it_starts_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while its queue runs, which does not end with it."""
    kills: list[int] = []
    start = process_child.start_process

    def start_and_kill(pipes: ProcessPipes) -> Any:
        started = start(pipes)
        if kills:
            os.kill(started.pid, kills.pop())
        return started

    monkeypatch.setattr(process_child, "start_process", start_and_kill)
    kills.append(signal.SIGKILL)
    settings: dict[str, Any] = {"open_retry": trio_jobs.Retry(1, waits=[0])}
    async with with_settings(**settings).open() as queue:
        assert not kills
        kills.append(signal.SIGKILL)
        await _end_the_process(queue)
        assert await result_of(queue, "unlimited", "a") == "a"
        assert not kills


async def test_a_service_that_is_not_found_any_more_does_not_end_its_queue(tmp_path: Path) -> None:
    """A file that is being replaced: the opening is tried again."""
    made = trio_jobs.Service(
        sdk=process_ledger.open_ledger,
        executor="process",
        seat_lock=None,
        open_retry=trio_jobs.Retry(1, waits=[0.05]),
        locate="support.process_ledger:missing_service",
    )
    made.handler(idempotent=True)(process_ledger.repeated)
    missing = tmp_path / "missing"
    async with made.open() as queue:
        missing.touch()
        await _end_the_process(queue)
        receipt = await queue.submit("repeated", "a")
        with deadline("the opening to fail", LIMIT):
            while not runtime_of(queue).sessions.opening:
                await trio.sleep(0.01)
        await trio.sleep(0.5)
        assert queue.get(receipt.job_id).state is State.PENDING
        missing.unlink()
        with deadline("the result", LIMIT):
            assert await queue.result(receipt.job_id) == "a"


async def test_on_killed_is_called_for_a_process_that_is_killed_while_the_sdk_opens(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the factory had started is left, and the next opening must know that."""
    process_ledger.killed.clear()
    monkeypatch.setenv("LEDGER_OPENS", "dies once")
    async with with_settings(open_retry=trio_jobs.Retry(1, waits=[0])).open() as queue:
        assert await result_of(queue, "unlimited", "opening") == ["start", 1, True]
        pid = await result_of(queue, "unlimited", "pid")
    [(killed, opening)] = process_ledger.killed
    assert killed != pid
    assert opening.unclean is False


@pytest.mark.parametrize("how", ["dies", pytest.param("hangs", marks=pytest.mark.campaign)])
async def test_p6_a_verify_whose_process_ends_answers_nothing_and_is_asked_again_by_a_person(
    how: str, ledger: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    """The job stays in doubt; the death is not taken for an answer, and counts against no job that follows."""
    monkeypatch.setenv("LEDGER_VERIFIES", how)
    async with process_ledger.service.open() as queue:
        receipt = await queue.submit("doubted", "book")
        if how == "hangs":
            await let_time_pass_when(mock_clock, ledger.with_name("asked"))
        with deadline("verify to be asked", LIMIT), pytest.raises(trio_jobs.JobInDoubt):
            await queue.result(receipt.job_id, in_doubt="raise")
        mock_clock.rate = 0.0
        job = queue.get(receipt.job_id)
        assert (job.state, job.reason) == (State.IN_DOUBT, "error")
        assert [attempt.outcome for attempt in job.attempts or ()] == [Outcome.ERROR]
        assert await result_of(queue, "unlimited", "opening") == ["killed", 3, True]
        with deadline("the answer", LIMIT):
            await queue.verify(receipt.job_id)
            assert await queue.result(receipt.job_id) == ["killed", True]
    assert ledger.read_text() == f"{receipt.job_id}\n"


# the system


@pytest.mark.parametrize("free", range(6))
async def test_a_process_for_whose_pipes_no_descriptor_is_free_leaves_none_open(
    free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An opening that fails is tried again, and each try would leave less for the next one."""
    made: list[int] = []
    pipe = os.pipe

    def pipe_or_fail() -> tuple[int, int]:
        if len(made) == 2 * free:
            raise OSError(errno.EMFILE, "too many open files")
        made.extend(pipe())
        return made[-2], made[-1]

    with monkeypatch.context() as patch:
        patch.setattr(os, "pipe", pipe_or_fail)
        with pytest.raises(OSError, match="too many open files"):
            ProcessPipes()
    for fd in made:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


async def test_the_end_of_a_process_is_noticed_on_a_kernel_without_pidfd(
    ledger: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    def not_implemented(pid: int, flags: int = 0) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", not_implemented, raising=False)
    async with process_ledger.service.open() as queue:
        pid = await result_of(queue, "unlimited", "pid")
        receipt = await queue.submit("limited", "hang")
        await let_time_pass_when(mock_clock, ledger, receipt.job_id)
        with deadline("the end of the call", LIMIT):
            assert await queue.result(receipt.job_id) == ["killed", True]
        assert has_ended(pid)
        last = await result_of(queue, "unlimited", "pid")
    assert has_ended(last)


HOSTILE_IMPORTS: Final = {
    "sys.exit(3)": "SystemExit: 3",
    "os._exit(3)": "ended by itself with exit code 3",
    "os.abort()": "ended by itself with SIGABRT",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "os.closerange(3, 64)": "ended by itself|was killed",
    "time.sleep(600)": "has not returned",
}


@pytest.mark.parametrize("statement", HOSTILE_IMPORTS)
async def test_a_module_that_does_not_let_its_process_start_is_an_error_of_the_opening(
    statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostile_module.py").write_text(f"import os, sys, time\n\n{statement}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    service = trio_jobs.Service(
        sdk=process_ledger.open_ledger,
        executor="process",
        seat_lock=None,
        locate="hostile_module:service",
        open_timeout=1.0 if "sleep" in statement else 20.0,
        open_retry=trio_jobs.Retry(0),
    )
    service.handler(idempotent=True)(process_ledger.repeated)
    with deadline("the opening", LIMIT), pytest.raises((trio_jobs.UsageError, trio_jobs.SdkOpenFailed)) as caught:
        async with service.open():
            raise AssertionError("not reached")
    assert re.search(HOSTILE_IMPORTS[statement], f"{caught.value} {caught.value.__cause__}"), caught.value


# what a call can do


async def test_a_call_that_returns_after_it_was_given_up_counts_and_no_other_call_is_hit(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is killed all the same. Nothing enters before it is dead."""
    answer_before_the_kill(monkeypatch, "outbound", ledger.with_name("killing").touch)
    async with process_ledger.service.open() as queue:
        late = await queue.submit("limited", "late")
        following = [await queue.submit("unlimited", "pid") for _ in range(3)]
        with deadline("the results", LIMIT):
            pid = await queue.result(late.job_id)
            pids = {await queue.result(receipt.job_id) for receipt in following}
        assert has_ended(pid)
        assert len(pids) == 1
        assert pid not in pids
        [attempt] = queue.get(late.job_id).attempts or ()
        assert attempt.outcome is Outcome.COMPLETED


async def test_a_process_that_does_not_end_blocks_its_seat_and_not_the_stop(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that waits for a disk that has gone: nothing opens beside it."""
    monkeypatch.setattr(process_child, "END_WAIT", 0.2)
    monkeypatch.setattr(SdkProcess, "_kill_group", lambda process: None)
    async with with_settings(cancel_timeout=0.1, drain_timeout=0).open() as queue:
        pid = await result_of(queue, "unlimited", "pid")
        await queue.submit("limited", "hang")
        following = await queue.submit("unlimited", "a")
        with deadline("the process to be stuck", LIMIT):
            while "does not end after SIGKILL" not in caplog.text:
                await trio.sleep(0.01)
        await trio.sleep(0.3)
        assert queue.get(following.job_id).state is State.PENDING
        assert not has_ended(pid)
        assert runtime_of(queue).executor.inside
    assert queue.report is not None
    assert not queue.report.sdk_closed
    os.kill(pid, signal.SIGKILL)
    for thread in threading.enumerate():
        if thread.name == "trio-jobs stuck process":
            thread.join(LIMIT)
    assert has_ended(pid), "it does not stay as a zombie either"


async def test_a_handler_that_forks_leaves_one_process_in_the_sdk(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_jobs.sdk")
    async with process_ledger.service.open() as queue:
        assert await result_of(queue, "unlimited", "fork") == "fork"
        pid = await result_of(queue, "unlimited", "pid")
        assert [await result_of(queue, "unlimited", "pid") for _ in range(5)] == [pid] * 5
    assert [message for message in caplog.messages if "closed by" in message] == [f"stdout: closed by {pid}"]


async def test_nothing_is_written_into_files_that_have_the_numbers_of_closed_pipes(ledger: Path) -> None:
    async with process_ledger.service.open() as queue:
        receipt = await queue.submit("unlimited", "close")
        with deadline("the end of the call", LIMIT):
            await until_state(queue, receipt.job_id, "in_doubt")
        [attempt] = queue.get(receipt.job_id).attempts or ()
        assert attempt.outcome is Outcome.DIED
        assert await result_of(queue, "unlimited", "opening") == ["killed", 2, True]
    books = [path.read_bytes() for path in ledger.parent.glob("book*")]
    assert books == [b""] * 100


async def test_a_call_that_blocks_all_signals_is_killed(ledger: Path, mock_clock: MockClock) -> None:
    async with process_ledger.service.open() as queue:
        receipt = await queue.submit("limited", "deaf")
        await let_time_pass_when(mock_clock, ledger, receipt.job_id)
        with deadline("the end of the call", LIMIT):
            assert await queue.result(receipt.job_id) == ["killed", True]


async def test_a_program_that_has_left_the_group_delays_nothing_and_on_killed_can_end_it(
    ledger: Path, mock_clock: MockClock
) -> None:
    """It keeps the output of the process open."""
    ended: list[int] = []

    def end_daemon(pid: int, opening: trio_jobs.Opening) -> None:
        ended.append(int(ledger.read_text().splitlines()[0].removeprefix("pid ")))
        os.kill(ended[0], signal.SIGKILL)

    async with with_settings(on_killed=end_daemon).open() as queue:
        receipt = await queue.submit("limited", "daemon")
        await let_time_pass_when(mock_clock, ledger, receipt.job_id)
        with deadline("the end of the call", LIMIT):  # it sleeps ten times as long
            assert await queue.result(receipt.job_id) == ["killed", True]
    wait_until(lambda: has_ended(ended[0]), "the program to end")


async def test_a_job_context_of_another_job_records_nothing() -> None:
    async with process_ledger.service.open() as queue:
        await result_of(queue, "repeated", "keep")
        receipt = await queue.submit("repeated", "kept")
        with deadline("the result", LIMIT), pytest.raises(JobFailed, match="SdkCallRefused"):
            await queue.result(receipt.job_id)
        assert not runtime_of(queue).event_log.projection.jobs[receipt.job_id].steps


async def test_errors_and_results_have_the_limits_that_they_have_on_a_thread() -> None:
    async with process_ledger.service.open() as queue:
        payload = "x" * 1_000_000
        assert await result_of(queue, "unlimited", payload) == payload
        for what, error in (("huge", "Busy"), ("odd", "OddError")):
            with pytest.raises(JobFailed, match=error) as caught:
                await result_of(queue, "repeated", what)
            assert len(str(caught.value)) < 3000
        receipt = await queue.submit("unlimited", "huge result")
        with deadline("the end of the call", LIMIT):
            job = await until(queue, receipt.job_id, lambda job: job.state is State.COMPLETED)
        assert job.result is None
        assert "2,000,002 bytes" in (job.result_problem or "") or job.result_problem


@pytest.mark.started
async def test_memory_limit_costs_the_call_that_exceeds_it_and_no_queue() -> None:
    async with with_settings(memory_limit=2 * 1024**3).open() as queue:
        with pytest.raises(JobFailed, match="MemoryError"):
            await result_of(queue, "repeated", "memory")
        assert await result_of(queue, "repeated", "a") == "a"


async def test_what_the_process_writes_is_logged_to_the_last_line(caplog: pytest.LogCaptureFixture) -> None:
    """What it wrote before its death says why it has died."""
    caplog.set_level(logging.INFO, "trio_jobs.sdk")
    async with process_ledger.service.open() as queue:
        receipt = await queue.submit("unlimited", "last words")
        with deadline("the end of the call", LIMIT):
            await until_state(queue, receipt.job_id, "in_doubt")
    assert f"stderr: {'y' * 50}" in caplog.messages


@pytest.mark.parametrize("how", ["no parent is seen", "the file cannot have an owner"])
def test_an_answer_is_not_written_into_a_file_of_the_sdk_in_any_container(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "no parent is seen":
        monkeypatch.setattr(os, "getppid", lambda: 0)
    else:
        monkeypatch.setattr(child, "fcntl", NoOwners)
    reads, writes = os.pipe()
    link = child.Link(reads, writes)
    link.send(pm.Ready(None))
    other = os.open(os.devnull, os.O_WRONLY)
    os.dup2(other, writes)  # the SDK has closed all descriptors, and has opened a file
    with pytest.raises(OSError, match="has opened another file"):
        link.send(pm.Ready(None))
    for fd in (reads, writes, other):
        os.close(fd)


class NoOwners:
    """`fcntl` in a sandbox."""

    F_SETOWN = F_GETOWN = 0

    @staticmethod
    def fcntl(*args: Any) -> Any:
        raise OSError(errno.EINVAL, "Invalid argument")
