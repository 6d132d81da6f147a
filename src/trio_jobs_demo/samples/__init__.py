"""Invoices of the demo's own: invented companies, every shape the demo can book, and some trouble.

Besides those that are booked there are a file that was cut off in the middle (`havnens-55209-cut-off.xml`), an invoice
that came twice (`moleneind-24-301-sent-twice.xml`) and a payment receipt (`luna-P-31-payment-receipt.xml`), from which
no voucher comes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from trio_jobs_demo.trouble import Script, Trouble

__all__ = ["SCRIPT", "sample_files"]

# What the ledger does to some of them, by invoice key. Each voucher is booked in the end, and once.
SCRIPT: Final[Script] = {
    "SE559900112201 1042": (Trouble.BUSY, Trouble.BUSY),
    "NO999888777MVA 2024-0007": (Trouble.SLOW,),
    "DK99887766 55202": (Trouble.BOOKS_THEN_RAISES,),
    "DE999999990 R-881": (Trouble.BUSY, Trouble.BOOKS_THEN_RAISES),
    "CCE990202BB2 F-77": (Trouble.SLOW,),
    "VESR800303CC3 15": (Trouble.BOOKS_THEN_RAISES,),
}


def sample_files() -> tuple[Path, ...]:
    """All sample files, sorted by name."""
    return tuple(sorted(Path(__file__).parent.glob("*.xml")))
