"""The door to files: everything the journal does with a disk goes through `Disk`, so that a test can be the disk.

A test's disk loses what was not synced, tears sectors, fills up, or fails at any call; the code above it stays the real
one.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

__all__ = ["HELD", "Connection", "Disk", "File"]

HELD: Final = ".held"  #: behind a journal's name, while it is let go of


class Connection(Protocol):
    """What is used of a `sqlite3.Connection`. Errors are `sqlite3.Error` with their `sqlite_errorcode`."""

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any: ...

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any: ...

    def close(self) -> None: ...


class File(Protocol):
    """A small file that is open for reading and writing in place."""

    def read(self) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None: ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


class Disk:
    """The machine's own. Methods raise `OSError`, `connect` and what it gives `sqlite3.Error`.

    log_size: bytes that a write-ahead log is given at once, in zeros. A sync of a file that has grown has to sync the
    file system's own books too, which doubles it here; one of bytes that were there before has not. Zeros are no frames
    to SQLite. By default what it fills before it begins again at the front (1,000 pages).
    """

    def __init__(self, log_size: int = 1010 * (4096 + 24)) -> None:
        self._log_size = log_size

    def connect(self, path: str) -> Connection:
        # a statement is kept for each size of group
        return sqlite3.connect(path, isolation_level=None, cached_statements=256)

    def discard(self, connection: Connection, path: str) -> None:
        """Close a connection and leave the file and its log as they are.

        Closing pours the log into the file and deletes it, up to where the log is damaged; what is behind that would
        be gone. Before Python 3.12 there is no way to say that it shall not, but that SQLite lets a file be that is no
        longer where it was opened. Where it cannot be moved (Windows), the log is written anew and poured in.
        """
        setconfig = getattr(connection, "setconfig", None)
        if setconfig is not None:
            setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)  # type: ignore[attr-defined,unused-ignore]
            connection.close()
            return
        try:
            Path(path).rename(path + HELD)
        except OSError:
            with contextlib.suppress(OSError):
                self.rewrite(path + "-wal")
            connection.close()
            return
        try:
            connection.close()
        finally:
            Path(path + HELD).rename(path)

    def create(self, path: str) -> None:
        """Make an empty file that only its owner may read, if there is none."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))

    def open_file(self, path: str, *, create: bool = False) -> File | None:
        """None: there is no such file."""
        try:
            flags = os.O_RDWR | getattr(os, "O_BINARY", 0) | (os.O_CREAT if create else 0)
            return _RealFile(os.open(path, flags, 0o600))
        except FileNotFoundError:
            return None

    def rewrite(self, path: str) -> None:
        """Write a file's bytes over themselves, and sync. No file, nothing to do.

        After a sync that failed the system counts pages as written that are not, and no later sync writes them; bytes
        that are written anew are.
        """
        file = self.open_file(path)
        if file is None:
            return
        try:
            file.write(0, file.read())
            file.sync()
        finally:
            file.close()

    def reserve(self, path: str) -> None:
        """Give the log of that name its size, if there is such a log and it is smaller. No room: nothing is done."""
        size = self.size(path)
        if size is None or size >= self._log_size:
            return
        with contextlib.suppress(OSError):
            file = self.open_file(path)
            if file is not None:
                try:
                    file.write(size, bytes(self._log_size - size))
                    file.sync()
                finally:
                    file.close()

    def size(self, path: str) -> int | None:
        """None: there is no such file. Does not open it: closing it again would drop SQLite's lock on it."""
        try:
            return Path(path).stat().st_size
        except FileNotFoundError:
            return None

    def head(self, path: str, size: int) -> bytes:
        """The first bytes of a file that SQLite has not opened; none if there is no such file."""
        try:
            with Path(path).open("rb") as file:
                return file.read(size)
        except FileNotFoundError:
            return b""

    def identity(self, path: str) -> tuple[int, int] | None:
        """Which file that path names now; None for none."""
        try:
            found = os.stat(path)  # noqa: PTH116 - at each commit: a Path costs more than the call
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def move(self, path: str, to: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            Path(path).replace(to)

    def sync_folder(self, path: str) -> None:
        """Make names in the folder of `path` survive a power cut. Windows has no way to, and does not need it."""
        if os.name == "nt":
            return
        fd = os.open(Path(path).parent, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class _RealFile:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self) -> bytes:
        os.lseek(self._fd, 0, os.SEEK_SET)
        pieces = []
        while piece := os.read(self._fd, 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)

    def write(self, offset: int, data: bytes) -> None:
        os.lseek(self._fd, offset, os.SEEK_SET)
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]

    def sync(self) -> None:
        getattr(os, "fdatasync", os.fsync)(self._fd)

    def close(self) -> None:
        os.close(self._fd)
