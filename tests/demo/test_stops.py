"""However the demo is stopped, the ledger is closed and each file is in the summary. Real processes."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest
import trio
from demo_books import Run, balances, vouchers
from demo_documents import ubl

from support.processes import Process, run
from support.waiting import DEADLINE, wait_until
from trio_jobs_demo.stop_signals import StopSignals

FILES = 40
COMMAND = [sys.executable, "-m", "trio_jobs_demo"]

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals: run it on Linux or macOS")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n in range(FILES):
        (tmp_path / f"{n:03}.xml").write_text(ubl(f"T-{n}"), encoding="utf-8")
    return tmp_path


def begin(folder: Path, *more: object) -> Process:
    options = ["--book", folder / "book.db", "--min-interval", "0.05", "--csv", folder / "report.csv"]
    return Process([*COMMAND, str(folder), *map(str, options), *map(str, more)], forked=True)


def ended(process: Process) -> Run:
    done = process.finish()
    return Run(done.returncode, process.out.text, process.err.text)


@posix
@pytest.mark.parametrize("with_journal", [False, True], ids=["memory", "journal"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_closes_the_ledger_and_every_file_is_in_the_summary(
    folder: Path, name: str, with_journal: bool
) -> None:
    number = getattr(signal, name)
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{name} is ignored here, as under nohup, and so it is in a child")
    more = ("--journal", folder / "jobs.db") if with_journal else ()
    with begin(folder, *more) as process:
        process.out.line_with("voucher ")
        process.out.line_with("voucher ")
        process.send_signal(number)
        run = ended(process)
    assert run.code == 128 + number
    assert re.search(r"ledger closed \(opened (\d+), closed \1, threads 1\)", run.out)
    assert "total, balanced" in run.out
    assert run.err == ""
    counts = run.counts
    assert sum(counts.values()) == FILES
    assert counts["booked"] == sum(vouchers(folder / "book.db").values()) >= 2
    assert set(counts) <= {"booked", "open", "not looked at", "in doubt"}
    with (folder / "report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows].count("booked") == counts["booked"]
    assert len(rows) == FILES
    again = continued(folder, *more)
    assert again.counts.get("there already", 0) + again.counts.get("booked", 0) == FILES
    assert vouchers(folder / "book.db") == {f"XX123 T-{n}": 1 for n in range(FILES)}


def continued(folder: Path, *more: object) -> Run:
    done = run(
        [*COMMAND, str(folder), "--book", str(folder / "book.db"), *map(str, more)], timeout=DEADLINE, forked=True
    )
    assert done.returncode == 0, done.stderr
    return Run(done.returncode, done.stdout, done.stderr)


@posix
@pytest.mark.parametrize("with_journal", [False, True], ids=["memory", "journal"])
def test_after_a_kill_the_next_run_books_the_rest_and_counts_each_file_once(folder: Path, with_journal: bool) -> None:
    more = ("--journal", folder / "jobs.db") if with_journal else ()
    with begin(folder, *more) as process:
        for _ in range(5):
            process.out.line_with("voucher ")
        process.kill()
        process.wait()
    before = sum(vouchers(folder / "book.db").values())
    assert 5 <= before < FILES
    counts = continued(folder, *more).counts
    assert counts == {"there already": before, "booked": FILES - before}
    assert vouchers(folder / "book.db") == {f"XX123 T-{n}": 1 for n in range(FILES)}
    assert balances(folder / "book.db")["Assets:Customers"] == 12500 * FILES


@posix
def test_jobs_of_a_killed_run_for_other_files_are_finished_and_named(folder: Path) -> None:
    journal = ("--journal", folder / "jobs.db")
    with begin(folder, *journal) as process:
        process.out.line_with("voucher ")
        process.kill()
        process.wait()
    other = folder / "other"
    other.mkdir()
    (other / "one.xml").write_text(ubl("ONE"), encoding="utf-8")
    run = continued(other, *journal, "--book", folder / "book.db")
    assert run.counts == {"booked": 1}
    assert "jobs of an earlier run for other files: " in run.out
    assert vouchers(folder / "book.db")["XX123 ONE"] == 1


@posix
def test_a_signal_that_comes_before_anything_can_be_stopped_is_not_lost() -> None:
    signals = StopSignals()
    before = signal.getsignal(signal.SIGTERM)
    stopped: list[str] = []

    async def wait() -> None:
        with trio.CancelScope() as scope, signals.calling(scope.cancel):
            await trio.sleep_forever()
        stopped.append("stopped")

    with signals.handled():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        trio.run(wait)
    assert stopped == ["stopped"]
    assert signals.exit_code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


BLOCKED = """
import signal, sys
from trio_jobs_demo.__main__ import main
from trio_jobs_demo.ledger import Ledger
create = Ledger.create_voucher
def slow(self, voucher):
    print("inside", file=sys.stderr, flush=True)
    import time
    time.sleep(600)
