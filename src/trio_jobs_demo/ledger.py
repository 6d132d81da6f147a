"""A ledger of the kind that trio-jobs is for: one session locks the book and must stay on one thread.

It does real double-entry bookkeeping in SQLite, and a voucher is on disk when its call returns. It stands for a foreign
SDK, so it does not depend on invoices, queues or Trio, and is as strict as such SDKs are: a second session is refused,
and a call from another thread raises `sqlite3.ProgrammingError`.

The lock is SQLite's exclusive file lock, held from `open` to `close`. The operating system releases it when the process
dies, so there is no stale lock file. Its weakness: on POSIX the lock belongs to the process, and is lost when the same
process opens and closes the file without SQLite. Nothing here does that.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NewType, Protocol, Self, final

import attrs

from trio_jobs_demo.schema import APPLICATION_ID, ONE_VOUCHER_PER_REFERENCE, TABLES, VERSION
from trio_jobs_demo.vouchers import Voucher

__all__ = [
    "AccountBalance",
    "AlreadyBooked",
    "BookLocked",
    "Books",
    "Ledger",
    "LedgerBusy",
    "LedgerClosed",
    "LedgerConnectionLost",
    "LedgerError",
    "VoucherNumber",
    "VoucherRefused",
    "WrongBook",
]

VoucherNumber = NewType("VoucherNumber", int)

# The low byte is the primary code, the rest says more (https://www.sqlite.org/rescode.html).
PRIMARY_CODE: Final = 0xFF


class LedgerError(Exception):
    """Base class of the ledger's errors; raised itself if the disk or the file fails."""


class BookLocked(LedgerError):
    """Another session, in this or another process, has the book open. Retry when it is closed."""


class WrongBook(LedgerError):
    """The file is not a book, not the expected one, or was created with another `one_voucher_per_reference`."""


class LedgerClosed(LedgerError):
    """The session is over: `close` has been called."""


class VoucherRefused(LedgerError):
    """The voucher breaks a rule of the book; for example, it does not balance. A retry does not help."""


class AlreadyBooked(VoucherRefused):
    """The reference already has the voucher `number`."""

    def __init__(self, reference: str, number: VoucherNumber) -> None:
        super().__init__(f"this reference has voucher {number} already")
        self.reference = reference
        self.number = number


class LedgerBusy(LedgerError):
    """The ledger is busy; nothing was booked. Retry."""


class LedgerConnectionLost(LedgerError):
    """The connection was lost during the call, so it is unknown whether the voucher was booked. `find` it first."""


@attrs.frozen
class AccountBalance:
    """The sums of all posted vouchers for one account and currency, in the currency's smallest unit."""

    account: str
    currency: str
    debit: int
    credit: int


class Books(Protocol):
    """The interface of an open ledger."""

    def create_voucher(self, voucher: Voucher) -> VoucherNumber: ...
    def find(self, reference: str) -> tuple[VoucherNumber, ...]: ...
    def origin(self, number: VoucherNumber) -> str: ...
    def book_id(self) -> str: ...
    def voucher_count(self) -> int: ...
    def trial_balance(self) -> tuple[AccountBalance, ...]: ...
    def close(self) -> None: ...


