"""The journal file: everything that is done on its one connection, synchronously, in the writer thread.

The hard part is to know what is on the disk. A commit that raised may be committed all the same. After a failed sync
the next one succeeds, although the system never writes the pages that it failed to write. A damaged WAL just looks
shorter. So nothing is concluded from a connection on which a commit has failed: its WAL is rewritten to the disk byte
by byte, the connection is closed, and the file is reopened, read and compared with what was written (`recover`). Only
a full disk is different: SQLite reports it before it syncs, and rolls the transaction back.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Final

from trio_jobs._engine.events import Event
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._errors import JournalDamaged, StoreError
from trio_jobs._log import Log
from trio_jobs._stores.sqlite import keys, rows
from trio_jobs._stores.sqlite.disk import Connection, Disk
from trio_jobs._stores.sqlite.errors import describe, explain, is_full
from trio_jobs._stores.sqlite.files import finish_renames, prepare_files
from trio_jobs._stores.sqlite.high_water_mark import HighWaterMark, HighWaterMarkFile, SyncPace
from trio_jobs._stores.sqlite.recovery import rebuild
from trio_jobs._stores.sqlite.rows import Row
from trio_jobs._stores.sqlite.schema import ACTIVITY, check_schema, connect, create, get_meta, set_meta, transaction
from trio_jobs._stores.sqlite.verification import Contents, check_high_water_mark, read_contents

__all__ = ["Journal"]

log: Final = Log("trio_jobs.journal")


class Journal:
    """One journal file. It can be opened again after `close`.

    Args:
        path: Of the file, or ":memory:".
        disk: Where the file is.
        allow_data_loss: Rebuild a damaged journal from what can be read.
        run_in_background: Runs the sync of the high-water mark in another thread.
        monotonic: The clock of that sync.
    """

    def __init__(
        self,
        path: str,
        disk: Disk,
        *,
        allow_data_loss: bool,
        run_in_background: Callable[[Callable[[], None]], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        """The path given."""
        self.epoch = ""
        """See `Store.epoch`. Valid after `open`, as all that follow."""
        self.last_seq = 0
        """See `Store.last_seq`."""
        self.oldest = 1
        """See `Store.oldest`."""
        self.has_deferred_sync = False
        """The high-water mark was written and not yet synced."""
        self.sync_pace = SyncPace(monotonic)
        self._disk = disk
        self._allow_data_loss = allow_data_loss
        self._run_in_background = run_in_background
        self._in_memory = path == ":memory:"
        self._connection: Connection | None = None
        self._high_water_mark_file: HighWaterMarkFile | None = None
        self._tombstones: list[KeyTombstone] = []
        self.activity: str | None = None  #: see `KeepsActivity.activity`
        self._pruned = 0
        self._key_count = 0
        self._last_of_group: dict[int, int] = {}
        self._retained: list[int] = []
        self._identities: dict[str, tuple[int, int] | None] = {}  #: device and inode of the file and its WAL, as opened
        self._pending: list[Row] = []  #: the rows of a `write` whose outcome is unknown
        # a commit has failed, and it is unknown how much of the WAL is on the disk: it must not be checkpointed
        self._wal_is_uncertain = False
        self._had_wal = True  #: at the opening, before SQLite creates one

    @property
    def connection(self) -> Connection:
        """The connection of an open journal."""
        assert self._connection is not None, "the journal is not open"
        return self._connection

    @property
    def _stored_mark(self) -> HighWaterMark | None:
        file = self._high_water_mark_file
        return None if file is None else file.stored

    # opening

    def open(self) -> list[bytes]:
        """Open and verify the journal; create it if there is none. Return the encoded events, in order.

        Raises:
            JournalDamaged: The files are left as they were found.
            StoreError: The journal cannot be opened.
        """
        try:
            return self._open()
        except JournalDamaged as damage:
            stored = self._stored_mark
            self._close_refused()
            if self._in_memory or not self._allow_data_loss:
                raise
            log.error("journal %s: %s; it is rebuilt, since data loss is allowed", self.path, damage.found)
        except BaseException:
            self._close_refused()
            raise
        try:
            rebuild(self._disk, self.path, 0 if stored is None else stored.seq)
            return self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> list[bytes]:
        try:
            stored = self._prepare_files()
            self._had_wal = self._in_memory or self._disk.size(self.path + "-wal") is not None
            self._connection = connect(self._disk, self.path)
            if not check_schema(self._connection, self.path):
                if stored is not None and stored.seq > 0:
                    raise JournalDamaged(self.path, f"it is empty, but events up to {stored.seq} were committed to it")
                create(self._connection, secrets.token_hex(16))
                if not self._in_memory:
                    self._disk.sync_folder(self.path)
            contents = read_contents(self._connection, self.path, stored)
            self._load(contents)
            if stored is not None:
                self._open_high_water_mark(contents, stored)
                self._identities = {self.path: self._disk.identity(self.path)}
                self._disk.preallocate(self.path + "-wal")
        except sqlite3.Error as error:
            raise explain(error, self.path, is_known=self._stored_mark is not None) from error
        except UnicodeDecodeError as error:
            raise JournalDamaged(self.path, str(error)) from error
        except OSError as error:
            raise StoreError(f"journal {self.path} cannot be opened: {describe(error)}") from error
        return contents.bodies

    def _prepare_files(self) -> HighWaterMark | None:
        """What must happen before SQLite opens the file. Return the stored high-water mark; None in memory."""
        if self._in_memory:
            return None
        finish_renames(self._disk, self.path)
        self._high_water_mark_file = HighWaterMarkFile(self._disk, self.path + "-mark")
        stored = prepare_files(self._disk, self.path, self._high_water_mark_file)
        self._sync_wal()
        return stored

    def _load(self, contents: Contents) -> None:
        self.epoch, self.last_seq, self.oldest = contents.epoch, contents.newest.seq, contents.oldest
        self._tombstones, self._key_count = contents.tombstones, len(contents.tombstones)
        self.activity = contents.activity
        self._pruned, self._last_of_group, self._retained = contents.pruned, contents.last_of_group, contents.retained

    def _open_high_water_mark(self, contents: Contents, stored: HighWaterMark) -> None:
        """Verify the high-water mark, and bring it up to date."""
        file = self._high_water_mark_file
        assert file is not None
        check_high_water_mark(contents, stored, self.path)
        # before the first event even a valid mark is written again: an opening that failed may have left it unsynced
        if stored != contents.newest or self.last_seq == 0:
            file.create(contents.newest)
        else:
            file.sync()  # a killed process may have left it in the system's memory alone

    def take_tombstones(self) -> list[KeyTombstone]:
        """Return the tombstones that `open` has read, once; they are not kept in memory here."""
        tombstones, self._tombstones = self._tombstones, []
        return tombstones

    # writing

    def write(self, events: Sequence[Event]) -> None:
        """Commit events in one transaction, with one sync.

        Raises:
            sqlite3.Error: The transaction is committed or not; call `recover`.
            OSError: The transaction is committed, but maybe not to the right file; call `recover`.
            JournalDamaged: The file was deleted or replaced.
        """
        self._pending = pending = [rows.to_row(event) for event in events]
        rows.insert(self.connection, pending)
        self._check_identities()
        self._accept(pending)

    def _accept(self, committed: Sequence[Row]) -> None:
        """Note that these rows are committed, and write the high-water mark."""
        self.last_seq = committed[-1][0]
        for row in committed:
            if not row[1]:
                group = rows.retained_group(row)
                if group is not None:
                    self._last_of_group[group] = row[0]
        self._pending = []
        if self._high_water_mark_file is None:
            return
        try:
            self._high_water_mark_file.write(HighWaterMark(self.epoch, self.last_seq, committed[-1][3]))
        except OSError as error:
            log.warning("journal %s: the high-water mark could not be written: %s", self.path, error)
        else:
            self.has_deferred_sync = True
            if self.sync_pace.is_due:
                self.sync_high_water_mark()

    def sync_high_water_mark(self) -> None:
        """Have the high-water mark synced in the background, if it was written since the last sync."""
        if self.has_deferred_sync and self._high_water_mark_file is not None:
            self.has_deferred_sync = False
            self.sync_pace.started()
            self._run_in_background(self._high_water_mark_file.sync)

    def recover(self, error: BaseException) -> None:
        """Find out after a failure what is committed; afterwards `last_seq` is right and the journal can be used.

        Raises:
            sqlite3.Error, OSError, MemoryError: Another attempt may succeed.
            StoreError, JournalDamaged: The journal cannot be used any more.
        """
        self._wal_is_uncertain = True
        is_rolled_back = False
        if is_full(error) and self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                newer = "SELECT 1 FROM events WHERE seq > ? LIMIT 1"
                is_rolled_back = self._connection.execute(newer, (self.last_seq,)).fetchone() is None
        if not is_rolled_back:
            self._reopen()
        self._wal_is_uncertain = False
        self._pending = []  # not earlier: the next attempt compares with it

    def _reopen(self) -> None:
        before, pending = self.last_seq, self._pending
        if self._connection is not None:
            self._check_identities()
        self._sync_wal()  # before closing, which checkpoints it
        self._identities.pop(self.path + "-wal", None)  # closing deletes it
        self.close_connection()
        self._check_known_identities()
        connection = connect(self._disk, self.path)
        try:
            meta = get_meta(connection, self.path)
            if meta["epoch"] != self.epoch:
                raise JournalDamaged(self.path, "after a failed commit its epoch is another one")
            newer = connection.execute(
                "SELECT seq, job, body, checksum FROM events WHERE seq > ? ORDER BY seq", (before,)
            ).fetchall()
            self.oldest, self._pruned, self._key_count = int(meta["oldest"]), int(meta["pruned"]), int(meta["keys"])
            count = connection.execute("SELECT count(*) FROM events").fetchone()[0]
            # the whole group or nothing: it was one transaction
            if newer and [tuple(row) for row in newer] != pending:
                raise JournalDamaged(
                    self.path, f"after a failed commit it has events after number {before} that were never written"
                )
            if count != before - self._pruned + len(newer):
                raise JournalDamaged(self.path, f"after a failed commit events are missing ({count} are left)")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
            raise
        self._connection = connection
        self._identities = {self.path: self._disk.identity(self.path)}
        if not self._in_memory:
            self._disk.preallocate(self.path + "-wal")
        if newer:
            self._accept(newer)

    def _check_identities(self) -> None:
        self._check_known_identities()
        if len(self._identities) == 1:  # the first commit creates the WAL
            self._identities[self.path + "-wal"] = self._disk.identity(self.path + "-wal")

    def _check_known_identities(self) -> None:
        for path, known in self._identities.items():
            if self._disk.identity(path) != known:
                raise JournalDamaged(path, "it was deleted or replaced while in use")

    # reading

    def page(self, after: int, limit: int) -> list[Event]:
        """At most `limit` events with `seq` above `after`, without a gap. Raises `StoreError`."""
        if after + 1 < self.oldest:
            raise StoreError(f"events before {self.oldest} are gone, {after + 1} was asked for")
        try:
            found = self.connection.execute(
                "SELECT seq, job, body, checksum FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
            ).fetchall()
        except sqlite3.Error as error:
            raise explain(error, self.path, is_known=self._stored_mark is not None) from error
        for seq, row in enumerate(found, after + 1):
            if not rows.is_sound(row) or row[0] != seq:
                raise JournalDamaged(self.path, f"event {seq} can no longer be read")
        return [rows.decode(row[2]) for row in found]

    def meta(self) -> dict[str, str]:
        """The meta table. Raises `sqlite3.Error`, `JournalDamaged`."""
        return get_meta(self.connection, self.path)

    def row_page(self, after: int, last: int, limit: int) -> list[Row]:
        """See `rows.row_page`. Raises `sqlite3.Error`, `JournalDamaged`."""
        return rows.row_page(self.connection, self.path, after, last, limit)

    def tombstone_page(self, after: bytes, last: int, limit: int) -> list[keys.TombstoneRow]:
        """See `keys.tombstone_page`; `last` is ignored. Raises `sqlite3.Error`, `JournalDamaged`."""
        return keys.tombstone_page(self.connection, self.path, after, limit)

    def find_events(self, jobs: Sequence[str], first: int, last: int) -> dict[int, str]:
        """See `rows.find`. Raises `sqlite3.Error`."""
        return rows.find(self.connection, jobs, first, last)

    # pruning

    def prune(
        self, seqs: Sequence[int], oldest: int, tombstones: Sequence[KeyTombstone], activity: str | None = None
    ) -> None:
        """Delete events and insert tombstones in one transaction. The last event of each group of `RETAINED` is kept.

        Args:
            seqs: The events to delete.
            oldest: The first event from which on there is no gap.
            tombstones: Of the jobs whose events are deleted.
            activity: See `KeepsActivity.keep_activity`.

        Raises:
            sqlite3.Error: Nothing is known to have changed.
        """
        candidates = {*self._retained, *seqs}  # an event retained earlier may be deleted once it is not the last
        kept = candidates.intersection(self._last_of_group.values())
        oldest = max(self.oldest, oldest)
        with transaction(self.connection) as connection:
            deleted = rows.delete(connection, sorted(candidates - kept))
            added = keys.insert_tombstones(connection, tombstones)
            set_meta(connection, "pruned", str(self._pruned + deleted))
            set_meta(connection, "oldest", str(oldest))
            set_meta(connection, "keys", str(self._key_count + added))
            if activity is not None:
                set_meta(connection, ACTIVITY, activity)
        self._retained = sorted(kept)
        self._pruned += deleted
        self._key_count += added
        self.oldest = oldest

    def delete_tombstones(self, tombstones: Sequence[KeyTombstone]) -> None:
        """Delete tombstones in one transaction. Raises `sqlite3.Error`; then nothing is known to have changed."""
        with transaction(self.connection) as connection:
            deleted = keys.delete_tombstones(connection, tombstones)
            set_meta(connection, "keys", str(self._key_count - deleted))
        self._key_count -= deleted

    # closing

    def close(self) -> None:
        """Close the connection and the high-water mark. Closing twice is harmless."""
        file, self._high_water_mark_file = self._high_water_mark_file, None
        try:
            self.close_connection(checkpoint=not self._wal_is_uncertain)
        finally:
            if file is not None:
                with contextlib.suppress(OSError):
                    file.sync()
                with contextlib.suppress(OSError):
                    file.close()

    def _close_refused(self) -> None:
        """Close after an opening that failed, and leave no empty WAL behind."""
        self.close_connection(checkpoint=False)
        self.close()
        if not self._had_wal:
            with contextlib.suppress(OSError):
                if self._disk.size(self.path + "-wal") == 0:
                    self._disk.remove(self.path + "-wal")

    def close_connection(self, *, checkpoint: bool = True) -> None:
        """Close the connection. Without a checkpoint the file and its WAL remain as they are."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error, OSError):
                if checkpoint or self._in_memory:
                    connection.close()
                else:
                    self._disk.close_without_checkpoint(connection, self.path)

    def _sync_wal(self) -> None:
        """Sync the WAL: after a kill or a failed sync it may be in the system's memory alone, and a power cut could
        bring back an older one, to be checkpointed over newer pages."""
        if not self._in_memory and self._disk.size(self.path + "-wal") is not None:
            self._disk.rewrite(self.path + "-wal")
            self._disk.sync_folder(self.path)  # its name may be as new as its last bytes
