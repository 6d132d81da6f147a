"""An invoice counts as booked only if the book has a voucher of this invoice, with this content."""

from __future__ import annotations

import datetime as dt
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from demo_books import Desk, balances, vouchers
from demo_documents import CFDI, UBL, as_credit_note, stamped, ubl
from hypothesis import given, settings
from hypothesis import strategies as st

import trio_jobs
from trio_jobs_demo.bookkeeping import Booking, book_invoice, find_voucher, verify_booked
from trio_jobs_demo.content import content_of, difference, is_same
from trio_jobs_demo.invoices import Invoice, Line
from trio_jobs_demo.ledger import Ledger, LedgerConnectionLost, LedgerError, VoucherNumber
from trio_jobs_demo.reader import read_invoice
from trio_jobs_demo.vouchers import Side, Voucher

FIRST = ubl()
DOUBLED = ubl(net="200.00", tax="50.00", total="250.00", payable="250.00")
OTHERS = {
    "amount": (
        ubl(net="200.00", tax="50.00", total="250.00", payable="250.00"),
        "amount (125.00 EUR there, 250.00 EUR",
    ),
    "type": (as_credit_note(FIRST), "type (invoice there, credit note here)"),
    "next year": (ubl(date="2025-05-06"), "date (2024-05-06 there, 2025-05-06 here)"),
    "issuer": (ubl(issuer="Other"), 'issuer ("Seller" there, "Other" here)'),
    "customer": (FIRST.replace("Buyer", "Somebody"), 'customer ("Buyer" there, "Somebody" here)'),
    "lines": (FIRST.replace("Thing", "Other thing"), "lines or taxes"),
}


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


@pytest.mark.parametrize("options", [(), ("--no-constraint",)], ids=["", "without the book's own constraint"])
@pytest.mark.parametrize("with_journal", [False, True], ids=["memory", "journal"])
@pytest.mark.parametrize("what", OTHERS)
def test_a_known_number_with_another_content_is_refused_in_a_later_run(
    desk: Desk, what: str, with_journal: bool, options: tuple[str, ...]
) -> None:
    document, reason = OTHERS[what]
    first, second = desk.put("1.xml", FIRST), desk.put("2.xml", document)
    more = (*options, *(("--journal", desk.journal) if with_journal else ()))
    assert desk.run(first, *more).counts == {"booked": 1}
    before = balances(desk.book)
    run = desk.run(second, *more)
    assert (run.code, run.counts) == (3, {"refused": 1})
    assert f"its number has voucher 1 already, which differs: {reason}" in run.out
    assert vouchers(desk.book) == {"XX123 T-1": 1}
    assert balances(desk.book) == before
    assert desk.run(first, *more).counts == {"there already": 1}  # the first one is still what it was


@pytest.mark.parametrize("what", OTHERS)
def test_of_two_invoices_with_one_number_in_one_run_the_second_is_refused(desk: Desk, what: str) -> None:
    document, reason = OTHERS[what]
    desk.put("in/1.xml", FIRST)
    desk.put("in/2.xml", document)
    run = desk.run(desk.folder / "in")
    assert (run.code, run.counts) == (3, {"booked": 1, "refused": 1})
    assert reason in run.line("refused")
    assert vouchers(desk.book) == {"XX123 T-1": 1}


def test_a_cfdi_with_the_same_folio_and_another_uuid_is_refused(desk: Desk) -> None:
    first, second = desk.put("1.xml", stamped(CFDI, "AA-1")), desk.put("2.xml", stamped(CFDI, "BB-2"))
    assert desk.run(first).counts == {"booked": 1}
    run = desk.run(second)
    assert run.counts == {"refused": 1}
    assert 'UUID ("aa-1" there, "bb-2" here)' in run.out


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["stamped later", "stamped first"])
@pytest.mark.parametrize("runs", [1, 2])
def test_the_copies_of_a_cfdi_before_and_after_its_stamp_are_one_invoice(
    desk: Desk, order: tuple[int, int], runs: int
) -> None:
    documents = (CFDI, stamped(CFDI, "AA-1"))
    files = [desk.put(f"{n}.xml", documents[which]) for n, which in enumerate(order)]
    if runs == 1:
        assert desk.run(*files).counts == {"booked": 1, "duplicate": 1}
    else:
        assert desk.run(files[0]).counts == {"booked": 1}
        assert desk.run(files[1]).counts == {"there already": 1}
    assert vouchers(desk.book) == {"AAA010101AAA A 1": 1}


