"""Texts that are signed: page sessions and tickets.

A signed text is `prefix.kid.payload.signature`. `kid` names the key, `payload` is base64url, and the signature is the
HMAC-SHA256 of all before it, in base64url. All is compared as text: base64 decoders ignore some bits, so that several
texts have the same bytes.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final, NamedTuple

__all__ = ["KEY_SIZE", "Signed", "decode64", "derive", "encode64", "is_signed_by", "key_id", "sign", "split"]

KEY_SIZE: Final = 32  #: bytes of a key
MAX_TEXT: Final = 4096  #: characters of a signed text; longer ones are not looked at


class Signed(NamedTuple):
    """The parts of a signed text, none of which is checked yet."""

    text: str
    kid: str
    payload: str


def derive(secret: bytes, purpose: str | bytes, salt: bytes = b"") -> bytes:
    """A key for one purpose: HKDF with SHA-256 (RFC 5869), one block."""
    extracted = hmac.digest(salt or bytes(KEY_SIZE), secret, "sha256")
    info = purpose.encode() if isinstance(purpose, str) else purpose
    return hmac.digest(extracted, info + b"\1", "sha256")


def key_id(key: bytes) -> str:
    """A name of a key, from which nothing about the key can be computed: 11 characters."""
    return encode64(derive(key, "trio-jobs kid")[:8])


def sign(prefix: str, key: bytes, payload: bytes) -> str:
    """Return a signed text.

    Args:
        prefix: What kind of text it is, with a version, such as "t1".
        key: The key.
        payload: What is signed.
    """
    text = f"{prefix}.{key_id(key)}.{encode64(payload)}"
    return f"{text}.{_signature(text, key)}"


def split(prefix: str, text: str) -> Signed | None:
    """The parts of a text; None if it is no signed text with this prefix."""
    parts = text.split(".") if len(text) <= MAX_TEXT and text.isascii() else []
    if len(parts) != 4 or parts[0] != prefix:
        return None
    return Signed(text, parts[1], parts[2])


def is_signed_by(key: bytes, signed: Signed) -> bool:
    """Whether the text was made with this key. Takes the same time wherever the signatures differ."""
    text, _, signature = signed.text.rpartition(".")
    return hmac.compare_digest(signature, _signature(text, key))


def _signature(text: str, key: bytes) -> str:
    return encode64(hmac.digest(key, text.encode("ascii"), "sha256"))


def encode64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def decode64(text: str) -> bytes:
    """The bytes of a base64url text without padding. Raises `ValueError`."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("it is not base64url") from error
