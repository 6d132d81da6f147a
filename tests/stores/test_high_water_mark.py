"""The high-water mark: written in one thread, synced in another, and never torn in all of its slots."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from trio_jobs._stores.sqlite.disk import Disk, File
from trio_jobs._stores.sqlite.high_water_mark import BackgroundSync, HighWaterMark, HighWaterMarkFile

Hook = Callable[[], None]


def nothing() -> None:
    pass


class HookedFile:
    """Bytes now and as of the last sync. Each hook is called once, in the middle of the next call of its kind: what the
    other thread does meanwhile, before or behind the moment in which the bytes change."""

    def __init__(self) -> None:
        self.now = bytearray(12_288)
        self.synced = bytes(self.now)
        self.since: list[tuple[int, bytes]] = []
        self.before: Hook = nothing
        self.behind: Hook = nothing
        self.fails = False

    def _meanwhile(self) -> tuple[Hook, Hook]:
        hooks, self.before, self.behind = (self.before, self.behind), nothing, nothing
        return hooks

    def read(self) -> bytes:
        return bytes(self.now)

    def write(self, offset: int, data: bytes) -> None:
        before, behind = self._meanwhile()
        before()
        self.now[offset : offset + len(data)] = data
        self.since.append((offset, data))
        behind()

    def sync(self) -> None:
        before, behind = self._meanwhile()
        before()
        if self.fails:
            self.since.clear()  # as Linux does: never to be written now, though readers see it
            raise OSError
        self.synced = self.written()
        self.since.clear()
        behind()

    def close(self) -> None:
        pass

    def cut(self, chance: random.Random) -> bytes:
        """After a power cut: of each write since the last sync some first bytes, if any."""
        return self.written(lambda data: chance.choice((0, len(data), chance.randrange(len(data)))))

    def written(self, there: Callable[[bytes], int] = len) -> bytes:
        """What is on the disk if so many bytes of each write since the last sync are there."""
        found = bytearray(self.synced)
        for offset, data in self.since:
            first = data[: there(data)]
            found[offset : offset + len(first)] = first
        return bytes(found)


class OneFile(Disk):
    def __init__(self, file: HookedFile) -> None:
        super().__init__()
        self.file = file

    def open_file(self, path: str, *, create: bool = False) -> File | None:
        return self.file

    def sync_folder(self, path: str) -> None:
        pass


steps = st.tuples(st.sampled_from(["write", "sync", "failed sync"]), st.sampled_from(["", "before", "behind"]))


@settings(max_examples=1000)
@given(st.lists(steps, max_size=12), st.integers(0, 2**32))
def test_a_power_cut_leaves_a_synced_mark_whatever_two_threads_were_doing(
    plan: list[tuple[str, str]], seed: int
) -> None:
    file = HookedFile()
    mark = HighWaterMarkFile(OneFile(file), "mark")
    mark.create(HighWaterMark("e" * 32, 1, 0))
    begun = ended = certain = 1
    lost = 0  # what a sync that failed was to write, no other writes

    def write() -> None:
        nonlocal begun, ended
        begun += 1
        mark.write(HighWaterMark("e" * 32, begun, 0))
        ended += 1

    def sync() -> None:
        """What was written before it is certain after it, whatever is written meanwhile."""
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
        file.before, file.behind, file.fails = nothing, nothing, False
    chance = random.Random(seed)
    for _ in range(20):
        survivor = HookedFile()
        survivor.now = bytearray(file.cut(chance))
        found = HighWaterMarkFile(OneFile(survivor), "mark").stored
        assert found is not None, "all slots are torn"
        assert certain <= found.seq <= begun


def test_a_mark_written_during_a_sync_is_synced_after_it() -> None:
    background = BackgroundSync()
    is_in, go_on, is_over = threading.Event(), threading.Event(), threading.Event()
    done: list[str] = []

    def slow() -> None:
        is_in.set()
        assert go_on.wait(30)
        done.append("slow")

    def quick() -> None:
        done.append("quick")
        is_over.set()

    background.request(slow)
    assert is_in.wait(30)
    for _ in range(5):
        background.request(quick)
    go_on.set()
    assert is_over.wait(30)
    background.stop()
    assert done == ["slow", "quick"]
