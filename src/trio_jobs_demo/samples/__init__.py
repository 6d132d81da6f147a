"""Sample invoices of invented companies: one for each kind of document that the demo can book, and three others.

The others are a truncated file (`havnens-55209-cut-off.xml`), a duplicate (`moleneind-24-301-sent-twice.xml`) and a
payment receipt (`luna-P-31-payment-receipt.xml`), which needs no voucher.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from trio_jobs_demo.faulty_ledger import Fault, FaultScript

__all__ = ["SCRIPT", "SERVED_SCRIPT", "sample_files"]

# The faults of the ledger, by invoice key. Each voucher is booked in the end, exactly once.
SCRIPT: Final[FaultScript] = {
    "SE559900112201 1042": (Fault.BUSY, Fault.BUSY),
    "NO999888777MVA 2024-0007": (Fault.SLOW,),
    "DK99887766 55202": (Fault.BOOKS_THEN_RAISES,),
    "DE999999990 R-881": (Fault.BUSY, Fault.BOOKS_THEN_RAISES),
    "CCE990202BB2 F 77": (Fault.SLOW,),
    "VESR800303CC3 15": (Fault.BOOKS_THEN_RAISES,),
}

# The same for a run with --serve: one invoice is in doubt until a person resolves it, on the page or with a command.
SERVED_SCRIPT: Final[FaultScript] = {**SCRIPT, "VESR800303CC3 15": (Fault.BOOKS_THEN_SILENT,)}


def sample_files() -> tuple[Path, ...]:
    """All sample files, sorted by name."""
    return tuple(sorted(Path(__file__).parent.glob("*.xml")))
