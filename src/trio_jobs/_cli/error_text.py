"""Errors as text for standard error. To describe an error never raises, whatever its class does."""

from __future__ import annotations

import traceback
from typing import Final

from trio_jobs._engine.jobs import escape
from trio_jobs._errors import JobMayHaveActed, JournalDamaged, UsageError

__all__ = ["ServiceNotLoaded", "describe", "safe_traceback"]

#: Modules between the command and the code that it calls
_OURS = frozenset({"trio_jobs", "trio", "importlib", "_frozen_importlib", "_frozen_importlib_external"})


class ServiceNotLoaded(UsageError):
    """The module of the service raised while it was imported."""

    def __init__(self, message: str, traceback: str) -> None:
        self.traceback: Final = traceback
        """The traceback of its error, without the frames of trio-jobs."""
        super().__init__(message)


def describe(error: BaseException) -> str:
    """The message of an error, on one line; the name of its class if it has none."""
    if isinstance(error, JournalDamaged):  # its message names the argument in Python
        return escape(
            f"journal {error.path} is refused: {error.found} (trio-jobs serve --allow-data-loss continues with what "
            "can be read)"
        )
    if isinstance(error, JobMayHaveActed):  # so does this one
        return escape(str(error)).replace("even_if_acted=True", "--even-if-acted")
    try:
        return escape(str(error)) or type(error).__name__
    except BaseException:
        return type(error).__name__


def safe_traceback(error: BaseException, *, with_ours: bool) -> str:
    """The traceback of an error, without control characters.

    Args:
        with_ours: Whether it contains the frames of trio-jobs and of the import system at its beginning.
    """
    try:
        first = error.__traceback__
        if not with_ours:
            while first is not None and str(first.tb_frame.f_globals.get("__name__")).partition(".")[0] in _OURS:
                first = first.tb_next
        lines = "".join(traceback.format_exception(type(error), error, first))
    except BaseException:
        lines = f"(the traceback of {type(error).__name__} cannot be shown)"
    return "\n".join(map(escape, lines.rstrip("\n").split("\n")))
