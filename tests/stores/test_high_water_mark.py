"""The high-water mark is written in one thread, synced in another, and never torn in all of its slots."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from trio_jobs._stores.sqlite.disk import Disk, File
from trio_jobs._stores.sqlite.high_water_mark import (
    SYNC_EVERY,
    BackgroundSync,
    HighWaterMark,
    HighWaterMarkFile,
    SyncPace,
)

Hook = Callable[[], None]


def nothing() -> None:
    pass


class HookedFile:
    """The bytes now and as last synced.

    A hook is called once, during the next call, before or after the bytes change: it is what the other thread does
    meanwhile.
    """

    def __init__(self) -> None:
        self.now = bytearray(12_288)
        self.synced = bytes(self.now)
        self.unsynced: list[tuple[int, bytes]] = []
        self.before: Hook = nothing
        self.after: Hook = nothing
        self.fails = False

    def _meanwhile(self) -> tuple[Hook, Hook]:
        hooks, self.before, self.after = (self.before, self.after), nothing, nothing
        return hooks

    def read(self) -> bytes:
        return bytes(self.now)

    def write(self, offset: int, data: bytes) -> None:
        before, after = self._meanwhile()
        before()
        self.now[offset : offset + len(data)] = data
        self.unsynced.append((offset, data))
        after()

    def sync(self) -> None:
        before, after = self._meanwhile()
        before()
        if self.fails:
            self.unsynced.clear()  # as Linux does: readers see it, and no later sync writes it
            raise OSError
        self.synced = self.written()
        self.unsynced.clear()
        after()

    def close(self) -> None:
        pass

    def cut(self, chance: random.Random) -> bytes:
        """The bytes after a power cut: of each unsynced write nothing, all, or the first bytes."""
        return self.written(lambda data: chance.choice((0, len(data), chance.randrange(len(data)))))

    def written(self, there: Callable[[bytes], int] = len) -> bytes:
        """The bytes on the disk if `there` of each unsynced write are."""
        found = bytearray(self.synced)
        for offset, data in self.unsynced:
            first = data[: there(data)]
            found[offset : offset + len(first)] = first
        return bytes(found)


class SingleFileDisk(Disk):
    def __init__(self, file: HookedFile) -> None:
        super().__init__()
        self.file = file

    def open_file(self, path: str, *, create: bool = False) -> File | None:
        return self.file

    def sync_folder(self, path: str) -> None:
        pass


steps = st.tuples(st.sampled_from(["write", "sync", "failed sync"]), st.sampled_from(["", "before", "after"]))


@settings(max_examples=1000)
@given(st.lists(steps, max_size=12), st.integers(0, 2**32))
def test_a_power_cut_leaves_a_synced_mark_whatever_two_threads_were_doing(
    plan: list[tuple[str, str]], seed: int
) -> None:
    file = HookedFile()
    mark = HighWaterMarkFile(SingleFileDisk(file), "mark")
    mark.create(HighWaterMark("e" * 32, 1, 0))
    started = ended = certain = 1
    lost = 0  # a mark that a failed sync did not write is never written

    def write() -> None:
        nonlocal started, ended
        started += 1
        mark.write(HighWaterMark("e" * 32, started, 0))
        ended += 1

    def sync() -> None:
        """Marks written before the sync are certain after it, whatever is written meanwhile."""
        nonlocal certain, lost
        before = ended
        try:
            mark.sync()
        except OSError:
            lost = ended
        else:
            certain = before if before > lost else certain

    for what, meanwhile in plan:
        do, other = (write, sync) if what == "write" else (sync, write)
        if meanwhile:
            setattr(file, meanwhile, other)
        file.fails = what == "failed sync"
        do()
        file.before, file.after, file.fails = nothing, nothing, False
    chance = random.Random(seed)
    for _ in range(20):
        survivor = HookedFile()
        survivor.now = bytearray(file.cut(chance))
        found = HighWaterMarkFile(SingleFileDisk(survivor), "mark").stored
        assert found is not None, "all slots are torn"
        assert certain <= found.seq <= started


@given(st.lists(st.floats(0.0, 3 * SYNC_EVERY), max_size=40))
def test_a_mark_is_synced_within_the_interval_and_not_more_often(gaps: list[float]) -> None:
    """For a thread that syncs the mark of a group at once if that is due, or else after the wait, and group after group
    between which so many seconds pass."""
    now = 100.0
    syncs: list[float] = []
    unsynced: float | None = None
    pace = SyncPace(lambda: now)

    def sync() -> None:
        nonlocal unsynced
        pace.started()
        syncs.append(now)
        unsynced = None

    for gap in gaps:
        next_group = now + gap
        if unsynced is not None and (wait := pace.wait()) <= gap:
            now += wait
            assert now - unsynced <= SYNC_EVERY + 1e-9
            sync()
        now = next_group
        if pace.is_due:
            sync()
        elif unsynced is None:
            unsynced = now
    assert syncs[:1] == [100.0 + gap for gap in gaps[:1]], "the first group of a life"
    assert all(later - earlier >= SYNC_EVERY - 1e-9 for earlier, later in itertools.pairwise(syncs))


def test_a_mark_written_during_a_sync_is_synced_after_it() -> None:
    background = BackgroundSync()
    is_running, resume, is_over = threading.Event(), threading.Event(), threading.Event()
    done: list[str] = []

    def slow() -> None:
        is_running.set()
        assert resume.wait(30)
        done.append("slow")

    def quick() -> None:
        done.append("quick")
        is_over.set()

    background.request(slow)
    assert is_running.wait(30)
    for _ in range(5):
        background.request(quick)
    resume.set()
    assert is_over.wait(30)
    background.stop()
    assert done == ["slow", "quick"]
