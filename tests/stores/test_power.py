"""Power cuts under the real store code: nothing acknowledged is lost, and the journal is never refused."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("apsw")

from power import PowerDisk, Step, cut

from trio_jobs import JournalDamaged, SqliteStore, StoreError
from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import State
from trio_jobs._engine.key_tombstones import KeyTombstone, key_name
from trio_jobs._stores.sqlite.errors import is_full
from trio_jobs._stores.sqlite.high_water_mark import HighWaterMarkFile
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs._stores.sqlite.rows import decode
from trio_jobs.testing.store_check import submitted

PATH = "/jobs.db"


def at_once(sync: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        sync()


def journal(disk: PowerDisk, path: str = PATH, background: Callable[[Callable[[], None]], None] = at_once) -> Journal:
    return Journal(path, disk, allow_data_loss=False, background=background)


def kill(made: Journal, disk: PowerDisk) -> None:
    """The process dies: nothing is closed, poured in or synced, and the system keeps what it was given."""
    disk.discard(made._connection, made.path)


def work(disk: PowerDisk, groups: int, seed: int) -> list[bytes]:
    """Groups of some events, a prune now and then, a close or a kill and a new start; what was written, event by event.

    The mark's sync is often late, and then it is not done.
    """
    chance = random.Random(seed)
    written: list[bytes] = []

    def in_time(sync: Callable[[], None]) -> None:
        if chance.random() < 0.5:
            sync()

    made = journal(disk, background=in_time)
    made.open()
    open_jobs: list[tuple[str, int]] = []
    for n in range(groups):
        seq = made.last_seq
        events: list[ev.Event] = []
        for _ in range(chance.choice((1, 1, 2, 5, 40))):
            seq += 1
            events.append(submitted(seq, payload=b'"' + b"x" * chance.choice((1, 30, 2000)) + b'"'))
        made.write(events)
        disk.acked(seq)
        written += [str(event.seq).encode() for event in events]
        open_jobs += [(f"job-{event.seq}", event.seq) for event in events]
        if n % 10 == 9 and len(open_jobs) > 20:
            gone = [at for _, at in open_jobs[:10]]
            keys = [KeyTombstone(key_name("k", job), job, "d", State.FAILED, float(at)) for job, at in open_jobs[:10]]
            made.forget(gone, gone[-1] + 1, keys)
            del open_jobs[:10]
        if n % 10 == 4:
            if chance.random() < 0.5:
                made.close()
            else:
                kill(made, disk)
            made = journal(disk, background=in_time)
            made.open()
    made.close()
    return written


def survives(steps: list[Step], chance: random.Random, path: str = PATH) -> None:
    files, acked = cut(steps, chance)
    tried = journal(PowerDisk(files), path)
    bodies = tried.open()  # refused: a good journal would not start after a power cut
    seqs = [decode(body).seq for body in bodies]
    assert tried.last_seq >= acked, f"event {acked} was acknowledged and is gone"
    assert tried.last_seq == max([*seqs, tried.oldest - 1])
    forgotten = {int(key.job.removeprefix("job-")) for key in tried.keys}
    assert forgotten.isdisjoint(seqs), "a job is there, or what is remembered of its key"
    assert forgotten.union(seqs).issuperset(range(1, acked + 1)), "one of both"
    # and it goes on from there
    tried.write([submitted(tried.last_seq + 1)])
    tried.close()


def cuts(points: int, seed: int) -> None:
    disk = PowerDisk()
    work(disk, 60, seed)
    chance = random.Random(seed)
    for _ in range(points):
        survives(disk.steps[: chance.randrange(1, len(disk.steps) + 1)], chance)


def test_a_power_cut_loses_nothing_that_was_acknowledged() -> None:
    cuts(1000, seed=1)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(20))
def test_a_thousand_power_cuts_lose_nothing_that_was_acknowledged(seed: int) -> None:
    cuts(1000, seed)


def test_an_opening_syncs_the_mark_that_a_kill_has_left() -> None:
    disk = PowerDisk()
    made = journal(disk, background=lambda sync: None)
    made.open()
    made.write([submitted(1)])
    kill(made, disk)
    journal(disk).open()
    chance = random.Random(1)
    for _ in range(50):
        mark = HighWaterMarkFile(PowerDisk(cut(disk.steps, chance)[0]), f"{PATH}-mark")
        assert mark.found is not None
        assert mark.found.seq == 1


async def work_through_the_thread(disk: PowerDisk, path: Path, seed: int) -> None:
    """The store as a queue uses it: its thread forms the groups, its second thread syncs the mark beside them."""
    chance = random.Random(seed)
    for _ in range(2):
        store = SqliteStore(path, disk=disk)
        await store.open(lambda events: disk.acked(events[-1].seq))
        gone = store.oldest
        for _ in range(40):
            seq = store._handed
            for _ in range(chance.choice((1, 1, 3))):  # what is handed over meanwhile is a group
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


async def test_a_power_cut_under_the_stores_threads_loses_nothing_that_was_told(tmp_path: Path) -> None:
    await thread_cuts(tmp_path, points=300, seed=1)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(10))
async def test_thousands_of_power_cuts_under_the_stores_threads_lose_nothing(tmp_path: Path, seed: int) -> None:
    await thread_cuts(tmp_path, points=2000, seed=seed)


async def thread_cuts(tmp_path: Path, points: int, seed: int) -> None:
    disk = PowerDisk()
    path = (tmp_path / "jobs.db").resolve()
    await work_through_the_thread(disk, path, seed)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["jobs.db-lock"], "all else lies on the made-up disk"
    chance = random.Random(seed)
    steps = list(disk.steps)
    for _ in range(points):
        survives(steps[: chance.randrange(1, len(steps) + 1)], chance, str(path))


def test_without_syncs_the_same_check_finds_losses() -> None:
    """The disk is worth nothing as a witness if it forgives."""
    disk = PowerDisk()
    work(disk, 20, seed=1)
    steps = [step for step in disk.steps if step.kind != "sync" or not step.name.endswith("-wal")]
    chance = random.Random(1)
    lost = 0
    for _ in range(100):
        try:
            survives(steps[: chance.randrange(1, len(steps) + 1)], chance)
        except Exception:
            lost += 1
    assert lost > 20


def careful_work(disk: PowerDisk) -> None:
    """What the store's thread does, in one go: after a failed commit it finds out, and tries again what is not in; a
    prune that failed is left for another time."""
    for _ in range(2):
        made = opened(disk)
        for size in (1, 3, 1, 30, 2):
            if size == 1:
                forget_some(made)
            target = made.last_seq + size
            while made.last_seq < target:
                try:
                    made.write([submitted(seq) for seq in range(made.last_seq + 1, target + 1)])
                except (sqlite3.Error, OSError) as error:
                    find_out(made, error)
            disk.acked(target)
        made.close()


def forget_some(made: Journal) -> None:
    gone = range(made.oldest, min(made.oldest + 2, made.last_seq + 1))
    keys = [KeyTombstone(key_name("k", f"job-{at}"), f"job-{at}", "d", State.FAILED, 1.0) for at in gone]
    try:
        made.forget(gone, gone.stop, keys)
    except sqlite3.Error as error:
        find_out(made, error)


def opened(disk: PowerDisk) -> Journal:
    """A fault may keep it from opening; then it says so, and opens another time."""
    for tries in range(1, 4):
        made = journal(disk)
        try:
            made.open()
            break
        except StoreError as refusal:
            assert not isinstance(refusal, JournalDamaged), refusal
            if tries == 3:
                raise
    return made


def find_out(made: Journal, error: sqlite3.Error | OSError) -> None:
    for _ in range(2):
        with contextlib.suppress(sqlite3.Error, OSError):
            made.recover(error)
            return
    made.recover(error)


def count_calls() -> int:
    disk = PowerDisk()
    careful_work(disk)
    return disk.calls


@pytest.mark.parametrize("length", [1, 2])
def test_a_fault_at_any_call_loses_nothing_not_even_in_a_power_cut(length: int) -> None:
    """One call, or two in a row; among them each sync, after which the system has thrown the pages away."""
    faults(length, cuts_each=6, seed=3)


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
    """How many power cuts there were."""
    chance = random.Random(seed)
    calls = count_calls()
    for at in range(1, calls + 1):
        disk = PowerDisk()
        disk.fail = range(at, at + length)
        careful_work(disk)
        disk.fail = range(0)
        for n in range(cuts_each):
            end = len(disk.steps) if n % 2 else chance.randrange(1, len(disk.steps) + 1)
            survives(disk.steps[:end], chance)
    return calls * cuts_each


def test_a_disk_that_works_no_more_from_any_call_on_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store says so and ends; a new process, or the machine after a power cut, finds what was acknowledged."""
    tell = sys.unraisablehook
    # where SQLite lets a call fail, apsw has its error told here
    monkeypatch.setattr(sys, "unraisablehook", lambda it: None if "made up" in str(it.exc_value) else tell(it))
    chance = random.Random(5)
    given_up = 0
    for at in range(1, count_calls() + 1):
        disk = PowerDisk()
        disk.fail = range(at, sys.maxsize)
        try:
            careful_work(disk)
        except (StoreError, sqlite3.Error, OSError) as error:
            assert not isinstance(error, JournalDamaged), error
            given_up += 1
        disk.fail = range(0)
        acked = max((step.at for step in disk.steps if step.kind == "acked"), default=0)
        found = journal(PowerDisk({name: bytes(file.data) for name, file in disk.files.items()}))
        found.open()
        assert found.last_seq >= acked, f"event {acked} was acknowledged and is gone"
        found.close()
        for _ in range(5):
            survives(disk.steps, chance)
    assert given_up > at / 2


def test_when_there_is_no_room_the_same_connection_goes_on_once_there_is() -> None:
    disk = PowerDisk()
    made = journal(disk)
    made.open()
    made.write([submitted(1)])
    for quota in range(sum(len(file.data) for file in disk.files.values()), 200_000, 3000):
        disk.quota = quota
        before = made.last_seq
        try:
            made.write([submitted(before + 1, payload=b'"' + b"x" * 20_000 + b'"')])
        except sqlite3.Error as error:
            assert is_full(error)
            made.recover(error)
            assert made.last_seq == before
    assert made.last_seq > 3
    disk.quota = None
    made.write([submitted(made.last_seq + 1)])
    made.close()
    again = journal(disk)
    assert len(again.open()) == made.last_seq
