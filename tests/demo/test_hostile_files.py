"""No file makes the reader raise other errors than its own, take long, or expand entities."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest
from demo_documents import CFDI, UBL, changed
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_jobs_demo.display import escape
from trio_jobs_demo.invoices import InvoiceError, Refused, Unreadable
from trio_jobs_demo.reader import read_invoice, read_invoice_file
from trio_jobs_demo.xml_tree import MAX_BYTES, MAX_DEPTH, MAX_ELEMENTS, MAX_KEPT, MAX_TEXT

LAUGHS = '<!DOCTYPE Invoice [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_a_doctype_is_refused_and_nothing_is_expanded() -> None:
    for doctype in (LAUGHS + "]>", '<!DOCTYPE Invoice SYSTEM "file:///etc/passwd">', "<!DOCTYPE Invoice>"):
        with pytest.raises(Unreadable, match="DOCTYPE"):
            read_invoice(changed(UBL, ("<Invoice ", doctype + "<Invoice "), ("T-1", "&i;")))


def test_an_undeclared_entity_is_refused() -> None:
    with pytest.raises(Unreadable, match="undefined entity"):
        read_invoice(changed(UBL, ("T-1", "&i;")))


def test_a_file_above_the_limit_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "large.xml"
    path.write_bytes(b"<" * (MAX_BYTES + 1))
    with pytest.raises(Unreadable, match="larger"):
        read_invoice_file(path)
    with pytest.raises(Unreadable, match="not well-formed"):
        read_invoice(b"<" * MAX_BYTES)


def test_a_large_attachment_within_the_limit_is_accepted() -> None:
    attachment = f"<x>{'QUJD' * 1_200_000}</x><cbc:ID>T-1"
    assert read_invoice(changed(UBL, ("<cbc:ID>T-1", attachment))) == read_invoice(UBL.encode())


@pytest.mark.parametrize("name", ["x", "cbc:EmbeddedDocumentBinaryObject"])
@pytest.mark.parametrize("in_lines", [False, True])
def test_a_pdf_of_4_mb_and_more_inside_is_accepted(name: str, in_lines: bool) -> None:
    content = base64.encodebytes(bytes(6_000_000)).decode() if in_lines else base64.b64encode(bytes(6_000_000)).decode()
    assert len(content) >= 8_000_000
    attachment = f"<{name}>{content}</{name}><cbc:ID>T-1"
    assert read_invoice(changed(UBL, ("<cbc:ID>T-1", attachment))) == read_invoice(UBL.encode())
    assert read_invoice(changed(CFDI, ("<cfdi:Emisor ", f"<x y='{content}'/><cfdi:Emisor "))) == read_invoice(
        CFDI.encode()
    )


def test_what_is_kept_of_all_texts_is_limited() -> None:
    texts = "<x>" + "a" * MAX_TEXT + "</x>"
    with pytest.raises(Unreadable, match="characters of text"):
        read_invoice(changed(UBL, ("<cbc:ID>T-1", texts * (MAX_KEPT // MAX_TEXT + 1) + "<cbc:ID>T-1")))


@pytest.mark.parametrize("space", ["", " ", "<!-- -->"])
def test_a_text_that_was_cut_is_not_taken_for_a_shorter_value(space: str) -> None:
    for long in (" " * (MAX_TEXT - 1) + "30.00", "30." + "0" * MAX_TEXT, " " * MAX_TEXT + "30.00"):
        with pytest.raises(Refused):
            read_invoice(changed(UBL, ('"EUR">30.00', f'"EUR">{long}{space}')))
    with pytest.raises(Refused):
        read_invoice(changed(UBL, ("2024-05-06<", " " * (MAX_TEXT - 10) + "2024-05-06 \n 1<")))
    with pytest.raises(Refused):
        read_invoice(changed(CFDI, ('Total="190.80"', f'Total="190.80{" " * MAX_TEXT}"')))


def test_nesting_is_limited() -> None:
    nest = "<x>" * (MAX_DEPTH - 1) + "</x>" * (MAX_DEPTH - 1)
    read_invoice(changed(UBL, ("<cbc:ID>T-1", f"{nest}<cbc:ID>T-1")))
    with pytest.raises(Unreadable, match="nested"):
        read_invoice(changed(UBL, ("<cbc:ID>T-1", f"<x>{nest}</x><cbc:ID>T-1")))


def test_the_number_of_elements_is_limited() -> None:
    with pytest.raises(Unreadable, match="elements"):
        read_invoice(b"<a>" + b"<b/>" * MAX_ELEMENTS + b"</a>")


@pytest.mark.parametrize("count", [10_001, 100_000])
@pytest.mark.parametrize("document", [UBL, CFDI])
def test_the_number_of_lines_is_limited(document: str, count: int) -> None:
    name = "cac:InvoiceLine" if document is UBL else "cfdi:Concepto"
    start = document.index(f"<{name}>" if document is UBL else f"<{name} ")
    end = document.index(f"</{name}>") + len(f"</{name}>")
    line = f"<{name}/>"
    with pytest.raises(Unreadable, match="more than 10,000 lines"):
        read_invoice((document[:start] + line * count + document[end:]).encode())


def test_an_exponent_takes_no_time() -> None:
    before = time.process_time()  # a loaded machine takes none of it
    with pytest.raises(Refused):
        read_invoice(changed(CFDI, ('Total="190.80"', 'Total="1E+900000"')))
    assert time.process_time() - before < 1  # int(Decimal("1E+900000")) takes 20 times as long


def test_control_characters_are_read_and_escaped_in_reasons() -> None:
    csi, override = "\x9b31m", "\u202e"
    assert read_invoice(changed(UBL, ("Seller", csi + override))).issuer == csi + override
    with pytest.raises(Refused) as caught:
        read_invoice(changed(UBL, ("Code>EUR<", f"Code>{csi}{override}<")))
    assert caught.value.reason.isprintable()
    assert r"\x9b31m\u202e" in caught.value.reason


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_any_damaged_file_gives_an_invoice_or_a_reason(data: st.DataObject) -> None:
    document = data.draw(st.sampled_from([UBL, CFDI])).encode()
    start = data.draw(st.integers(0, len(document)))
    end = data.draw(st.integers(start, min(len(document), start + 40)))
    patch = data.draw(
        st.one_of(st.binary(max_size=20), st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace")))
    )
    try:
        read_invoice(document[:start] + patch + document[end:])
    except InvoiceError as error:
        assert error.reason == escape(error.reason, limit=1000)