@final
class Ledger:
    """A session on a book. Every method, `close` too, runs on the thread that opened it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """For `open` only."""
        self._connection: sqlite3.Connection | None = connection

    @classmethod
    def open(cls, path: str | os.PathLike[str], one_voucher_per_reference: bool = True) -> Self:
        """Open the book at `path`, or create it (mode 0600), and lock it until `close`.

        Args:
            path: The file of the book.
            one_voucher_per_reference: The database refuses a second voucher of the same reference. A book can only be
                opened with the value it was created with.

        Raises:
            BookLocked: Another session has the book open.
            WrongBook: The file is not a book, or was created with another `one_voucher_per_reference`.
            LedgerError: The file cannot be opened or created.
        """
        try:
            # O_EXCL: an existing book is not opened here, so no lock on it is lost (see above)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            pass  # the mode of an existing book is kept
        except OSError as error:
            raise LedgerError(f"the book cannot be created: {error.strerror}") from error
        try:
            connection = sqlite3.connect(Path(path), timeout=0, isolation_level=None)
        except sqlite3.Error as error:
            raise LedgerError(f"the book cannot be opened: {error}") from error
        try:
            _prepare(connection, one_voucher_per_reference)
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error):
                raise _ledger_error(error) from error
            raise
        return cls(connection)

    def create_voucher(self, voucher: Voucher) -> VoucherNumber:
        """Book a voucher in one transaction. It is on disk when the call returns.

        The call is logged first, in a transaction of its own, so its row remains if the voucher is rolled back.

        Raises:
            AlreadyBooked: The reference has a voucher.
            VoucherRefused: The voucher breaks a rule of the book.
            LedgerClosed: The session is closed.
            LedgerError: The disk failed. The voucher is rolled back, unless the commit itself failed; `find` shows it.
        """
        connection = self._open_connection()
        with _mapped():
            call = connection.execute("INSERT INTO call_log (reference) VALUES (?)", (voucher.reference,)).lastrowid
        try:
            return self._book(connection, voucher, call)
        except (sqlite3.Error, OverflowError) as error:
            refusal = self._refusal(voucher, error)
            with _mapped():
                connection.execute(
                    "UPDATE call_log SET outcome = 'refused', reason = ? WHERE call = ?", (str(refusal), call)
                )
            raise refusal from error

    def find(self, reference: str) -> tuple[VoucherNumber, ...]:
        """The posted vouchers of a reference, oldest first; several only in a book that allows it."""
        with _mapped():
            rows = self._open_connection().execute(
                "SELECT number FROM vouchers WHERE reference = ? AND posted ORDER BY number", (reference,)
            )
            return tuple(VoucherNumber(number) for (number,) in rows)

    def origin(self, number: VoucherNumber) -> str:
        """The `origin` of a voucher; empty if there is no such voucher."""
        with _mapped():
            rows = self._open_connection().execute("SELECT origin FROM vouchers WHERE number = ?", (number,))
            return "".join(origin for (origin,) in rows)

    def newest(self) -> VoucherNumber:
        """The number of the newest voucher; 0 in an empty book. Later vouchers have higher numbers."""
        with _mapped():
            (number,) = self._open_connection().execute("SELECT max(number) FROM vouchers WHERE posted").fetchone()
            return VoucherNumber(number or 0)

    def book_id(self) -> str:
        """The id of the book, which a copy of the file has too."""
        with _mapped():
            (book_id,) = self._open_connection().execute("SELECT id FROM book").fetchone()
            return str(book_id)

    def owner(self) -> str:
        """What `set_owner` was last called with, else empty."""
        with _mapped():
            (owner,) = self._open_connection().execute("SELECT owner FROM book").fetchone()
            return str(owner)

    def set_owner(self, owner: str) -> None:
        """Keep a text with the book that says whose it is."""
        with _mapped():
            self._open_connection().execute("UPDATE book SET owner = ?", (owner,))

    def voucher_count(self) -> int:
        """How many vouchers are posted."""
        with _mapped():
            (count,) = self._open_connection().execute("SELECT count(*) FROM vouchers WHERE posted").fetchone()
            return int(count)

    def trial_balance(self) -> tuple[AccountBalance, ...]:
        """Debits and credits per currency and account, sorted by both."""
        with _mapped():
            rows = self._open_connection().execute(
                "SELECT account, currency, sum(debit), sum(credit) FROM entries JOIN vouchers ON voucher = number"
                " WHERE posted GROUP BY currency, account ORDER BY currency, account"
            )
            return tuple(AccountBalance(*row) for row in rows)

    def close(self) -> None:
        """End the session and release the book. Calling it twice has no effect."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise LedgerClosed("the ledger is closed")
        return self._connection

    def _book(self, connection: sqlite3.Connection, voucher: Voucher, call: int | None) -> VoucherNumber:
        with _transaction(connection):
            number = connection.execute(
                "INSERT INTO vouchers (reference, dated, currency, text, origin) VALUES (?, ?, ?, ?, ?)",
                (voucher.reference, voucher.dated.isoformat(), voucher.currency, voucher.text, voucher.origin),
            ).lastrowid
            assert number is not None
            connection.executemany(
                "INSERT INTO entries (voucher, line, account, debit, credit) VALUES (?, ?, ?, ?, ?)",
                [(number, line, e.account, e.debit, e.credit) for line, e in enumerate(voucher.entries, 1)],
            )
            connection.execute("UPDATE vouchers SET posted = 1 WHERE number = ?", (number,))
            connection.execute("UPDATE call_log SET outcome = 'booked', voucher = ? WHERE call = ?", (number, call))
        return VoucherNumber(number)

    def _refusal(self, voucher: Voucher, error: sqlite3.Error | OverflowError) -> LedgerError:
        if isinstance(error, OverflowError):
            return VoucherRefused("an amount is larger than the ledger holds")
        if isinstance(error, sqlite3.IntegrityError):
            if "this reference has a voucher already" in str(error):
                return AlreadyBooked(voucher.reference, self.find(voucher.reference)[0])
            return VoucherRefused(str(error))
        return _ledger_error(error)


def _prepare(connection: sqlite3.Connection, one_voucher_per_reference: bool) -> None:
    """Take the lock, then create or check the tables."""
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # EXCLUSIVE mode keeps this lock until close. Without it a reader would have a shared lock only, and a second
    # session could open the book.
    with _transaction(connection):
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables and not application:
            # not executescript, which would commit first and create the tables one by one
            for statement in _statements(TABLES + ONE_VOUCHER_PER_REFERENCE * one_voucher_per_reference):
                connection.execute(statement)
            connection.execute("INSERT INTO book (one, id) VALUES (1, ?)", (secrets.token_hex(16),))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        elif application != APPLICATION_ID:
            raise WrongBook("this SQLite file is not a book of this ledger")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            raise WrongBook(f"this book has version {version}, this program writes version {VERSION}; begin a new book")
        name = "one_voucher_per_reference"
        (unique,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        if bool(unique) != one_voucher_per_reference:
            raise WrongBook(f"this book was created with one_voucher_per_reference={bool(unique)}")


def _statements(script: str) -> Iterator[str]:
    """The statements of an SQL script, one by one; triggers have semicolons inside."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # after some errors (disk full) SQLite has rolled back already; then there is nothing to roll back
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a call from the wrong thread is a bug of the caller
    except sqlite3.Error as error:
        raise _ledger_error(error) from error


def _ledger_error(error: sqlite3.Error) -> LedgerError:
    """Map an error of SQLite to an error of the ledger."""
    code = getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BookLocked("another session has this book open")
    if code == sqlite3.SQLITE_NOTADB:
        return WrongBook("this file is not an SQLite file")
    return LedgerError(f"the book failed: {error}")
