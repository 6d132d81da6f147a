"""Keep the log records of simulated queues from the handlers of the program: all that they report is planned."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs

__all__ = ["QuietLog", "quiet_log"]

MAX_LINES: Final = 1000  #: of the log of one check that are kept; its first ones

_PACKAGE: Final = "trio_jobs"


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.lines) < MAX_LINES:
            self.lines.append(f"{record.levelname} {record.name}: {record.getMessage()}")


@attrs.frozen
class _Saved:
    logger: logging.Logger
    handlers: list[logging.Handler]
    propagate: bool
    disabled: bool


_started: Final[set[_Collector]] = set()
_saved: Final[list[_Saved]] = []  # while something is started


class QuietLog:
    """Collects the records of trio-jobs from `start` to `stop`. Those of the program itself are not affected.

    Several can be started; the handlers of the program get records again when all have stopped.
    """

    def __init__(self) -> None:
        self._collector = _Collector()

    @property
    def lines(self) -> list[str]:
        """What was logged since the start, or since the list was cleared: WARNING and above."""
        return self._collector.lines

    def start(self) -> None:
        package = logging.getLogger(_PACKAGE)
        if not _started:
            names = [name for name in logging.Logger.manager.loggerDict if name.startswith(f"{_PACKAGE}.")]
            for one in (package, *map(logging.getLogger, names)):
                _saved.append(_Saved(one, one.handlers[:], one.propagate, one.disabled))
                one.handlers, one.propagate, one.disabled = [], one is not package, False
        _started.add(self._collector)
        package.addHandler(self._collector)

    def stop(self) -> None:
        """End the collection. A second call does nothing."""
        _started.discard(self._collector)
        logging.getLogger(_PACKAGE).removeHandler(self._collector)
        if not _started:
            for saved in _saved:
                saved.logger.handlers = saved.handlers
                saved.logger.propagate, saved.logger.disabled = saved.propagate, saved.disabled
            _saved.clear()


@contextmanager
def quiet_log(log: bool) -> Iterator[list[str]]:
    """Keep the records of trio-jobs from the handlers of the program within the block, and yield them as lines.

    Args:
        log: Let the handlers of the program have them instead. The list stays empty.
    """
    quiet = QuietLog()
    if not log:
        quiet.start()
    try:
        yield quiet.lines
    finally:
        quiet.stop()
