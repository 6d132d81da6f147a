"""One run of the demo: reads the files, submits a job for each invoice, and follows the jobs."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Final

import attrs
import trio

import trio_jobs
from trio_jobs._cli.token_file import default_path, write_token
from trio_jobs_demo.bookkeeping import BOOK, FIND, TOTALS, Booking, Bookkeeping, Totals, read_totals
from trio_jobs_demo.display import escape
from trio_jobs_demo.file_results import FileResult, FileResults, FileStatus
from trio_jobs_demo.invoices import NothingToBook, Refused
from trio_jobs_demo.journal_book import book_of_journal
from trio_jobs_demo.keyboard import keys
from trio_jobs_demo.ledger import LedgerError
from trio_jobs_demo.owner import side_of
from trio_jobs_demo.reader import read_invoice_file
from trio_jobs_demo.screen import Screen
from trio_jobs_demo.vouchers import voucher_for

__all__ = ["Demo"]

WATCH_DELAY: Final = 3.0  #: seconds before the first job, so that a person can start to watch


@attrs.define(eq=False)
class Demo:
    """One run of the demo."""

    bookkeeping: Bookkeeping
    service: trio_jobs.Service
    results: FileResults
    screen: Screen
    journal: Path | None = None
    """The journal of the jobs; None for memory."""
    port: int | None = None
    """The port of the server, 0 for any free one; None to serve nothing."""
    listens: bool = False
    """The key p pauses the queue."""
    totals: Totals | None = None
    """The totals of the book at the end; None if they cannot be read."""
    began: bool = False
    """The book and the journal were opened, and the first file was about to be read."""
    report: trio_jobs.ShutdownReport | None = None
    """The report of the queue; None if it was not opened."""
    seconds: float = 0.0
    """How long the run took."""
    others: Counter[str] = attrs.field(factory=Counter)
    """Jobs that the journal kept from an earlier run for other files, by state at the end."""
    _restored: dict[str, int] = attrs.field(factory=dict)
    """The jobs of the journal that were open at the start, and how many attempts each had."""
    _own_jobs: set[str] = attrs.field(factory=set)
    """The jobs of the files of this run, also those that an earlier run began."""
    _shown: dict[str, tuple[FileStatus, trio_jobs.State | None, int]] = attrs.field(factory=dict)

    async def run(self) -> None:
        """Book all files.

        Raises:
            SdkOpenFailed: The book cannot be opened.
            StoreError: The journal cannot be opened, or has failed.

        Cancelled:
            The attempt in progress is finished or interrupted, and the ledger is closed.
        """
        began = trio.current_time()
        queue: trio_jobs.Queue | None = None
        try:
            with self.screen:
                self.bookkeeping.journal_book = await book_of_journal(self.journal)
                async with self.service.open(journal=self.journal) as queue:
                    self.results.newest_before = self.bookkeeping.newest_before
                    self._restored = {job.id: job.attempt_count for job in _open_jobs(queue)}
                    if self.port is None:
                        await self._work(queue)
                    else:
                        await self._work_served(queue, self.port)
        finally:
            self.seconds = trio.current_time() - began
            if queue is not None:
                self._finish(queue)

    def _finish(self, queue: trio_jobs.Queue) -> None:
        self.report = queue.report
        for job_id in self.results.by_job:
            with contextlib.suppress(trio_jobs.JobNotFound):  # pruned, so it was final and has been shown
                self.results.update(queue.get(job_id))
        self.results.settle_duplicates()
        for job_id in self._restored:
            if job_id not in self._own_jobs:
                with contextlib.suppress(trio_jobs.JobNotFound):
                    self.others[queue.get(job_id).state] += 1
        if self.totals is None and self.report is not None and self.report.sdk_closed:
            with contextlib.suppress(LedgerError):
                self.totals = read_totals(self.bookkeeping.book, self.bookkeeping.one_voucher_per_reference)

    def _say_whose_book(self) -> None:
        books, count = self.bookkeeping, self.bookkeeping.vouchers_before
        state = f"with {count} vouchers" if count else "empty"
        self.screen.print_line(f"book: {escape(str(books.book))}, {state}")
        if books.owner:
            owner = escape(", ".join(sorted(books.owner)), 200)
            self.screen.print_line(f"owner: {owner}; what it issued is a sale, what it received a purchase")
        else:
            self.screen.print_line("owner: none (--we ID sets it); each invoice is booked as a sale of its issuer")

    async def _work_served(self, queue: trio_jobs.Queue, port: int) -> None:
        token = trio_jobs.Token.random()
        async with trio_jobs.serve(queue, port=port, tokens=[token]) as server:
            written = default_path(server.port)
            write_token(written, token)
            try:
                self.screen.print_line(f"follow it from another terminal: trio-jobs watch --url {server.url}")
                async with trio_jobs.connect(server.url, token=token.secret) as client:
                    link = await client.login_link()
                self.screen.print_line(f"or in a browser, within five minutes: {link}")
                await trio.sleep(WATCH_DELAY)
                await self._work(queue)
            finally:
                written.unlink(missing_ok=True)

    async def _work(self, queue: trio_jobs.Queue) -> None:
        self.began = True
        self._say_whose_book()
        async with trio.open_nursery() as nursery:
            if self.listens:
                nursery.start_soon(self._listen, queue)
            async with trio.open_nursery() as following:
                following.start_soon(self._follow, queue, queue.events())
                for item in self.results.files:
                    await self._submit(queue, item)
                for job_id in [*self.results.by_job, *self._restored]:
                    with contextlib.suppress(
                        trio_jobs.JobFailed,
                        trio_jobs.JobCancelled,
                        trio_jobs.JobInDoubt,
                        trio_jobs.JobNotFound,
                        trio_jobs.ResultUnavailable,
                    ):
                        await queue.result(job_id, in_doubt="raise" if self.port is None else "wait")
                receipt = await queue.submit(TOTALS, None)
                self.totals = await queue.result(receipt.job_id)
            nursery.cancel_scope.cancel()

    async def _submit(self, queue: trio_jobs.Queue, item: FileResult) -> None:
        try:
            item.invoice = await trio.to_thread.run_sync(read_invoice_file, item.file)
            item.side = side_of(item.invoice, self.bookkeeping.owner)
            await trio.to_thread.run_sync(voucher_for, item.invoice, item.side)  # raises what no job can change
            await self._submit_booking(queue, item, Booking(self.bookkeeping.book_id, item.side, item.invoice))
        except NothingToBook as reason:
            item.end(FileStatus.NOTHING, reason.reason)
        except Refused as reason:
            item.end(FileStatus.REFUSED, reason.reason)
        except trio_jobs.InvalidPayload as reason:
            item.end(FileStatus.REFUSED, reason.why)
        except trio_jobs.KeyConflict:
            item.end(FileStatus.FAILED, "the journal has it from another version of this program: begin a new journal")
        self._show(item)

    async def _submit_booking(self, queue: trio_jobs.Queue, item: FileResult, booking: Booking) -> None:
        """Submit the job of a file; or use the one that the journal has from an earlier run.

        What failed before is tried again. What was completed before is looked up in the book, since the journal does
        not know what has become of the book.
        """
        receipt = await queue.submit(BOOK, booking, key=booking.key)
        self._own_jobs.add(receipt.job_id)
        job = queue.get(receipt.job_id)
        attempts_before = 0
        if not receipt.created and job.id not in self.results.by_job:
            if job.state is trio_jobs.State.COMPLETED:
                receipt = await queue.submit(FIND, booking)
            else:
                attempts_before = self._restored.get(job.id, job.attempt_count)
                if job.state is trio_jobs.State.IN_DOUBT:
                    await self._resolve(queue, job.id, booking)
                elif job.is_final:
                    await queue.retry(job.id)
            job = queue.get(receipt.job_id)
        if self.results.accept(item, job, attempts_before=attempts_before):
            self.results.update(job)

    async def _resolve(self, queue: trio_jobs.Queue, job_id: str, booking: Booking) -> None:
        """Ask the book about a job that an earlier run left in doubt. It is attempted again if it was not booked."""
        receipt = await queue.submit(FIND, booking)
        try:
            number = await queue.result(receipt.job_id)
        except trio_jobs.JobFailed as error:
            if error.reason != "fail":
                return  # the book could not be asked; the doubt stays
            number = None  # the number has another invoice, as the next attempt says
        with contextlib.suppress(trio_jobs.InvalidState):  # its own verify was faster
            await queue.resolve(job_id, "not_done" if number is None else "done", result=number, by="demo")

    async def _follow(self, queue: trio_jobs.Queue, events: trio_jobs.EventStream) -> None:
        async for event in events:
            job_id = getattr(event, "job", None)
            if job_id is None:
                continue
            try:
                job = queue.get(job_id)
            except trio_jobs.JobNotFound:
                continue
            if job.kind == TOTALS and job.is_final:
                return  # this is the last job, so every line is on the screen
            item = self.results.update(job)
            if item is not None:
                self._show(item)

    def _show(self, item: FileResult) -> None:
        """Show what has changed; called for the event of a job and after its submit, whichever comes first."""
        look = (item.status, item.state, item.attempts)
        if item.job_id is None:
            self.screen.show(item)
        elif self._shown.get(item.job_id) != look:
            self._shown[item.job_id] = look
            self.screen.show(item)

    async def _listen(self, queue: trio_jobs.Queue) -> None:
        async for key in keys():
            if key == "p":
                self.screen.paused = not self.screen.paused
                await (queue.pause("by hand") if self.screen.paused else queue.resume())


def _open_jobs(queue: trio_jobs.Queue) -> list[trio_jobs.Job]:
    """The jobs of invoices that are not final."""
    state = trio_jobs.State
    states = {*state} - {state.COMPLETED, state.FAILED, state.CANCELLED}
    page = queue.list(states=states, kind=BOOK, limit=1000)
    jobs = [*page]
    while page.next is not None:
        page = queue.list(states=states, kind=BOOK, limit=1000, after=page.next)
        jobs += page
    return jobs
