"""Log records of this package. To log never raises.

Filters and handlers of `logging` belong to the program around the queue, and some raise: a filter with a mistake, a
handler that calls `sys.exit`. `logging` catches some of these errors and lets others through. In a loop of the queue or
in the thread of the journal such an error would end the queue, so all modules log through `Log`.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Final, Protocol, final

from trio_jobs._concurrency import raised_by_signal

__all__ = ["Log", "diversion"]


class Diversion(Protocol):
    """Takes the records of a simulated queue."""

    def take(self, level: int, name: str, message: str, args: tuple[object, ...]) -> bool:
        """Take a record of the logger with that name; False to let it go to `logging`."""


diversion: Final[ContextVar[Diversion | None]] = ContextVar("diversion of trio-jobs", default=None)
"""What takes the records that are logged in this context."""


@final
class Log:
    """A logger whose methods never raise, except for KeyboardInterrupt at a Ctrl-C.

    The first error of a filter or a handler is printed to standard error, unless `logging.raiseExceptions` is False, as
    `logging` itself does with the errors that it catches.

    Args:
        name: The name of the logger.
    """

    __slots__ = ("_logger", "failures")

    def __init__(self, name: str) -> None:
        self._logger: Final = logging.getLogger(name)
        self.failures = 0
        """How many records a filter or a handler has failed to process with an error that `logging` let through."""

    def debug(self, message: str, *args: object) -> None:
        self._log(logging.DEBUG, message, args)

    def info(self, message: str, *args: object) -> None:
        self._log(logging.INFO, message, args)

    def warning(self, message: str, *args: object, extra: Mapping[str, object] | None = None) -> None:
        self._log(logging.WARNING, message, args, extra=extra)

    def error(self, message: str, *args: object, extra: Mapping[str, object] | None = None) -> None:
        self._log(logging.ERROR, message, args, extra=extra)

    def exception(self, message: str, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log an error with the traceback of the exception that is being handled, if that can be formatted."""
        try:
            text = traceback.format_exc()
        except BaseException:  # its class, its notes or its cause raise; in a handler, this would lose the record
            self._log(logging.ERROR, f"{message} (its traceback cannot be formatted)", args, extra=extra)
            return
        try:
            text.encode()
        except UnicodeEncodeError:  # a handler that writes UTF-8 would lose the record
            text = text.rstrip().encode(errors="backslashreplace").decode()
            self._log(logging.ERROR, f"{message}\n%s", (*args, text), extra=extra)
        else:
            self._log(logging.ERROR, message, args, exc_info=True, extra=extra)

    def _log(
        self,
        level: int,
        message: str,
        args: tuple[object, ...],
        *,
        exc_info: bool = False,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        try:
            diverted = diversion.get()
            if diverted is not None and diverted.take(level, self._logger.name, message, args):
                return
            self._logger.log(level, message, *args, exc_info=exc_info, extra=extra, stacklevel=3)
        except BaseException as error:
            if raised_by_signal(error):
                raise
            self.failures += 1
            if self.failures == 1:
                _print(self._logger.name, error)


def _print(name: str, error: BaseException) -> None:
    if not logging.raiseExceptions or sys.stderr is None:
        return
    try:
        head = f"A filter or a handler of the logger {name!r} raised; its further errors are not shown:\n"
        sys.stderr.write(head + "".join(traceback.format_exception(error)))
    except BaseException:  # noqa: S110 - nothing is left to report it to
        pass
