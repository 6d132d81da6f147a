"""Every file is in the summary once, amounts are shown with their currency, and the trial balance is checked."""

from __future__ import annotations

import csv
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from demo_books import Desk
from demo_documents import CFDI, ubl
from hypothesis import given
from hypothesis import strategies as st

import trio_jobs
from trio_jobs_demo.bookkeeping import Bookkeeping, Totals
from trio_jobs_demo.csv_report import COLUMNS, safe_cell
from trio_jobs_demo.display import cells, fit
from trio_jobs_demo.exit_codes import BROKEN, exit_code
from trio_jobs_demo.file_results import FileResult, FileResults, FileStatus
from trio_jobs_demo.ledger import AccountBalance
from trio_jobs_demo.output import Output
from trio_jobs_demo.reader import read_invoice
from trio_jobs_demo.screen import AMOUNT, PlainScreen, columns, row
from trio_jobs_demo.summary import Summary


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def folder_of_everything(desk: Desk) -> Path:
    desk.put("in/1.xml", ubl("T-1"))
    desk.put("in/2-sent-twice.xml", ubl("T-1"))
    desk.put("in/3-same-number.xml", ubl("T-1", date="2024-05-07"))
    desk.put("in/4-zero.xml", ubl("T-2", net="0.00", tax="0.00", total="0.00", payable="0.00"))
    desk.put("in/5-cut-off.xml", ubl("T-3")[:500])
    desk.put("in/deeper/6.XML", ubl("T-4"))
    desk.put("in/notes.txt", "no invoice")
    desk.put("in/deeper/scan.pdf", "no invoice")
    desk.put("in/deeper/other.pdf", "no invoice")
    return desk.folder / "in"


def test_the_counts_add_up_to_the_number_of_files(desk: Desk) -> None:
    folder = folder_of_everything(desk)
    run = desk.run(folder)
    assert run.counts == {"booked": 2, "duplicate": 1, "nothing to book": 1, "refused": 2}
    again = desk.run(folder)
    assert again.counts == {"there already": 2, "duplicate": 1, "nothing to book": 1, "refused": 2}
    assert again.code == run.code == 3


def test_a_duplicate_of_a_refused_file_is_refused(desk: Desk) -> None:
    desk.run(desk.put("1.xml", ubl("T-1")))
    other = ubl("T-1", date="2024-05-07")
    run = desk.run(desk.put("2.xml", other), desk.put("3.xml", other))
    assert run.counts == {"refused": 2}
    assert "refused: 3.xml: the same as 2.xml: its number has voucher 1 already" in run.out


def test_files_that_are_passed_over_are_counted_and_listed_on_demand(desk: Desk) -> None:
    folder = folder_of_everything(desk)
    run = desk.run(folder)
    assert "3 other files passed over: 2 .pdf, 1 .txt" in run.out
    assert "scan.pdf" not in run.out
    assert f"passed over: {folder}/deeper/scan.pdf" in desk.run(folder, "--verbose").out.replace("\\", "/")


def test_a_booked_line_shows_file_issuer_number_date_amount_and_voucher(desk: Desk) -> None:
    run = desk.run(desk.put("1.xml", ubl()))
    parts = re.split(" {2,}", run.line("booked"))
    assert parts == ["booked 1", "1.xml", "Seller", "T-1", "2024-05-06", "125.00 EUR", "voucher 1"]


