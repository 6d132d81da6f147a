"""A disk that survives the simulated crashes: the `Disk` of the real journal, in memory.

The real SQL runs in a real SQLite database that is kept in memory for the whole schedule. A statement that commits
has reached the disk or has not: SQLite itself promises that statements and transactions are atomic and survive a
power cut, which tests/stores/test_power_cuts.py tests with a file system that loses power. This disk simulates what
is around that: a commit that fails without effect, that fails and is committed, that finds the disk full; a reopening
that fails; the high-water mark, whose writes are lost, kept or torn by a crash until they are synced.

`truth` is every event that was ever on the disk, `starts` the attempts (job, number) that entered the SDK according to
it, `asked` says for each job in doubt whether verify was called. The oracle compares: whatever was acknowledged must be
in `truth`.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from sim.rows import read
from trio_jobs._stores.sqlite.disk import Connection, Disk

__all__ = ["SimDisk", "error"]

#: What SQLite reports on a real disk; in memory it reports other values
_PRAGMAS: Final = {
    "PRAGMA locking_mode": "exclusive",
    "PRAGMA journal_mode": "wal",
    "PRAGMA synchronous": 2,
    "PRAGMA fullfsync": 1,
    "PRAGMA checkpoint_fullfsync": 1,
    "PRAGMA cell_size_check": 1,
    "PRAGMA temp_store": 2,
}


def error(code: int) -> sqlite3.OperationalError:
    """An error as SQLite raises it."""
    made = sqlite3.OperationalError("disk I/O error" if code != sqlite3.SQLITE_FULL else "database or disk is full")
    made.sqlite_errorcode = code
    return made


class SimDisk(Disk):
    """The disk of one schedule.

    Args:
        chance: Decides what a crash loses.
        on_clash: Called with the `seq` of an event that differs from the one on the disk.
        on_event: Called with the encoding of each event that is new on the disk.
    """

    def __init__(
        self,
        chance: random.Random,
        on_clash: Callable[[int], None],
        on_event: Callable[[bytes], None] = lambda body: None,
    ) -> None:
        self.truth: dict[int, bytes] = {}
        self.fault = ""
        """Of the next commit: "", "lost" (fails without effect), "kept" (fails and is committed) or "full"."""
        self.reopen_failures = 0
        """How many of the next connections fail."""
        self.starts: set[tuple[str, int]] = set()
        self.asked: dict[str, bool] = {}
        self._chance = chance
        self._on_clash = on_clash
        self._on_event = on_event
        self._database: sqlite3.Connection | None = None
        self._files: dict[str, _File] = {}

    @property
    def database(self) -> sqlite3.Connection:
        """The database, created at the first use."""
        if self._database is None:
            self._database = sqlite3.connect(":memory:", isolation_level=None)
        return self._database

    @property
    def last_seq(self) -> int:
        """The last event that was ever on the disk."""
        return max(self.truth, default=0)

    def crash(self) -> None:
        """Fail the power: what was not synced may be lost."""
        if self._database is not None and self._database.in_transaction:
            self._database.execute("ROLLBACK")
        for file in self._files.values():
            file.crash(self._chance)
        self.fault = ""
        self.reopen_failures = 0

    def dispose(self) -> None:
        """Release the database after the schedule."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def keep(self, rows: Sequence[tuple[int, bytes]]) -> None:
        """Note that these events are on the disk now."""
        for seq, body in rows:
            if seq not in self.truth:
                self._on_event(body)
            if self.truth.setdefault(seq, body) != body:
                self._on_clash(seq)
            row = read(body)
            if row.type == "in_doubt":
                self.asked[row.job] = row.asked
            if row.type in ("entered", "step_started") or (row.type == "started" and row.entered):
                self.starts.add((row.job, row.attempt))

    # `Disk`

    def connect(self, path: str) -> Connection:
        if self.reopen_failures > 0:
            self.reopen_failures -= 1
            raise error(sqlite3.SQLITE_CANTOPEN)
        return _Connection(self)

    def create(self, path: str) -> None:
        self._files.setdefault(path, _File())

    def open_file(self, path: str, *, create: bool = False) -> Any:
        if path not in self._files:
            if not create:
                return None
            self._files[path] = _File()
        return self._files[path]

    def rewrite(self, path: str) -> None:
        """The database in memory has no WAL."""

    def size(self, path: str) -> int | None:
        if path not in self._files:
            return None
        return 4096 if self._database is not None else 0

    def identity(self, path: str) -> tuple[int, int] | None:
        return (0, 0)

    def move(self, path: str, to: str) -> None:
        if path in self._files:
            self._files[to] = self._files.pop(path)

    def sync_folder(self, path: str) -> None:
        """Names are durable at once."""


