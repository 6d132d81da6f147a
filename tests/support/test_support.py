"""The helpers of the tests: a child ends with its test, and a wait that fails says what it waited for."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from support import processes
from support.forking import warm_processes
from support.processes import Process, end_processes, run
from support.waiting import deadline, time_limit, wait_until

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs PR_SET_PDEATHSIG: run it on Linux")

ENDLESS = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"]


def runs(pid: int) -> bool:
    """False for a process that has ended, also before its parent has read its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_ends_with_its_test() -> None:
    before = processes.alive()
    child = Process(ENDLESS)
    assert child.out.line() == "ready\n"
    end_processes(keep=before)
    assert child.returncode == -signal.SIGKILL
    assert processes.alive() == before


@linux
def test_a_child_ends_with_a_killed_process_of_the_tests() -> None:
    program = (
        "import sys, time; from support.processes import Process\n"
        f"child = Process({ENDLESS!r})\nassert child.out.line() == 'ready\\n'\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    tests = Path(__file__).parents[1]
    parent = Process([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(tests)})
    grandchild = int(parent.out.line())
    assert runs(grandchild)
    parent.kill()
    wait_until(lambda: not runs(grandchild), "the grandchild ends")


PROGRAM = """
import os, signal, sys
import beside
print(__name__, sys.argv[1:], os.environ.get("GIVEN"), os.path.basename(os.getcwd()), beside.NAME, flush=True)
print("an error", file=sys.stderr)
if "wait" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    print("ready", flush=True)
    signal.pause()
sys.exit(sys.stdin.read() == "" and 3)
"""


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    (tmp_path / "beside.py").write_text("NAME = 'beside'")
    (tmp_path / "program.py").write_text(PROGRAM)
    return [sys.executable, str(tmp_path / "program.py")]


@pytest.mark.parametrize("unbuffered", [[], ["-u"]], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("by", ["file", "module"])
@pytest.mark.parametrize("forked", [False, True], ids=["started", "forked"])
def test_a_program_is_the_same_started_and_forked(
    program: list[str], forked: bool, by: str, unbuffered: list[str], tmp_path: Path
) -> None:
    words = [program[1]] if by == "file" else ["-m", "program"]
    command = [sys.executable, *unbuffered, *words, "a", "--b"]
    done = run(command, cwd=tmp_path, env={**os.environ, "GIVEN": "yes"}, forked=forked)
    assert (done.returncode, done.stderr) == (3, "an error\n")
    assert done.stdout == f"__main__ ['a', '--b'] yes {tmp_path.name} beside\n"
    assert run(command, cwd=tmp_path, given="text", forked=forked).returncode == 0


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals: run it on Linux or macOS")
def test_a_forked_program_is_sent_signals_and_killed(program: list[str], tmp_path: Path) -> None:
    for number, code in ((signal.SIGTERM, 7), (signal.SIGINT, 1), (signal.SIGKILL, -signal.SIGKILL)):
        with Process([*program, "wait"], cwd=tmp_path, forked=True) as process:
            assert process.out.line_with("ready")
            assert process.returncode is None
            process.send_signal(number)
            assert process.wait() in (code, -number)
            process.send_signal(number)  # to nobody
        assert process.returncode in (code, -number)


@linux
def test_a_forked_program_ends_with_a_killed_process_of_the_tests(program: list[str], tmp_path: Path) -> None:
    parent_program = (
        "import sys, time; from support.processes import Process\n"
        f"child = Process({[*program, 'wait']!r}, forked=True)\nassert child.out.line_with('ready')\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    parent = Process([sys.executable, "-c", parent_program], env={**os.environ, "PYTHONPATH": path})
    grandchild = int(parent.out.line())
    assert runs(grandchild)
    parent.kill()
    wait_until(lambda: not runs(grandchild), "the grandchild ends")


def test_what_the_interpreter_reads_when_it_starts_is_read_also_by_a_program_that_may_be_forked(
    program: list[str], tmp_path: Path
) -> None:
    Path(program[1]).write_text("import sys; print(sys.stdout.encoding, sys.flags.optimize)")
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONOPTIMIZE": "1"}
    assert run(program, env=environment, forked=True).stdout == "iso8859-1 1\n"


def test_a_child_that_prints_more_than_a_pipe_holds_does_not_block() -> None:
    program = "import sys; sys.stderr.write('x' * 1_000_000); sys.stdout.write(sys.stdin.read())"
    done = run([sys.executable, "-c", program], given="y" * 1_000_000)
    assert (done.returncode, len(done.stdout), len(done.stderr)) == (0, 1_000_000, 1_000_000)


def test_a_wait_for_output_that_never_comes_says_what_it_waited_for() -> None:
    with Process(ENDLESS) as child:
        assert child.out.line_with("ready") == "ready\n"
        with pytest.raises(AssertionError, match=r"did not print a line with 'more' within 0\.1 s; .*\nready"):
            child.out.line_with("more", 0.1)
        with pytest.raises(AssertionError, match=r"did not end within 0\.1 s; it printed:\nready"):
            child.wait(0.1)
    assert child.returncode == -signal.SIGKILL
    with pytest.raises(AssertionError, match=r"ended and did not print 'more'; it printed:\nready"):
        child.out.line_with("more")


def test_a_command_that_fails_shows_its_errors() -> None:
    with pytest.raises(AssertionError, match="ended with 3:\nthe reason"):
        run([sys.executable, "-c", "import sys; sys.stderr.write('the reason'); sys.exit(3)"], check=True)


async def test_a_deadline_expires_while_virtual_time_does_not_move(mock_clock: MockClock) -> None:
    with pytest.raises(AssertionError, match=r"^the sun rises: not within 0\.05 s$"):
        with deadline("the sun rises", 0.05):
            await trio.sleep(10)
    with deadline("nothing"):
        await trio.lowlevel.checkpoint()
    assert trio.current_time() == 0


async def test_a_test_that_exceeds_its_limit_shows_where_each_task_waits(autojump_clock: MockClock) -> None:
    async def sleeper() -> None:
        await trio.sleep_forever()

    with pytest.raises(AssertionError, match=r"(?s)^it did not end within 0\.05 s; .*sleeper: .*sleep_forever"):
        with time_limit("it", 0.05):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sleeper)


def test_a_wait_for_a_condition_returns_its_answer_or_says_what_it_was() -> None:
    answers = iter([0, 0, 7])
    assert wait_until(lambda: next(answers), "seven") == 7
    with pytest.raises(AssertionError, match=r"^two threads: not within 0\.02 s, it is False$"):
        wait_until(lambda: threading.active_count() > 1000, "two threads", seconds=0.02)


def test_programs_run_in_forks_of_a_warm_process(tmp_path: Path) -> None:
    program = "import os, sys\nprint(sys.argv[1:], os.environ['A'], 'apsw' in sys.modules)\nsys.exit(int(sys.argv[1]))"
    (tmp_path / "a_program.py").write_text(program, encoding="utf-8")
    with warm_processes(["apsw"], 1) as fork:
        for status in (0, 3):
            done = fork("a_program", [str(status)], path=[str(tmp_path)], env={"A": "b"}, timeout=60)
            assert (done.returncode, done.stdout) == (status, f"['{status}'] b {sys.platform.startswith('linux')}\n")


def test_a_program_in_a_fork_that_does_not_end_is_killed(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(600)", encoding="utf-8")
    (tmp_path / "short.py").write_text("", encoding="utf-8")
    with warm_processes([], 1) as fork:
        with pytest.raises(processes.DidNotEnd, match=r"^endless did not end within 0\.5 s"):
            fork("endless", [], path=[str(tmp_path)], env={}, timeout=0.5)
        assert fork("short", [], path=[str(tmp_path)], env={}, timeout=60).returncode == 0


def test_a_blocked_loop_leaves_no_log_record(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("trio_jobs.watchdog").warning("the event loop has been blocked")
    assert caplog.records == []
