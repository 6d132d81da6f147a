"""Lock files that name their holder: for a journal and for the seat of an SDK.

The operating system decides who holds such a lock; what is written in the file only informs. It is a POSIX record lock
(`lockf`), which belongs to a process: it is free as soon as its process is dead, whoever of its children lives on, and
a forked child does not have it. But it does not separate two holders in one process, and closing any descriptor of the
file releases it. So the files that this process has locked are in a table, by device and inode, and a file is opened
here only if it is not in the table.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs

__all__ = [
    "IN_USE",
    "MAX_TRIES",
    "UNSUPPORTED",
    "HeldLock",
    "Key",
    "LockFileReplaced",
    "LockTaken",
    "acquire",
    "discard",
    "file_key",
    "now",
    "read_owner",
    "start_of_process",
]

Key = tuple[int, int] | str  #: device and inode of a file, or a path

_mutex = threading.RLock()  # held while locks are acquired and released
_own: Final[dict[Key, str]] = {}  #: what this process has locked: since when

IN_USE: Final = (errno.EACCES, errno.EAGAIN)
UNSUPPORTED: Final = (errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP)
MAX_TRIES: Final = 100  #: for a lock file that others delete meanwhile
MAX_TEXT: Final = 1000  #: bytes of a lock file that are read

if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE: Final = 1 << 30  # a locked byte cannot be read on Windows, so it is behind the text

    def _lock(fd: int, *, exclusive: bool) -> None:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # the position stays there
else:
    import fcntl

    def _lock(fd: int, *, exclusive: bool) -> None:
        # a shared lock is allowed on a read-only descriptor
        fcntl.lockf(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)


class LockTaken(Exception):
    """The lock is held: by another process, or by another holder in this one."""

    def __init__(self, pid: int | None, since: str | None) -> None:
        super().__init__(pid, since)
        self.pid = pid
        self.since = since


class LockFileReplaced(Exception):
    """The lock file is being deleted and created by others all the time."""


@attrs.define(eq=False)
class HeldLock:
    """A lock that this process holds."""

    fd: int | None
    """The lock file; None if a shared lock found none."""
    is_new: bool
    """Whether the lock file was created for this lock."""
    keys: set[Key]
    """Its keys in the table."""
    since: str
    """When it was acquired."""
    pid: int = attrs.field(factory=os.getpid)
    """The process that has acquired it: a forked child has the object, and not the lock."""

    def add_key(self, key: Key) -> None:
        """Lock this name or file in this process too."""
        with _mutex:
            self.keys.add(key)
            _own[key] = self.since

    def read(self) -> bytes:
        """Return the start of the text of the file; nothing without a file."""
        if self.fd is None:
            return b""
        os.lseek(self.fd, 0, os.SEEK_SET)  # to lock it moves the position on Windows
        return os.read(self.fd, MAX_TEXT)

    def write(self, **more: Any) -> None:
        """Name this process in the file. The text only informs, so a full disk is no reason to fail."""
        import json  # only where a lock is held

        text = {"pid": os.getpid(), "since": self.since, **more}
        self._rewrite(json.dumps({name: value for name, value in text.items() if value is not None}).encode())

    def clear(self) -> None:
        """Remove the text: what a released lock was for is complete."""
        self._rewrite(b"")

    def _rewrite(self, text: bytes) -> None:
        if self.fd is not None and self.pid == os.getpid():
            with contextlib.suppress(OSError):
                os.lseek(self.fd, 0, os.SEEK_SET)
                if text:  # in one write: if this process is killed, the old text or the new one is there
                    os.write(self.fd, text.ljust(os.fstat(self.fd).st_size))
                else:
                    os.ftruncate(self.fd, 0)

    def release(self) -> None:
        """Release the lock. The lock file stays."""
        with _mutex:
            if self.pid == os.getpid():
                for key in self.keys:
                    _own.pop(key, None)
            fd, self.fd = self.fd, None
            if fd is not None:
                with contextlib.suppress(OSError):
                    os.close(fd)


def acquire(
    path: str,
    names: Iterable[Key] = (),
    *,
    exclusive: bool = True,
    check: Callable[[], None] = lambda: None,
    check_locked: Callable[[], None] = lambda: None,
) -> HeldLock:
    """Acquire a lock without waiting.

    Args:
        path: Of the lock file.
        names: Further keys that only one holder in this process may have.
        exclusive: False for a shared lock: then no file is created and nothing is written.
        check: Called before the file is opened.
        check_locked: Called when the file is locked; if it raises, the lock is released.

    Raises:
        LockTaken: It is held.
        LockFileReplaced: Other processes delete the file all the time.
        OSError: The file cannot be opened, or not locked; in the second case the error has no file name.
        Exception: What `check` or `check_locked` raises.
    """
    with _mutex:
        since = now()
        keys = set(names)
        if (found_key := file_key(path)) is not None:
            keys.add(found_key)
        for key in keys:
            if key in _own:
                raise LockTaken(os.getpid(), _own[key])
        check()
        fd, is_new = _open_and_lock(path, exclusive=exclusive)
        try:
            check_locked()
        except BaseException:
            discard(fd, path if is_new else None)
            raise
        if fd is not None:
            found = os.fstat(fd)
            keys.add((found.st_dev, found.st_ino))
        _own.update(dict.fromkeys(keys, since))
        return HeldLock(fd, is_new, keys, since)


def _open_and_lock(path: str, *, exclusive: bool) -> tuple[int | None, bool]:
    """The locked lock file, and whether it is new."""
    flags = getattr(os, "O_BINARY", 0)
    for _ in range(MAX_TRIES):
        is_new = False
        try:
            fd = os.open(path, flags | (os.O_RDWR if exclusive else os.O_RDONLY))
        except FileNotFoundError:
            if not exclusive:  # it was never locked under this name
                return None, False
            try:
                fd, is_new = os.open(path, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), True
            except FileExistsError:
                continue
        try:
            _lock(fd, exclusive=exclusive)
        except OSError as error:
            owner = read_owner(fd)
            if error.errno in IN_USE:  # also if the file is new: another opening was faster
                discard(fd, None)
                raise LockTaken(*owner) from None
            discard(fd, path if is_new else None)
            raise
        if _is_at(path, fd):
            return fd, is_new
        os.close(fd)  # another opening has deleted it meanwhile
    raise LockFileReplaced


def _is_at(path: str, fd: int) -> bool:
    """Whether the open file is the one at this path. On Windows an open file cannot be deleted."""
    if sys.platform == "win32":
        return True
    try:
        return os.path.samestat(os.fstat(fd), Path(path).stat())
    except FileNotFoundError:
        return False


def discard(fd: int | None, path: str | None) -> None:
    """Close a lock file; delete it if `path` is not None."""
    if path is not None:
        with contextlib.suppress(OSError):  # Windows does not delete an open file: then it stays
            Path(path).unlink()
    if fd is not None:
        os.close(fd)


def file_key(path: str) -> Key | None:
    """Device and inode; None if there is no such file. Does not open it."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_ino else None


def read_owner(fd: int) -> tuple[int | None, str | None]:
    """Process id and time from the text of the file; None if it is being written or is not ours."""
    import json

    try:
        os.lseek(fd, 0, os.SEEK_SET)
        owner = json.loads(os.read(fd, MAX_TEXT))
        return int(owner["pid"]), str(owner["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def now() -> str:
    """The time as it is written in a lock file: UTC, ISO 8601."""
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")


def start_of_process(pid: int | None = None) -> str | None:
    """When a process started, by default this one, in a form that no other process with its number has: the boot and
    the clock tick of the kernel. None where the system does not say, and if there is no such process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        stat = Path(f"/proc/{'self' if pid is None else pid}/stat").read_text(encoding="utf-8", errors="replace")
        return f"{boot}/{stat.rpartition(')')[2].split()[19]}"  # behind the name of the program, which is in brackets
    except (OSError, IndexError):
        return None


def _after_fork() -> None:
    """A forked child has no locks: record locks are not inherited."""
    global _mutex
    _mutex = threading.RLock()
    _own.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
