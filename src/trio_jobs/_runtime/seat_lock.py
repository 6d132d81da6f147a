"""The seat lock: one queue at a time has an SDK, in whatever process it runs.

It is taken before the factory of the SDK is called, and released when the SDK is closed. If a call is still inside
then, the lock is held until the process ends. The system releases it at once when the process is dead, so whoever has
it knows that nobody else is in the SDK: what a dead session has left behind may be removed.

The text of the lock file stays when the last session is not known to have closed. So the next holder knows that too
without a journal, or with another one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import Final

from trio_jobs import _file_lock
from trio_jobs._errors import SdkOpenFailed
from trio_jobs._file_lock import HeldLock, LockFileReplaced, LockTaken
from trio_jobs._runtime.left_process import LeftProcess

__all__ = ["SdkInUse", "SeatLock", "runtime_folder", "seat_in_memory"]

#: Seconds between two tries
FIRST_WAIT: Final = 0.02
LONGEST_WAIT: Final = 0.5


class SdkInUse(SdkOpenFailed):
    """Another queue has the SDK: in another process, or in this one. An SDK has one queue at a time.

    Run one service, `trio-jobs serve`, and let the other processes be its clients (`trio_jobs.connect`).
    """

    path: Final[str]
    """The lock file of the seat."""

    pid: Final[int | None]
    """The process that has the SDK; None if that could not be read."""

    since: Final[str | None]
    """When that process has taken it (UTC, ISO 8601); None if that could not be read."""

    def __init__(self, path: str, pid: int | None, since: str | None) -> None:
        self.path = path
        self.pid = pid
        self.since = since
        holder = "another process"
        if pid is not None:
            holder = "this process" if pid == os.getpid() else f"process {pid}"
            holder += "" if since is None else f", since {since}"
        super().__init__(
            f"the SDK is in use by {holder} ({path}); one process can have it: run trio-jobs serve there, and use "
            "trio_jobs.connect in the others, or name another seat_lock for another SDK"
        )


class SeatLock:
    """The lock of one seat.

    Args:
        path: Of the lock file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.left_unclean = False
        """The last session of an earlier holder is not known to have closed. Valid while the lock is held."""
        self.left: LeftProcess | None = None
        """The process of the SDK that an earlier holder has left, until `clear_left`. Valid while the lock is held."""
        self._held: HeldLock | None = None

    def __repr__(self) -> str:
        return f"<SeatLock {self.path}{', held' if self.is_held else ''}>"

    @property
    def is_held(self) -> bool:
        return self._held is not None

    def acquire(self) -> None:
        """Acquire the lock without waiting.

        Raises:
            SdkInUse: Another queue has it.
            SdkOpenFailed: The file cannot be a lock file, or cannot be written.
        """
        try:
            _make_folder(self.path)
            held = _file_lock.acquire(self.path, check=self._check)
        except LockTaken as taken:
            raise SdkInUse(self.path, taken.pid, taken.since) from None
        except LockFileReplaced:
            raise SdkOpenFailed(f"the lock file of the SDK is being replaced all the time: {self.path}") from None
        except OSError as error:
            raise SdkOpenFailed(
                f"the lock file of the SDK cannot be {'locked' if error.filename is None else 'opened'}: {self.path}: "
                f"{error.strerror}; name a file on a local disk, in a folder that can be written, as "
                "Service(seat_lock=...)"
            ) from error
        text = held.read()
        if text.strip() and not text.startswith(b'{"pid"'):
            held.release()
            raise SdkOpenFailed(
                f"{self.path} is not a lock file of trio-jobs; name a file of its own as Service(seat_lock=...)"
            )
        self.left_unclean = bool(text.strip())
        self.left = LeftProcess.read(text)
        self._held = held
        self._write(self.left)

    def name_process(self, pid: int) -> None:
        """The process of the SDK has started. If this process is killed, the next holder ends what is left of it."""
        self._write(LeftProcess.of(pid))

    def clear_left(self) -> None:
        """What an earlier holder has left has ended."""
        self.left = None
        self._write(None)

    def _write(self, process: LeftProcess | None) -> None:
        if self._held is not None:
            self._held.write(
                started=_file_lock.start_of_process(),
                group=os.getpgrp() if hasattr(os, "getpgrp") else None,
                process=None if process is None else process.pid,
                process_started=None if process is None else process.started,
            )

    def release(self, *, unclean: bool) -> None:
        """Release the lock. Releasing twice is harmless.

        Args:
            unclean: The last session is not known to have closed: the file keeps its text.
        """
        held, self._held = self._held, None
        if held is not None:
            if not unclean:
                held.clear()
            held.release()

    def _check(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(Path(self.path).stat().st_mode):
                raise SdkOpenFailed(f"{self.path} is not a regular file; name a file as Service(seat_lock=...)")


def _make_folder(path: str) -> None:
    """Create the folder of a seat in memory. Any other has been named, and must exist."""
    folder = Path(path).parent
    if folder == runtime_folder():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            raise SdkOpenFailed(
                f"the folder of the lock file of the SDK belongs to another user: {folder}; set XDG_RUNTIME_DIR, or "
                "name a file as Service(seat_lock=...)"
            )


def seat_in_memory(name: str, source: str | None) -> str:
    """The lock file of a service without a journal: named by the service, in a folder of the user.

    Args:
        name: The service, "module:name".
        source: The file of its module; None without one. Two programs may have a module of the same name.
    """
    plain = "".join(c if c.isalnum() or c in "-_." else "." for c in name)[:100]
    digest = hashlib.sha256(f"{name}\0{'' if source is None else Path(source).resolve()}".encode("utf-8", "replace"))
    return str(runtime_folder() / f"{plain}-{digest.hexdigest()[:12]}-seat")


def runtime_folder() -> Path:
    """The folder for files of this user that need not survive a restart of the machine."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or tempfile.gettempdir()) / "trio-jobs"
    given = os.environ.get("XDG_RUNTIME_DIR")
    for folder in filter(None, (given, f"/run/user/{os.getuid()}")):
        if Path(folder).is_absolute() and os.access(folder, os.W_OK | os.X_OK):
            return Path(folder) / "trio-jobs"
    return Path(tempfile.gettempdir()) / f"trio-jobs-{os.getuid()}"
