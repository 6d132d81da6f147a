"""A digest of the effects of a schedule: the bytes of each event, the calls into the SDK, and their times.

The digest of the timeline covers every word, including error names and messages. This one does not depend on them, so a
refactoring that leaves it equal for many seeds has not changed the behaviour.
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
    """The digest of one schedule.

    Args:
        clock: Returns virtual seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._hash = blake2b(digest_size=16)

    def event(self, body: bytes) -> None:
        """Add an event that has reached the disk. Of an error only the class counts, and only one that is not ours."""
        fields: dict[str, Any] = _decode(body)
        fields.pop("action", None)  # that a person did it; the change itself is in the other fields
        error = fields.get("error")
        if error is not None:
            fields["error"] = "ours" if error["type"] in _OURS else error["type"]
        for name in ("problem", "reason"):
            if " " in fields.get(name, ""):  # a sentence, not a word of the protocol
                fields[name] = "text"
        self._add(b"event", _encode(fields))

    def call(self, *what: str | int) -> None:
        """Add an entry into the SDK, or a return from it."""
        self._add(b"call", _encode(what))

    def _add(self, kind: bytes, what: bytes) -> None:
        self._hash.update(b"%s %s %s\n" % (kind, repr(self._clock()).encode(), what))

    def digest(self) -> str:
        """The digest: 32 hex digits."""
        return self._hash.hexdigest()
