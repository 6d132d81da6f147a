"""Power cuts under the real store code: nothing acknowledged is lost, and the journal is never refused."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("apsw")

from power import PowerDisk, Step, cut

from trio_jobs import _events as ev
from trio_jobs._stores._sqlite_journal import Journal
from trio_jobs._stores._sqlite_rows import decode
from trio_jobs.testing.stores import submitted

PATH = "/jobs.db"


def journal(disk: PowerDisk) -> Journal:
    return Journal(PATH, disk, accept_loss=False, beside=lambda sync: sync())


def work(disk: PowerDisk, groups: int, seed: int) -> list[bytes]:
    """Groups of some events, a prune now and then, a close and a new start; what was written, event by event."""
    chance = random.Random(seed)
    written: list[bytes] = []
    made = journal(disk)
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
            made.prune({job: (at, at) for job, at in open_jobs[:10]})
            del open_jobs[:10]
        if n % 25 == 24:
            made.close()
            made = journal(disk)
            made.open()
    made.close()
    return written


def survives(steps: list[Step], chance: random.Random) -> None:
    files, acked = cut(steps, chance)
    tried = journal(PowerDisk(files))
    bodies = tried.open()  # refused: a good journal would not start after a power cut
    seqs = [decode(body).seq for body in bodies]
    assert tried.last_seq >= acked, f"event {acked} was acknowledged and is gone"
    assert tried.last_seq == max([*seqs, tried.oldest - 1])
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
    cuts(300, seed=1)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(20))
def test_a_thousand_power_cuts_lose_nothing_that_was_acknowledged(seed: int) -> None:
    cuts(1000, seed)


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
