"""A digest of what a schedule did to the outside: the bytes of each event, the calls into the SDK, and when they came.

The timeline's own digest covers every word in it, names of errors and messages included. This one does not change when
those are reworded, so a refactoring that leaves it equal for many seeds has left the behaviour as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

import msgspec

from trio_jobs import _errors
from trio_jobs._engine import directives

__all__ = ["Effects"]

_OURS: Final = frozenset((*_errors.__all__, *directives.__all__))
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder(order="sorted").encode


class Effects:
    """clock: virtual seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._hash = blake2b(digest_size=16)

    def event(self, body: bytes) -> None:
        """An event that is on the disk now. Of an error only the class counts, and only where it is not one of ours."""
        told: dict[str, Any] = _decode(body)
        error = told.get("error")
        if error is not None:
            told["error"] = "ours" if error["type"] in _OURS else error["type"]
        for name in ("problem", "reason"):
            if " " in told.get(name, ""):  # a sentence, not a word of the protocol
                told[name] = "text"
        self._add(b"event", _encode(told))

    def call(self, *what: str | int) -> None:
        """Something entered the SDK, or left it."""
        self._add(b"call", _encode(what))

    def _add(self, kind: bytes, what: bytes) -> None:
        self._hash.update(b"%s %s %s\n" % (kind, repr(self._clock()).encode(), what))

    def digest(self) -> str:
        """32 hex digits."""
        return self._hash.hexdigest()
