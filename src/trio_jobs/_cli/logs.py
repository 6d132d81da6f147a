"""Logs to standard error: lines for people, or one JSON object each. Foreign text is escaped; payloads and tokens are
not in any message of ours."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Final

from trio_jobs._cli.json_lines import json_line
from trio_jobs._engine.jobs import escape

__all__ = ["begin"]

FIELDS: Final = ("job_id", "kind", "key", "attempt", "reason")  #: of records about a job, as docs/logging.md promises


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        text = "\n".join(escape(line) for line in text.split("\n"))
        return f"{at} {record.levelname.lower()} {record.name}: {text}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, object] = {
            "at": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in FIELDS:
            if hasattr(record, name):
                value = getattr(record, name)  # of another library's record it may be anything
                told[name] = value if value is None or isinstance(value, str | int | float) else str(value)
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json_line(told)


def begin(*, as_json: bool, verbose: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else _Lines())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    logging.getLogger("trio-websocket").setLevel(logging.WARNING)
