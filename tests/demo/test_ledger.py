"""Rules of the ledger: one session, one thread, and a book that enforces its rules."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import sqlite3
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.processes import Process, run
from trio_jobs_demo.ledger import (
    AccountBalance,
    AlreadyBooked,
    BookLocked,
    Ledger,
    LedgerClosed,
    LedgerError,
    VoucherNumber,
    VoucherRefused,
    WrongBook,
)
from trio_jobs_demo.vouchers import MAX_MINOR, Entry, Voucher

VOUCHER = Voucher(
    "R-1", dt.date(2024, 1, 31), "EUR", "text", (Entry("A", 500, 0), Entry("B", 0, 300), Entry("C", 0, 200))
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "book.db"


@contextlib.contextmanager
def opened(path: Path, one_voucher_per_reference: bool = True) -> Iterator[Ledger]:
    ledger = Ledger.open(path, one_voucher_per_reference)
    try:
        yield ledger
    finally:
        ledger.close()


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def test_a_voucher_survives_its_session(path: Path) -> None:
    with opened(path) as ledger:
        number = ledger.create_voucher(VOUCHER)
        assert ledger.find("R-1") == (number,)
    with opened(path) as ledger:
        assert ledger.find("R-1") == (number,)
        assert ledger.find("R-2") == ()
        assert ledger.voucher_count() == 1
        assert ledger.trial_balance() == (
            AccountBalance("A", "EUR", 500, 0),
            AccountBalance("B", "EUR", 0, 300),
            AccountBalance("C", "EUR", 0, 200),
        )


def test_a_voucher_keeps_its_origin(path: Path) -> None:
    with opened(path) as ledger:
        assert ledger.newest() == 0
        number = ledger.create_voucher(attrs.evolve(VOUCHER, origin="what it was made from"))
        assert ledger.newest() == number
    with opened(path) as ledger:
        assert ledger.origin(number) == "what it was made from"
        assert ledger.origin(VoucherNumber(number + 1)) == ""


def test_a_book_has_an_id_of_its_own_and_keeps_its_owner(path: Path, tmp_path: Path) -> None:
    with opened(path) as ledger, opened(tmp_path / "other.db") as other:
        book_id = ledger.book_id()
        assert book_id != other.book_id()
        assert ledger.owner() == ""
        ledger.set_owner("us")
    with opened(path) as ledger:
        assert (ledger.book_id(), ledger.owner()) == (book_id, "us")


def test_a_book_of_another_version_is_refused_and_not_changed(path: Path) -> None:
    Ledger.open(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 0")
    before = path.read_bytes()
    with pytest.raises(WrongBook, match="begin a new book"):
        Ledger.open(path)
    assert path.read_bytes() == before


def test_each_create_call_is_logged_also_a_refused_one(path: Path) -> None:
    unbalanced = attrs.evolve(VOUCHER, reference="R-2", entries=VOUCHER.entries[:2])
    with opened(path) as ledger:
        ledger.create_voucher(VOUCHER)
        with pytest.raises(AlreadyBooked):
            ledger.create_voucher(VOUCHER)
        with pytest.raises(VoucherRefused, match="debits equal"):
            ledger.create_voucher(unbalanced)
    logged = rows(path, "SELECT reference, outcome, voucher FROM call_log ORDER BY call")
    assert logged == [("R-1", "booked", 1), ("R-1", "refused", None), ("R-2", "refused", None)]
    assert rows(path, "SELECT count(*) FROM vouchers") == [(1,)]
    assert rows(path, "SELECT sum(debit), sum(credit) FROM entries") == [(500, 500)]


def test_a_reference_has_one_voucher_unless_the_book_allows_more(path: Path, tmp_path: Path) -> None:
    with opened(path) as ledger:
        number = ledger.create_voucher(VOUCHER)
        with pytest.raises(AlreadyBooked) as caught:
            ledger.create_voucher(VOUCHER)
        assert (caught.value.reference, caught.value.number) == ("R-1", number)
    with opened(tmp_path / "other.db", one_voucher_per_reference=False) as ledger:
        assert ledger.find("R-1") == ()
        numbers = (ledger.create_voucher(VOUCHER), ledger.create_voucher(VOUCHER))
        assert ledger.find("R-1") == numbers


def test_a_book_keeps_the_rule_it_was_created_with(path: Path) -> None:
    Ledger.open(path, one_voucher_per_reference=False).close()
    with pytest.raises(WrongBook, match="one_voucher_per_reference=False"):
        Ledger.open(path)
    Ledger.open(path, one_voucher_per_reference=False).close()


@pytest.mark.parametrize(
    "voucher",
    [
        attrs.evolve(VOUCHER, entries=()),
        attrs.evolve(VOUCHER, entries=(Entry("A", 0, 0), Entry("B", 0, 0))),
        attrs.evolve(VOUCHER, entries=(Entry("A", 5, 5),)),
        attrs.evolve(VOUCHER, entries=(Entry("A", -5, 0), Entry("B", 0, -5))),
        attrs.evolve(VOUCHER, entries=(Entry("A", MAX_MINOR + 1, 0), Entry("B", 0, MAX_MINOR + 1))),
        attrs.evolve(VOUCHER, entries=(Entry("A", 2**63, 0), Entry("B", 0, 2**63))),
        attrs.evolve(VOUCHER, currency="eur"),
        attrs.evolve(VOUCHER, reference=""),
    ],
)
def test_a_refused_voucher_leaves_only_its_log_row(path: Path, voucher: Voucher) -> None:
    with opened(path) as ledger:
        with pytest.raises(VoucherRefused):
            ledger.create_voucher(voucher)
        assert ledger.voucher_count() == 0
        ledger.create_voucher(VOUCHER)
    assert rows(path, "SELECT outcome FROM call_log ORDER BY call") == [("refused",), ("booked",)]
    assert rows(path, "SELECT DISTINCT voucher FROM entries") == [(1,)]


sides = st.integers(-3, 3).map(lambda amount: Entry("A", max(amount, 0), max(-amount, 0)))


@given(st.lists(sides, max_size=5))
@settings(max_examples=60, deadline=None)
def test_only_balanced_vouchers_are_booked(tmp_path_factory: pytest.TempPathFactory, entries: list[Entry]) -> None:
    balanced = len(entries) >= 2 and all(e.debit or e.credit for e in entries)
    balanced = balanced and sum(e.debit for e in entries) == sum(e.credit for e in entries)
    with opened(tmp_path_factory.mktemp("books") / "book.db") as ledger:
        try:
            ledger.create_voucher(attrs.evolve(VOUCHER, entries=tuple(entries)))
        except VoucherRefused:
            assert not balanced
        else:
            assert balanced
        assert ledger.voucher_count() == balanced


DRAFT = "INSERT INTO vouchers (reference, dated, currency, text) VALUES ('D', '2024-01-01', 'EUR', '')"
RAW_SQL = [
    "UPDATE vouchers SET text = 'x'",
    "UPDATE vouchers SET posted = 0",
    "DELETE FROM vouchers WHERE posted",
    "UPDATE entries SET debit = 1000 WHERE account = 'A'",
    "UPDATE entries SET voucher = 2 WHERE line = 1",
    "DELETE FROM entries",
    "INSERT INTO entries VALUES (1, 9, 'A', 5, 0)",
    "INSERT OR REPLACE INTO entries VALUES (1, 1, 'A', 5, 0)",
    "REPLACE INTO vouchers (number, reference, dated, currency, text) VALUES (1, 'R', '2024-01-01', 'EUR', '')",
    "INSERT OR REPLACE INTO vouchers (reference, dated, currency, text) VALUES ('R-1', '2024-01-01', 'EUR', '')",
    "INSERT INTO vouchers (reference, dated, currency, text, posted) VALUES ('R', '2024-01-01', 'EUR', '', 1)",
    "INSERT INTO vouchers (reference, dated, currency, text) VALUES ('R', '2024-02-31', 'EUR', '')",
    "UPDATE OR REPLACE vouchers SET number = 1 WHERE NOT posted",
    "UPDATE OR REPLACE vouchers SET reference = 'R-1' WHERE NOT posted",
    "UPDATE OR REPLACE entries SET voucher = 1, line = 1 WHERE voucher = 2",
    "UPDATE vouchers SET posted = 1 WHERE number = 2",
    "INSERT INTO entries VALUES (2, 3, 'A', 5.5, 0)",
    "UPDATE vouchers SET origin = 'x'",
    "UPDATE book SET id = 'x'",
    "DELETE FROM book",
    "INSERT INTO book (one, id) VALUES (2, 'x')",
    "INSERT OR REPLACE INTO book (one, id) VALUES (1, 'x')",
]


@pytest.mark.parametrize("statement", RAW_SQL)
def test_the_book_enforces_its_rules_against_other_sql(path: Path, statement: str) -> None:
    with opened(path) as ledger:
        ledger.create_voucher(VOUCHER)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # a draft that does not balance, for the statements that need one
        connection.execute(DRAFT)
        connection.execute("INSERT INTO entries VALUES (2, 1, 'A', 7, 0)")
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)
    with opened(path) as ledger:
        assert ledger.find("R-1") == (1,)
        assert ledger.voucher_count() == 1
        assert sum(balance.debit for balance in ledger.trial_balance()) == 500


def test_a_second_session_is_refused_and_the_first_keeps_its_lock(path: Path) -> None:
    with opened(path) as ledger:
        for _ in range(2):
            with pytest.raises(BookLocked):
                Ledger.open(path)
        assert opened_elsewhere(path) == "BookLocked"
        ledger.create_voucher(VOUCHER)
    assert opened_elsewhere(path) == "opened"


def opened_elsewhere(path: Path) -> str:
    """The result of opening the book in another process."""
    program = (
        "import sys\nfrom trio_jobs_demo.ledger import Ledger, LedgerError\n"
        "try:\n    Ledger.open(sys.argv[1]).close()\n    print('opened')\n"
        "except LedgerError as error:\n    print(type(error).__name__)\n"
    )
    return run([sys.executable, "-c", program, path], check=True).stdout.strip()


HOLDER = """
import datetime, sys
from trio_jobs_demo.ledger import Ledger
from trio_jobs_demo.vouchers import Entry, Voucher
ledger = Ledger.open(sys.argv[1])
entries = (Entry("A", 1, 0), Entry("B", 0, 1))
ledger.create_voucher(Voucher("kept", datetime.date(2024, 1, 1), "EUR", "", entries))
connection = ledger._connection
connection.execute("BEGIN EXCLUSIVE")
connection.execute("INSERT INTO vouchers (reference, dated, currency, text) VALUES ('lost', '2024-01-01', 'EUR', '')")
print("holding", flush=True)
sys.stdin.read()
"""


def test_a_killed_process_releases_the_lock_and_its_vouchers_survive(path: Path) -> None:
    with Process([sys.executable, "-c", HOLDER, path], stdin=None) as process:
        assert process.out.line().strip() == "holding"
        with pytest.raises(BookLocked):
            Ledger.open(path)
    assert process.returncode == (1 if os.name == "nt" else -signal.SIGKILL)
    with opened(path) as ledger:
        assert ledger.voucher_count() == 1
        assert (len(ledger.find("kept")), ledger.find("lost")) == (1, ())


def test_every_call_from_another_thread_raises(path: Path) -> None:
    with opened(path) as ledger:
        calls = (
            lambda: ledger.create_voucher(VOUCHER),
            lambda: ledger.find("R-1"),
            ledger.voucher_count,
            ledger.trial_balance,
            ledger.close,
        )
        raised: list[type[BaseException] | None] = []

        def call_all() -> None:
            for call in calls:
                with contextlib.suppress(sqlite3.ProgrammingError):
                    call()
                    raised.append(None)
                    continue
                raised.append(sqlite3.ProgrammingError)

        thread = threading.Thread(target=call_all)
        thread.start()
        thread.join()
        assert raised == [sqlite3.ProgrammingError] * len(calls)
        ledger.create_voucher(VOUCHER)  # the session still works on its own thread
    assert rows(path, "SELECT count(*) FROM call_log") == [(1,)]


def test_calls_after_close_raise_and_close_can_be_repeated(path: Path) -> None:
    ledger = Ledger.open(path)
    ledger.close()
    ledger.close()
    for call in (lambda: ledger.create_voucher(VOUCHER), lambda: ledger.find("R-1"), ledger.trial_balance):
        with pytest.raises(LedgerClosed):
            call()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_only_the_owner_can_read_the_book(path: Path) -> None:
    with opened(path) as ledger:
        ledger.create_voucher(VOUCHER)
        modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {0o600}


def test_a_file_that_is_not_a_book_is_not_changed(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("no database at all, but longer than a header of a hundred bytes would be, to be sure" * 20)
    foreign = tmp_path / "foreign.db"
    with contextlib.closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    for path in (text, foreign):
        before = path.read_bytes()
        with pytest.raises(WrongBook):
            Ledger.open(path)
        assert path.read_bytes() == before
    with pytest.raises(LedgerError):
        Ledger.open(tmp_path / "no folder" / "book.db")
