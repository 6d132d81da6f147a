"""Reads an invoice from a file. The root element decides which standard is read, not the name of the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element

from trio_jobs_demo.cfdi import COMPROBANTE, read_cfdi
from trio_jobs_demo.invoices import Invoice, Unsupported, quoted
from trio_jobs_demo.ubl import CREDIT_NOTE, INVOICE, read_ubl
from trio_jobs_demo.xml_tree import parse, read_bytes

__all__ = ["read_invoice", "read_invoice_file"]

# The envelope in which Peppol and others send documents (UN/CEFACT SBDH)
ENVELOPE: Final = "StandardBusinessDocument"
ENVELOPE_SPACE: Final = "http://www.unece.org/cefact/namespaces/StandardBusinessDocumentHeader"


def read_invoice_file(path: str | os.PathLike[str]) -> Invoice:
    """Read the invoice in a file. Raises `Refused` or `NothingToBook`, never OSError."""
    return read_invoice(read_bytes(Path(path)))


def read_invoice(data: bytes) -> Invoice:
    """Read a UBL 2.1 Invoice or CreditNote, or a CFDI 4.0.

    The document may be in an envelope (SBDH). Whatever the content, it takes a few seconds and about 200 MB at most.

    Raises:
        NothingToBook: The document is valid and needs no voucher.
        Refused: The document cannot be booked.
    """
    root = _unwrapped(parse(data))
    if root.tag in (INVOICE, CREDIT_NOTE):
        return read_ubl(root)
    if root.tag == COMPROBANTE:
        return read_cfdi(root)
    if root.tag.startswith("{http://www.sat.gob.mx/cfd/"):
        version = root.tag.removeprefix("{http://www.sat.gob.mx/cfd/").partition("}")[0]
        raise Unsupported(f"Version: a CFDI of version {quoted(version)}; only 4.0 is read", "Version")
    name = root.tag.rpartition("}")[2]
    raise Unsupported(f"root element {quoted(name)}: neither a UBL 2.1 Invoice or CreditNote nor a CFDI 4.0")


def _unwrapped(root: Element) -> Element:
    """The document in the envelope, or the root itself if it is no envelope."""
    if root.tag != f"{{{ENVELOPE_SPACE}}}{ENVELOPE}":
        return root
    documents = [child for child in root if not child.tag.startswith(f"{{{ENVELOPE_SPACE}}}")]
    if len(documents) != 1:
        raise Unsupported(f"an envelope ({ENVELOPE}) with {len(documents)} documents; take the invoice out of it")
    return documents[0]
