"""sqlite3 as it is by default: it begins a transaction by itself, and a reader may be in the way of each commit.

`examples/sqlite_ledger.py` is the program of the README before such a connection.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.processes import run
from support.rig import until_state
from support.sdks import EXAMPLES, load_example, sdk_environment
from trio_jobs.events import Completed
from trio_jobs.testing import check_handler

NO_WAIT = trio_jobs.Retry(1000, waits=[0.001])


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(tmp_path)
    return load_example("sqlite_ledger")


def booked(file: Path) -> list[str]:
    """What is in the file, as another process sees it."""
    with closing(sqlite3.connect(file)) as reader:
        return [key for (key,) in reader.execute("SELECT reference FROM vouchers ORDER BY rowid")]


class Reader:
    """Another program that reads the file: while it does, nobody can commit."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file, isolation_level=None, timeout=0)

    def begin(self) -> None:
        self._connection.execute("BEGIN")
        with contextlib.suppress(sqlite3.OperationalError):  # a commit is waiting for other readers
            self._connection.execute("SELECT * FROM vouchers").fetchone()

    def end(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def open_bare() -> Iterator[sqlite3.Connection]:
    """A connection as its own context manager: it commits or rolls back at its end, and stays open."""
    connection = sqlite3.connect("ledger.db", timeout=0)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def open_closing() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect("ledger.db", timeout=0)) as connection:
        yield connection


def service_of(
    example: ModuleType, open_ledger: Any, save: Any = lambda ledger: ledger.commit(), **settings: Any
) -> trio_jobs.Service:
    """The program's service with a commit that does not wait, before a ledger that exists."""
    with example.open_ledger():
        pass
    service = trio_jobs.Service(sdk=open_ledger, save=save, open_retry=NO_WAIT, **settings)
    service.handler(verify=example.already_booked, retry=NO_WAIT)(example.post_invoice)
    return service


def test_the_program_books_once(tmp_path: Path) -> None:
    for _ in range(2):
        command = [sys.executable, str(EXAMPLES / "sqlite_ledger.py")]
        done = run(command, cwd=tmp_path, env=sdk_environment(), check=True)
        assert done.stdout == "A-1 is voucher 1\n"
    assert booked(tmp_path / "ledger.db") == ["A-1"]


@pytest.mark.parametrize("open_ledger", [open_closing, open_bare])
async def test_p6_a_job_is_not_completed_while_a_reader_is_in_the_way_of_its_commit(
    example: ModuleType, tmp_path: Path, open_ledger: AbstractContextManager[Any]
) -> None:
    service = service_of(example, open_ledger)
    with closing(Reader(tmp_path / "ledger.db")) as reader:
        reader.begin()
        async with service.open() as queue:
            receipt = await queue.submit(example.post_invoice, example.Invoice("A-1", 1), key="A-1")
            await until_state(queue, receipt.job_id, "retrying")
            assert booked(tmp_path / "ledger.db") == []
            reader.end()
            await queue.result(receipt.job_id, in_doubt="raise")
            assert booked(tmp_path / "ledger.db") == ["A-1"]


@pytest.mark.parametrize("open_ledger", [open_closing, open_bare])
@pytest.mark.parametrize("group", [1, 7])
async def test_p6_nothing_is_completed_that_is_not_in_the_file(
    example: ModuleType, tmp_path: Path, open_ledger: AbstractContextManager[Any], group: int
) -> None:
    """Half of the commits fail, and some handlers raise behind their INSERT."""
    chance = random.Random(group)
    file = tmp_path / "ledger.db"
    service = service_of(example, open_ledger, save_after_jobs=group, save_after=0.01)
    failures = iter(range(1000))

    @service.handler(kind="careless", verify=example.already_booked, retry=NO_WAIT)
    def careless(ledger: Any, cents: int, job: trio_jobs.JobContext) -> int:
        row: int = ledger.execute("INSERT INTO vouchers VALUES (?, ?)", [job.key, cents]).lastrowid
        if job.attempt == 1:
            next(failures)
            raise ValueError("behind the INSERT")
        return row

    keys = [f"A-{n}" for n in range(60)]
    with closing(Reader(file)) as reader:
        async with service.open() as queue, trio.open_nursery() as nursery:

            async def disturb() -> None:
                while True:
                    reader.begin()
                    await trio.sleep(chance.random() / 100)
                    reader.end()
                    await trio.sleep(chance.random() / 100)

            nursery.start_soon(disturb)
            for key in keys:
                if chance.random() < 0.2:
                    await queue.submit(careless, 1, key=key)
                else:
                    await queue.submit(example.post_invoice, example.Invoice(key, 1), key=key)
            left = {*keys}
            async for event in queue.events(after=0):
                if isinstance(event, Completed):
                    done = queue.get(event.job).key
                    assert done in await trio.to_thread.run_sync(booked, file)
                    left.discard(done or "")
                if not left:
                    break
            nursery.cancel_scope.cancel()
    assert sorted(booked(file)) == sorted(keys)
    assert next(failures) > 3


async def test_p7_a_bare_connection_without_save_is_a_warning_that_names_the_jobs_it_rolls_back(
    example: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It commits at the end of the session only, and an exception in the second job rolls back the first."""
    service = service_of(example, open_bare, save=None)

    @service.handler(on_doubt="fail")
    def fail(ledger: Any, why: str) -> None:
        raise ValueError(why)

    async with service.open() as queue:
        first = await queue.submit(example.post_invoice, example.Invoice("A-1", 1), key="A-1")
        await queue.result(first.job_id)
        second = await queue.submit(fail, "no")
        await until_state(queue, second.job_id, "failed")
    assert booked(tmp_path / "ledger.db") == []
    [warning] = [record.getMessage() for record in caplog.records if "save=" in record.getMessage()]
    assert "closed with an exception: A-1." in warning


@pytest.mark.parametrize("saves", [True, False])
async def test_check_handler_finds_that_the_commit_is_missing(
    example: ModuleType, tmp_path: Path, autojump_clock: MockClock, saves: bool
) -> None:
    with example.open_ledger():
        pass
    service = trio_jobs.Service(sdk=example.open_ledger, save=sqlite3.Connection.commit if saves else None)
    service.handler(verify=example.already_booked)(example.post_invoice)

    def reset() -> None:
        with closing(sqlite3.connect("ledger.db")) as ledger, ledger:
            ledger.execute("DELETE FROM vouchers")

    report = await check_handler(
        service,
        example.post_invoice,
        [example.Invoice("A-1", 1)],
        effects=lambda: booked(tmp_path / "ledger.db"),
        reset=reset,
        raises=False,
    )
    assert ["`save=`" in str(finding) for finding in report.findings] == ([] if saves else [True]), str(report)
