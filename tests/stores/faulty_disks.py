"""Disks that fail, for the real code of the store above them."""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from trio_jobs._stores.sqlite.disk import Connection, Disk

Fault = Callable[[str, bool], None]  #: called with a statement and whether it has been executed; may raise


class FaultyDisk(Disk):
    """Calls `fault` before and after each statement; what `fault` raises is raised by the statement."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: Fault = lambda sql, done: None
        self.connections = 0

    def connect(self, path: str) -> Connection:
        self.connections += 1
        return _Faulty(self, super().connect(path))


class BlindDisk(FaultyDisk):
    """Cannot identify files the next `blind` times."""

    def __init__(self) -> None:
        super().__init__()
        self.blind = 0

    def identity(self, path: str) -> tuple[int, int] | None:
        if self.blind > 0:
            self.blind -= 1
            raise OSError(errno.EIO, "made up", path)
        return super().identity(path)


class _Faulty:
    def __init__(self, disk: FaultyDisk, real: Connection) -> None:
        self._disk = disk
        self._real = real

    @property
    def in_transaction(self) -> bool:
        return self._real.in_transaction

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Any:
        self._disk.fault(sql, False)
        result = self._real.execute(sql, parameters)
        self._disk.fault(sql, True)
        return result

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any:
        return self._real.executemany(sql, parameters)

    def close(self) -> None:
        self._real.close()


def error(code: int, text: str = "made up") -> sqlite3.OperationalError:
    """An error as SQLite raises it."""
    failure = sqlite3.OperationalError(text)
    failure.sqlite_errorcode = code
    return failure


def times(count: int, code: int, *, what: str = "INSERT INTO events", done: bool = False) -> Fault:
    """Make the next `count` statements that begin with `what` fail; with `done`, after they took effect."""
    left = count

    def fault(sql: str, is_done: bool) -> None:
        nonlocal left
        if sql.startswith(what) and is_done is done and left > 0:
            left -= 1
            raise error(code)

    return fault


class Hanging:
    """A fault that blocks inserts until `resume` is set. `is_blocked` is set once one is blocked."""

    def __init__(self) -> None:
        self.resume = threading.Event()
        self.is_blocked = threading.Event()

    def __call__(self, sql: str, is_done: bool) -> None:
        if sql.startswith("INSERT INTO events") and not is_done:
            self.is_blocked.set()
            self.resume.wait(60)