def test_series_and_number_are_not_confused(desk: Desk) -> None:
    first = desk.put("1.xml", CFDI.replace('Serie="A" Folio="1"', 'Serie="A-1" Folio="2"'))
    second = desk.put("2.xml", CFDI.replace('Serie="A" Folio="1"', 'Serie="A" Folio="1-2"'))
    third = desk.put("3.xml", CFDI.replace('Serie="A" Folio="1"', 'Folio="A-1-2"'))
    assert desk.run(first, second, third).counts == {"booked": 3}


words = st.text(st.sampled_from("A1- %~2"), min_size=1, max_size=6)
parts = st.tuples(words, st.one_of(st.just(""), words), words)


def _invoice(issuer: str, series: str, number: str) -> Invoice:
    sample = read_invoice(UBL.encode())
    full = f"{series}-{number}" if series else number
    return Invoice(
        number=full,
        series=series,
        issuer_id=issuer,
        issuer="Name",
        customer="",
        issued=sample.issued,
        currency="EUR",
        kind=sample.kind,
        lines=sample.lines,
        payable=sample.payable,
    )


@given(parts, parts)
def test_different_issuers_series_and_numbers_have_different_keys(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    assert (_invoice(*one).key == _invoice(*other).key) == (one == other)


@given(st.text(min_size=1, max_size=2000), st.text(min_size=1, max_size=100))
def test_a_key_is_short_enough_for_the_queue(issuer: str, number: str) -> None:
    key = _invoice(issuer, "", number).key
    assert len(f"{key} {'0' * 32}/{'0' * 100}") <= 500
    assert key.count(" ") == 1


def test_the_content_does_not_depend_on_the_way_of_writing_amounts_and_identifiers() -> None:
    one = read_invoice(FIRST.encode())
    other = read_invoice(FIRST.replace(">100.00<", ">100.0<").replace("XX123", "XX 123").encode())
    assert content_of(one, Side.SALE) == content_of(other, Side.SALE)
    assert one.key == other.key
    assert content_of(one, Side.SALE) != content_of(one, Side.PURCHASE)


class Job:
    """What `book_invoice` needs of its job."""

    def __init__(self, booking: Booking) -> None:
        self.key = booking.key

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        pass

    def step(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


documents = st.builds(
    lambda number, day, net, uuid: attrs.evolve(
        _invoice("XX123", "", number),
        issued=dt.date(2024, 1, day),
        uuid=uuid,
        lines=(Line("Thing", Decimal(net), "VAT 25 %"),),
        payable=Decimal(net),
    ),
    st.sampled_from("12"),
    st.integers(1, 2),
    st.integers(1, 2),
    st.sampled_from(["", "aa", "bb"]),
)


@given(st.lists(documents, max_size=8), st.booleans())
@settings(max_examples=40, deadline=None)
def test_in_any_order_the_first_of_a_number_is_booked_and_only_its_copies_count_as_booked(
    tmp_path_factory: pytest.TempPathFactory, invoices: list[Invoice], constraint: bool
) -> None:
    ledger = Ledger.open(tmp_path_factory.mktemp("books") / "book.db", constraint)
    firsts: dict[str, tuple[Invoice, int]] = {}
    try:
        for invoice in invoices:
            booking = Booking(ledger.book_id(), Side.SALE, invoice)
            job: Any = Job(booking)
            verified = verify_booked(ledger, job)
            first, number = firsts.get(invoice.key, (None, 0))
            is_copy = first == invoice and (not first.uuid or not invoice.uuid or first.uuid == invoice.uuid)
            if first is None:
                assert verified == trio_jobs.NotDone()
                firsts[invoice.key] = invoice, book_invoice(ledger, booking, job)
            elif is_copy:
                assert verified == trio_jobs.Done(number)
                assert book_invoice(ledger, booking, job) == number
            else:
                assert verified == trio_jobs.NotDone()
                with pytest.raises(trio_jobs.Fail, match=f"voucher {number} already, which differs"):
                    book_invoice(ledger, booking, job)
        assert ledger.voucher_count() == len(firsts)
    finally:
        ledger.close()


def test_a_job_for_another_book_is_refused(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "book.db")
    try:
        booking = Booking("another", Side.SALE, read_invoice(FIRST.encode()))
        job: Any = Job(booking)
        with pytest.raises(trio_jobs.Fail, match="for another book"):
            book_invoice(ledger, booking, job)
        with pytest.raises(trio_jobs.Fail, match="for another book"):
            find_voucher(ledger, booking)
        assert ledger.voucher_count() == 0
    finally:
        ledger.close()


def test_a_voucher_of_another_program_is_not_taken_for_the_invoice() -> None:
    content = content_of(read_invoice(FIRST.encode()), Side.SALE)
    assert not is_same("", content.identity)
    assert not is_same("{}", content.identity)
    assert difference("", content) == "nothing is recorded about its invoice"
    assert difference(content.encode(), content) == ""


def test_an_invoice_that_follows_one_of_zero_is_booked(desk: Desk) -> None:
    zero = ubl(net="0.00", tax="0.00", total="0.00", payable="0.00")
    first, second = desk.put("1.xml", zero), desk.put("2.xml", FIRST)
    assert desk.run(first, "--journal", desk.journal).counts == {"nothing to book": 1}
    assert desk.run(second, "--journal", desk.journal).counts == {"booked": 1}
    assert desk.run(first, second, book=desk.folder / "other.db").counts == {"booked": 1, "nothing to book": 1}


def test_what_a_journal_has_as_failed_is_tried_again(desk: Desk) -> None:
    first, second = desk.put("1.xml", FIRST), desk.put("2.xml", DOUBLED)
    desk.run(first)
    empty = desk.folder / "empty.db"
    shutil.copy(desk.book, empty)
    assert desk.run(second, "--journal", desk.journal).counts == {"refused": 1}
    # an older copy of the same book, in which the number is free
    _forget_vouchers(empty)
    run = desk.run(second, "--journal", desk.journal, book=empty)
    assert (run.code, run.counts) == (0, {"booked": 1})
    assert balances(empty)["Assets:Customers"] == 25000


def test_a_journal_of_another_book_is_refused_and_says_what_to_do(desk: Desk) -> None:
    document, other = desk.put("1.xml", FIRST), desk.folder / "other.db"
    assert desk.run(document, "--journal", desk.journal).counts == {"booked": 1}
    run = desk.run(document, "--journal", desk.journal, book=other)
    assert run.code == 2
    assert run.out == ""
    assert "the jobs of the journal are for another book" in run.err
    assert "use the journal with its own book, or a new journal" in run.err
    assert not other.exists()  # an empty book is not begun by mistake
    desk.run(desk.put("2.xml", ubl("T-2")), book=other)
    assert desk.run(document, "--journal", desk.journal, book=other).code == 2
    assert vouchers(other) == {"XX123 T-2": 1}
    assert desk.run(document, "--journal", desk.journal).counts == {"there already": 1}


def test_the_book_and_not_the_journal_says_what_is_booked(desk: Desk) -> None:
    document = desk.put("1.xml", FIRST)
    desk.run(document, "--journal", desk.journal)
    _forget_vouchers(desk.book)  # an older copy of the book was put back
    run = desk.run(document, "--journal", desk.journal)
    assert (run.code, run.counts) == (4, {"failed": 1})
    assert "the journal has it as booked, the book does not: begin a new journal" in run.out
    assert desk.run(document).counts == {"booked": 1}


@pytest.mark.parametrize("was_booked", [True, False], ids=["booked", "not booked"])
def test_what_a_run_left_in_doubt_is_asked_of_the_book_by_the_next(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, was_booked: bool
) -> None:
    document = desk.put("1.xml", FIRST)
    create, find = Ledger.create_voucher, Ledger.find
    with monkeypatch.context() as patch:

        def lose_connection(ledger: Ledger, voucher: Voucher) -> VoucherNumber:
            if was_booked:
                create(ledger, voucher)
            patch.setattr(Ledger, "find", fail)
            raise LedgerConnectionLost("the connection was lost")

        def fail(ledger: Ledger, reference: str) -> tuple[VoucherNumber, ...]:
            raise LedgerError("the book cannot be asked")

        patch.setattr(Ledger, "create_voucher", lose_connection)
        run = desk.run(document, "--journal", desk.journal)
        assert (run.code, run.counts) == (5, {"in doubt": 1})
        patch.setattr(Ledger, "create_voucher", create)
        patch.setattr(Ledger, "find", fail)
        run = desk.run(document, "--journal", desk.journal)
        assert (run.code, run.counts) == (5, {"in doubt": 1})  # it can still not be asked
        patch.setattr(Ledger, "find", find)
    run = desk.run(document, "--journal", desk.journal)
    assert (run.code, run.counts) == (0, {"there already" if was_booked else "booked": 1})
    assert vouchers(desk.book) == {"XX123 T-1": 1}


def _forget_vouchers(book: Path) -> None:
    """Make the book what it was before its first voucher, past its own rules."""
    with closing(sqlite3.connect(book, isolation_level=None)) as connection:
        rules = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in rules:
            connection.execute(f"DROP TRIGGER {name}")
        for table in ("entries", "call_log", "vouchers"):
            connection.execute(f"DELETE FROM {table}")
        for _, sql in rules:
            connection.execute(sql)
