"""Log records on standard error: as text, or as JSON lines. Control characters are escaped. No message of trio-jobs
contains a payload or a token."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from trio_jobs._cli.json_lines import json_line
from trio_jobs._engine.jobs import escape

__all__ = ["configure", "dropped"]

#: Of records about a job and about refused clients, see docs/logging.md
FIELDS: Final = ("job_id", "kind", "key", "attempt", "reason", "address", "count")


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
        fields: dict[str, object] = {
            "at": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in FIELDS:
            if hasattr(record, name):
                value = getattr(record, name)  # in a record of another library it can be anything
                fields[name] = value if value is None or isinstance(value, str | int | float) else str(value)
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json_line(fields)


def dropped(*, as_json: bool) -> Callable[[int], str]:
    """Return a function of the number of dropped lines, which returns the log line that reports them."""
    formatter = _Json() if as_json else _Lines()

    def line(count: int) -> str:
        what = "%d lines of output were dropped, since standard error is not read fast enough"
        record = logging.LogRecord("trio_jobs.serve", logging.WARNING, __file__, 0, what, (count,), None)
        return formatter.format(record)

    return line


def configure(*, as_json: bool, verbose: bool) -> None:
    """Send all log records to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else _Lines())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    logging.getLogger("trio-websocket").setLevel(logging.WARNING)
