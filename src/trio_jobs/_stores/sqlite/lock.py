"""The lock of a journal. The operating system decides who holds it; what is written in the lock file only informs.

The lock is a POSIX record lock (`lockf`) on a file beside the journal. Such a lock belongs to a process: it is free as
soon as its process is dead, whoever of its children lives on. But it does not separate two openings in one process, and
closing any descriptor of the file releases it. So the journals of this process are in a table, by device and inode, and
a file is opened here only if it is not in the table.

The lock file is found by the name of the journal. A second name leads to another lock file:

- A journal with a second hard link is refused, and two openings in one process are separated by device and inode.
- A file that is mounted at a second place has one link only. SQLite keeps an exclusive lock on a journal that is open,
  so this module tries to get a shared one before anything is concluded from the file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from trio_jobs._errors import InvalidJournalPath, JournalInUse, StoreError

__all__ = ["FileLock", "shared_lock"]

_Key = tuple[int, int] | str  #: device and inode of a file, or the path of a journal

_mutex: Final = threading.Lock()
_own_journals: Final[dict[_Key, str]] = {}  #: the journals that this process has locked: since when

_IN_USE: Final = (errno.EACCES, errno.EAGAIN)
_MAX_TRIES: Final = 100  #: for a lock file that other openings delete meanwhile
_UNSUPPORTED: Final = (errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP)

if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE: Final = 1 << 30  # a locked byte cannot be read on Windows, so it is behind the text

    def _lock(fd: int, *, exclusive: bool) -> None:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

    def _try_sqlite_lock(path: str) -> None:
        """A file cannot be mounted at a second place."""
else:
    import fcntl

    #: SQLite locks these bytes of a database (`SHARED_FIRST` and `SHARED_SIZE` in its os.h)
    _SHARED_FIRST: Final = 0x40000002
    _SHARED_SIZE: Final = 510

    def _lock(fd: int, *, exclusive: bool) -> None:
        # a shared lock is allowed on a read-only descriptor
        fcntl.lockf(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)

    def _try_sqlite_lock(path: str) -> None:
        """Raise `OSError` if another process has the database open in exclusive mode."""
        fd = os.open(path, os.O_RDONLY)
        try:
            fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
        finally:
            os.close(fd)


class _Held(NamedTuple):
    """A lock of this process."""

    fd: int | None
    """The lock file; None if a shared lock found none."""
    is_new: bool
    """Whether the lock file was created for this lock."""
    keys: set[_Key]
    """Its keys in the table."""


class FileLock:
    """An exclusive lock. The lock file remains when the lock is released.

    Args:
        path: Of the lock file.
        journal: Path of the journal, without links.
    """

    def __init__(self, path: str, journal: str) -> None:
        self._path = path
        self._journal = journal
        self._held: _Held | None = None

    def acquire(self) -> None:
        """Acquire the lock without waiting.

        Raises:
            JournalInUse: Another opening has the journal, under this name or another one.
            InvalidJournalPath: The journal is not a regular file.
            StoreError: The journal has a second hard link, or its files cannot be locked.
        """
        since = _now()
        with _mutex:
            self._held = held = _acquire(self._path, self._journal, since, exclusive=True)
        assert held.fd is not None
        # the text of an earlier owner is stale; the text only informs, so a full disk is no reason to fail
        with contextlib.suppress(OSError):
            os.ftruncate(held.fd, 0)
            os.lseek(held.fd, 0, os.SEEK_SET)
            os.write(held.fd, json.dumps({"pid": os.getpid(), "since": since}).encode())

    def note_file(self) -> None:
        """Lock the journal's file in this process too: it may be newer than the lock."""
        with _mutex:
            if self._held is not None:
                found = _key(self._journal)
                if found is not None:
                    self._held.keys.add(found)
                    _own_journals[found] = _own_journals[self._journal]

    def release(self, *, unused: bool = False) -> None:
        """Release the lock. Releasing twice is harmless.

        Args:
            unused: The journal was not opened: delete the lock file if it was created for this lock.
        """
        with _mutex:
            held, self._held = self._held, None
            if held is None:
                return
            assert held.fd is not None
            with contextlib.suppress(OSError):
                os.ftruncate(held.fd, 0)
            if unused and held.is_new:
                with contextlib.suppress(OSError):  # Windows does not delete an open file: then it stays
                    Path(self._path).unlink()
            _release(held)


