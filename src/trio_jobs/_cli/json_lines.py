"""JSON on a line, fit for a terminal: valid, and without a character that would do something to it."""

from __future__ import annotations

from typing import Any

import msgspec

from trio_jobs._engine.jobs import UNSAFE

__all__ = ["json_line"]


def json_line(value: Any) -> str:
    """What JSON lets pass raw (DEL, C1 controls, marks of direction) is escaped: it can only be within strings."""
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", msgspec.json.encode(value).decode())
