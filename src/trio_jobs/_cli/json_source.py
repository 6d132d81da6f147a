"""JSON from the command line or from standard input, with all digits of its numbers."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from trio_jobs._cli.token_file import decode_text
from trio_jobs._errors import UsageError
from trio_jobs._wire.json_errors import what_is_wrong

__all__ = ["decode_json", "raw_json", "read_payload"]


def decode_json(source: str | bytes, what: str) -> Any:
    """Decode JSON. Raises `UsageError`, which names `what`."""
    text = b""
    try:
        text = (source if isinstance(source, str) else decode_text(source)).encode()
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise UsageError(f"the {what} is not JSON: {what_is_wrong(error, text)}") from None
    except RecursionError:
        raise UsageError(f"the {what} is nested too deeply") from None


def raw_json(source: str | bytes, what: str) -> msgspec.Raw:
    """Check JSON, and return it with all digits of its numbers. Raises: as `decode_json`."""
    text = source if isinstance(source, str) else decode_text(source)
    decode_json(text, what)
    return msgspec.Raw(msgspec.json.format(text.encode(), indent=-1))


def read_payload(source: str) -> msgspec.Raw:
    """Return a payload from its JSON, or from standard input for "-". Raises: as `decode_json`."""
    if source == "-" and sys.stdin is None:
        raise UsageError("the payload is to be read from standard input, which is closed")
    return raw_json(sys.stdin.buffer.read() if source == "-" else source, "payload")