def test_in_80_columns_no_line_is_longer_and_amounts_keep_their_currency(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    item = FileResult(
        Path("a-file-with-a-long-name.xml"), "a-file-with-a-long-name.xml", read_invoice(ubl("T-1").encode())
    )
    item.voucher, item.status = 123456, FileStatus.BOOKED
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    output = Output()
    PlainScreen(output).show(item)
    output.close()
    line = capsys.readouterr().out.rstrip("\n")
    assert len(line) == 80
    assert line.startswith("booked 123456 ")
    assert line.endswith("2024-05-06       125.00 EUR")
    assert all(part in line for part in ("…", "Seller", "T-1"))


@given(st.integers(1, 400))
def test_columns_fill_the_width(width: int) -> None:
    widths = columns(width)
    assert sum(widths) + len(widths) - 1 == max(width, 80)
    assert min(widths) >= 9
    assert widths[-1] == AMOUNT >= len("-1,234,567.89 EUR") - 1


@given(st.text(st.characters(exclude_categories=["C", "Z"])), st.integers(1, 60), st.booleans())
def test_a_text_that_is_fitted_has_that_width(text: str, width: int, right: bool) -> None:
    shown = fit(text, width, right=right)
    assert cells(shown) == width or cells(text) != len(text)
    assert abs(cells(shown) - width) <= 1


def test_the_trial_balance_is_printed_for_each_currency(desk: Desk) -> None:
    run = desk.run(desk.put("1.xml", ubl()), desk.put("2.xml", CFDI))
    lines = run.out.splitlines()
    start = lines.index(next(line for line in lines if line.startswith("trial balance in EUR")))
    assert [line.split() for line in lines[start : start + 5]] == [
        ["trial", "balance", "in", "EUR", "debit", "credit"],
        ["Assets:Customers", "125.00"],
        ["Income:Sales:VAT", "25", "%", "100.00"],
        ["Liabilities:Taxes:VAT", "25", "%", "25.00"],
        ["total,", "balanced", "125.00", "125.00"],
    ]
    assert any(line.startswith("trial balance in MXN") for line in lines)
    assert all(len(line) <= 80 for line in lines[start:])


def test_a_book_that_does_not_balance_is_reported_and_has_an_exit_code() -> None:
    totals = Totals(1, (AccountBalance("A", "EUR", 5, 0), AccountBalance("B", "SEK", 0, 5)))
    summary = Summary(FileResults(), Bookkeeping(Path("book")), totals, 0.0)
    assert sum("NOT BALANCED" in line for line in summary.lines()) == 2
    report = trio_jobs.ShutdownReport(True, None, (), {})
    assert exit_code(FileResults(), report, totals, refusals_expected=True) == BROKEN


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ((), 0),
        ((FileStatus.BOOKED, FileStatus.THERE, FileStatus.DUPLICATE, FileStatus.NOTHING), 0),
        ((FileStatus.BOOKED, FileStatus.REFUSED), 3),
        ((FileStatus.REFUSED, FileStatus.FAILED), 4),
        ((FileStatus.OPEN,), 4),
        ((FileStatus.NOT_LOOKED_AT,), 4),
        ((FileStatus.FAILED, FileStatus.IN_DOUBT, FileStatus.REFUSED), 5),
    ],
)
def test_the_exit_code_says_what_is_left_to_do(statuses: tuple[FileStatus, ...], code: int) -> None:
    results = FileResults((Path(str(n)), str(n)) for n in range(len(statuses)))
    for item, status in zip(results.files, statuses, strict=True):
        item.status = status
    report = trio_jobs.ShutdownReport(True, None, (), {})
    assert exit_code(results, report, Totals(0, ()), refusals_expected=False) == code
    open_report = trio_jobs.ShutdownReport(False, "stuck", (), {})
    assert exit_code(results, open_report, Totals(0, ()), refusals_expected=False) == 70


def test_help_has_the_exit_codes(desk: Desk) -> None:
    with pytest.raises(SystemExit):
        desk.run("--help")
    said = desk.capsys.readouterr().out
    assert "exit codes:" in said
    assert "129, 130, 143    SIGHUP, Ctrl-C or SIGTERM stopped it" in said
    assert all(len(line) <= 80 for line in said[said.index("exit codes:") :].splitlines())


def test_a_long_list_of_one_status_is_cut_and_says_so(desk: Desk) -> None:
    for n in range(60):
        desk.put(f"in/{n}.xml", "no invoice")
    run = desk.run(desk.folder / "in")
    assert run.counts == {"refused": 60}
    assert "refused: 10 more, which --verbose lists, and --csv" in run.out
    assert desk.run(desk.folder / "in", "--verbose").out.count("  refused: ") == 60


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_csv_has_a_row_for_each_file(desk: Desk) -> None:
    folder, report = folder_of_everything(desk), desk.folder / "report.csv"
    desk.run(folder, "--csv", report)
    rows = read_csv(report)
    assert list(rows[0]) == list(COLUMNS)
    assert {Path(row["file"]).name: row["status"] for row in rows} == {
        "1.xml": "booked",
        "2-sent-twice.xml": "duplicate",
        "3-same-number.xml": "refused",
        "4-zero.xml": "nothing to book",
        "5-cut-off.xml": "refused",
        "6.XML": "booked",
    }
    assert rows[0] == {
        "file": str(folder / "1.xml"),
        "issuer": "Seller",
        "number": "T-1",
        "date": "2024-05-06",
        "amount": "125.00",
        "currency": "EUR",
        "status": "booked",
        "voucher": "1",
        "reason": "",
    }
    assert all(row["reason"] for row in rows if row["status"] in ("refused", "nothing to book", "duplicate"))
    assert sum(Decimal(row["amount"]) for row in rows if row["status"] == "booked") == 250
    assert list(desk.folder.glob("report.csv*")) == [report]


