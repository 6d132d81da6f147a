"""Command line of the demo, see `--help`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from trio_jobs_demo.bookkeeping import Bookkeeping
from trio_jobs_demo.csv_report import CsvReport
from trio_jobs_demo.demo_run import Demo
from trio_jobs_demo.display import escape
from trio_jobs_demo.exit_codes import BROKEN, CANNOT_START, EXIT_CODES, exit_code, expected_cause
from trio_jobs_demo.file_results import FileResults
from trio_jobs_demo.input_files import InputFiles, find_files
from trio_jobs_demo.output import Output
from trio_jobs_demo.owner import normal_id
from trio_jobs_demo.samples import SCRIPT, SERVED_SCRIPT, sample_files
from trio_jobs_demo.screen import LiveScreen, PlainScreen, Screen
from trio_jobs_demo.stop_signals import StopSignals
from trio_jobs_demo.summary import Summary

__all__ = ["main"]

CRASH_AT: Final = 12  #: the create call at which --crash kills the process: about the middle of the samples
LAST_OUTPUT: Final = 2.0  #: seconds for the output to be read after a signal


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code, see `EXIT_CODES`."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.journal is not None and options.book is None:
        parser.error("--journal needs --book, since its jobs belong to one book")
    owner = frozenset(map(normal_id, options.we))
    if "" in owner:
        parser.error("--we needs an identifier, such as a VAT number")
    with contextlib.suppress(AttributeError, ValueError):  # names have characters that a narrow pipe has not
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # tests may replace it
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trio-jobs-demo-")))
        bookkeeping = Bookkeeping(
            options.book or folder / "book.db",
            script={} if options.paths else SERVED_SCRIPT if options.serve else SCRIPT,
            one_voucher_per_reference=not options.no_constraint,
            crash_at=CRASH_AT if options.crash else None,
            given_owner=owner,
        )
        log = logging.getLogger("trio_jobs")
        stack.callback(log.setLevel, log.level)
        log.setLevel(logging.ERROR)  # the screen shows the rest
        try:
            found = find_files(options.paths) if options.paths else _samples()
            if options.csv is not None:
                taken = [options.book, options.journal, *(file for file, _ in found.files)]
                if options.csv.resolve() in {path.resolve() for path in taken if path is not None}:
                    parser.error("--csv names a file that is read or written otherwise: name another one")
            report = CsvReport(options.csv) if options.csv is not None else None
        except OSError as error:
            return _fail(error, CANNOT_START)
        signals = StopSignals()
        try:
            with signals.handled():
                return _run(options, bookkeeping, found, report, signals)
        except KeyboardInterrupt:  # before the first file, or while the output waits for its reader
            return signals.exit_code or 130


def _run(
    options: argparse.Namespace,
    bookkeeping: Bookkeeping,
    found: InputFiles,
    report: CsvReport | None,
    signals: StopSignals,
) -> int:
    results, output = FileResults(found.files), Output()
    plain = options.plain or not sys.stdout.isatty() or not _has_rich()
    screen: Screen = PlainScreen(output) if plain else LiveScreen(results)
    demo = Demo(
        bookkeeping,
        bookkeeping.service(min_interval=options.min_interval),
        results,
        screen,
        journal=options.journal,
        port=options.port if options.serve else None,
        listens=not plain,
    )
    broken: BaseException | None = None

    async def run() -> None:
        nonlocal broken
        scope = trio.CancelScope()
        with signals.calling(scope.cancel):
            try:
                with scope:
                    await demo.run()
            except Exception as error:
                broken = expected_cause(error)
                if broken is None:
                    raise
            finally:
                if demo.began or signals.received is not None:
                    for line in _summary(options, demo, found).lines():
                        output.print(line)

    try:
        trio.run(run)
    finally:
        if report is not None and (demo.began or signals.received is not None):
            try:
                report.write(results)
            except OSError as error:
                broken = broken or error
        output.close(LAST_OUTPUT if signals.received is not None else None)
    if broken is not None:
        code = _fail(broken, BROKEN if demo.began else CANNOT_START)
    else:
        code = exit_code(results, demo.report, demo.totals, refusals_expected=not options.paths)
    return signals.exit_code or code


def _summary(options: argparse.Namespace, demo: Demo, found: InputFiles) -> Summary:
    return Summary(
        demo.results, demo.bookkeeping, demo.totals, demo.seconds, found.passed_over, options.verbose, demo.others
    )


def _samples() -> InputFiles:
    return InputFiles(tuple((file, file.name) for file in sample_files()))


def _has_rich() -> bool:
    try:
        import rich  # noqa: F401 - optional: without it the demo prints lines
    except ImportError:
        return False
    return True


def _fail(error: BaseException, code: int) -> int:
    """Print the error in one line."""
    with contextlib.suppress(OSError):
        print(f"demo: {escape(str(error), 1000)}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./run demo",
        description="Book e-invoices (UBL 2.1, CFDI 4.0) in a ledger: one balanced voucher for each invoice.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="FILE or FOLDER",
        help="of a folder, all files named .xml (default: samples, with scripted faults)",
    )
    parser.add_argument("--book", type=Path, help="the ledger's book; a second run books no invoice twice")
    parser.add_argument(
        "--we",
        action="append",
        default=[],
        metavar="ID",
        help="an identifier of the book's owner, such as a VAT number; may be repeated. What the owner issued is booked"
        " as a sale, what the owner received as a purchase, the rest is refused. The book keeps it. Without it each"
        " invoice is booked as a sale of its issuer",
    )
    parser.add_argument(
        "--journal", type=Path, help="the journal of the jobs; needs --book. A later run continues what is left of them"
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="write a row for each file, at the end, in place of an older FILE"
    )
    parser.add_argument("--verbose", action="store_true", help="list all files in the summary, also those passed over")
    parser.add_argument(
        "--crash", action="store_true", help="kill the process in the middle; then run it again without this option"
    )
    parser.add_argument(
        "--serve",
        action="store_true",
        help="serve the queue and its web page; of the samples, one invoice is then in doubt until you resolve it",
    )
    parser.add_argument(
        "--port", type=int, default=8765, help="port of --serve, 0 for any free one (default: %(default)s)"
    )
    parser.add_argument(
        "--min-interval", type=float, default=0.0, metavar="S", help="pause between two calls, in seconds"
    )
    parser.add_argument("--plain", action="store_true", help="print lines instead of a live table")
    parser.add_argument(
        "--no-constraint",
        action="store_true",
        help="make a book that accepts several vouchers of one invoice, so that only the queue prevents them",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
