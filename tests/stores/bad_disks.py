"""Disks that are no good, for the real store code on top of them."""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from trio_jobs._stores.sqlite.disk import Connection, Disk

Fault = Callable[[str, bool], None]  #: (statement, is it done already) -> raises, or not


class FaultyDisk(Disk):
    """Calls `fault` before and after each statement that writes; what it raises comes out of the statement."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: Fault = lambda sql, done: None
        self.connections = 0

    def connect(self, path: str) -> Connection:
        self.connections += 1
        return _Faulty(self, super().connect(path))


class BlindDisk(FaultyDisk):
    """Cannot say which file a name means, the next `blind` times."""

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
    made = sqlite3.OperationalError(text)
    made.sqlite_errorcode = code
    return made


def times(count: int, code: int, *, what: str = "INSERT INTO events", done: bool = False) -> Fault:
    """The next `count` statements that begin with `what` fail; with `done`, although they did what they should."""
    left = count

    def fault(sql: str, is_done: bool) -> None:
        nonlocal left
        if sql.startswith(what) and is_done is done and left > 0:
            left -= 1
            raise error(code)

    return fault


class Hanging:
    """A fault that does not return until it is let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.is_in = threading.Event()

    def __call__(self, sql: str, is_done: bool) -> None:
        if sql.startswith("INSERT INTO events") and not is_done:
            self.is_in.set()
            self.go_on.wait(60)
