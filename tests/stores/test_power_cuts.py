"""A power cut loses no acknowledged event, and the journal is not refused afterwards."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("apsw")

from power_disk import PowerDisk, Step, cut

from trio_jobs import JournalDamaged, SqliteStore, StoreError
from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import State
from trio_jobs._engine.key_tombstones import KeyTombstone, key_name
from trio_jobs._stores.sqlite import schema
from trio_jobs._stores.sqlite.errors import is_full
from trio_jobs._stores.sqlite.high_water_mark import SYNC_EVERY, HighWaterMarkFile
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs._stores.sqlite.rows import decode
from trio_jobs.testing.store_check import submitted

PATH = "/jobs.db"


def at_once(sync: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        sync()


def make_journal(
    disk: PowerDisk,
    path: str = PATH,
    background: Callable[[Callable[[], None]], None] = at_once,
    monotonic: Callable[[], float] = time.monotonic,
) -> Journal:
    return Journal(path, disk, allow_data_loss=False, run_in_background=background, monotonic=monotonic)


def kill(journal: Journal, disk: PowerDisk) -> None:
    """Kill the process: nothing is closed, checkpointed or synced, and the system keeps what was written."""
    disk.close_without_checkpoint(journal.connection, journal.path)


def work(disk: PowerDisk, groups: int, seed: int) -> list[bytes]:
    """Write groups, prune, close or kill and reopen; return the numbers that were written.

    The sync of the high-water mark is often late, and then omitted.
    """
    chance = random.Random(seed)
    written: list[bytes] = []

    def in_time(sync: Callable[[], None]) -> None:
        if chance.random() < 0.5:
            sync()

    now = 0.0

    def monotonic() -> float:
        return now

    journal = make_journal(disk, background=in_time, monotonic=monotonic)
    journal.open()
    open_jobs: list[tuple[str, int]] = []
    for n in range(groups):
        now += chance.choice((0.001, 0.02, SYNC_EVERY))
        seq = journal.last_seq
        events: list[ev.Event] = []
        for _ in range(chance.choice((1, 1, 2, 5, 40))):
            seq += 1
            events.append(submitted(seq, payload=b'"' + b"x" * chance.choice((1, 30, 2000)) + b'"'))
        journal.write(events)
        disk.acked(seq)
        written += [str(event.seq).encode() for event in events]
        open_jobs += [(f"job-{event.seq}", event.seq) for event in events]
        if n % 10 == 9 and len(open_jobs) > 20:
            gone = [at for _, at in open_jobs[:10]]
            keys = [KeyTombstone(key_name("k", job), job, "d", State.FAILED, float(at)) for job, at in open_jobs[:10]]
            journal.prune(gone, gone[-1] + 1, keys)
            del open_jobs[:10]
        if n % 10 == 4:
            if chance.random() < 0.5:
                journal.close()
            else:
                kill(journal, disk)
            journal = make_journal(disk, background=in_time, monotonic=monotonic)
            journal.open()
    journal.close()
    return written


def check_cut(steps: list[Step], chance: random.Random, path: str = PATH) -> None:
    files, acked = cut(steps, chance)
    tried = make_journal(PowerDisk(files), path)
    bodies = tried.open()  # raises if a good journal is refused after a power cut
    seqs = [decode(body).seq for body in bodies]
    assert tried.last_seq >= acked, f"event {acked} was acknowledged and is lost"
    assert tried.last_seq == max([*seqs, tried.oldest - 1])
    pruned = {int(key.job.removeprefix("job-")) for key in tried.take_tombstones()}
    assert pruned.isdisjoint(seqs), "a job has events or a tombstone, not both"
    assert pruned.union(seqs).issuperset(range(1, acked + 1)), "a job has events or a tombstone"
    # the journal can be continued
    tried.write([submitted(tried.last_seq + 1)])
    tried.close()


def cuts(points: int, seed: int) -> None:
    disk = PowerDisk()
    work(disk, 60, seed)
    chance = random.Random(seed)
    for _ in range(points):
        check_cut(disk.steps[: chance.randrange(1, len(disk.steps) + 1)], chance)


def test_a_power_cut_loses_no_acknowledged_event() -> None:
    cuts(400, seed=1)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(20))
def test_a_thousand_power_cuts_lose_no_acknowledged_event(seed: int) -> None:
    cuts(1000, seed)


def test_opening_syncs_the_high_water_mark_of_a_killed_process() -> None:
    disk = PowerDisk()
    journal = make_journal(disk, background=lambda sync: None)
    journal.open()
    journal.write([submitted(1)])
    kill(journal, disk)
    make_journal(disk).open()
    chance = random.Random(1)
    for _ in range(50):
        mark = HighWaterMarkFile(PowerDisk(cut(disk.steps, chance)[0]), f"{PATH}-mark")
        assert mark.stored is not None
        assert mark.stored.seq == 1


def make_older(disk: PowerDisk) -> None:
    """Turn a journal into one of schema 1, which has no column for what a pruned job may have done."""
    with contextlib.closing(schema.connect(disk, PATH)) as connection, schema.transaction(connection):
        rows = connection.execute("SELECT name, job, digest, state, at FROM keys").fetchall()
        assert rows
        connection.execute("DROP TABLE keys")
        connection.execute(
            "CREATE TABLE keys (name BLOB PRIMARY KEY, job TEXT NOT NULL, digest TEXT NOT NULL, state TEXT NOT NULL, "
            "at REAL NOT NULL, checksum INTEGER NOT NULL) STRICT, WITHOUT ROWID"
        )
        for row in rows:
            name, *texts, at = row
            checksum = zlib.crc32(b"\0".join((name, *(text.encode() for text in texts), struct.pack("<d", at))))
            connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)", (*row, checksum))
        connection.execute("PRAGMA user_version = 1")


def test_a_power_cut_during_a_migration_leaves_the_old_schema_or_the_new_one_whole() -> None:
    disk = PowerDisk()
    work(disk, 12, seed=1)
    make_older(disk)
    before = len(disk.steps)
    journal = make_journal(disk)
    contents = journal.open()
    journal.close()
    chance = random.Random(1)
    found: set[int] = set()
    for end in range(before, len(disk.steps) + 1):
        for _ in range(5):
            tried = PowerDisk(cut(disk.steps[:end], chance)[0])
            connection = schema.connect(tried, PATH)
            found.add(connection.execute("PRAGMA user_version").fetchone()[0])
            tried.close_without_checkpoint(connection, PATH)
            again = make_journal(tried)
            assert again.open() == contents, "no event is missing, and none is there twice"
            again.close()
            with contextlib.closing(schema.connect(tried, PATH)) as connection:
                assert connection.execute("PRAGMA user_version").fetchone()[0] == schema.SCHEMA_VERSION
    assert found == {1, schema.SCHEMA_VERSION}, "some cuts were before the commit of the migration, some behind it"


async def work_through_the_thread(disk: PowerDisk, path: Path, seed: int) -> None:
    """Use a store as a queue does: one thread commits groups, another syncs the high-water mark beside them."""
    chance = random.Random(seed)
    for _ in range(2):
        store = SqliteStore(path, disk=disk)
        await store.open(lambda events: disk.acked(events[-1].seq))
        gone = store.oldest
        for _ in range(40):
            seq = store._durable.appended_seq
            for _ in range(chance.choice((1, 1, 3))):  # events appended during a commit are one group
                events = [submitted(seq + 1 + n) for n in range(chance.choice((1, 2, 8)))]
                seq = events[-1].seq
                store.append(events)
            if chance.random() < 0.8:
                await store.committed(seq)
            if chance.random() < 0.2 and store.last_seq > gone + 5:
                jobs = {f"job-{at}": (at, at) for at in range(gone, gone + 5)}
                keys = [KeyTombstone(key_name("k", job), job, "d", State.FAILED, 1.0) for job in jobs]
                await store.prune(jobs, keys)
                gone += 5
        await store.aclose()


async def test_a_power_cut_under_the_threads_of_the_store_loses_no_acknowledged_event(tmp_path: Path) -> None:
    await thread_cuts(tmp_path, points=300, seed=1)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(10))
async def test_thousands_of_power_cuts_under_the_threads_of_the_store_lose_nothing(tmp_path: Path, seed: int) -> None:
    await thread_cuts(tmp_path, points=2000, seed=seed)


async def thread_cuts(tmp_path: Path, points: int, seed: int) -> None:
    disk = PowerDisk()
    path = (tmp_path / "jobs.db").resolve()
    await work_through_the_thread(disk, path, seed)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["jobs.db-lock"], (
        "all other files are on the simulated disk"
    )
    chance = random.Random(seed)
    steps = list(disk.steps)
    for _ in range(points):
        check_cut(steps[: chance.randrange(1, len(steps) + 1)], chance, str(path))


def test_the_check_finds_losses_if_nothing_is_synced() -> None:
    """Otherwise the disk could not reveal a missing sync."""
    disk = PowerDisk()
    work(disk, 20, seed=1)
    steps = [step for step in disk.steps if step.kind != "sync" or not step.name.endswith("-wal")]
    chance = random.Random(1)
    lost = 0
    for _ in range(100):
        try:
            check_cut(steps[: chance.randrange(1, len(steps) + 1)], chance)
        except Exception:
            lost += 1
    assert lost > 20


def work_with_faults(disk: PowerDisk) -> None:
    """Do what the writer thread does: recover after a failed commit, write again what is not committed, skip a failed
    prune."""
    for _ in range(2):
        journal = opened(disk)
        for size in (1, 3, 1, 30, 2):
            if size == 1:
                prune_some(journal)
            target = journal.last_seq + size
            while journal.last_seq < target:
                try:
                    journal.write([submitted(seq) for seq in range(journal.last_seq + 1, target + 1)])
                except (sqlite3.Error, OSError) as error:
                    recover(journal, error)
            disk.acked(target)
        journal.close()


def prune_some(journal: Journal) -> None:
    gone = range(journal.oldest, min(journal.oldest + 2, journal.last_seq + 1))
    keys = [KeyTombstone(key_name("k", f"job-{at}"), f"job-{at}", "d", State.FAILED, 1.0) for at in gone]
    try:
        journal.prune(gone, gone.stop, keys)
    except sqlite3.Error as error:
        recover(journal, error)


def opened(disk: PowerDisk) -> Journal:
    """Open a journal; if a fault prevents that, it raises and can be opened at the next attempt."""
    for tries in range(1, 4):
        journal = make_journal(disk)
        try:
            journal.open()
            break
        except StoreError as refusal:
            assert not isinstance(refusal, JournalDamaged), refusal
            if tries == 3:
                raise
    return journal


def recover(journal: Journal, error: sqlite3.Error | OSError) -> None:
    for _ in range(2):
        with contextlib.suppress(sqlite3.Error, OSError):
            journal.recover(error)
            return
    journal.recover(error)


def count_calls() -> int:
    disk = PowerDisk()
    work_with_faults(disk)
    return disk.calls


@pytest.mark.parametrize("length", [1, 2])
def test_a_fault_at_any_call_and_a_power_cut_lose_nothing(length: int) -> None:
    """One call fails, or two in a row; after a failed sync the system has dropped the pages."""
    faults(length, cuts_each=4, seed=3)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("length", [1, 2])
def test_many_power_cuts_after_a_fault_at_any_call_lose_nothing(length: int, seed: int) -> None:
    faults(length, cuts_each=20, seed=seed)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(50))
def test_a_million_power_cuts_after_faults_lose_nothing(seed: int) -> None:
    """20,000 for each seed."""
    assert faults(1 + seed % 2, cuts_each=-(-20_000 // count_calls()), seed=seed) >= 20_000


def faults(length: int, cuts_each: int, seed: int) -> int:
    """Return the number of power cuts."""
    chance = random.Random(seed)
    calls = count_calls()
    for at in range(1, calls + 1):
        disk = PowerDisk()
        disk.fail = range(at, at + length)
        work_with_faults(disk)
        disk.fail = range(0)
        for n in range(cuts_each):
            end = len(disk.steps) if n % 2 else chance.randrange(1, len(disk.steps) + 1)
            check_cut(disk.steps[:end], chance)
    return calls * cuts_each


def test_a_disk_that_fails_for_good_at_any_call_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store raises; a new process, or the machine after a power cut, finds all acknowledged events."""
    hook = sys.unraisablehook
    # where SQLite ignores a failed call, apsw reports its error here
    monkeypatch.setattr(sys, "unraisablehook", lambda it: None if "made up" in str(it.exc_value) else hook(it))
    chance = random.Random(5)
    given_up = 0
    for at in range(1, count_calls() + 1):
        disk = PowerDisk()
        disk.fail = range(at, sys.maxsize)
        try:
            work_with_faults(disk)
        except (StoreError, sqlite3.Error, OSError) as error:
            assert not isinstance(error, JournalDamaged), error
            given_up += 1
        disk.fail = range(0)
        acked = max((step.at for step in disk.steps if step.kind == "acked"), default=0)
        found = make_journal(PowerDisk({name: bytes(file.data) for name, file in disk.files.items()}))
        found.open()
        assert found.last_seq >= acked, f"event {acked} was acknowledged and is lost"
        found.close()
        for _ in range(5):
            check_cut(disk.steps, chance)
    assert given_up > at / 2


def test_a_connection_remains_usable_after_a_full_disk() -> None:
    disk = PowerDisk()
    journal = make_journal(disk)
    journal.open()
    journal.write([submitted(1)])
    for quota in range(sum(len(file.data) for file in disk.files.values()), 200_000, 3000):
        disk.quota = quota
        before = journal.last_seq
        try:
            journal.write([submitted(before + 1, payload=b'"' + b"x" * 20_000 + b'"')])
        except sqlite3.Error as error:
            assert is_full(error)
            journal.recover(error)
            assert journal.last_seq == before
    assert journal.last_seq > 3
    disk.quota = None
    journal.write([submitted(journal.last_seq + 1)])
    journal.close()
    again = make_journal(disk)
    assert len(again.open()) == journal.last_seq
