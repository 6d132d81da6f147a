"""The high-water mark beside the journal: up to which event it was committed, so that a shorter one is noticed.

SQLite itself does not notice: one flipped byte in its write-ahead log, and it opens without the transactions behind it
and calls the file sound. The mark says that they were there.

It must never run ahead of the journal, or a power cut would make a good journal look short. So it is written when a
group's sync has returned, and synced at once, in the time in which the disk would rest and the next group comes about;
nobody waits for it. After a kill it is exact; after a power cut it may be the last group behind, or a few groups where
its own sync took longer than theirs. There are two slots, and the one that was
synced last is never written to: a torn write spoils the other, and the older mark still counts.
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

from trio_jobs._stores._sqlite_disk import Disk, File

__all__ = ["Beside", "Mark", "MarkFile"]

_MAGIC: Final = b"tj-mark1"
_RECORD: Final = struct.Struct("<8sQ32sQI")
_SLOTS: Final = (0, 4096)  #: a sector, and more than a sector, apart


@attrs.frozen
class Mark:
    """epoch: of the history, 32 hex digits. seq: the last event. checksum: of that event's row, 0 for none."""

    epoch: str
    seq: int
    checksum: int


class MarkFile:
    """`found` is the newest mark that was there; None where there is none that can be read. `exists`: the file was."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._path = path
        self._file: File | None = disk.open_file(path)
        self._turn = 0
        self._slot = 1
        self._safe_slot = 0  # the one not to be written to: its mark is synced
        # between a write and the end of a sync, which run in two threads
        self._lock = threading.Lock()
        self.exists = self._file is not None
        self.found: Mark | None = None
        if self._file is not None:
            content = self._file.read()
            marks = [
                (*mark, slot)
                for slot, at in enumerate(_SLOTS)
                if (mark := _read(content[at : at + _RECORD.size + 4])) is not None
            ]
            if marks:
                self._turn, self.found, self._safe_slot = max(marks, key=lambda mark: mark[0])

    def begin(self, mark: Mark) -> None:
        """Make the file if there is none; write `mark` into both slots, and sync: from here on it counts."""
        if self._file is None:
            self._file = self._disk.open_file(self._path, create=True)
        self.write(mark)
        self.sync()
        self.write(mark)
        self.sync()
        self._disk.sync_folder(self._path)

    def write(self, mark: Mark) -> None:
        """Raises `OSError`; the mark is then one step behind, or two."""
        assert self._file is not None
        with self._lock:
            self._turn += 1
            self._slot = 1 - self._safe_slot
        body = _RECORD.pack(_MAGIC, self._turn, mark.epoch.encode(), mark.seq, mark.checksum)
        self._file.write(_SLOTS[self._slot], body + zlib.crc32(body).to_bytes(4, "little"))

    def sync(self) -> None:
        assert self._file is not None
        turn, slot = self._turn, self._slot
        self._file.sync()
        with self._lock:
            if turn == self._turn:  # else it was written to again meanwhile, and that is not synced
                self._safe_slot = slot

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _read(slot: bytes) -> tuple[int, Mark] | None:
    if len(slot) != _RECORD.size + 4 or zlib.crc32(slot[:-4]) != int.from_bytes(slot[-4:], "little"):
        return None
    magic, turn, epoch, seq, checksum = _RECORD.unpack(slot[:-4])
    return (turn, Mark(epoch.decode("ascii", "replace"), seq, checksum)) if magic == _MAGIC else None


class Beside:
    """One more thread, in which the mark is synced; asked again while it is busy, it is not."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._is_busy = False
        self._thread: threading.Thread | None = None

    def run(self, sync: Callable[[], None]) -> None:
        if self._is_busy:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="trio-jobs mark", daemon=True)
            self._thread.start()
        self._is_busy = True
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
            self._is_busy = False
