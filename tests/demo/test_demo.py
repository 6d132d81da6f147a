"""Rules of the demo as a program: real processes and books, checked with sqlite3."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from support.processes import Process, run
from trio_jobs_demo.__main__ import main
from trio_jobs_demo.samples import sample_files

SHARED = Path(os.environ.get("TRIO_JOBS_INVOICES", Path(__file__).parents[2].parent / "shared" / "invoices"))
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(),
    reason=f"needs real invoices: put them into {SHARED}, or set TRIO_JOBS_INVOICES to their folder",
)
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals: run it on Linux or macOS")


def demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "trio_jobs_demo", *map(str, arguments)], timeout=120, forked=True)


def start(*arguments: object, environment: dict[str, str] | None = None) -> Process:
    return Process([sys.executable, "-u", "-m", "trio_jobs_demo", *map(str, arguments)], env=environment, forked=True)


def read_until_booked(process: Process, count: int) -> None:
    for line in process.out.lines():
        count -= line.startswith("booked")
        if count == 0:
            return
    raise AssertionError("the demo ended before that many invoices were booked")


def vouchers(book: Path) -> Counter[str]:
    with closing(sqlite3.connect(book)) as connection:
        return Counter(reference for (reference,) in connection.execute("SELECT reference FROM vouchers"))


def creations(book: Path) -> Counter[str]:
    """Create calls that booked a voucher, by reference, from the book's own log."""
    with closing(sqlite3.connect(book)) as connection:
        rows = connection.execute("SELECT reference FROM call_log WHERE outcome = 'booked'")
        return Counter(reference for (reference,) in rows)


def assert_balanced(book: Path) -> None:
    with closing(sqlite3.connect(book)) as connection:
        rows = connection.execute("SELECT voucher, sum(debit) - sum(credit) FROM entries GROUP BY voucher").fetchall()
    assert rows and all(difference == 0 for _, difference in rows)


@pytest.mark.parametrize("constraint", [True, False], ids=["", "without the book's own constraint"])
def test_each_invoice_has_one_voucher_despite_faults_of_the_ledger(tmp_path: Path, constraint: bool) -> None:
    book = tmp_path / "book.db"
    run = demo("--book", book, *([] if constraint else ["--no-constraint"]))
    assert run.returncode == 0, run.stderr
    assert "31 files: 28 booked, 1 duplicate, 1 nothing to book, 1 refused" in run.stdout
    assert re.search(r"ledger closed \(opened (\d+), closed \1, threads 1\)", run.stdout)
    assert len(vouchers(book)) == 28
    assert set(vouchers(book).values()) == {1}
    assert creations(book) == vouchers(book)
    assert_balanced(book)


def test_a_second_run_with_the_same_book_books_nothing(tmp_path: Path) -> None:
    book = tmp_path / "book.db"
    demo("--book", book, "--no-constraint")
    before = creations(book)
    again = demo("--book", book, "--no-constraint")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("(was there already)") == 28
    assert creations(book) == before


@posix
@pytest.mark.parametrize("booked", [1, 5, 12])
def test_a_killed_and_repeated_run_books_no_invoice_twice(tmp_path: Path, booked: int) -> None:
    book = tmp_path / "book.db"
    with start("--book", book, "--no-constraint") as process:
        read_until_booked(process, booked)
        process.kill()
    assert 1 <= len(vouchers(book)) < 28
    assert demo("--book", book, "--no-constraint").returncode == 0
    assert len(vouchers(book)) == 28
    assert set(creations(book).values()) == {1}


@posix
def test_ctrl_c_closes_the_ledger_without_a_traceback(tmp_path: Path) -> None:
    with start("--book", tmp_path / "book.db", "--min-interval", "0.05") as process:
        read_until_booked(process, 3)
        process.send_signal(signal.SIGINT)
        ended = process.finish()
    assert ended.returncode == 130
    assert re.search(r"ledger closed \(opened (\d+), closed \1, threads 1\)", ended.stdout)
    assert "Traceback" not in ended.stderr
    assert vouchers(tmp_path / "book.db")  # the lock is released


