"""The journal's tables, and how a connection to them is made: settings that durability hangs on are read back.

`events` holds what happened, `keys` the tombstones of pruned keys, `meta` what must be known to see that no row of
either is missing. There is no table of jobs: they are folded from the events, so nothing can disagree with them. There
is no index on `job` either: it would cost a second page in each commit, and only pruning asks for a job's rows, which
knows between which numbers they lie.

A row's checksum is a CRC-32 over its number, its job and its body. It finds every damage of up to 32 bits in a row, so
any flipped byte, and misses one random change in four thousand million; it is against accidents, not against people,
who could write a new one. That a whole row is missing it cannot see: for that, rows are counted (`meta.pruned`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from trio_jobs._errors import JournalDamaged, StoreError
from trio_jobs._stores.sqlite.disk import Connection, Disk
from trio_jobs._stores.sqlite.keys import migrate_tombstones

__all__ = [
    "ACTIVITY",
    "APPLICATION_ID",
    "BACKUP_ID",
    "HEADER_SIZE",
    "PAGE_SIZE",
    "SCHEMA_VERSION",
    "check_schema",
    "connect",
    "create",
    "get_meta",
    "get_secrets",
    "is_backup",
    "is_foreign",
    "keep_secret",
    "row_checksum",
    "set_meta",
    "transaction",
]

APPLICATION_ID: Final = 0x74726A62  #: "trjb"
BACKUP_ID: Final = 0x74726A63  #: "trjc": a backup, which becomes a journal when it is opened
SCHEMA_VERSION: Final = 3
PAGE_SIZE: Final = 4096
HEADER_SIZE: Final = 100  #: bytes of SQLite's file header
SECRET: Final = "secret_"  # noqa: S105 - no secret  #: before the name of one in the meta table
ACTIVITY: Final = "activity"  #: in the meta table: what operators did, see `KeepsActivity`
_MAGIC: Final = b"SQLite format 3\0"

TABLES: Final = {
    "events": (
        "CREATE TABLE events (seq INTEGER PRIMARY KEY, job TEXT NOT NULL, body BLOB NOT NULL, "
        "checksum INTEGER NOT NULL) STRICT"
    ),
    "keys": (
        "CREATE TABLE keys (name BLOB PRIMARY KEY, job TEXT NOT NULL, digest TEXT NOT NULL, state TEXT NOT NULL, "
        "acted INTEGER NOT NULL, at REAL NOT NULL, checksum INTEGER NOT NULL) STRICT, WITHOUT ROWID"
    ),
    "meta": (
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL) STRICT, "
        "WITHOUT ROWID"
    ),
}

#: Statements, and functions of the connection and the path, that turn a file of version n into one of n + 1. Version 2
#: has the same tables, and events that version 1 cannot decode; the number makes an older trio-jobs refuse the file as
#: a whole, before it reads an event. Version 3 has further events, and records whether a pruned job may have acted.
MIGRATIONS: Final[dict[int, tuple[str | Callable[[Connection, str], None], ...]]] = {
    1: (),
    2: ("ALTER TABLE keys RENAME TO keys_before_3", TABLES["keys"], migrate_tombstones, "DROP TABLE keys_before_3"),
}


def is_backup(header: bytes) -> bool:
    """Whether a file with this header is a backup. Check before SQLite opens it and checkpoints any WAL beside it."""
    return header.startswith(_MAGIC) and header[68:72] == BACKUP_ID.to_bytes(4, "big")


def is_database(header: bytes) -> bool:
    """Whether a file with this header is of SQLite."""
    return header.startswith(_MAGIC)


def is_foreign(header: bytes) -> bool:
    """Whether a file with this header is neither a journal nor a backup."""
    ours = (APPLICATION_ID.to_bytes(4, "big"), BACKUP_ID.to_bytes(4, "big"))
    return not header.startswith(_MAGIC) or header[68:72] not in ours


def connect(disk: Disk, path: str, journal_mode: str = "WAL") -> Connection:
    """Open a connection that syncs each commit and locks the file. Raises `sqlite3.Error`, `StoreError`."""
    connection = disk.connect(path)
    try:
        wanted = [
            ("locking_mode", "EXCLUSIVE", "exclusive"),  # before the journal mode: then no shared memory is needed
            ("journal_mode", journal_mode, "memory" if path == ":memory:" else journal_mode.lower()),
            ("synchronous", "FULL", 2),
            ("fullfsync", "1", 1),  # macOS: through the drive's own cache
            ("checkpoint_fullfsync", "1", 1),
            ("cell_size_check", "1", 1),
            ("temp_store", "MEMORY", 2),
            ("secure_delete", "ON", 1),  # pruned payloads must not stay readable in the file
        ]
        for name, value, expected in wanted:
            connection.execute(f"PRAGMA {name} = {value}").fetchone()
            got = connection.execute(f"PRAGMA {name}").fetchone()[0]
            if got != expected:
                raise StoreError(
                    f"journal {path}: SQLite reports {name} = {got}, not {expected}, so commits would not be durable"
                )
    except BaseException:
        connection.close()
        raise
    return connection


def create(connection: Connection, epoch: str, application_id: int = APPLICATION_ID) -> None:
    """Create the tables, in one transaction."""
    with transaction(connection):
        for statement in TABLES.values():
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {application_id}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for name, value in (("epoch", epoch), ("pruned", "0"), ("oldest", "1"), ("keys", "0")):
            set_meta(connection, name, value)


def check_schema(connection: Connection, path: str) -> bool:
    """Return whether there is a schema; migrate one of an older version. Raises `StoreError`, `JournalDamaged`."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = dict(connection.execute("SELECT name, sql FROM sqlite_master").fetchall())
    if not tables and version == 0 and application == 0:
        return False
    if application != APPLICATION_ID:
        raise StoreError(f"{path} is a database, but not a trio-jobs journal")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"journal {path} was written by a newer trio-jobs (schema {version}, this version reads up to "
            f"{SCHEMA_VERSION}); upgrade this one"
        )
    if version < SCHEMA_VERSION and version not in MIGRATIONS:
        raise JournalDamaged(path, f"its schema version is {version}, which never existed")
    if version < SCHEMA_VERSION:
        _migrate(connection, path, version)
        tables = dict(connection.execute("SELECT name, sql FROM sqlite_master").fetchall())
    if tables != TABLES:
        raise JournalDamaged(path, f"its tables are not those of schema {SCHEMA_VERSION}")
    return True


