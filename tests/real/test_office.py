"""LibreOffice: it is killed, hangs and is left behind, and each order is in the file once (`examples/office_sheet.py`).

To start it takes seconds, so these are long checks. A second program reads the file, which is a ZIP archive with XML.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.processes import Process, run
from support.sdks import EXAMPLES, sdk_environment, sdk_python
from support.waiting import wait_until

pytestmark = pytest.mark.campaign

PROGRAM = EXAMPLES / "office_sheet.py"
CHILD = Path(__file__).with_name("office_child.py")


def office(folder: Path) -> list[int]:
    """The processes of LibreOffice that this test has started."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_text(errors="replace").split("\0")
        except OSError:  # it has just ended
            continue
        if any(word.startswith("-env:UserInstallation=") and str(folder) in word for word in words):
            found.append(int(command.parent.name))
    return found


def ordered(folder: Path) -> list[str]:
    """The references in the file."""
    with zipfile.ZipFile(folder / "orders.ods") as archive:
        return re.findall(r"<text:p>(O-\d+)</text:p>", archive.read("content.xml").decode())


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Path]:
    if sys.platform != "linux":
        pytest.skip("looks for processes in /proc")
    yield sdk_python("uno")
    for process in office(tmp_path):  # of a test that has failed
        os.kill(process, signal.SIGKILL)


def test_the_program_orders_once(python: Path, tmp_path: Path) -> None:
    for _ in range(2):
        done = run([python, PROGRAM], cwd=tmp_path, env=sdk_environment(), check=True)
        assert done.stdout == "O-1 is in row 1\n"
    assert ordered(tmp_path) == ["O-1"]
    assert office(tmp_path) == []


@pytest.mark.parametrize(("fault", "outcome"), [("kill", "error"), ("stop", "timed_out")])
def test_an_office_that_dies_or_hangs_in_a_job_is_replaced_and_the_job_is_done_once(
    python: Path, tmp_path: Path, fault: str, outcome: str
) -> None:
    done = run([python, CHILD, fault, "O-1", "O-2"], cwd=tmp_path, env=sdk_environment(), check=True)
    assert done.stdout.splitlines() == [f"O-1 1 {outcome} completed 2", "O-2 2 completed 2"], done.stderr
    assert ordered(tmp_path) == ["O-1", "O-2"]
    assert office(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_p3_a_stop_while_the_office_starts_leaves_no_process_behind(
    python: Path, tmp_path: Path, number: signal.Signals
) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, as under nohup, and so it is in a child")
    command: list[str | Path] = [python, "-m", "trio_jobs._cli", "serve", "office_sheet:service", "--port", "0"]
    with Process(command, cwd=tmp_path, env=sdk_environment()) as process:
        wait_until(lambda: office(tmp_path) or process.returncode is not None, "LibreOffice starts")
        process.send_signal(number)
        done = process.finish()
    assert done.returncode == 0, done.stderr
    assert office(tmp_path) == []


def test_p3_an_office_that_a_killed_service_has_left_is_ended_before_the_next_session(
    python: Path, tmp_path: Path
) -> None:
    """It has the file open, and work that nobody has saved."""
    with Process([python, PROGRAM], cwd=tmp_path, env=sdk_environment()) as process:
        wait_until(lambda: office(tmp_path) or process.returncode is not None, "LibreOffice starts")
        process.kill()
        process.wait()
        left = office(tmp_path)
        assert left
        done = run([python, PROGRAM], cwd=tmp_path, env=sdk_environment(), check=True)
        assert done.stdout == "O-1 is in row 1\n"
        assert office(tmp_path) == []
    assert ordered(tmp_path) == ["O-1"]


def test_p11_a_call_that_hangs_with_the_interpreter_locked_is_killed_in_process_and_its_office_by_on_killed(
    python: Path, tmp_path: Path
) -> None:
    done = run([python, CHILD.with_name("office_process.py")], cwd=tmp_path, env=sdk_environment(), check=True)
    first, second = (line.split() for line in done.stdout.splitlines())
    assert first[:2] == ["O-1", "killed"]
    assert second[:2] == ["O-2", "completed"]
    print(f"the attempt with a limit of 3 s took {first[2]} s")
    assert float(first[2]) >= 3
    assert (tmp_path / "ended").read_text() == "1 True\n", "the office of the killed process was still there"
    assert ordered(tmp_path) == ["O-1", "O-2"]
    assert office(tmp_path) == []
    print(done.stdout)
