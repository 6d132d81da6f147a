"""The lock beside the journal. The operating system decides who holds it; what is written in the file only informs.

POSIX record locks (`lockf`) belong to a process: a forked child does not hold on to them, so a lock whose owner was
killed is free at once, whoever of its children lives on. For the same reason they do not tell two openers in one
process apart, and closing any descriptor of the file drops them: those openers are told apart by a table of our own,
and the file is opened only by who is not in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from trio_jobs._errors import JournalInUse, StoreError

__all__ = ["FileLock", "shared_lock"]

_mutex: Final = threading.Lock()
_own_locks: Final[dict[str, str]] = {}  #: the locks of this process: since when, by path

if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE: Final = 1 << 30  # a locked byte cannot be read on Windows, so it is behind the text

    def _lock_exclusive(fd: int) -> None:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

    _lock_shared = _lock_exclusive
else:
    import fcntl

    def _lock_exclusive(fd: int) -> None:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _lock_shared(fd: int) -> None:
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # allowed on a read-only descriptor


class FileLock:
    """An exclusive lock. The lock file remains when the lock is released.

    Args:
        path: Of the lock file.
        journal: Path of the journal, for messages.
    """

    def __init__(self, path: str, journal: str) -> None:
        self._path = str(Path(path).resolve())
        self._journal = journal
        self._fd: int | None = None

    def acquire(self) -> None:
        """Acquire the lock without waiting. Raises `JournalInUse`; `StoreError` if the file cannot be opened."""
        since = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
        with _mutex:
            if self._path in _own_locks:
                raise JournalInUse(self._journal, os.getpid(), _own_locks[self._path])
            try:
                fd = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
            except OSError as error:
                raise StoreError(f"journal {self._journal} cannot be locked: {error}") from error
            try:
                _lock_exclusive(fd)
            except OSError:
                owner = _read_owner(fd)
                os.close(fd)
                raise JournalInUse(self._journal, *owner) from None
            # the text of an earlier owner is stale; the text only informs, so a full disk is no reason to fail
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
                os.lseek(fd, 0, os.SEEK_SET)
                os.write(fd, json.dumps({"pid": os.getpid(), "since": since}).encode())
            self._fd = fd
            _own_locks[self._path] = since

    def release(self) -> None:
        """Release the lock. Releasing twice is harmless."""
        with _mutex:
            fd, self._fd = self._fd, None
            if fd is not None:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, 0)
                os.close(fd)
                del _own_locks[self._path]


@contextmanager
def shared_lock(path: str, journal: str) -> Iterator[None]:
    """Keep other processes from acquiring the lock `path` during the block. Nothing is written.

    Raises `JournalInUse` if another process, or this one, has the lock.
    """
    path = str(Path(path).resolve())
    with _mutex:
        if path in _own_locks:
            raise JournalInUse(journal, os.getpid(), _own_locks[path])
        try:
            fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:  # the journal was never opened at this path
            fd = None
        if fd is not None:
            try:
                _lock_shared(fd)
            except OSError:
                owner = _read_owner(fd)
                os.close(fd)
                raise JournalInUse(journal, *owner) from None
        _own_locks[path] = "now, for a check"
    try:
        yield
    finally:
        with _mutex:
            if fd is not None:
                os.close(fd)
            del _own_locks[path]


def _read_owner(fd: int) -> tuple[int | None, str | None]:
    """Process id and time from the text of the file; None if it is being written or is not ours."""
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        owner = json.loads(os.read(fd, 1000))
        return int(owner["pid"]), str(owner["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, None
