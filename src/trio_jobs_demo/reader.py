"""Reads an invoice from a file. The root element decides which standard is read, not the name of the file."""

from __future__ import annotations

import os
from pathlib import Path

from trio_jobs_demo.cfdi import COMPROBANTE, read_cfdi
from trio_jobs_demo.invoices import Invoice, Unsupported, quoted
from trio_jobs_demo.ubl import CREDIT_NOTE, INVOICE, read_ubl
from trio_jobs_demo.xml_tree import parse, read_bytes

__all__ = ["read_invoice", "read_invoice_file"]


def read_invoice_file(path: str | os.PathLike[str]) -> Invoice:
    """Read the invoice in a file. Raises `Refused` or `NothingToBook`, never OSError."""
    return read_invoice(read_bytes(Path(path)))


def read_invoice(data: bytes) -> Invoice:
    """Read a UBL 2.1 Invoice or CreditNote, or a CFDI 4.0.

    Whatever the content, it takes a few seconds and about 100 MB at most.

    Raises:
        NothingToBook: The document is valid and needs no voucher.
        Refused: The document cannot be booked.
    """
    root = parse(data)
    if root.tag in (INVOICE, CREDIT_NOTE):
        return read_ubl(root)
    if root.tag == COMPROBANTE:
        return read_cfdi(root)
    if root.tag.startswith("{http://www.sat.gob.mx/cfd/"):
        version = root.tag.removeprefix("{http://www.sat.gob.mx/cfd/").partition("}")[0]
        raise Unsupported(f"Version: a CFDI of version {quoted(version)}; only 4.0 is read", "Version")
    name = root.tag.rpartition("}")[2]
    raise Unsupported(f"root element {quoted(name)}: neither a UBL 2.1 Invoice or CreditNote nor a CFDI 4.0")
