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

__all__ = ["FileLock", "look"]

_mutex: Final = threading.Lock()
_held: Final[dict[str, str]] = {}  #: by path, since when: the locks of this process

if sys.platform == "win32":
    import msvcrt

    _FAR: Final = 1 << 30  # a locked byte cannot be read there, so it lies behind the text

    def _take(fd: int) -> None:
        os.lseek(fd, _FAR, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

    _take_to_look = _take
else:
    import fcntl

    def _take(fd: int) -> None:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _take_to_look(fd: int) -> None:
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # which a descriptor that only reads may hold


class FileLock:
    """`path` is the lock file; it stays there when the lock is let go."""

    def __init__(self, path: str, journal: str) -> None:
        self._path = str(Path(path).resolve())
        self._journal = journal
        self._fd: int | None = None

    def acquire(self) -> None:
        """Raises `JournalInUse`, at once; `StoreError` if there can be no such file."""
        since = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
        with _mutex:
            if self._path in _held:
                raise JournalInUse(self._journal, os.getpid(), _held[self._path])
            try:
                fd = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
            except OSError as error:
                raise StoreError(f"journal {self._journal} cannot be locked: {error}") from error
            try:
                _take(fd)
            except OSError:
                owner = _owner(fd)
                os.close(fd)
                raise JournalInUse(self._journal, *owner) from None
            # whoever was named there is dead, or has let go
            with contextlib.suppress(OSError):  # what is in it only informs: a full disk is no reason to say no more
                os.ftruncate(fd, 0)
                os.lseek(fd, 0, os.SEEK_SET)
                os.write(fd, json.dumps({"pid": os.getpid(), "since": since}).encode())
            self._fd = fd
            _held[self._path] = since

    def release(self) -> None:
        """Releasing twice is harmless."""
        with _mutex:
            fd, self._fd = self._fd, None
            if fd is not None:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, 0)
                os.close(fd)
                del _held[self._path]


@contextmanager
def look(path: str, journal: str) -> Iterator[None]:
    """Nobody takes the lock `path` during the block. Nothing is written. Raises `JournalInUse` if somebody has it."""
    path = str(Path(path).resolve())
    with _mutex:
        if path in _held:
            raise JournalInUse(journal, os.getpid(), _held[path])
        try:
            fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:  # nobody has opened it here yet
            fd = None
        if fd is not None:
            try:
                _take_to_look(fd)
            except OSError:
                owner = _owner(fd)
                os.close(fd)
                raise JournalInUse(journal, *owner) from None
        _held[path] = "now, for a look"
    try:
        yield
    finally:
        with _mutex:
            if fd is not None:
                os.close(fd)
            del _held[path]


def _owner(fd: int) -> tuple[int | None, str | None]:
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        told = json.loads(os.read(fd, 1000))
        return int(told["pid"]), str(told["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, None  # it is being written, or by something else
