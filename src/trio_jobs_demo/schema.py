"""The tables of a book, and the rules that the database enforces, also against other programs.

A voucher is inserted as a draft, receives its entries, and is posted by setting `posted`. Posting is refused unless at
least two entries balance; a posted voucher is never changed, replaced or removed. Amounts are in the currency's
smallest unit. A voucher has one currency.

`INSERT OR REPLACE` and `UPDATE OR REPLACE` remove rows without firing delete triggers by default, so the rules also
check the rows that would be replaced.
"""

from __future__ import annotations

from typing import Final

from trio_jobs_demo.vouchers import MAX_MINOR

__all__ = ["APPLICATION_ID", "ONE_VOUCHER_PER_REFERENCE", "TABLES", "VERSION"]

# In the file's header: distinguishes a book from other SQLite files. "tjlb", trio-jobs ledger book.
APPLICATION_ID: Final = 0x746A6C62

# In the file's header (user_version). Version 0 had no `book` and no `origin`.
VERSION: Final = 2

TABLES: Final = f"""
-- One row. The id is the book's own, also in a copy; the owner is text of the caller, empty until it is set.
CREATE TABLE book (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    id    TEXT NOT NULL CHECK (id <> ''),
    owner TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE vouchers (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    reference TEXT NOT NULL CHECK (reference <> ''),
    dated     TEXT NOT NULL CHECK (dated IS date(julianday(dated))),
    currency  TEXT NOT NULL CHECK (currency GLOB '[A-Z][A-Z][A-Z]'),
    text      TEXT NOT NULL,
    origin    TEXT NOT NULL DEFAULT '',
    posted    INTEGER NOT NULL DEFAULT 0 CHECK (posted IN (0, 1))
) STRICT;

CREATE INDEX vouchers_by_reference ON vouchers (reference);

CREATE TABLE entries (
    voucher INTEGER NOT NULL REFERENCES vouchers (number),
    line    INTEGER NOT NULL,
    account TEXT NOT NULL CHECK (account <> ''),
    debit   INTEGER NOT NULL CHECK (debit BETWEEN 0 AND {MAX_MINOR}),
    credit  INTEGER NOT NULL CHECK (credit BETWEEN 0 AND {MAX_MINOR}),
    PRIMARY KEY (voucher, line),
    CHECK ((debit = 0) <> (credit = 0))
) STRICT, WITHOUT ROWID;

-- One row for each create call, also for a failed one. It remains 'started' if the process died in the call.
CREATE TABLE call_log (
    call      INTEGER PRIMARY KEY AUTOINCREMENT,
    at        TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    reference TEXT NOT NULL,
    outcome   TEXT NOT NULL DEFAULT 'started' CHECK (outcome IN ('started', 'booked', 'refused')),
    voucher   INTEGER REFERENCES vouchers (number),
    reason    TEXT,
    CHECK ((outcome = 'booked') = (voucher IS NOT NULL))
) STRICT;

CREATE TRIGGER book_keeps_its_id BEFORE UPDATE OF one, id ON book
BEGIN SELECT RAISE (ABORT, 'the id of a book is never changed'); END;

CREATE TRIGGER book_is_not_replaced BEFORE INSERT ON book WHEN EXISTS (SELECT 1 FROM book)
BEGIN SELECT RAISE (ABORT, 'the id of a book is never changed'); END;

CREATE TRIGGER book_is_not_removed BEFORE DELETE ON book
BEGIN SELECT RAISE (ABORT, 'the id of a book is never changed'); END;

CREATE TRIGGER voucher_starts_as_draft BEFORE INSERT ON vouchers WHEN NEW.posted
BEGIN SELECT RAISE (ABORT, 'a voucher starts as a draft'); END;

CREATE TRIGGER voucher_is_not_replaced BEFORE INSERT ON vouchers
WHEN EXISTS (SELECT 1 FROM vouchers WHERE number = NEW.number AND posted)
BEGIN SELECT RAISE (ABORT, 'a posted voucher is never changed'); END;

CREATE TRIGGER voucher_is_not_rewritten BEFORE UPDATE OF number, reference, dated, currency, text, origin ON vouchers
BEGIN SELECT RAISE (ABORT, 'a voucher is never changed'); END;

CREATE TRIGGER voucher_stays_posted BEFORE UPDATE OF posted ON vouchers WHEN OLD.posted
BEGIN SELECT RAISE (ABORT, 'a posted voucher is never changed'); END;

CREATE TRIGGER voucher_balances BEFORE UPDATE OF posted ON vouchers
WHEN NEW.posted AND (SELECT count(*) < 2 OR sum(debit) <> sum(credit) FROM entries WHERE voucher = NEW.number)
BEGIN SELECT RAISE (ABORT, 'a voucher needs two entries or more whose debits equal their credits'); END;

CREATE TRIGGER voucher_is_not_removed BEFORE DELETE ON vouchers WHEN OLD.posted
BEGIN SELECT RAISE (ABORT, 'a posted voucher is never removed'); END;

CREATE TRIGGER entry_is_not_added BEFORE INSERT ON entries
WHEN EXISTS (SELECT 1 FROM vouchers WHERE number = NEW.voucher AND posted)
BEGIN SELECT RAISE (ABORT, 'a posted voucher is never changed'); END;

CREATE TRIGGER entry_is_not_changed BEFORE UPDATE ON entries
WHEN EXISTS (SELECT 1 FROM vouchers WHERE number IN (OLD.voucher, NEW.voucher) AND posted)
BEGIN SELECT RAISE (ABORT, 'a posted voucher is never changed'); END;

CREATE TRIGGER entry_is_not_removed BEFORE DELETE ON entries
WHEN EXISTS (SELECT 1 FROM vouchers WHERE number = OLD.voucher AND posted)
BEGIN SELECT RAISE (ABORT, 'a posted voucher is never changed'); END;
"""  # noqa: S608 - only a constant is inserted

# The trigger is for INSERT OR REPLACE, which would remove the older voucher to keep the index unique.
ONE_VOUCHER_PER_REFERENCE: Final = """
CREATE UNIQUE INDEX one_voucher_per_reference ON vouchers (reference);

CREATE TRIGGER reference_is_free BEFORE INSERT ON vouchers
WHEN EXISTS (SELECT 1 FROM vouchers WHERE reference = NEW.reference)
BEGIN SELECT RAISE (ABORT, 'this reference has a voucher already'); END;
"""
