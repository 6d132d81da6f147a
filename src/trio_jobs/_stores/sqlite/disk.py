"""File access: the journal uses the disk through `Disk` alone, so a test can replace the disk.

The disks of the tests lose what was not synced, tear sectors, fill up, or fail at any call, below the real code.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

__all__ = ["RENAMED", "Connection", "Disk", "File"]

RENAMED: Final = ".held"  #: suffix of a journal while `Disk.close_without_checkpoint` closes it


class Connection(Protocol):
    """The part of `sqlite3.Connection` that is used. Raises `sqlite3.Error` with a `sqlite_errorcode`."""

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any: ...

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any: ...

    def close(self) -> None: ...


class File(Protocol):
    """A small file, open for reading and writing in place. Raises `OSError`."""

    def read(self) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None: ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


class Disk:
    """The real disk. Methods raise `OSError`; `connect` and connections raise `sqlite3.Error`.

    Args:
        wal_size: Bytes, all zero, to which a new WAL is extended at once. The sync of a file that has grown must sync
            the metadata of the file system too, which doubles its time here. SQLite does not read zeros as frames. The
            default is the size at which SQLite starts again at the front (1,000 pages).
    """

    def __init__(self, wal_size: int = 1010 * (4096 + 24)) -> None:
        self._wal_size = wal_size

    def connect(self, path: str) -> Connection:
        """Open an SQLite connection."""
        # one statement is cached for each size of group
        return sqlite3.connect(path, isolation_level=None, cached_statements=256)

    def close_without_checkpoint(self, connection: Connection, path: str) -> None:
        """Close a connection and leave the file and its WAL as they are.

        An ordinary close checkpoints the WAL into the file, up to where the WAL is damaged, and deletes it; what comes
        after the damage would be lost. Python 3.12 can switch that off. Before 3.12 the file is renamed during the
        close, since SQLite does not checkpoint into a file that is no longer at its path. Where an open file cannot be
        renamed (Windows), the WAL is rewritten and then checkpointed.
        """
        setconfig = getattr(connection, "setconfig", None)
        if setconfig is not None:
            off = sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE  # type: ignore[attr-defined,unused-ignore] # since Python 3.12
            setconfig(off, True)
            connection.close()
            return
        try:
            Path(path).rename(path + RENAMED)
        except OSError:
            with contextlib.suppress(OSError):
                self.rewrite(path + "-wal")
            connection.close()
            return
        try:
            connection.close()
        finally:
            Path(path + RENAMED).rename(path)

    def create(self, path: str) -> None:
        """Create an empty file with mode 0600 if there is none."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))

    def open_file(self, path: str, *, create: bool = False) -> File | None:
        """Open a small file. Returns None if there is no such file and `create` is False."""
        try:
            flags = os.O_RDWR | getattr(os, "O_BINARY", 0) | (os.O_CREAT if create else 0)
            return _RealFile(os.open(path, flags, 0o600))
        except FileNotFoundError:
            if create:  # there is no such folder
                raise
            return None

    def rewrite(self, path: str) -> None:
        """Overwrite a file with its own bytes and sync it. Does nothing if there is no such file.

        After a failed sync the system counts the failed pages as written, and no later sync writes them; pages that are
        written again are synced.
        """
        file = self.open_file(path)
        if file is None:
            return
        try:
            file.write(0, file.read())
            file.sync()
        finally:
            file.close()

    def preallocate(self, path: str) -> None:
        """Extend a WAL to its full size, if it exists and is smaller. Does nothing if the disk is full."""
        size = self.size(path)
        if size is None or size >= self._wal_size:
            return
        with contextlib.suppress(OSError):
            file = self.open_file(path)
            if file is not None:
                try:
                    file.write(size, bytes(self._wal_size - size))
                    file.sync()
                finally:
                    file.close()

    def size(self, path: str) -> int | None:
        """Size in bytes; None if there is no such file. Does not open it: closing it would drop SQLite's lock on it."""
        try:
            return Path(path).stat().st_size
        except FileNotFoundError:
            return None

    def read_start(self, path: str, size: int) -> bytes:
        """The first bytes of a file that SQLite has not opened; empty if there is no such file."""
        try:
            with Path(path).open("rb") as file:
                return file.read(size)
        except FileNotFoundError:
            return b""

    def identity(self, path: str) -> tuple[int, int] | None:
        """Device and inode of the file at this path; None if there is none."""
        try:
            found = os.stat(path)  # noqa: PTH116 - at each commit: a Path costs more than the call
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def check_writable(self, path: str) -> None:
        """Raise `OSError` if there is such a file and it cannot be written to. SQLite must not have opened it."""
        with contextlib.suppress(FileNotFoundError):
            os.close(os.open(path, os.O_RDWR))

    def remove(self, path: str) -> None:
        """Delete a file. Does nothing if there is no such file."""
        Path(path).unlink(missing_ok=True)

    def move(self, path: str, to: str) -> None:
        """Rename a file. Does nothing if there is no such file."""
        with contextlib.suppress(FileNotFoundError):
            Path(path).replace(to)

    def sync_folder(self, path: str) -> None:
        """Make the names in the folder of `path` durable. Windows has no call for that and does not need it."""
        if os.name == "nt":
            return
        folder = str(Path(path).parent)
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        except OSError as error:
            reason = f"the file system cannot sync the folder, so a new name in it is not durable: {error.strerror}"
            raise OSError(error.errno, reason, folder) from None
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
        done = _write_part(self._fd, data, offset)
        while done < len(data):
            done += _write_part(self._fd, data[done:], offset + done)

    def sync(self) -> None:
        getattr(os, "fdatasync", os.fsync)(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def _seek_and_write(fd: int, data: bytes, offset: int) -> int:
    os.lseek(fd, offset, os.SEEK_SET)
    return os.write(fd, data)


#: Writes the first bytes of the data, at least one, and returns how many. Windows has no `pwrite`
_write_part: Final[Callable[[int, bytes, int], int]] = getattr(os, "pwrite", _seek_and_write)
