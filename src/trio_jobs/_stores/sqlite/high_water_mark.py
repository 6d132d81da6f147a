"""The high-water mark beside the journal: the number of the last committed event, so that a shorter journal is noticed.

SQLite itself does not notice: with one flipped byte in its WAL it opens without the transactions behind that byte and
reports the file as sound. The high-water mark says that they were there.

The mark must never be ahead of the journal, or a power cut would make a good journal look truncated. So it is written
when the sync of a group has returned. It is synced in another thread, at most every `SYNC_EVERY` seconds: after that
time with the next group, or without one. No commit waits for it. (Synced for each group, it doubles the syncs of the
disk, and wakes a thread that competes for the interpreter lock.) After a kill the mark is exact. After a power cut it
may lack the commits of the last `SYNC_EVERY` seconds, and those made while it was being synced.

The file has three slots. The slot that was synced last is never written to, so a torn write leaves a valid mark. The
slot that is being synced is not written to either, so each sync advances the mark.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import zlib
from collections.abc import Callable
from functools import cache
from queue import SimpleQueue
from typing import Final

import msgspec

from trio_jobs._stores.sqlite.disk import Disk, File

__all__ = ["NO_EPOCH", "SYNC_EVERY", "BackgroundSync", "HighWaterMark", "HighWaterMarkFile", "SyncPace"]

NO_EPOCH: Final = "0" * 32  #: of the mark with which a journal is begun

#: Seconds between two syncs of the mark: one in 50 ms is not felt, and a power cut can hide little in that time
SYNC_EVERY: Final = 0.05

_MAGIC: Final = b"tj-mark1"
_RECORD: Final = struct.Struct("<8sQ32sQI")
_SLOTS: Final = (0, 4096, 8192)  #: their offsets: more than a sector apart


class HighWaterMark(msgspec.Struct, frozen=True, gc=False):
    """Which event was committed last."""

    epoch: str
    """The epoch of the journal: 32 hexadecimal digits; `NO_EPOCH` until its tables exist."""
    seq: int
    """The last committed event."""
    checksum: int
    """The checksum of the row of that event; 0 if there is no such row."""


class HighWaterMarkFile:
    """The file with the mark. `write` and `sync` may run in two threads."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._path = path
        self._file: File | None = disk.open_file(path)
        self._generation = 0
        self._lock = threading.Lock()  #: guards the three attributes below
        self._synced_slot = _SLOTS[0]
        self._syncing_slot: int | None = None
        self._written_slot: int | None = None
        self.exists = self._file is not None
        """Whether the file existed when it was opened."""
        self.stored: HighWaterMark | None = None
        """The newest valid mark in the file when it was opened; None for none."""
        if self._file is not None:
            content = self._file.read()
            marks = [
                (*mark, slot) for slot in _SLOTS if (mark := _read(content[slot : slot + _RECORD.size + 4])) is not None
            ]
            if marks:
                self._generation, self.stored, self._synced_slot = max(marks, key=lambda mark: mark[0])

    def create(self, mark: HighWaterMark) -> None:
        """Create the file if it does not exist, write the mark, and sync it. Older marks are overwritten."""
        if self._file is None:
            self._file = self._disk.open_file(self._path, create=True)
        for _ in range(2):  # in two slots: their marks are older, or of another epoch
            self.write(mark)
            self.sync()
        self._disk.sync_folder(self._path)

    def write(self, mark: HighWaterMark) -> None:
        """Write the mark without syncing it. Raises `OSError`; the file then still has an older mark."""
        assert self._file is not None
        self._generation += 1
        body = _RECORD.pack(_MAGIC, self._generation, mark.epoch.encode(), mark.seq, mark.checksum)
        with self._lock:
            slot = _slot_to_write(self._synced_slot, self._syncing_slot, self._written_slot)
        self._file.write(slot, body + zlib.crc32(body).to_bytes(4, "little"))
        with self._lock:
            self._written_slot = slot

    def sync(self) -> None:
        """Sync the mark that was written last, if there is a file. Raises `OSError`; the mark is on the disk or not."""
        if self._file is None:
            return
        with self._lock:
            self._syncing_slot = self._written_slot
        try:
            self._file.sync()
        except BaseException:
            with self._lock:
                # a later sync would not write it either: the system counts failed pages as written
                self._syncing_slot = self._written_slot = None
            raise
        with self._lock:
            if self._syncing_slot is not None:
                self._synced_slot, self._syncing_slot = self._syncing_slot, None

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


@cache
def _slot_to_write(synced: int, syncing: int | None, written: int | None) -> int:
    free = set(_SLOTS) - {synced, syncing}
    # the slot written last only if no other is free, which means a sync is running: no other sync will start
    return min(free - {written} or free)


def _read(slot: bytes) -> tuple[int, HighWaterMark] | None:
    """The generation and the mark in a slot; None if the slot is empty or torn."""
    if len(slot) != _RECORD.size + 4 or zlib.crc32(slot[:-4]) != int.from_bytes(slot[-4:], "little"):
        return None
    magic, generation, epoch, seq, checksum = _RECORD.unpack(slot[:-4])
    if magic != _MAGIC:
        return None
    return generation, HighWaterMark(epoch.decode("ascii", "replace"), seq, checksum)


class SyncPace:
    """When the mark is synced. The first sync of a life is due at once.

    Args:
        monotonic: A clock in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._due_at: float | None = None

    @property
    def is_due(self) -> bool:
        """Whether the next sync may start."""
        return self._due_at is None or self._monotonic() >= self._due_at

    def wait(self) -> float:
        """The seconds until the next sync may start."""
        return 0.0 if self._due_at is None else max(0.0, self._due_at - self._monotonic())

    def started(self) -> None:
        """A sync has started."""
        self._due_at = self._monotonic() + SYNC_EVERY


class BackgroundSync:
    """A thread that syncs the high-water mark. Any number of requests during a sync lead to one more sync."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def request(self, sync: Callable[[], None]) -> None:
        """Have `sync` called in the thread. Called by one thread only."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="trio-jobs high-water mark", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system has no more threads: the mark stays a step behind
                return
            self._thread = thread
        if self._inbox.empty():
            self._inbox.put(sync)

    def stop(self) -> None:
        """End the thread. Waits for a running sync, for at most one second."""
        if self._thread is not None:
            self._inbox.put(None)
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while (sync := self._inbox.get()) is not None:
            with contextlib.suppress(Exception):  # the mark stays a step behind; the next sync may succeed
                sync()
