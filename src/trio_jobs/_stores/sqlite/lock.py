"""The lock of a journal: a lock file beside it, see `_file_lock`.

The lock file is found by the name of the journal. A second name leads to another lock file:

- A journal with a second hard link is refused, and two openings in one process are separated by device and inode.
- A file that is mounted at a second place has one link only. SQLite keeps an exclusive lock on a journal that is open,
  so this module tries to get a shared one before anything is concluded from the file.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from trio_jobs import _file_lock
from trio_jobs._errors import InvalidJournalPath, JournalInUse, StoreError
from trio_jobs._file_lock import IN_USE, UNSUPPORTED, HeldLock, Key, LockFileReplaced, LockTaken, discard, file_key

__all__ = ["FileLock", "shared_lock"]

if sys.platform == "win32":

    def _try_sqlite_lock(path: str) -> None:
        """A file cannot be mounted at a second place."""
else:
    import fcntl

    #: SQLite locks these bytes of a database (`SHARED_FIRST` and `SHARED_SIZE` in its os.h)
    _SHARED_FIRST: Final = 0x40000002
    _SHARED_SIZE: Final = 510

    def _try_sqlite_lock(path: str) -> None:
        """Raise `OSError` if another process has the database open in exclusive mode."""
        fd = os.open(path, os.O_RDONLY)
        try:
            fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
        finally:
            os.close(fd)


class FileLock:
    """An exclusive lock. The lock file remains when the lock is released.

    Args:
        path: Of the lock file.
        journal: Path of the journal, without links.
    """

    def __init__(self, path: str, journal: str) -> None:
        self._path = path
        self._journal = journal
        self._held: HeldLock | None = None

    def acquire(self) -> None:
        """Acquire the lock without waiting.

        Raises:
            JournalInUse: Another opening has the journal, under this name or another one.
            InvalidJournalPath: The journal is not a regular file.
            StoreError: The journal has a second hard link, or its files cannot be locked.
        """
        self._held = _acquire(self._path, self._journal, exclusive=True)
        self._held.write()  # the text of an earlier owner is stale

    def note_file(self) -> None:
        """Lock the journal's file in this process too: it may be newer than the lock."""
        if self._held is not None and (found := file_key(self._journal)) is not None:
            self._held.add_key(found)

    def release(self, *, unused: bool = False) -> None:
        """Release the lock. Releasing twice is harmless.

        Args:
            unused: The journal was not opened: delete the lock file if it was created for this lock.
        """
        held, self._held = self._held, None
        if held is None:
            return
        held.clear()
        if unused and held.is_new:
            discard(None, self._path)
        held.release()


@contextmanager
def shared_lock(path: str, journal: str) -> Iterator[None]:
    """Keep the journal from being opened during the block. Nothing is written.

    Raises: as `FileLock.acquire`.
    """
    held = _acquire(path, journal, exclusive=False)
    try:
        yield
    finally:
        held.release()


def _acquire(path: str, journal: str, *, exclusive: bool) -> HeldLock:
    """Acquire the lock and enter the journal in the table of this process."""
    names: set[Key] = {journal}
    if (file := file_key(journal)) is not None:
        names.add(file)

    def check_sqlite_lock() -> None:
        try:
            _try_sqlite_lock(journal)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno in IN_USE and error.filename is None:
                raise JournalInUse(journal, None, None) from None
            raise

    try:
        return _file_lock.acquire(
            path, names, exclusive=exclusive, check=lambda: _check_file(journal), check_locked=check_sqlite_lock
        )
    except LockTaken as taken:
        raise JournalInUse(journal, taken.pid, taken.since) from None
    except LockFileReplaced:
        raise StoreError(f"journal {journal} cannot be locked: {path} is being replaced all the time") from None
    except OSError as error:
        raise _explain(error, path, journal) from error


def _check_file(journal: str) -> None:
    """Raise unless the journal is missing or a regular file with one name."""
    try:
        found = Path(journal).stat()
    except OSError:
        return  # the next call that needs it says why
    if stat.S_ISDIR(found.st_mode):
        raise InvalidJournalPath(journal, "it is a folder; name a file in it")
    if not stat.S_ISREG(found.st_mode):
        raise InvalidJournalPath(journal, "it is not a regular file")
    if found.st_nlink > 1:
        raise StoreError(
            f"journal {journal} is refused: the file has {found.st_nlink} names (hard links), and its WAL and "
            "high-water mark are found by its name; delete the other names, or copy the file"
        )


def _explain(error: OSError, path: str, journal: str) -> StoreError:
    folder = Path(journal).parent
    if isinstance(error, FileNotFoundError):
        return StoreError(f"journal {journal} cannot be opened: there is no folder {folder}")
    if error.filename is None and error.errno in UNSUPPORTED:
        reason = f"{error.strerror} ({errno.errorcode.get(error.errno or 0, error.errno)})"
        return StoreError(
            f"journal {journal} cannot be locked: {reason}; keep it on a file system with locks, such as a local disk"
        )
    what = "locked" if error.filename is None else "opened"
    return StoreError(f"journal {journal} cannot be {what}: {error.strerror} ({error.filename or path})")
