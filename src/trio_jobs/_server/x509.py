"""The validity of an X.509 certificate (RFC 5280, section 4.1). Pure functions.

The standard library shows the dates of a certificate only to a client that has verified it. So this module reads them
from the DER encoding. OpenSSL has parsed the certificate before, and nothing but messages depends on the dates.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import Final

__all__ = ["certificates", "validity"]

_PEM: Final = re.compile(
    rb"-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----\s(.*?)-----END (?:X509 |TRUSTED )?CERTIFICATE-----", re.DOTALL
)
SEQUENCE: Final = 0x30
VERSION: Final = 0xA0
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18


def certificates(pem: bytes) -> list[bytes]:
    """Return the DER encodings of the certificates in a PEM file.

    Raises:
        ValueError: A certificate is not base64.
    """
    try:
        return [base64.b64decode(b"".join(found[2].split()), validate=True) for found in _PEM.finditer(pem)]
    except binascii.Error as error:
        raise ValueError(f"a certificate is not base64: {error}") from None


def validity(der: bytes) -> tuple[datetime, datetime]:
    """Return the dates from and until which a certificate is valid.

    Raises:
        ValueError: `der` is not a certificate.
    """
    at, _ = _element(der, 0, SEQUENCE)
    at, _ = _element(der, at, SEQUENCE)
    if der[at : at + 1] == bytes((VERSION,)):
        _, at = _element(der, at, VERSION)
    for _ in ("serial number", "signature", "issuer"):
        _, at = _element(der, at)
    at, _ = _element(der, at, SEQUENCE)
    start, end = _element(der, at)
    not_before = _time(der[at], der[start:end])
    start, after = _element(der, end)
    return not_before, _time(der[end], der[start:after])


def _element(der: bytes, at: int, tag: int | None = None) -> tuple[int, int]:
    """The start and the end of the content of the element at `at`."""
    if at + 2 > len(der) or (tag is not None and der[at] != tag):
        raise ValueError(f"not a certificate: no element {tag} at byte {at}")
    length, start = der[at + 1], at + 2
    if length >= 0x80:
        count = length - 0x80
        length, start = int.from_bytes(der[start : start + count], "big"), start + count
    if start + length > len(der):
        raise ValueError(f"not a certificate: the element at byte {at} has no end")
    return start, start + length


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii", "replace")
    if tag == UTC_TIME:  # two digits of the year, 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != GENERALIZED_TIME:
        raise ValueError(f"not a date: element {tag}")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
