"""The SDK in a process of its own: a call that hangs is ended, and the process never outlives its queue (P11).

Each test has real processes, and every wait has a deadline. A limit is a fraction of a second, and the clock stands
still until the call hangs that it ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

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
from support.processes import Process, run
from support.rig import until, until_state
from support.waiting import deadline, wait_until
from trio_jobs import JobFailed, Outcome, SdkOpenFailed, Service, UsageError
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._service import parts_of
from trio_jobs._service_parts import use_executor

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the process executor does not work on Windows yet")


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The file of the SDK."""
    if request.node.get_closest_marker("started") is None:
        fork_sdk_processes(monkeypatch)
    return use_seat(tmp_path, monkeypatch)


@pytest.mark.started
async def test_p11_a_session_is_opened_used_and_closed_in_one_process(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_jobs.sdk")
    async with process_ledger.service.open() as queue:
        pid = await result_of(queue, "unlimited", "pid")
        assert pid != os.getpid()
        assert await result_of(queue, "unlimited", "opening") == ["start", 1, False]
        sid, group, stdin = await result_of(queue, "unlimited", "session")
        assert sid == group == pid, "Ctrl-C in the terminal of the queue does not reach it"
        assert stdin == ""
        assert len(await result_of(queue, "unlimited", "big")) == 900_000
        with pytest.raises(JobFailed, match=r"Busy: paper .+ jam"):
            await result_of(queue, "repeated", "raise")
        [attempt] = queue.list(kind="repeated")[0].attempts or ()
        assert attempt.error is not None
        assert attempt.error.code == "E42"
        assert (attempt.error.traceback or "").startswith("Traceback"), "of the process, from the handler on"
        assert await result_of(queue, "unlimited", "opening") == ["error", 2, False], "the session was dirty"
    assert queue.report is not None
    assert queue.report.sdk_closed
    assert queue.report.sdk_problem is None
    wait_until(lambda: has_ended(pid), "the process to end")
    assert "stdout: opened 1 start False" in caplog.messages


async def test_steps_are_recorded_before_the_process_goes_on(ledger: Path) -> None:
    async with process_ledger.service.open() as queue:
        receipt = await queue.submit("stepwise", "steps", key="k")
        with deadline("the job", LIMIT):
            found = await queue.result(receipt.job_id)
        assert found == [None, {"first": None}, None, 2, 1, "k", True]
        steps = [event for event in [e async for e in _events(queue, receipt.job_id)] if "Step" in type(event).__name__]
        assert [type(event).__name__ for event in steps] == ["StepStarted", "StepFinished"]
    assert ledger.read_text() == f"first of {receipt.job_id}\n", "a finished step is not done again"


async def _events(queue: trio_jobs.Queue, job_id: str) -> Any:
    async for event in queue.events(after=0, jobs=[job_id]):
        yield event
        if isinstance(event, trio_jobs.events.Completed):
            return


async def test_a_call_reports_progress_and_sees_that_its_limit_has_passed() -> None:
    reports: list[Any] = []
    async with process_ledger.service.open() as queue:
        runtime_of(queue).recorder.listeners.add(reports.append)
        receipt = await queue.submit("limited", "progress")
        with deadline("the result", LIMIT):
            assert await queue.result(receipt.job_id) == "ended in time"
    assert [(report.job_id, report.done, report.total, report.message) for report in reports] == [
        (receipt.job_id, 1, 2, "half")
    ]


@pytest.mark.parametrize("how", [pytest.param("hang", marks=pytest.mark.started), "stop"])
async def test_p11_a_call_that_hangs_is_killed_at_its_limit_and_verify_finds_its_work(
    how: str, ledger: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it holds the interpreter, so that no other thread of its process can run, or is stopped."""
    process_ledger.killed.clear()
    if how == "hang":
        answer_before_the_kill(monkeypatch, "stack")
    async with process_ledger.service.open() as queue:
        pid = await result_of(queue, "unlimited", "pid")
        receipt = await queue.submit("limited", how)
        await let_time_pass_when(mock_clock, ledger, receipt.job_id)
        with deadline("the end of the call", LIMIT):
            await until(queue, receipt.job_id, lambda job: job.state != "processing" and bool(job.attempts))
        assert has_ended(pid), "what nobody may enter is over"
        with deadline("verify", LIMIT):
            assert await queue.result(receipt.job_id) == ["killed", True], "it is asked in a fresh session"
        [attempt] = queue.get(receipt.job_id).attempts or ()
        assert attempt.outcome is Outcome.KILLED
        assert attempt.ended_by == "attempt_timeout"
        assert attempt.error is not None
        assert attempt.error.type == "SdkProcessKilled"
        if how == "hang":
            assert "hold_the_interpreter" in (attempt.error.traceback or ""), "the stack in which it hung"
        assert await result_of(queue, "unlimited", "next") == "next"
    assert ledger.read_text() == f"{receipt.job_id}\n", "it was done once"
    assert [(one, opening.number) for one, opening in process_ledger.killed] == [(pid, 1)]


@pytest.mark.parametrize(("how", "words"), [("abort", "SIGABRT"), ("crash", "SIGSEGV"), ("garbage", "SIGKILL")])
async def test_an_sdk_that_ends_its_process_costs_a_session_and_no_queue(how: str, words: str) -> None:
    async with process_ledger.service.open() as queue:
        receipt = await queue.submit("unlimited", how)
        with deadline("the end of the call", LIMIT):
            await until_state(queue, receipt.job_id, "in_doubt")
        [attempt] = queue.get(receipt.job_id).attempts or ()
        assert attempt.outcome is Outcome.DIED
        assert attempt.error is not None
        assert words in attempt.error.message
        assert await result_of(queue, "unlimited", "opening") == ["killed", 2, True]


async def test_a_job_that_kills_max_crashes_processes_fails_as_poison() -> None:
    async with with_settings(max_crashes=2).open() as queue:
        receipt = await queue.submit("repeated", "abort")
        with deadline("the job", LIMIT), pytest.raises(JobFailed, match="poison"):
            await queue.result(receipt.job_id)
        attempts = queue.get(receipt.job_id).attempts or ()
        assert [attempt.outcome for attempt in attempts] == [Outcome.DIED] * 2


async def test_a_process_that_dies_while_it_is_idle_is_counted_against_no_job() -> None:
    async with process_ledger.service.open() as queue:
        pid = await result_of(queue, "unlimited", "pid")
        await result_of(queue, "unlimited", "die when idle")
        executor = runtime_of(queue).executor
        with deadline("the death to be noticed", LIMIT):
            while executor.is_open:
                await trio.sleep(0.01)
        assert has_ended(pid)
        assert await result_of(queue, "unlimited", "opening") == ["killed", 2, True]
        assert all(job.state == "completed" for job in queue.list())


async def test_what_the_sdk_prints_is_logged_and_never_blocks_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_jobs.sdk")
    async with process_ledger.service.open() as queue:
        assert await result_of(queue, "unlimited", "flood") == "flood"
    assert "stdout: line 0" in caplog.messages
    assert "stderr: " + "x" * 60 in caplog.messages


async def test_programs_that_the_sdk_has_started_are_killed_with_it(ledger: Path, mock_clock: MockClock) -> None:
    async with process_ledger.service.open() as queue:
        receipt = await queue.submit("limited", "grandchild")
        await let_time_pass_when(mock_clock, ledger, receipt.job_id)
        with deadline("the end of the call", LIMIT):
            assert await queue.result(receipt.job_id) == ["killed", True]
    pid = int(ledger.read_text().splitlines()[0].removeprefix("pid "))
    wait_until(lambda: has_ended(pid), "the program to end")


async def test_a_close_that_hangs_is_killed_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_CLOSES", "hangs")
    async with process_ledger.service.open() as queue:
        pid = await result_of(queue, "unlimited", "pid")
    assert has_ended(pid)
    assert queue.report is not None
    assert queue.report.sdk_closed
    assert queue.report.sdk_problem == "it did not close in time; its process was killed"


async def test_a_stop_kills_a_call_that_does_not_return() -> None:
    async with with_settings(drain_timeout=0, cancel_timeout=0.1).open() as queue:
        pid = await result_of(queue, "unlimited", "pid")
        receipt = await queue.submit("unlimited", "hang")
        with deadline("the start", LIMIT):
            await until_state(queue, receipt.job_id, "processing")
    assert has_ended(pid)
    job = queue.get(receipt.job_id)
    assert job.state == "in_doubt"
    assert queue.report is not None
    assert queue.report.sdk_closed


async def test_an_opening_that_fails_says_what_the_sdk_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_OPENS", "is busy")
    with pytest.raises(SdkOpenFailed, match=r"tries: 2\): SdkCallError: Busy: no licence left"):
        async with process_ledger.service.open():
            raise AssertionError("not reached")


async def test_an_opening_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_OPENS", "hangs")
    with deadline("the opening", LIMIT), pytest.raises(SdkOpenFailed, match="has not returned"):
        async with with_settings(open_timeout=1.5).open():
            raise AssertionError("not reached")
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    if children.exists():
        alive = [int(pid) for pid in children.read_text().split() if not has_ended(int(pid))]
        commands = [Path(f"/proc/{pid}/cmdline").read_text() for pid in alive]
        assert not [command for command in commands if "_sdk_process" in command]


# save and interrupt


async def test_a_job_is_completed_when_the_process_has_saved(ledger: Path, mock_clock: MockClock) -> None:
    async with process_ledger.saving_service.open() as queue:
        receipt = await queue.submit("post", "a")
        with deadline("the result", LIMIT):
            assert await queue.result(receipt.job_id) != os.getpid()
        assert ledger.read_text() == f"{receipt.job_id}\n"


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_work_that_the_process_has_not_saved_is_done_again_once(
    how: str, ledger: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    """A save that hangs is killed at its limit; what its session held is gone."""
    monkeypatch.setenv("LEDGER_SAVES", how)
    async with process_ledger.saving_service.open() as queue:
        receipt = await queue.submit("post", "a")
        if how == "hangs":
            await let_time_pass_when(mock_clock, ledger.with_name("failed"))
            await until(queue, receipt.job_id, lambda job: job.state != "saving" and job.attempt_count > 0)
            mock_clock.rate = 0.0
        with deadline("the result", LIMIT):
            await queue.result(receipt.job_id)
        assert queue.get(receipt.job_id).attempt_count == 2
    assert ledger.read_text() == f"{receipt.job_id}\n"


async def test_a_step_is_finished_when_the_process_has_saved_its_work(mock_clock: MockClock) -> None:
    async with process_ledger.saving_service.open() as queue:
        receipt = await queue.submit("post", "step")
        with deadline("the result", LIMIT):
            assert await queue.result(receipt.job_id) == [[], f"{receipt.job_id}\n"]


async def test_a_step_whose_save_raises_in_the_process_stays_open(
    monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    monkeypatch.setenv("LEDGER_SAVES", "fails")
    async with process_ledger.saving_service.open() as queue:
        receipt = await queue.submit("post", "step")
        with deadline("the result", LIMIT):
            assert await queue.result(receipt.job_id) == [[], f"{receipt.job_id}\n"]
        job = queue.get(receipt.job_id)
        assert [attempt.outcome for attempt in job.attempts or ()] == [Outcome.ERROR, Outcome.COMPLETED]


@pytest.mark.parametrize("order", ["interruption_first", "call_first"])
@pytest.mark.parametrize(("what", "outcome"), [("return", Outcome.COMPLETED), ("raise", Outcome.TIMED_OUT)])
async def test_a_call_that_can_be_interrupted_is_not_killed(
    what: str, outcome: Outcome, order: str, ledger: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    if order == "call_first":
        monkeypatch.setenv("INTERRUPTS_LATE", "1")
    async with process_ledger.saving_service.open() as queue:
        pid = await result_of(queue, "post", "a")
        for _ in range(3):  # a call whose interruption is reported late must not disturb the next one
            receipt = await queue.submit("wait", what)
            waits = ledger.with_name("waits")
            await let_time_pass_when(mock_clock, waits)
            with deadline("the end of the call", LIMIT):
                job = await until(queue, receipt.job_id, lambda job: job.state not in ("pending", "processing"))
            mock_clock.rate = 0.0
            waits.unlink()
            assert [attempt.outcome for attempt in job.attempts or ()] == [outcome]
            assert await result_of(queue, "post", "b") == pid


async def test_alive_is_asked_in_the_process(ledger: Path) -> None:
    async with process_ledger.saving_service.open() as queue:
        first = await result_of(queue, "post", "a")
        ledger.with_name("dead").touch()
        await trio.sleep(1.1)  # a session that was asked less than a second ago is not asked again
        assert await result_of(queue, "post", "b") == first, "the process stays, with a new session"
        assert runtime_of(queue).executor.session == 2


# the process finds the service


MAIN = """
import contextlib, sys
import trio, trio_jobs

vars(sys.modules["__main__"])["state of a library"] = "kept"

@contextlib.contextmanager
def open_sdk():
    yield __name__ + " " + vars(sys.modules["__main__"])["state of a library"]

service = trio_jobs.Service(sdk=open_sdk, executor="process", seat_lock=None)

@service.handler(idempotent=True)
def work(sdk, what: str) -> str:
    return sdk

async def main():
    async with service.open() as queue:
        print(await queue.result((await queue.submit(work, "a")).job_id))
"""
GUARD = "\nif __name__ == '__main__':\n    trio.run(main)\n"


def run_program(folder: Path, text: str, *args: str) -> subprocess.CompletedProcess[str]:
    path = folder / "program.py"
    path.write_text(text)
    return run([sys.executable, *(args or [str(path)])], cwd=folder)


def test_the_service_of_a_main_program_is_found(tmp_path: Path) -> None:
    done = run_program(tmp_path, MAIN + GUARD)
    assert done.stdout == "__mp_main__ kept\n", done.stderr


def test_a_folder_an_argument_and_an_import_path_need_not_be_text(tmp_path: Path) -> None:
    """Names of files are bytes, and whatever is in `sys.path` that is no str is ignored by imports."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    path = folder / "program.py"
    path.write_text("import sys, pathlib\nsys.path.append(pathlib.Path('elsewhere'))\n" + MAIN + GUARD)
    done = run([sys.executable, path, os.fsdecode(b"\xff")], cwd=folder)
    assert done.stdout == "__mp_main__ kept\n", done.stderr


BUSY_MODULE = """
import contextlib, functools, sys, threading
import trio, trio_jobs

print("imported")
threading.Thread(target=threading.Event().wait).start() if __name__ == "__mp_main__" else None

@contextlib.contextmanager
def open_sdk():
    try:
        yield __name__
    finally:
        open("closed", "a").write("x")

service = trio_jobs.Service(sdk=open_sdk, executor="process", seat_lock=None)

def decorated(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        return ["decorated", fn(*args)]
    return wrapper

@service.handler(idempotent=True)
@decorated
def work(sdk, what: str) -> list[str]:
    return sdk

async def main():
    async with service.open() as queue:
        print(*await queue.result((await queue.submit("work", "a")).job_id), flush=True)
        if sys.argv[1:]:
            await trio.sleep_forever()
"""


def test_a_module_that_prints_decorates_and_leaves_a_thread_has_no_effect_on_its_queue(tmp_path: Path) -> None:
    done = run_program(tmp_path, BUSY_MODULE + GUARD)
    assert done.stdout == "imported\ndecorated __mp_main__\n", done.stderr
    assert (tmp_path / "closed").read_text() == "x"


def test_ctrl_c_in_the_terminal_closes_the_sdk(tmp_path: Path) -> None:
    """The terminal sends it to the whole group."""
    path = tmp_path / "program.py"
    path.write_text(BUSY_MODULE + GUARD)
    with Process([sys.executable, path, "stay"], cwd=tmp_path, group=True) as program:
        program.out.line_with("decorated")
        os.killpg(program.pid, signal.SIGINT)
        program.wait()
    assert (tmp_path / "closed").read_text() == "x"


def test_a_main_program_without_a_guard_is_told_what_is_missing(tmp_path: Path) -> None:
    done = run_program(tmp_path, MAIN + "\ntrio.run(main)\n")
    assert done.returncode == 1
    assert "trio_jobs.UsageError: executor='process': the process of the SDK cannot start" in done.stderr
    assert "if __name__ == '__main__':" in done.stderr.splitlines()[-1]


def test_a_program_without_a_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    done = run_program(tmp_path, "", "-c", MAIN + GUARD)
    assert "UsageError" in done.stderr
    assert "has no file" in done.stderr
    assert "locate=" in done.stderr


def local_service() -> Service:
    service = Service(sdk=process_ledger.open_ledger, executor="process", seat_lock=None)
    service.handler(idempotent=True)(process_ledger.repeated)
    return service


async def test_a_service_that_is_no_global_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match=r"is not a global of module '.*test_process_executor'.*locate="):
        async with local_service().open():
            raise AssertionError("not reached")


async def test_locate_names_a_function_that_returns_the_service() -> None:
    service = Service(
        sdk=process_ledger.open_ledger,
        executor="process",
        seat_lock=None,
        locate="support.process_ledger:located_service",
    )
    service.handler(idempotent=True)(process_ledger.repeated)
    async with service.open() as queue:
        assert await result_of(queue, "repeated", "a") == "a"


@pytest.mark.parametrize(
    ("locate", "problem"),
    [
        ("support.no_such_module:x", "ModuleNotFoundError: No module named 'support.no_such_module'"),
        ("support.process_ledger:is_booked", "TypeError"),
        ("support.process_ledger:Busy", "is no Service in the process of the SDK, but Busy"),
        ("support.process_ledger:empty_service", "has no handler for repeated"),
    ],
)
async def test_a_service_that_the_process_does_not_find_is_a_usage_error_at_open(locate: str, problem: str) -> None:
    service = Service(sdk=process_ledger.open_ledger, executor="process", seat_lock=None, locate=locate)
    service.handler(idempotent=True)(process_ledger.repeated)
    with pytest.raises(UsageError) as caught:
        async with service.open():
            raise AssertionError("not reached")
    assert problem in str(caught.value)


@pytest.mark.parametrize(("executor", "elsewhere"), [("process", True), ("thread", False)])
async def test_the_command_line_can_say_where_the_sdk_lives(executor: str, elsewhere: bool) -> None:
    service = process_ledger.plain_service
    use_executor(service, parts_of(service), service.settings, executor)
    async with service.open() as queue:
        assert (await result_of(queue, "pid_of", "a") != os.getpid()) == elsewhere
    with pytest.raises(UsageError, match="--executor is for a service with sdk="):
        use_executor(Service(), parts_of(Service()), service.settings, executor)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"executor": "process"}, "needs sdk="),
        ({"sdk": process_ledger.open_ledger, "executor": "process", "pump": print}, "pump= is for the message loop"),
        ({"async_sdk": open, "executor": "process"}, "needs sdk="),
        ({"sdk": process_ledger.open_ledger, "locate": "a:b"}, "locate= is for executor='process'"),
        ({"sdk": process_ledger.open_ledger, "memory_limit": 2**30}, "memory_limit= is for executor='process'"),
        ({"sdk": process_ledger.open_ledger, "on_killed": print}, "on_killed= is for executor='process'"),
        ({"sdk": process_ledger.open_ledger, "executor": "process", "locate": "a"}, "locate must be 'module:callable'"),
        ({"sdk": process_ledger.open_ledger, "executor": "process", "memory_limit": 5}, "memory_limit must be"),
        ({"sdk": process_ledger.open_ledger, "executor": "process", "on_killed": 5}, "on_killed must be a function"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        Service(**given)


# whoever dies


PARENT = """
import sys
sys.path.insert(0, {tests!r})
import trio
from support import process_ledger
from support.forked_sdk import fork_sdk_processes

async def main():
    async with process_ledger.service.open() as queue:
        print(await queue.result((await queue.submit("unlimited", "pid")).job_id), flush=True)
        await queue.submit("unlimited", "hang")
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a call that holds the interpreter outlives its queue")
def test_p11_no_process_outlives_a_queue_that_is_killed(ledger: Path) -> None:
    """Although its call holds the interpreter, so that it can notice nothing itself."""
    with Process([sys.executable, "-c", PARENT.format(tests=str(Path(__file__).parents[1]))]) as parent:
        pid = int(parent.out.line())
        try:
            wait_until(ledger.exists, "the call to hang")
            parent.send_signal(signal.SIGKILL)
            parent.wait()
            wait_until(lambda: has_ended(pid), "the process to end", seconds=5)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