@contextmanager
def shared_lock(path: str, journal: str) -> Iterator[None]:
    """Keep the journal from being opened during the block. Nothing is written.

    Raises: as `FileLock.acquire`.
    """
    with _mutex:
        held = _acquire(path, journal, _now(), exclusive=False)
    try:
        yield
    finally:
        with _mutex:
            _release(held)


def _acquire(path: str, journal: str, since: str, *, exclusive: bool) -> _Held:
    """Acquire the lock and enter it in the table. The caller has the mutex."""
    keys: set[_Key] = {journal, *filter(None, (_key(journal), _key(path)))}
    for key in keys:
        if key in _own_journals:
            raise JournalInUse(journal, os.getpid(), _own_journals[key])
    _check_file(journal)
    try:
        fd, is_new = _open_and_lock(path, journal, exclusive=exclusive)
    except OSError as error:
        raise _explain(error, path, journal) from error
    try:
        _try_sqlite_lock(journal)
    except FileNotFoundError:
        pass
    except OSError as error:
        _discard(fd, path if is_new else None)
        if error.errno in _IN_USE and error.filename is None:
            raise JournalInUse(journal, None, None) from None
        raise _explain(error, path, journal) from error
    if fd is not None:
        found = os.fstat(fd)
        keys.add((found.st_dev, found.st_ino))
    _own_journals.update(dict.fromkeys(keys, since))
    return _Held(fd, is_new, keys)


def _open_and_lock(path: str, journal: str, *, exclusive: bool) -> tuple[int | None, bool]:
    """The locked lock file, and whether it is new. Raises `JournalInUse`, `OSError`."""
    flags = getattr(os, "O_BINARY", 0)
    for _ in range(_MAX_TRIES):
        is_new = False
        try:
            fd = os.open(path, flags | (os.O_RDWR if exclusive else os.O_RDONLY))
        except FileNotFoundError:
            if not exclusive:  # the journal was never opened at this path
                return None, False
            try:
                fd, is_new = os.open(path, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), True
            except FileExistsError:
                continue
        try:
            _lock(fd, exclusive=exclusive)
        except OSError as error:
            owner = _read_owner(fd)
            if error.errno in _IN_USE:  # also if the file is new: another opening was faster
                _discard(fd, None)
                raise JournalInUse(journal, *owner) from None
            _discard(fd, path if is_new else None)
            raise
        if _is_at(path, fd):
            return fd, is_new
        os.close(fd)  # another opening has deleted it meanwhile
    raise StoreError(f"journal {journal} cannot be locked: {path} is being replaced all the time")


def _is_at(path: str, fd: int) -> bool:
    """Whether the open file is the one at this path. On Windows an open file cannot be deleted."""
    if sys.platform == "win32":
        return True
    try:
        return os.path.samestat(os.fstat(fd), Path(path).stat())
    except FileNotFoundError:
        return False


def _release(held: _Held) -> None:
    for key in held.keys:
        _own_journals.pop(key, None)
    if held.fd is not None:
        with contextlib.suppress(OSError):
            os.close(held.fd)


def _discard(fd: int | None, path: str | None) -> None:
    """Close a lock file; delete it if `path` is not None."""
    if path is not None:
        with contextlib.suppress(OSError):
            Path(path).unlink()
    if fd is not None:
        os.close(fd)


def _key(path: str) -> tuple[int, int] | None:
    """Device and inode; None if there is no such file. Does not open it."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_ino else None


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
    if error.filename is None and error.errno in _UNSUPPORTED:
        reason = f"{error.strerror} ({errno.errorcode.get(error.errno or 0, error.errno)})"
        return StoreError(
            f"journal {journal} cannot be locked: {reason}; keep it on a file system with locks, such as a local disk"
        )
    what = "locked" if error.filename is None else "opened"
    return StoreError(f"journal {journal} cannot be {what}: {error.strerror} ({error.filename or path})")


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")


def _read_owner(fd: int) -> tuple[int | None, str | None]:
    """Process id and time from the text of the file; None if it is being written or is not ours."""
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        owner = json.loads(os.read(fd, 1000))
        return int(owner["pid"]), str(owner["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, None
