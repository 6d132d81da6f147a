"""A disk whose power can fail: a file system for SQLite, in memory, that records every write and sync.

The code of the store is the real one, on a `PowerDisk`: connections come from apsw, an SQLite of its own, with a file
system written here; the high-water mark uses the same file system. `cut` returns what is on the disk if the power fails
after any step: everything synced, and of the writes since then each sector by itself is present, absent, or torn in the
middle. So writes are lost, torn and reordered.

Until the folder is synced, a deleted file may reappear and a new file may have no name. SQLite syncs the folder with
the first sync of a WAL that it has created (unixSync), the store with `sync_folder`.
"""

from __future__ import annotations

import errno
import random
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

import apsw
import attrs

from trio_jobs._stores.sqlite.disk import Connection, Disk

SECTOR = 512
_names = count()


@attrs.frozen
class Step:
    """One operation.

    kind: create, write, truncate, sync, failed_sync, folder, delete, or acked (then `at` is the last
    acknowledged event).
    """

    kind: str
    name: str = ""
    at: int = 0
    data: bytes = b""


class Contents:
    """One file's bytes, now and as of its last sync."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)

    def write(self, at: int, data: bytes) -> None:
        if len(self.data) < at:
            self.data.extend(bytes(at - len(self.data)))
        self.data[at : at + len(data)] = data

    def truncate(self, size: int) -> None:
        if size < len(self.data):
            del self.data[size:]
        else:
            self.data.extend(bytes(size - len(self.data)))


class PowerDisk(Disk):
    """The disk.

    steps: everything done to it. quota: the bytes that all files may have together, None for no limit. fail: the
    numbers of the calls that fail; `calls` counts them.

    A failed sync behaves as on Linux: the pages count as clean, so no later sync writes them, and readers see them.
    """

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        super().__init__(wal_size=20_000)  # small, since a cut decides about each sector
        self.files = {name: Contents(data) for name, data in (files or {}).items()}
        self.steps: list[Step] = []
        self.quota: int | None = None
        self.fail: range = range(0)
        self.calls = 0
        self._vfs = _Vfs(f"power-{next(_names)}", self)

    def note(self, step: Step) -> None:
        self.steps.append(step)

    def make(self, name: str) -> None:
        """Create an empty file if there is none."""
        if name not in self.files:
            self.files[name] = Contents()
            self.note(Step("create", name))

    def acked(self, seq: int) -> None:
        self.note(Step("acked", at=seq))

    def call(self, name: str, *, is_sync: bool = False) -> None:
        """Count a system call of SQLite. Raises `apsw.IOError`."""
        self.calls += 1
        if self.calls in self.fail:
            if is_sync:
                self.note(Step("failed_sync", name))
            raise apsw.IOError("made up")

    def own_call(self, name: str, *, is_sync: bool = False) -> None:
        """Count a system call of the store. Raises `OSError`."""
        try:
            self.call(name, is_sync=is_sync)
        except apsw.Error as error:
            raise OSError(errno.EIO, str(error), name) from error

    def has_room(self, name: str, end: int) -> bool:
        if self.quota is None:
            return True
        others = sum(len(contents.data) for other, contents in self.files.items() if other != name)
        return others + max(len(self.files[name].data), end) <= self.quota

    # `Disk`

    def connect(self, path: str) -> Connection:
        try:
            return _Adapter(apsw.Connection(path, vfs=self._vfs.name))
        except apsw.Error as error:
            raise _translated(error) from error

    def close_without_checkpoint(self, connection: Any, path: str) -> None:
        connection.close_without_checkpoint()

    def create(self, path: str) -> None:
        self.own_call(path)
        self.make(path)

    def open_file(self, path: str, *, create: bool = False) -> Any:
        self.own_call(path)
        if path not in self.files:
            if not create:
                return None
            self.make(path)
        return _MarkFile(self, path)

    def size(self, path: str) -> int | None:
        self.own_call(path)
        return len(self.files[path].data) if path in self.files else None

    def read_start(self, path: str, size: int) -> bytes:
        self.own_call(path)
        return bytes(self.files[path].data[:size]) if path in self.files else b""

    def identity(self, path: str) -> tuple[int, int] | None:
        self.own_call(path)
        return (0, 0) if path in self.files else None

    def check_writable(self, path: str) -> None:
        self.own_call(path)

    def remove(self, path: str) -> None:
        self.own_call(path)
        if self.files.pop(path, None) is not None:
            self.note(Step("delete", path))

    def move(self, path: str, to: str) -> None:
        self.own_call(path)
        if path in self.files:
            self.files[to] = self.files.pop(path)

    def sync_folder(self, path: str) -> None:
        self.own_call(path)
        self.note(Step("folder"))


def cut(steps: Sequence[Step], chance: random.Random) -> tuple[dict[str, bytes], int]:
    """What is on the disk if the power fails after these steps, and the last event that was acknowledged by then."""
    synced: dict[str, Contents] = {}
    unsynced: dict[str, list[Step]] = {}
    named: set[str] = set()  # files whose names are durable
    deleted: dict[str, Contents] = {}
    acked = 0
    for step in steps:
        match step.kind:
            case "acked":
                acked = step.at
            case "sync":
                synced_file = synced.setdefault(step.name, Contents())
                for done in unsynced.pop(step.name, ()):
                    _do(synced_file, done)
            case "create":
                synced.setdefault(step.name, Contents())
            case "failed_sync":
                unsynced.pop(step.name, None)
            case "delete":
                unsynced.pop(step.name, None)
                if (old := synced.pop(step.name, None)) is not None and step.name in named:
                    deleted.setdefault(step.name, old)
                named.discard(step.name)
            case "folder":
                deleted.clear()
                named.update(synced)
                named.update(unsynced)
            case _:
                unsynced.setdefault(step.name, []).append(step)
    for name, pending in unsynced.items():
        file = synced.setdefault(name, Contents())
        mode = chance.choice(("none", "all", "some", "some"))
        for step in pending:
            if mode == "all":
                _do(file, step)
            elif mode == "some":
                _do_some(file, step, chance)
    found = dict(synced)
    for name in set(synced) - named:
        if chance.random() < 0.5:
            del found[name]
    for name, old in deleted.items():
        if name not in found and chance.random() < 0.5:
            found[name] = old
    return {name: bytes(file.data) for name, file in found.items()}, acked


def _do(file: Contents, step: Step) -> None:
    if step.kind == "write":
        file.write(step.at, step.data)
    else:
        file.truncate(step.at)


def _do_some(file: Contents, step: Step, chance: random.Random) -> None:
    if step.kind == "truncate":
        if chance.random() < 0.5:
            file.truncate(step.at)
        return
    at = step.at
    end = at + len(step.data)
    while at < end:
        stop = min((at // SECTOR + 1) * SECTOR, end)
        piece = step.data[at - step.at : stop - step.at]
        luck = chance.random()
        if luck < 0.5:
            file.write(at, piece)
        elif luck < 0.6:
            file.write(at, piece[: chance.randrange(len(piece))])
        at = stop


class _MarkFile:
    def __init__(self, disk: PowerDisk, name: str) -> None:
        self._disk = disk
        self._name = name

    def read(self) -> bytes:
        self._disk.own_call(self._name)
        return bytes(self._disk.files[self._name].data)

    def write(self, offset: int, data: bytes) -> None:
        self._disk.own_call(self._name)
        self._disk.files[self._name].write(offset, data)
        self._disk.note(Step("write", self._name, offset, data))

    def sync(self) -> None:
        self._disk.own_call(self._name, is_sync=True)
        self._disk.note(Step("sync", self._name))

    def close(self) -> None:
        pass


class _Vfs(apsw.VFS):
    def __init__(self, name: str, disk: PowerDisk) -> None:
        self.name = name
        self._disk = disk
        super().__init__(name, base="")

    def xFullPathname(self, name: str) -> str:
        return name

    def xAccess(self, pathname: str, flags: int) -> bool:
        self._disk.call(pathname)
        return pathname in self._disk.files

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self._disk.call(filename)
        self._disk.files.pop(filename, None)
        self._disk.note(Step("delete", filename))

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._disk.call(path)
        logs = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL
        is_new_log = path not in self._disk.files and bool(flags[0] & logs)
        self._disk.make(path)
        flags[1] = flags[0]
        return _VfsFile(self._disk, path, is_new_log)

    def xRandomness(self, numbytes: int) -> bytes:
        return random.Random(numbytes).randbytes(numbytes)

    def xSleep(self, microseconds: int) -> int:
        return microseconds

    def xCurrentTime(self) -> float:
        return 2_460_000.5


class _VfsFile:
    def __init__(self, disk: PowerDisk, name: str, is_new_log: bool) -> None:
        self._disk = disk
        self._name = name
        self._is_new_log = is_new_log

    @property
    def _file(self) -> Contents:
        return self._disk.files[self._name]

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.call(self._name)
        return bytes(self._file.data[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.call(self._name)
        if not self._disk.has_room(self._name, offset + len(data)):
            raise apsw.FullError("no room")
        self._file.write(offset, data)
        self._disk.note(Step("write", self._name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        self._disk.call(self._name)
        self._file.truncate(newsize)
        self._disk.note(Step("truncate", self._name, newsize))

    def xSync(self, flags: int) -> None:
        self._disk.call(self._name, is_sync=True)
        self._disk.note(Step("sync", self._name))
        if self._is_new_log:
            self._disk.note(Step("folder"))
            self._is_new_log = False

    def xFileSize(self) -> int:
        self._disk.call(self._name)
        return len(self._file.data)

    def xLock(self, level: int) -> None:
        pass

    def xUnlock(self, level: int) -> None:
        pass

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return SECTOR

    def xDeviceCharacteristics(self) -> int:
        return 0

    def xClose(self) -> None:
        pass


class _Adapter:
    """An apsw connection with the interface of `sqlite3.Connection`."""

    def __init__(self, real: apsw.Connection) -> None:
        self._real = real

    @property
    def in_transaction(self) -> bool:
        return self._real.in_transaction

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Any:
        try:
            before = self._real.total_changes()
            cursor = self._real.cursor()
            rows = cursor.execute(sql, parameters).fetchall()
            return _Rows(rows, self._real.total_changes() - before)
        except apsw.Error as error:
            raise _translated(error) from error

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any:
        return _Rows([], sum(self.execute(sql, row).rowcount for row in parameters))

    def close_without_checkpoint(self) -> None:
        self._real.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self.close()

    def close(self) -> None:
        try:
            self._real.close(True)
        except apsw.Error as error:
            raise _translated(error) from error


class _Rows:
    def __init__(self, rows: list[tuple[Any, ...]], changed: int) -> None:
        self._rows = rows
        self.rowcount = changed

    def __iter__(self) -> Any:
        return iter(self._rows)

    def close(self) -> None:
        pass

    def fetchone(self) -> Any:
        return self._rows[0] if self._rows else None

    def fetchall(self) -> Any:
        return self._rows


def _translated(error: apsw.Error) -> sqlite3.OperationalError:
    translated = sqlite3.OperationalError(str(error))
    # an error raised by the file system above has no code
    codes = {apsw.FullError: sqlite3.SQLITE_FULL, apsw.IOError: sqlite3.SQLITE_IOERR}
    translated.sqlite_errorcode = getattr(error, "extendedresult", 0) or codes.get(type(error), sqlite3.SQLITE_ERROR)
    return translated