Ledger.create_voucher = slow
sys.exit(main(sys.argv[1:]))
"""


@posix
def test_a_second_signal_ends_the_process_at_once_and_has_its_own_exit_code(folder: Path) -> None:
    command = [sys.executable, "-c", BLOCKED, str(folder), "--book", str(folder / "book.db")]
    with Process(command, forked=True) as process:
        process.err.line_with("inside")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGHUP)  # a terminal that closes sends it as well: it does not count
        process.send_signal(signal.SIGINT)
        process.err.line_with("the ledger is not closed")
        assert process.wait() == 70


IGNORING = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.executable, sys.argv[1:])
"""


@posix
def test_a_signal_that_is_ignored_from_the_start_stays_ignored(folder: Path) -> None:
    command = [sys.executable, "-c", IGNORING, *COMMAND, str(folder), "--book", str(folder / "book.db")]
    with Process([*command, "--min-interval", "0.02"], forked=True) as process:
        process.out.line_with("voucher ")
        process.send_signal(signal.SIGHUP)
        run = ended(process)
    assert (run.code, run.counts) == (0, {"booked": FILES})


@posix
def test_a_reader_that_leaves_does_not_break_the_booking_off(folder: Path) -> None:
    shell = f"{sys.executable} -m trio_jobs_demo {folder} --book {folder / 'book.db'}; echo code $? >&2"
    done = run(["sh", "-c", f"({shell}) | head -1"], timeout=DEADLINE)
    assert done.stdout.count("\n") == 1
    assert done.stderr == "code 0\n"
    assert sum(vouchers(folder / "book.db").values()) == FILES


def fill(fifo: Path) -> None:
    """From now on writes to it block."""
    with os.fdopen(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK), "wb", buffering=0) as file:
        while file.write(bytes(1)) is not None:
            pass


@posix
def test_a_reader_that_does_not_read_does_not_hold_up_the_stop(folder: Path) -> None:
    """A fork has a buffer for its output, also where PYTHONUNBUFFERED is set: see the head of `output.py`."""
    os.mkfifo(folder / "output")
    reader = os.open(folder / "output", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(folder / "output", os.O_WRONLY)
    printed = b""

    def some_are_booked() -> bool:
        nonlocal printed
        with contextlib.suppress(BlockingIOError):
            printed += os.read(reader, 4096)
        return printed.count(b"voucher ") >= 2

    try:
        command = [*COMMAND, str(folder), "--book", str(folder / "book.db"), "--min-interval", "0.05"]
        with Process(command, terminal=writer, forked=True) as process:
            wait_until(some_are_booked, "two files are booked")
            fill(folder / "output")
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 143
    finally:
        os.close(reader)
        os.close(writer)
    with Process([*COMMAND, str(folder / "000.xml"), "--book", str(folder / "book.db")], forked=True) as process:
        assert ended(process).code == 0  # the book is not locked


@posix
def test_a_journal_that_fails_ends_the_run_with_the_summary_and_one_line(folder: Path) -> None:
    limited = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000));"
    limited += "os.execv(sys.executable, sys.argv[1:])"
    more = ["--book", str(folder / "book.db"), "--journal", str(folder / "jobs.db")]
    done = run([sys.executable, "-c", limited, *COMMAND, str(folder), *more], timeout=DEADLINE)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("demo: ")
    assert "Traceback" not in done.stderr
    counts = Run(done.returncode, done.stdout, done.stderr).counts
    assert sum(counts.values()) == FILES
    assert counts["not looked at"] > 0
    assert "ledger closed" in done.stdout
    again = continued(folder, *more)
    assert again.counts.get("booked", 0) + again.counts.get("there already", 0) == FILES
    assert "jobs of an earlier run" not in again.out  # they are those of its files


def test_a_port_in_use_is_found_before_anything_is_booked(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run(
            [*COMMAND, "--serve", "--port", str(port), "--book", str(tmp_path / "book.db")],
            timeout=DEADLINE,
            forked=True,
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_output_that_cannot_encode_a_name_escapes_it(tmp_path: Path) -> None:
    (tmp_path / "1.xml").write_text(ubl(issuer="Håvard 株式会社"), encoding="utf-8")
    done = run([*COMMAND, str(tmp_path)], env={**os.environ, "PYTHONIOENCODING": "ascii"}, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    assert r"H\xe5vard \u682a" in done.stdout
