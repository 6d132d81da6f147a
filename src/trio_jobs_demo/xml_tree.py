"""Parses an untrusted XML file within limits.

It uses expat directly, not `xml.etree.ElementTree.parse`, because only expat's handlers can stop at a DOCTYPE. Entities
can be declared only there; without one nothing can be expanded (expat 2.5 expands 326 bytes to 1 MB), and no other file
can be read.

Files may be large because of a PDF inside; what is kept of them may not. A text that is longer than any field is cut
while it is parsed, and ends in a character that XML does not have, so that it cannot be taken for a shorter value.
"""

from __future__ import annotations

import codecs
import stat
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from trio_jobs_demo.invoices import BadField, Unreadable

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_ELEMENTS", "children", "one", "parse", "read_bytes", "text_at"]

# Several documents of 4 MB inside, in base64
MAX_BYTES: Final = 32 * 1024 * 1024
# What is kept: all texts and attributes, without the rest of those that are cut.
MAX_KEPT: Final = 5 * 1024 * 1024
# Characters of one text or attribute. The longest field that is read has 1,000.
MAX_TEXT: Final = 16 * 1024
CUT: Final = "\0"
# A UBL invoice is about 10 deep, one with a signature in it 15.
MAX_DEPTH: Final = 64
# 10,000 lines of 20 elements each. An element costs about 200 bytes, so a tree stays below some 40 MB.
MAX_ELEMENTS: Final = 200_000

NAMESPACES: Final = {
    "cac": "urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2",
    "cbc": "urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2",
    "cfdi": "http://www.sat.gob.mx/cfd/4",
    "implocal": "http://www.sat.gob.mx/implocal",
    "tfd": "http://www.sat.gob.mx/TimbreFiscalDigital",
}


def read_bytes(path: Path) -> bytes:
    """Read a file of at most `MAX_BYTES`. Raises `Unreadable`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Unreadable("not a regular file")
        with path.open("rb") as file:
            # one byte more than allowed, to detect a file that is too large even if it grows meanwhile
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unreadable(f"the file cannot be read: {error.strerror}") from error


# A byte order mark decides, whatever the declaration says: some programs write UTF-8 with one and declare Latin-1.
MARKS: Final = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def parse(data: bytes) -> Element:
    """Parse the document and return its root element, with names as `{namespace}local`. Raises `Unreadable`."""
    if len(data) > MAX_BYTES:
        raise Unreadable(f"larger than {MAX_BYTES:,} bytes")
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), None)
    parser = expat.ParserCreate(encoding, namespace_separator="}")
    parser.buffer_text = True
    builder = _LimitedBuilder()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.StartDoctypeDeclHandler = builder.doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise Unreadable(f"not well-formed XML: {error}") from error
    except (LookupError, ValueError) as error:
        # Python does not know the encoding, or it uses several bytes for a character
        raise Unreadable("its encoding is unknown or cannot be decoded") from error
    return builder.close()


class _LimitedBuilder:
    """Builds the tree from expat's events and raises `Unreadable` above the limits."""

    def __init__(self) -> None:
        self._builder = TreeBuilder()
        self._depth = 0
        self._elements = 0
        self._kept = 0
        self._text_length = 0  # since the last tag

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        self._text_length = 0
        if self._depth > MAX_DEPTH:
            raise Unreadable(f"elements are nested deeper than {MAX_DEPTH}")
        if self._elements > MAX_ELEMENTS:
            raise Unreadable(f"more than {MAX_ELEMENTS:,} elements")
        kept = {_qualified(key): self._cut(value, 0) for key, value in attributes.items()}
        self._builder.start(_qualified(name), kept)

    def end(self, name: str) -> None:
        self._depth -= 1
        self._text_length = 0
        self._builder.end(_qualified(name))

    def text(self, text: str) -> None:
        if self._text_length <= MAX_TEXT:
            self._builder.data(self._cut(text, self._text_length))
        self._text_length += len(text)

    def doctype(self, *_: object) -> None:
        raise Unreadable("has a DOCTYPE, which invoices do not need and attacks use")

    def close(self) -> Element:
        return self._builder.close()

    def _cut(self, text: str, before: int) -> str:
        """The part of the text that is kept, where `before` characters of it are kept already."""
        if before + len(text) > MAX_TEXT:
            text = text[: MAX_TEXT - before] + CUT
        self._kept += len(text)
        if self._kept > MAX_KEPT:
            raise Unreadable(f"more than {MAX_KEPT:,} characters of text")
        return text


def _qualified(name: str) -> str:
    return "{" + name if "}" in name else name


def expanded(name: str) -> str:
    """`cbc:ID` as `{urn:...}ID`."""
    prefix, _, local = name.partition(":")
    return f"{{{NAMESPACES[prefix]}}}{local}"


def children(parent: Element, name: str) -> list[Element]:
    """All child elements of that name, e.g. `cac:InvoiceLine`, in order."""
    return parent.findall(expanded(name))


def one(parent: Element, path: str) -> Element | None:
    """The only element at `path` (`cac:Party/cbc:Name`), or None. Raises `BadField` if an element occurs twice."""
    element: Element | None = parent
    for name in path.split("/"):
        assert element is not None
        found = children(element, name)
        if len(found) > 1:
            raise BadField(path.rpartition(":")[2], f"given {len(found)} times")
        if not found:
            return None
        element = found[0]
    return element


def text_at(parent: Element, path: str) -> str | None:
    """The text of the only element at `path`, with normalised white space; None if it is missing or empty."""
    element = one(parent, path)
    return " ".join((element.text or "").split()) or None if element is not None else None
