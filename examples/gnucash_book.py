import contextlib
import datetime as dt

from pathlib import Path

import gnucash
import trio
import trio_jobs
from attrs import frozen

FILE = Path("book.gnucash").absolute()  # a book in euros with the accounts Customers and Sales


@frozen
class Invoice:
    date: dt.date
    cents: int


class Book:  # what handlers use: plain values go in and come out, and no object of GnuCash leaves its thread
    def __init__(self, session):
        self.session, self.book, self.accounts = session, session.book, session.book.get_root_account()

    def find(self, reference):
        entries = (split.parent for split in self.accounts.lookup_by_name("Sales").GetSplitList())
        return next((entry.GetGUID().to_string() for entry in entries if entry.GetNum() == reference), None)

    def post(self, reference, date, cents):
        entry = gnucash.Transaction(self.book)
        entry.BeginEdit()
        entry.SetCurrency(self.book.get_table().lookup("CURRENCY", "EUR"))
        entry.SetDate(date.day, date.month, date.year)
        entry.SetNum(reference)
        for account, amount in (("Customers", cents), ("Sales", -cents)):
            split = gnucash.Split(self.book)
            split.SetParent(entry)
            split.SetAccount(self.accounts.lookup_by_name(account))
            split.SetValue(gnucash.GncNumeric(amount, 100))
        entry.CommitEdit()  # in the memory of the session, not in the file
        return entry.GetGUID().to_string()


@contextlib.contextmanager
def open_book(opening: trio_jobs.Opening):
    # a kill leaves GnuCash's own lock behind; the queue holds the lock of the seat, so no other queue is in the book
    modes = gnucash.SessionOpenMode
    session = gnucash.Session(
        f"xml://{FILE}", modes.SESSION_BREAK_LOCK if opening.unclean else modes.SESSION_NORMAL_OPEN
    )
    try:
        yield Book(session)
    finally:
        session.end()  # forgets what is not saved
        session.destroy()


# GnuCash names its backup after the second, and refuses to save twice in one; the seat is that of the book
service = trio_jobs.Service(
    sdk=open_book, save=lambda book: book.session.save(), min_interval=1.1, seat_lock=f"{FILE}-seat"
)


def already_posted(book, job):
    return trio_jobs.Done(guid) if (guid := book.find(job.key)) else trio_jobs.NotDone()


@service.handler(verify=already_posted, attempt_timeout=60)
def post_invoice(book, invoice: Invoice, job: trio_jobs.JobContext) -> str:
    return book.post(job.key, invoice.date, invoice.cents)


async def main():
    async with service.open(journal=f"{FILE}-jobs.db") as queue:
        receipt = await queue.submit(post_invoice, Invoice(dt.date(2026, 3, 1), 11600), key="A-1")
        print("A-1 is transaction", await queue.result(receipt.job_id))


if __name__ == "__main__":
    trio.run(main)
