"""The high-water mark beside the journal: up to which event it was committed, so that a shorter one is noticed.

SQLite itself does not notice: one flipped byte in its write-ahead log, and it opens without the transactions behind it
and calls the file sound. The mark says that they were there.

It must never run ahead of the journal, or a power cut would make a good journal look short. So it is written when a
group's sync has returned, and synced beside the next group's, or after a moment if none comes; nobody waits for it.
(Synced at once it woke a thread just when the others had the interpreter lock to fight for, which cost a lone producer
an eighth.) After a kill it is exact; after a power cut it may be the last group behind, or a few groups where its own
sync took longer than theirs. There are three slots. The one that was synced last is never written to, so that a
torn write leaves a mark that counts; nor is the one that is being synced, so that each sync gets the mark on.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import zlib
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

import attrs

from trio_jobs._stores.sqlite.disk import Disk, File

__all__ = ["BackgroundSync", "HighWaterMark", "HighWaterMarkFile"]

_MAGIC: Final = b"tj-mark1"
_RECORD: Final = struct.Struct("<8sQ32sQI")
_SLOTS: Final = (0, 4096, 8192)  #: where they begin: more than a sector apart


@attrs.frozen
class HighWaterMark:
    """epoch: of the history, 32 hex digits. seq: the last event. checksum: of that event's row, 0 for none."""

    epoch: str
    seq: int
    checksum: int


class HighWaterMarkFile:
    """`found` is the newest mark that was there; None where there is none that can be read. `exists`: the file was."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._path = path
        self._file: File | None = disk.open_file(path)
        self._turn = 0
        # a write and a sync run in two threads: the lock is about which slot is whose
        self._lock = threading.Lock()
        self._safe = _SLOTS[0]  #: was synced last
        self._syncing: int | None = None
        self._latest: int | None = None  #: was written last
        self.exists = self._file is not None
        self.found: HighWaterMark | None = None
        if self._file is not None:
            content = self._file.read()
            marks = [
                (*mark, slot) for slot in _SLOTS if (mark := _read(content[slot : slot + _RECORD.size + 4])) is not None
            ]
            if marks:
                self._turn, self.found, self._safe = max(marks, key=lambda mark: mark[0])

    def begin(self, mark: HighWaterMark) -> None:
        """Make the file if there is none; write `mark`, and sync: from here on it counts."""
        if self._file is None:
            self._file = self._disk.open_file(self._path, create=True)
        for _ in range(2):  # in two slots: what stood there was about another history, or less
            self.write(mark)
            self.sync()
        self._disk.sync_folder(self._path)

    def write(self, mark: HighWaterMark) -> None:
        """Raises `OSError`; the mark is then one step behind, or two."""
        assert self._file is not None
        self._turn += 1
        body = _RECORD.pack(_MAGIC, self._turn, mark.epoch.encode(), mark.seq, mark.checksum)
        with self._lock:
            free = set(_SLOTS) - {self._safe, self._syncing}
            # the latest only where there is no other, which is while a sync is under way: none begins meanwhile
            slot = min(free - {self._latest} or free)
        self._file.write(slot, body + zlib.crc32(body).to_bytes(4, "little"))
        with self._lock:
            self._latest = slot

    def sync(self) -> None:
        """What was written last before it is on the disk after it. Raises `OSError`: it may be, or not."""
        assert self._file is not None
        with self._lock:
            self._syncing = self._latest
        try:
            self._file.sync()
        except BaseException:
            with self._lock:
                # no later sync makes it safe either: the system counts as written what it has failed to write
                self._syncing = self._latest = None
            raise
        with self._lock:
            if self._syncing is not None:
                self._safe, self._syncing = self._syncing, None

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _read(slot: bytes) -> tuple[int, HighWaterMark] | None:
    if len(slot) != _RECORD.size + 4 or zlib.crc32(slot[:-4]) != int.from_bytes(slot[-4:], "little"):
        return None
    magic, turn, epoch, seq, checksum = _RECORD.unpack(slot[:-4])
    return (turn, HighWaterMark(epoch.decode("ascii", "replace"), seq, checksum)) if magic == _MAGIC else None


class BackgroundSync:
    """One more thread, in which the mark is synced. Asked while it is busy it does so once more, however often it was
    asked."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, sync: Callable[[], None]) -> None:
        """To be called by one thread."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="trio-jobs mark", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system has no more threads: the mark stays a step behind
                return
            self._thread = thread
        if self._inbox.empty():
            self._inbox.put(sync)

    def stop(self) -> None:
        """Wait for a sync that is under way, though not for one that hangs."""
        if self._thread is not None:
            self._inbox.put(None)
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while (sync := self._inbox.get()) is not None:
            with contextlib.suppress(OSError):  # the mark stays a step behind
                sync()