class _Connection:
    """The only connection. Closing it keeps what is committed."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk
        self._real = disk.database
        self._uncommitted: list[tuple[int, bytes]] = []

    @property
    def in_transaction(self) -> bool:
        return self._real.in_transaction

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Any:
        if sql.startswith("PRAGMA "):
            answer = _PRAGMAS.get(sql.partition(" =")[0])
            if answer is not None:
                return _Answer(answer)
        elif sql.startswith("INSERT INTO events"):
            return self._insert(sql, parameters)
        elif sql == "COMMIT":
            return self._commit(sql)
        elif sql == "ROLLBACK":
            self._uncommitted.clear()
        return self._real.execute(sql, parameters)

    def _insert(self, sql: str, parameters: Sequence[Any]) -> Any:
        rows = [(parameters[at], bytes(parameters[at + 2])) for at in range(0, len(parameters), 4)]
        if self._real.in_transaction:
            self._uncommitted.extend(rows)
            return self._real.execute(sql, parameters)
        fault = self._take_fault()
        result = self._real.execute(sql, parameters)
        self._disk.keep(rows)
        if fault == "kept":
            raise error(sqlite3.SQLITE_IOERR)
        return result

    def _commit(self, sql: str) -> Any:
        rows, self._uncommitted = self._uncommitted, []
        fault = self._take_fault() if rows else ""
        result = self._real.execute(sql)
        self._disk.keep(rows)
        if fault == "kept":
            raise error(sqlite3.SQLITE_IOERR)
        return result

    def _take_fault(self) -> str:
        fault, self._disk.fault = self._disk.fault, ""
        if fault in ("lost", "full"):
            if self._real.in_transaction:
                self._real.execute("ROLLBACK")
            raise error(sqlite3.SQLITE_FULL if fault == "full" else sqlite3.SQLITE_IOERR)
        return fault

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any:
        return self._real.executemany(sql, parameters)

    def close(self) -> None:
        if self._real.in_transaction:
            self._real.execute("ROLLBACK")


class _Answer:
    """The result of a PRAGMA."""

    def __init__(self, value: object) -> None:
        self._value = value

    def fetchone(self) -> tuple[object]:
        return (self._value,)


class _File:
    """The bytes as they are now and as last synced, and the writes in between."""

    def __init__(self) -> None:
        self._synced = bytearray()
        self._data = bytearray()
        self._writes: list[tuple[int, bytes]] = []

    def read(self) -> bytes:
        return bytes(self._data)

    def write(self, offset: int, data: bytes) -> None:
        _put(self._data, offset, data)
        self._writes.append((offset, data))

    def sync(self) -> None:
        self._synced = bytearray(self._data)
        self._writes.clear()

    def close(self) -> None:
        """The file can be opened again."""

    def crash(self, chance: random.Random) -> None:
        """Keep all, nothing or the first part of each write since the last sync."""
        for offset, data in self._writes:
            kept = chance.choice((0, len(data), chance.randrange(len(data))))
            _put(self._synced, offset, data[:kept])
        self._data = bytearray(self._synced)
        self._writes.clear()


def _put(file: bytearray, offset: int, data: bytes) -> None:
    if len(file) < offset:
        file.extend(bytes(offset - len(file)))
    file[offset : offset + len(data)] = data