def test_a_file_that_is_not_a_book_gives_one_line_of_error(tmp_path: Path) -> None:
    book = tmp_path / "book.db"
    book.write_text("not a book at all, but long enough to be read as one")
    run = demo("--book", book)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("demo: the SDK could not be opened") and run.stderr.count("\n") == 1


def test_a_missing_file_gives_one_line_of_error(tmp_path: Path) -> None:
    run = demo(tmp_path / "nowhere")
    assert run.returncode == 2
    assert run.stderr == f"demo: there is no file or folder {tmp_path / 'nowhere'}\n"


def test_named_files_have_no_scripted_faults() -> None:
    run = demo(*sample_files()[:5])
    assert run.returncode == 0
    assert "0 of them retries" in run.stdout


@posix
def test_a_second_run_with_the_same_journal_completes_a_crashed_one(tmp_path: Path) -> None:
    files = ("--book", tmp_path / "book.db", "--journal", tmp_path / "jobs.db", "--no-constraint")
    crash = demo(*files, "--crash")
    assert crash.returncode == -signal.SIGKILL
    assert 1 < len(vouchers(tmp_path / "book.db")) < 28
    again = demo(*files)
    assert again.returncode == 0, again.stderr
    assert len(vouchers(tmp_path / "book.db")) == 28
    assert set(creations(tmp_path / "book.db").values()) == {1}
    assert_balanced(tmp_path / "book.db")


def test_another_process_can_watch_the_queue_and_resolve_the_doubt_that_ends_it(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    with start("--serve", "--port", "0", environment=environment) as process:
        first = process.out.line()
        assert first.startswith("follow it from another terminal: trio-jobs watch --url ws://127.0.0.1:")
        link = re.fullmatch(r"or in a browser, within five minutes: (\S+)/#login=[\w-]{22}\n", process.out.line())
        url = first.split()[-1]
        assert link is not None and link[1] == url.replace("ws://", "http://").removesuffix("/ws")
        command = [sys.executable, "-m", "trio_jobs._cli"]
        watch = [*command, "watch", "--url", url]
        with Process(watch, env=environment, forked=True) as watching:
            completed = 0
            for line in watching.out.lines():
                event = json.loads(line)
                completed += event.get("type") == "completed"
                if event.get("type") == "in_doubt" and event.get("asked"):
                    resolve = [*command, "resolve", event["job"], "not_done", "--url", url]
                    run(resolve, env=environment, check=True, forked=True)
                if completed == 28:
                    break
        assert process.wait() == 0


@needs_shared
def test_all_real_invoices_are_booked_or_refused_with_a_reason(tmp_path: Path) -> None:
    book = tmp_path / "book.db"
    run = demo(SHARED, "--book", book, "--no-constraint")
    assert run.returncode == 3, run.stdout + run.stderr
    files = [file for file in SHARED.rglob("*") if file.suffix.lower() == ".xml"]
    summary = run.stdout[run.stdout.index(f"{len(files)} files: ") :]
    parts = [part.split(" ", 1) for part in summary.splitlines()[0].split(": ")[1].split(", ")]
    fates = {name: int(count) for count, name in parts}
    assert sum(fates.values()) == len(files)
    assert set(fates) <= {"booked", "duplicate", "nothing to book", "refused"}
    # the only refusals here are numbers that two different invoices of one issuer share
    refusals = [line for line in summary.splitlines() if line.startswith("  refused")]
    assert len(refusals) == fates["refused"]
    assert all("its number has voucher" in line and "already, which differs: " in line for line in refusals)
    assert len(vouchers(book)) == fates["booked"]
    assert creations(book) == vouchers(book)
    assert set(vouchers(book).values()) == {1}
    assert_balanced(book)


@needs_shared
def test_each_real_invoice_alone_is_booked_once_or_needs_no_voucher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(file for file in SHARED.rglob("*") if file.suffix.lower() == ".xml")
    for n, file in enumerate(files):
        book = tmp_path / f"{n}.db"
        assert main([str(file), "--book", str(book), "--no-constraint"]) == 0
        said = capsys.readouterr().out
        if "1 files: 1 nothing to book" in said:
            assert not vouchers(book)
        else:
            assert "1 files: 1 booked" in said
            assert list(vouchers(book).values()) == [1]
            assert_balanced(book)
