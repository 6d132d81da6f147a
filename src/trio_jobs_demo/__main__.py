"""`python -m trio_jobs_demo`: see `--help`."""

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
from trio_jobs_demo.invoices import NothingToBook, Refused
from trio_jobs_demo.keyboard import keys
from trio_jobs_demo.ledger import LedgerError
from trio_jobs_demo.reading import read_invoice_file
from trio_jobs_demo.samples import SCRIPT, sample_files
from trio_jobs_demo.screen import LiveScreen, PlainScreen, Screen
from trio_jobs_demo.tally import Fate, Item, Tally

__all__ = ["main"]

CRASH_AT: Final = 12  #: the create call that --crash does not survive: about the middle of the samples
HEAD_START: Final = 3.0  #: seconds in which a person may begin to watch from another terminal


@attrs.define(eq=False)
class Demo:
    """One run. journal: where its jobs are kept, None for memory. port: served there, 0 for any free one. totals: what
    the book holds at the end, None if it did not come to that."""

    files: Sequence[Path]
    bookkeeping: Bookkeeping
    service: trio_jobs.Service
    tally: Tally
    plain: bool
    journal: Path | None = None
    port: int | None = None
    paused: bool = False
    totals: Totals | None = None
    report: trio_jobs.ShutdownReport | None = None

    async def run(self) -> None:
        """Book all files. Cancelled: the invoice under way is finished or cut off, the ledger is closed."""
        began = trio.current_time()
        screen: Screen = PlainScreen() if self.plain else LiveScreen(self.tally, lambda: self.paused)
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
                for job_id in self.tally.by_job:
                    self.tally.update(queue.get(job_id))
                for line in self.tally.summary(self.bookkeeping, self.totals, trio.current_time() - began):
                    print(line)

    async def _work_served(self, queue: trio_jobs.Queue, screen: Screen, port: int) -> None:
        token = trio_jobs.Token.random()
        async with trio_jobs.serve(queue, port=port, tokens=[token]) as server:
            written = default_path(server.port)
            write_token(written, token)
            try:
                screen.say(f"follow it from another terminal: trio-jobs watch --url {server.url}")
                await trio.sleep(HEAD_START)
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
                for job_id in list(self.tally.by_job):
                    with contextlib.suppress(trio_jobs.JobFailed, trio_jobs.JobCancelled):
                        await queue.result(job_id)
                receipt = await queue.submit("totals", None)
                self.totals = await queue.result(receipt.job_id)
            nursery.cancel_scope.cancel()

    async def _submit(self, queue: trio_jobs.Queue, file: Path, screen: Screen) -> None:
        item = Item(file)
        self.tally.items.append(item)
        try:
            item.invoice = await trio.to_thread.run_sync(read_invoice_file, file)
            receipt = await queue.submit("book_invoice", item.invoice, key=item.invoice.key)
            self.tally.accept(item, receipt)
        except NothingToBook as reason:
            item.fate, item.note = Fate.NOTHING, escape(reason.reason)
        except Refused as reason:
            item.fate, item.note = Fate.REFUSED, escape(reason.reason)
        except trio_jobs.KeyConflict:
            item.fate, item.note = Fate.REFUSED, "its number was used before, for another invoice"
        except trio_jobs.InvalidPayload as reason:
            item.fate, item.note = Fate.REFUSED, escape(reason.why)
        if item.fate is not Fate.OPEN:
            screen.show(item)

    async def _follow(self, queue: trio_jobs.Queue, screen: Screen, events: trio_jobs.EventStream) -> None:
        shown: dict[str, tuple[trio_jobs.State, int]] = {}
        async for event in events:
            job_id = getattr(event, "job", None)
            if job_id is None:
                continue
            job = queue.get(job_id)
            if job.kind == "totals" and job.is_final:
                return  # the last job, so every line is on the screen
            item = self.tally.update(job)
            if item is not None and shown.get(job_id) != (job.state, job.attempt_count):
                shown[job_id] = (job.state, job.attempt_count)
                screen.show(item)

    async def _listen(self, queue: trio_jobs.Queue) -> None:
        async for key in keys():
            if key == "p":
                self.paused = not self.paused
                await (queue.pause("by hand") if self.paused else queue.resume())


def files_in(paths: Sequence[Path]) -> Iterator[Path]:
    """The files, and the XML files in the folders, sorted. Raises FileNotFoundError."""
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix.lower() == ".xml" and file.is_file())
        elif path.exists():
            yield path
        else:
            raise FileNotFoundError(f"there is no file or folder {escape(str(path))}")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: each file was booked or has a true reason why not. 1: something was left. 2: it could not begin. 130:
    Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="./run demo",
        description="Book e-invoices (UBL 2.1, CFDI 4.0) in a ledger, one balanced voucher each, whatever breaks.",
    )
    parser.add_argument("paths", nargs="*", type=Path, metavar="FILE or FOLDER", help="without: samples, and trouble")
    parser.add_argument("--book", type=Path, help="keep the book in this file; a second run books nothing twice")
    parser.add_argument("--journal", type=Path, help="keep the jobs in this file; with --book")
    parser.add_argument("--crash", action="store_true", help="kill the process in the middle; run it again without")
    parser.add_argument("--serve", action="store_true", help="serve the queue, for trio-jobs watch in another terminal")
    parser.add_argument("--port", type=int, default=8765, help="where to serve, 0 for any free port (%(default)s)")
    parser.add_argument("--min-interval", type=float, default=0.0, metavar="S", help="seconds of rest between calls")
    parser.add_argument("--plain", action="store_true", help="lines instead of a live table, as in a pipe")
    parser.add_argument(
        "--no-constraint",
        action="store_true",
        help="a book that would take a second voucher, so that only the queue is in its way",
    )
    options = parser.parse_args(arguments)
    if options.journal is not None and options.book is None:
        parser.error("--journal needs --book: the jobs of a journal belong to the book they were booked in")
    plain = options.plain or not sys.stdout.isatty()
    if not plain:
        try:
            import rich  # noqa: F401 - an extra: the demo runs without it too
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
        log.setLevel(logging.ERROR)  # the screen tells of the rest
        try:
            files = list(files_in(options.paths)) if options.paths else sample_files()
            service = bookkeeping.service(min_interval=options.min_interval)
            demo = Demo(
                files, bookkeeping, service, Tally(), plain, options.journal, options.port if options.serve else None
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
        return 0 if closed and demo.tally.settled else 1


if __name__ == "__main__":
    sys.exit(main())