def test_the_csv_replaces_an_older_one_at_once_or_not_at_all(desk: Desk) -> None:
    report = desk.put("report.csv", "older")
    desk.run(desk.put("1.xml", ubl()), "--csv", report)
    assert len(read_csv(report)) == 1
    report.write_text("older", encoding="utf-8")
    assert desk.run(desk.folder / "nowhere", "--csv", report).code == 2
    assert report.read_text(encoding="utf-8") == "older"
    assert list(desk.folder.glob("report.csv*")) == [report]


def test_a_csv_that_cannot_be_written_is_refused_before_anything_is_booked(desk: Desk) -> None:
    document = desk.put("1.xml", ubl())
    for report in (desk.folder / "no folder" / "report.csv", desk.folder):
        run = desk.run(document, "--csv", report)
        assert (run.code, run.out) == (2, "")
        assert run.err.count("\n") == 1
    assert not desk.book.exists()


@pytest.mark.skipif(os.name != "posix", reason="needs links and devices")
def test_the_csv_replaces_no_device_and_no_link(desk: Desk) -> None:
    document = desk.put("1.xml", ubl())
    run = desk.run(document, "--csv", os.devnull)
    assert (run.code, run.out) == (2, "")
    assert "is not a regular file" in run.err
    link = desk.folder / "link.csv"
    link.symlink_to(desk.put("report.csv", "older"))
    desk.run(document, "--csv", link)
    assert link.is_symlink()
    assert len(read_csv(desk.folder / "report.csv")) == 1


@pytest.mark.parametrize("name", ["1.xml", "book.db", "jobs.db"])
def test_the_csv_replaces_no_file_that_the_run_uses(desk: Desk, name: str) -> None:
    document = desk.put("1.xml", ubl())
    with pytest.raises(SystemExit) as caught:
        desk.run(document, "--journal", desk.journal, "--csv", desk.folder / "." / name)
    assert caught.value.code == 2
    assert document.read_text(encoding="utf-8") == ubl()
    assert not desk.book.exists()


@given(st.text(st.characters()))
def test_no_cell_of_the_csv_is_taken_for_a_formula(text: str) -> None:
    cell = safe_cell(text)
    assert not cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert "\n" not in cell and "\r" not in cell and "\t" not in cell
    cell.encode()


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\uff1d1", "=HYPERLINK(&quot;http://x&quot;)"]
)
def test_a_formula_in_a_name_is_a_text_in_the_csv(desk: Desk, name: str) -> None:
    report = desk.folder / "report.csv"
    desk.run(desk.put("1.xml", ubl(issuer=name, code="381")), "--csv", report)
    (row,) = read_csv(report)
    assert row["issuer"].startswith("'")
    assert row["amount"] == "-125.00"  # a number stays one


def test_a_folder_that_cannot_be_read_is_an_error_and_not_an_empty_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of_everything(desk)
    real = os.scandir

    def scandir(path: Any) -> Any:
        if path == str(folder / "deeper"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr("os.scandir", scandir)
    run = desk.run(folder)
    assert run.code == 2
    assert "cannot be read: Permission denied" in run.err


def test_a_status_of_a_job_is_shown_until_it_ends() -> None:
    item = FileResult(Path("x"), "x")
    assert row(item)[0] == "not looked at"
    item.status, item.state, item.attempts = FileStatus.OPEN, trio_jobs.State.RETRYING, 2
    assert row(item)[0] == "retrying 2"
