import contextlib
import sqlite3

import trio
import trio_jobs
from attrs import frozen


@frozen
class Invoice:
    number: str
    total_cents: int


@contextlib.contextmanager
def open_ledger():
    # a connection is a context manager too, but one that commits at its end and closes nothing
    with contextlib.closing(sqlite3.connect("ledger.db", timeout=2)) as ledger:  # seconds to wait for another process
        with ledger:
            ledger.execute("CREATE TABLE IF NOT EXISTS vouchers (reference TEXT PRIMARY KEY, cents INTEGER)")
        yield ledger


# by default sqlite3 begins a transaction before an INSERT: nothing is in the file before commit()
service = trio_jobs.Service(sdk=open_ledger, save=sqlite3.Connection.commit, interrupt=sqlite3.Connection.interrupt)


def already_booked(ledger, job):  # called in a new session, which sees what is in the file and nothing else
    row = ledger.execute("SELECT rowid FROM vouchers WHERE reference = ?", [job.key]).fetchone()
    return trio_jobs.Done(row[0]) if row else trio_jobs.NotDone()


@service.handler(attempt_timeout=30, verify=already_booked, verify_first=True)
def post_invoice(ledger, invoice: Invoice, job: trio_jobs.JobContext) -> int:
    return ledger.execute("INSERT INTO vouchers VALUES (?, ?)", [job.key, invoice.total_cents]).lastrowid


async def main():
    async with service.open(journal="jobs.db") as queue:
        receipt = await queue.submit(post_invoice, Invoice("A-1", 11600), key="A-1")
        print("A-1 is voucher", await queue.result(receipt.job_id))


if __name__ == "__main__":
    trio.run(main)
