"""The journal itself: everything that is done on the one connection, synchronously, in the store's own thread.

What is hard is to know what one has. A commit that raised may be there all the same; after a failed sync the next one
succeeds as if nothing were, although the system never writes the pages that it has failed to write; a damaged write-
ahead log just looks shorter. So nothing is concluded from a connection on which a commit failed: its log is written
to the disk once more, byte by byte, then it is closed, and the file is opened anew, read, and compared with what is
known (`recover`). Only "no room" is different: SQLite says so before it syncs, and takes the transaction back.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final

from trio_jobs._engine.events import Event
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._errors import JournalDamaged, StoreError
from trio_jobs._stores.sqlite.disk import HELD, Connection, Disk
from trio_jobs._stores.sqlite.errors import explain, is_full
from trio_jobs._stores.sqlite.high_water_mark import HighWaterMark, HighWaterMarkFile
from trio_jobs._stores.sqlite.keys import KeyRow, delete_keys, insert_keys, key_page, read_keys
from trio_jobs._stores.sqlite.recovery import rebuild
from trio_jobs._stores.sqlite.restore import refuse_foreign_file, restore_backup
from trio_jobs._stores.sqlite.rows import Row, Rows, decode, insert, is_pause, is_sound, row_page, to_row
from trio_jobs._stores.sqlite.schema import (
    check_schema,
    connect,
    create,
    get_meta,
    set_meta,
    transaction,
)

__all__ = ["Journal"]

log: Final = logging.getLogger("trio_jobs.journal")

_MOST_VALUES: Final = 500  #: in one statement


class Journal:
    """One journal file. Not open until `open`; then `last_seq` and `oldest` are what is committed, and `keys` are those
    of forgotten jobs that were there.

    beside: runs the sync of the mark where nobody waits for it.
    """

    def __init__(
        self, path: str, disk: Disk, *, allow_data_loss: bool, background: Callable[[Callable[[], None]], None]
    ) -> None:
        self.path = path
        self.epoch = ""
        self.last_seq = 0
        self.oldest = 1
        self.keys: list[KeyTombstone] = []
        self._disk = disk
        self._allow_data_loss = allow_data_loss
        self._background = background
        self._in_memory = path == ":memory:"
        self._connection: Connection | None = None
        self._mark: HighWaterMarkFile | None = None
        self._pruned = 0
        self._key_count = 0
        self._last_pause = 0
        self.mark_is_due = False
        """The mark was written, and is to be synced: with the next group, or when none comes (`sync_mark`)."""
        self._retained: list[int] = []
        """Events of the queue itself before `oldest`: what was the last pause when its surroundings were pruned."""
        self._identities: dict[str, tuple[int, int] | None] = {}
        self._pending: list[Row] = []
        self._is_suspect = False
        """A commit has failed, and it is not known what of the log is on the disk: it must not be poured in."""

    @property
    def _open_connection(self) -> Connection:
        assert self._connection is not None
        return self._connection

    def open(self) -> list[bytes]:
        """The bodies of all events, in order. Raises `StoreError`, `JournalDamaged`."""
        try:
            return self._open()
        except JournalDamaged as damage:
            self._let_go(keep_log=True)  # it stays as it was found
            if self._in_memory or not self._allow_data_loss:
                self.close()
                raise
            log.error("journal %s: %s; going on with what is left, as asked", self.path, damage.found)
        except BaseException:
            self._let_go(keep_log=True)
            self.close()
            raise
        try:
            known = self._mark.found.seq if self._mark is not None and self._mark.found is not None else 0
            self.close()
            rebuild(self._disk, self.path, known)
            return self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> list[bytes]:
        try:
            mark = None if self._in_memory else self._open_mark()
            if not self._in_memory and self._disk.size(self.path) is None:
                self._disk.move(self.path + HELD, self.path)  # a kill in the middle of letting go of it
            is_new = self._in_memory or not self._disk.size(self.path)
            if is_new and mark is not None and mark.seq > 0:
                raise JournalDamaged(self.path, f"the file is gone or empty; it held events up to {mark.seq}")
            if is_new and not self._in_memory:
                self._disk.create(self.path)
            elif self._mark is not None:
                refuse_foreign_file(self._disk, self.path, self._mark)
                adopted = restore_backup(self._disk, self.path, self._mark)
                if adopted is not None:
                    mark = adopted
                    log.warning("journal %s: a backup up to event %d, under a new epoch now", self.path, mark.seq)
            self._secure_log()
            self._connection = connect(self._disk, self.path)
            if not check_schema(self._connection, self.path):
                if mark is not None and mark.seq > 0:
                    raise JournalDamaged(self.path, f"it is empty; it held events up to {mark.seq}")
                create(self._connection, secrets.token_hex(16))
                if not self._in_memory:
                    self._disk.sync_folder(self.path)
            bodies = self._read(mark)
            self._identities = {} if self._in_memory else {self.path: self._disk.identity(self.path)}
            self._reserve_log()
        except sqlite3.Error as error:
            raise explain(error, self.path, is_known=self._mark is not None and self._mark.found is not None) from error
        except UnicodeDecodeError as error:
            raise JournalDamaged(self.path, str(error)) from error
        except OSError as error:
            raise StoreError(f"journal {self.path} cannot be opened: {error}") from error
        return bodies

    def _open_mark(self) -> HighWaterMark | None:
        self._mark = HighWaterMarkFile(self._disk, self.path + "-mark")
        return self._mark.found

    def _read(self, mark: HighWaterMark | None) -> list[bytes]:
        """Everything, checked: each row, their number, and the mark."""
        connection = self._open_connection
        meta = get_meta(connection, self.path)
        self.epoch = meta["epoch"]
        self.oldest, self._pruned, self._key_count = int(meta["oldest"]), int(meta["pruned"]), int(meta["keys"])
        rows = Rows(self.path, self.oldest)
        # closed whatever is found: a statement that is still open keeps a closed connection, and its lock, alive
        with closing(connection.execute("SELECT seq, job, body, checksum FROM events ORDER BY seq")) as cursor:
            bodies = list(rows.read(cursor, mark.seq if mark is not None else 0))
        self._last_pause, self._retained = rows.last_pause, rows.of_queue_before
        self.keys = list(read_keys(connection, self.path, self._key_count))
        self.last_seq = max(rows.last[0] if rows.last is not None else 0, self.oldest - 1)
        expected = self.last_seq - self._pruned
        if rows.count != expected:
            raise JournalDamaged(self.path, f"it holds {rows.count} events and should hold {expected}")
        if self._in_memory:
            return bodies
        if mark is None and self.last_seq > 0:
            # before the first event was committed it was there, and synced
            is_there = self._mark is not None and self._mark.exists
            why = "cannot be read" if is_there else "is missing"
            raise JournalDamaged(self.path, f"its high-water mark ({self.path}-mark) {why}")
        if mark is not None:
            if mark.epoch != self.epoch and (mark.seq > 0 or self.last_seq > 0):
                raise JournalDamaged(self.path, "it is not the history that its high-water mark is about")
            if mark.seq > self.last_seq:
                raise JournalDamaged(self.path, f"it ends at event {self.last_seq}; it held events up to {mark.seq}")
            if rows.checksums.get(mark.seq, mark.checksum) != mark.checksum:
                raise JournalDamaged(self.path, f"event {mark.seq} is not the one that its high-water mark is about")
        checksum = rows.last[3] if rows.last is not None and rows.last[0] == self.last_seq else 0
        assert self._mark is not None
        # before the first event even a mark that reads well is made anew: it may come from an opening that failed
        # before it was synced
        if mark != HighWaterMark(self.epoch, self.last_seq, checksum) or self.last_seq == 0:
            self._mark.begin(HighWaterMark(self.epoch, self.last_seq, checksum))
        else:
            self._mark.sync()  # a kill may have left it in the system's memory alone
        return bodies

    def write(self, events: Sequence[Event]) -> None:
        """Commit these events, in one transaction and with one sync. Raises `sqlite3.Error`, and `OSError` when
        it cannot be seen afterwards which file was written: ask `recover` then.

        Raises `JournalDamaged` if the file that was written is not the journal any more.
        """
        self._pending = rows = [to_row(event) for event in events]
        self.sync_mark()
        insert(self._open_connection, rows)
        self._check_identities()
        self._took(rows)

    def _took(self, rows: Sequence[Row]) -> None:
        self.last_seq = rows[-1][0]
        self._last_pause = next((row[0] for row in reversed(rows) if not row[1] and is_pause(row)), self._last_pause)
        self._pending = []
        if self._mark is not None:
            try:
                self._mark.write(HighWaterMark(self.epoch, self.last_seq, rows[-1][3]))
            except OSError as error:
                log.warning("journal %s: its high-water mark could not be written: %s", self.path, error)
            else:
                self.mark_is_due = True

    def sync_mark(self) -> None:
        """Have the mark synced, beside whatever comes next."""
        if self.mark_is_due and self._mark is not None:
            self.mark_is_due = False
            self._background(self._mark.sync)

    def _check_identities(self) -> None:
        for path in self._identities:
            self._check_identity(path)
        if len(self._identities) == 1:  # the log is made by the first commit
            self._identities[self.path + "-wal"] = self._disk.identity(self.path + "-wal")

    def _check_identity(self, path: str) -> None:
        if path in self._identities and self._disk.identity(path) != self._identities[path]:
            raise JournalDamaged(path, "it was deleted or replaced while it was in use")

    def recover(self, error: sqlite3.Error | OSError) -> None:
        """After a failed `write`: find out what is there; `last_seq` tells. What is not there is let go of.

        Raises `sqlite3.Error` or `OSError` (try again later), `JournalDamaged` (never again).
        """
        self._is_suspect = True
        is_taken_back = False
        if is_full(error) and self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                more = "SELECT 1 FROM events WHERE seq > ? LIMIT 1"
                is_taken_back = self._connection.execute(more, (self.last_seq,)).fetchone() is None
        if not is_taken_back:
            self._reopen()
        self._is_suspect = False
        self._pending = []  # only now: what could not be read back yet is compared with it at the next try

    def _reopen(self) -> None:
        before, pending = self.last_seq, self._pending
        if self._connection is not None:
            self._check_identities()
        self._secure_log()  # before closing, which copies it into the file
        self._identities.pop(self.path + "-wal", None)  # closing deletes it
        self._let_go()
        self._check_identity(self.path)
        connection = connect(self._disk, self.path)
        try:
            meta = get_meta(connection, self.path)
            if meta["epoch"] != self.epoch:
                raise JournalDamaged(self.path, "read back, it is another history")
            there = connection.execute(
                "SELECT seq, job, body, checksum FROM events WHERE seq > ? ORDER BY seq", (before,)
            ).fetchall()
            self.oldest, self._pruned, self._key_count = int(meta["oldest"]), int(meta["pruned"]), int(meta["keys"])
            count = connection.execute("SELECT count(*) FROM events").fetchone()[0]
            # all of the group or nothing: it was one transaction
            if there and [tuple(row) for row in there] != pending:
                raise JournalDamaged(self.path, f"read back, what stands behind event {before} was never written")
            if count != before - self._pruned + len(there):
                raise JournalDamaged(self.path, f"read back, it holds {count} events; some are missing")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
            raise
        self._connection = connection
        self._identities = {self.path: self._disk.identity(self.path)}
        self._reserve_log()
        if there:
            self._took(there)

    def page(self, after: int, limit: int) -> list[Event]:
        """Raises `StoreError`."""
        if after + 1 < self.oldest:
            raise StoreError(f"events before {self.oldest} are gone, {after + 1} was asked for")
        try:
            rows = self._open_connection.execute(
                "SELECT seq, job, body, checksum FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
            ).fetchall()
        except sqlite3.Error as error:
            raise explain(error, self.path, is_known=self._mark is not None and self._mark.found is not None) from error
        for at, row in enumerate(rows, after + 1):
            if not is_sound(row) or row[0] != at:
                raise JournalDamaged(self.path, f"event {at} cannot be read any more")
        return [decode(row[2]) for row in rows]

    def meta(self) -> dict[str, str]:
        """The meta table. Raises `sqlite3.Error`, `JournalDamaged`."""
        return get_meta(self._open_connection, self.path)

    def raw_page(self, after: int, last: int, limit: int) -> list[Row]:
        """See `row_page`. Raises `sqlite3.Error`, `JournalDamaged`."""
        return row_page(self._open_connection, self.path, after, last, limit)

    def raw_keys(self, after: bytes, last: int, limit: int) -> list[KeyRow]:
        """See `key_page`; `last` plays no part. Raises `sqlite3.Error`, `JournalDamaged`."""
        return key_page(self._open_connection, self.path, after, limit)

    def rows_of(self, jobs: Sequence[str], first: int, last: int) -> list[tuple[int, str]]:
        """`seq` and job of these jobs' events between these numbers. Raises `sqlite3.Error`."""
        places = ", ".join("?" * len(jobs))
        return self._open_connection.execute(  # type: ignore[no-any-return]
            f"SELECT seq, job FROM events WHERE seq BETWEEN ? AND ? AND job IN ({places})",  # noqa: S608 - placeholders
            (first, last, *jobs),
        ).fetchall()

    def forget(self, seqs: Sequence[int], oldest: int, keys: Sequence[KeyTombstone]) -> None:
        """Delete these events and keep these keys, in one transaction; from `oldest` on there is still no gap.

        The last pause is spared. Raises `sqlite3.Error`; then nothing is changed, as far as is known.
        """
        found = {*self._retained, *seqs}  # what was spared may lie among what is to go now
        gone = sorted(found - {self._last_pause})
        oldest = max(self.oldest, oldest)
        deleted = 0
        with transaction(self._open_connection) as connection:
            for at in range(0, len(gone), _MOST_VALUES):
                some = gone[at : at + _MOST_VALUES]
                delete = f"DELETE FROM events WHERE seq IN ({', '.join('?' * len(some))})"  # noqa: S608 - placeholders
                deleted += connection.execute(delete, some).rowcount
            added = insert_keys(connection, keys)
            set_meta(connection, "pruned", str(self._pruned + deleted))
            set_meta(connection, "oldest", str(oldest))
            set_meta(connection, "keys", str(self._key_count + added))
        self._retained = sorted(found & {self._last_pause})
        self._pruned += deleted
        self._key_count += added
        self.oldest = oldest

    def forget_keys(self, keys: Sequence[KeyTombstone]) -> None:
        """Raises `sqlite3.Error`; then they are all still there, as far as is known."""
        with transaction(self._open_connection) as connection:
            gone = delete_keys(connection, keys)
            set_meta(connection, "keys", str(self._key_count - gone))
        self._key_count -= gone

    def close(self) -> None:
        """Closing twice is harmless."""
        self._let_go(keep_log=self._is_suspect)
        mark, self._mark = self._mark, None
        if mark is not None:
            with contextlib.suppress(OSError, AssertionError):
                mark.sync()
            mark.close()

    def _secure_log(self) -> None:
        """Make sure that what can be read of the write-ahead log is on the disk: a process that was killed, or a sync
        that failed, may have left it in the system's memory alone. Else a power cut could bring back an older log, to
        be copied over newer pages."""
        if not self._in_memory and self._disk.size(self.path + "-wal") is not None:
            self._disk.rewrite(self.path + "-wal")
            self._disk.sync_folder(self.path)  # its name may be as new as its last bytes

    def _reserve_log(self) -> None:
        if not self._in_memory:
            self._disk.reserve(self.path + "-wal")

    def _let_go(self, *, keep_log: bool = False) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                if keep_log and not self._in_memory:
                    self._disk.discard(connection, self.path)
                else:
                    connection.close()
