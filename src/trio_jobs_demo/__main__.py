"""Command line of the demo, see `--help`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs
import trio

import trio_jobs
from trio_jobs._cli.token_file import default_path, write_token
from trio_jobs_demo.bookkeeping import Bookkeeping, Totals
from trio_jobs_demo.display import escape
from trio_jobs_demo.file_results import FileResult, FileResults, FileStatus
from trio_jobs_demo.invoices import NothingToBook, Refused
from trio_jobs_demo.keyboard import keys
from trio_jobs_demo.ledger import LedgerError
from trio_jobs_demo.reader import read_invoice_file
from trio_jobs_demo.samples import SCRIPT, sample_files
from trio_jobs_demo.screen import LiveScreen, PlainScreen, Screen

__all__ = ["main"]

CRASH_AT: Final = 12  #: the create call at which --crash kills the process: about the middle of the samples
WATCH_DELAY: Final = 3.0  #: seconds before the first job, so that a person can start to watch


@attrs.define(eq=False)
class Demo:
    """One run of the demo."""

    files: Sequence[Path]
    bookkeeping: Bookkeeping
    service: trio_jobs.Service
    results: FileResults
    plain: bool
    journal: Path | None = None
    """The journal of the jobs; None for memory."""
    port: int | None = None
    """The port of the server, 0 for any free one; None to serve nothing."""
    paused: bool = False
    totals: Totals | None = None
    """The totals of the book at the end; None if the run was interrupted."""
    report: trio_jobs.ShutdownReport | None = None

    async def run(self) -> None:
        """Book all files.

        Cancelled:
            The attempt in progress is finished or interrupted, and the ledger is closed.
        """
        began = trio.current_time()
        screen: Screen = PlainScreen() if self.plain else LiveScreen(self.results, lambda: self.paused)
        queue: trio_jobs.Queue | None = None
        try:
            with screen:
                async with self.service.open(journal=self.journal) as queue:
                    if self.port is None:
                        await self._work(queue, screen)
                    else:
                        await self._work_served(queue, screen, self.port)
        finally:
            if queue is not None:
                self.report = queue.report
                for job_id in self.results.by_job:
                    self.results.update(queue.get(job_id))
                for line in self.results.summary(self.bookkeeping, self.totals, trio.current_time() - began):
                    print(line)

    async def _work_served(self, queue: trio_jobs.Queue, screen: Screen, port: int) -> None:
        token = trio_jobs.Token.random()
        async with trio_jobs.serve(queue, port=port, tokens=[token]) as server:
            written = default_path(server.port)
            write_token(written, token)
            try:
                screen.print_line(f"follow it from another terminal: trio-jobs watch --url {server.url}")
                await trio.sleep(WATCH_DELAY)
                await self._work(queue, screen)
            finally:
                written.unlink(missing_ok=True)

    async def _work(self, queue: trio_jobs.Queue, screen: Screen) -> None:
        async with trio.open_nursery() as nursery:
            if not self.plain:
                nursery.start_soon(self._listen, queue)
            async with trio.open_nursery() as following:
                following.start_soon(self._follow, queue, screen, queue.events())
                for file in self.files:
                    await self._submit(queue, file, screen)
                for job_id in list(self.results.by_job):
                    with contextlib.suppress(trio_jobs.JobFailed, trio_jobs.JobCancelled):
                        await queue.result(job_id)
                receipt = await queue.submit("totals", None)
                self.totals = await queue.result(receipt.job_id)
            nursery.cancel_scope.cancel()

    async def _submit(self, queue: trio_jobs.Queue, file: Path, screen: Screen) -> None:
        item = FileResult(file)
        self.results.files.append(item)
        try:
            item.invoice = await trio.to_thread.run_sync(read_invoice_file, file)
            receipt = await queue.submit("book_invoice", item.invoice, key=item.invoice.key)
            self.results.accept(item, receipt)
        except NothingToBook as reason:
            item.status, item.note = FileStatus.NOTHING, escape(reason.reason)
        except Refused as reason:
            item.status, item.note = FileStatus.REFUSED, escape(reason.reason)
        except trio_jobs.KeyConflict:
            item.status, item.note = FileStatus.REFUSED, "its number was used before, for another invoice"
        except trio_jobs.InvalidPayload as reason:
            item.status, item.note = FileStatus.REFUSED, escape(reason.why)
        if item.status is not FileStatus.OPEN:
            screen.show(item)

    async def _follow(self, queue: trio_jobs.Queue, screen: Screen, events: trio_jobs.EventStream) -> None:
        shown: dict[str, tuple[trio_jobs.State, int]] = {}
        async for event in events:
            job_id = getattr(event, "job", None)
            if job_id is None:
                continue
            job = queue.get(job_id)
            if job.kind == "totals" and job.is_final:
                return  # this is the last job, so every line is on the screen
            item = self.results.update(job)
            if item is not None and shown.get(job_id) != (job.state, job.attempt_count):
                shown[job_id] = (job.state, job.attempt_count)
                screen.show(item)

    async def _listen(self, queue: trio_jobs.Queue) -> None:
        async for key in keys():
            if key == "p":
                self.paused = not self.paused
                await (queue.pause("by hand") if self.paused else queue.resume())


def files_in(paths: Sequence[Path]) -> Iterator[Path]:
    """The files, and the XML files in the folders, sorted. Raises FileNotFoundError if a path does not exist."""
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix.lower() == ".xml" and file.is_file())
        elif path.exists():
            yield path
        else:
            raise FileNotFoundError(f"there is no file or folder {escape(str(path))}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code.

    Returns:
        0: each file was booked or has a reason why not. 1: a file was not processed, or the ledger was not closed. 2:
        the demo could not start. 130: Ctrl-C.
    """
    parser = argparse.ArgumentParser(
        prog="./run demo",
        description="Book e-invoices (UBL 2.1, CFDI 4.0) in a ledger: one balanced voucher for each invoice.",
    )
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="FILE or FOLDER", help="default: samples, with scripted faults"
    )
    parser.add_argument("--book", type=Path, help="the ledger's book; a second run books no invoice twice")
    parser.add_argument("--journal", type=Path, help="the journal of the jobs; needs --book")
    parser.add_argument(
        "--crash", action="store_true", help="kill the process in the middle; then run it again without this option"
    )
    parser.add_argument(
        "--serve", action="store_true", help="serve the queue for `trio-jobs watch` in another terminal"
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
    options = parser.parse_args(arguments)
    if options.journal is not None and options.book is None:
        parser.error("--journal needs --book, since its jobs belong to one book")
    plain = options.plain or not sys.stdout.isatty()
    if not plain:
        try:
            import rich  # noqa: F401 - optional: without it the demo prints lines
        except ImportError:
            plain = True
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trio-jobs-demo-")))
        bookkeeping = Bookkeeping(
            options.book or folder / "book.db",
            script={} if options.paths else SCRIPT,
            one_voucher_per_reference=not options.no_constraint,
            crash_at=CRASH_AT if options.crash else None,
        )
        log = logging.getLogger("trio_jobs")
        stack.callback(log.setLevel, log.level)
        log.setLevel(logging.ERROR)  # the screen shows the rest
        try:
            files = list(files_in(options.paths)) if options.paths else sample_files()
            service = bookkeeping.service(min_interval=options.min_interval)
            demo = Demo(
                files,
                bookkeeping,
                service,
                FileResults(),
                plain,
                options.journal,
                options.port if options.serve else None,
            )
            trio.run(demo.run)
        except KeyboardInterrupt:
            return 130
        except BaseExceptionGroup as group:
            if group.subgroup(KeyboardInterrupt) is None:
                raise
            return 130
        except (trio_jobs.SdkOpenFailed, trio_jobs.StoreError, trio_jobs.UsageError, LedgerError, OSError) as error:
            print(f"demo: {escape(str(error))}", file=sys.stderr)
            return 2
        closed = demo.report is not None and demo.report.sdk_closed
        return 0 if closed and demo.results.complete else 1


if __name__ == "__main__":
    sys.exit(main())
