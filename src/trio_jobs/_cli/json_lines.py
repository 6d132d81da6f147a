"""JSON that is safe for a terminal: no character in it moves the cursor or changes the order of text."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from trio_jobs._engine.jobs import UNSAFE

__all__ = ["json_line"]


def json_line(value: Any) -> str:
    """One line of JSON. DEL, C1 controls and direction marks, which occur only within strings, are escaped too."""
    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # a file name that is not valid UTF-8, which Python marks by lone surrogates
        text = json.dumps(msgspec.to_builtins(value))
    return re.sub(UNSAFE, lambda match: f"\\u{ord(match[0]):04x}", text)