def _migrate(connection: Connection, path: str, version: int) -> None:
    with transaction(connection):
        for number in range(version, SCHEMA_VERSION):
            for step in MIGRATIONS[number]:
                if isinstance(step, str):
                    connection.execute(step)
                else:
                    step(connection, path)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


@contextmanager
def transaction(connection: Connection) -> Iterator[Connection]:
    """Run the block in one transaction, rolled back if it raises. Raises `sqlite3.Error`."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def row_checksum(seq: int, job: str, body: bytes) -> int:
    """CRC-32 over number, job and body."""
    return zlib.crc32(b"%b%b%b" % (seq.to_bytes(8, "little"), job.encode(), body))


def get_meta(connection: Connection, path: str) -> dict[str, str]:
    """Read the meta table. Raises `JournalDamaged`."""
    found: dict[str, str] = {}
    for name, value, checksum in connection.execute("SELECT name, value, checksum FROM meta").fetchall():
        if not isinstance(name, str) or zlib.crc32(f"{name}={value}".encode()) != checksum:
            raise JournalDamaged(path, "its meta table fails its checksum")
        found[name] = value
    missing = {"epoch", "keys", "oldest", "pruned"} - set(found)
    if missing:
        raise JournalDamaged(path, f"its meta table lacks {', '.join(sorted(missing))}")
    return found


def set_meta(connection: Connection, name: str, value: str) -> None:
    """Write one value of the meta table, in the current transaction."""
    connection.execute(
        "INSERT INTO meta VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value, "
        "checksum = excluded.checksum",
        (name, value, zlib.crc32(f"{name}={value}".encode())),
    )


def get_secrets(connection: Connection, path: str) -> dict[str, str]:
    """The secrets in the meta table, by name; see `KeepsSecrets`. Raises `sqlite3.Error`, `JournalDamaged`."""
    meta = get_meta(connection, path)
    return {name[len(SECRET) :]: value for name, value in meta.items() if name.startswith(SECRET)}


def keep_secret(connection: Connection, name: str, value: str) -> None:
    """Write a secret, in one transaction. Raises `sqlite3.Error`."""
    with transaction(connection):
        set_meta(connection, SECRET + name, value)
