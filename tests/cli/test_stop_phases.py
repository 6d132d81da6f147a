"""A stop signal in each phase of a session (P1, P3, P6).

What is inside may end, the SDK is closed once, and the job has the state that is true.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
import trio

from support.processes import Process
from trio_jobs import Job, Service

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM and SIGHUP are POSIX")

SHOP = """
import contextlib, pathlib, time, trio_jobs

phase, _, raises = pathlib.Path("phase").read_text().partition(" and ")

def reach(name):
    if phase != name:
        return
    print(name, flush=True)
    deadline = time.monotonic() + 60
    while not pathlib.Path("go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    if raises:
        raise OSError("no answer")

class Book:
    def __init__(self):
        self.lines = []

    def save(self):
        reach("save")
        with open("book", "a") as file:
            file.writelines(self.lines)
        self.lines.clear()

@contextlib.contextmanager
def ledger(opening):
    reach("open" if opening.number == 1 else "open again")
    try:
        yield Book()
    finally:
        with open("closed", "a") as file:
            file.write(f"{opening.number}\\n")
        reach("close")

def find(book, job):
    reach("verify")
    there = pathlib.Path("book").exists() and job.key in pathlib.Path("book").read_text()
    return trio_jobs.Done() if there else trio_jobs.NotDone()

service = trio_jobs.Service(sdk=ledger, save=Book.save)

@service.handler(kind="post", verify=find)
def post(book, amount: int, job: trio_jobs.JobContext):
    reach("call")
    book.lines.append(f"{job.key}\\n")
    if phase in ("verify", "open again"):
        raise OSError("the connection is lost")
    if phase == "close":
        print("close", flush=True)
"""

#: For each phase: the exit code of `serve`, and the states that the job may have
PHASES = {
    "open": (0, "scheduled pending"),  # it may have become due
    "call": (0, "completed"),
    "call and raises": (0, "in_doubt"),
    "save": (0, "completed"),
    "save and raises": (0, "in_doubt"),
    "verify": (0, "retrying"),
    "verify and raises": (0, "in_doubt"),
    "open again": (0, "in_doubt retrying"),  # verify is asked if the session is open before the stop begins
    "close": (0, "completed"),
    "close and raises": (71, "completed"),
}


def journal(folder: Path) -> Job:
    """Return the job of the journal, as it was left, or a new one."""

    async def main() -> Job:
        service = Service()

        @service.handler(kind="post")
        async def post(amount: int) -> None:
            await trio.sleep_forever()

        async with service.open(journal=folder / "jobs.db") as queue:
            jobs = queue.list()
            if not jobs:
                await queue.submit("post", 12, key="A-1", delay=0.001)
                jobs = queue.list()
            return jobs[0]

    return trio.run(main)


SIGNALS = [
    signal.SIGTERM,
    pytest.param(signal.SIGHUP, marks=pytest.mark.campaign),
    pytest.param(signal.SIGINT, marks=pytest.mark.campaign),
]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("phase", PHASES)
def test_a_stop_in_each_phase_closes_the_sdk_once_and_leaves_the_job_in_the_state_that_is_true(
    phase: str, number: signal.Signals, tmp_path: Path
) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, as under nohup, and so it is in a child")
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "phase").write_text(phase)
    journal(tmp_path)
    command = [sys.executable, "-m", "trio_jobs._cli", "serve", "shop:service", "--journal", "jobs.db"]
    with Process([*command, "--port", "0", "--no-token"], cwd=tmp_path, forked=True) as process:
        assert process.out.line() == phase.removesuffix(" and raises") + "\n"
        process.send_signal(number)
        process.err.line_with("stopping")
        (tmp_path / "go").touch()
        done = process.finish()
    code, state = PHASES[phase]
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr or phase.endswith("raises")
    sessions = (tmp_path / "closed").read_text().split()
    assert sessions == [str(number + 1) for number in range(len(sessions))]
    assert journal(tmp_path).state in state.split()
    booked = (tmp_path / "book").read_text() if (tmp_path / "book").exists() else ""
    assert booked == ("A-1\n" if state == "completed" else "")
