"""The path of a journal, as given by the caller."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, Final

from trio_jobs._errors import InvalidJournalPath

__all__ = ["resolve_path"]

_LOOP: Final = "its symbolic links form a loop"


def resolve_path(path: Any) -> str:
    """The absolute path of a journal, without symbolic links. The file need not exist.

    Args:
        path: Text or a `Path`; other types are refused.

    Raises:
        InvalidJournalPath: No file can have this path, or its symbolic links form a loop.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):
        raise InvalidJournalPath(repr(path), f"a path is a str or a Path, not {type(text).__name__}")
    if not text:
        raise InvalidJournalPath("''", "the path is empty")
    if "\0" in text:
        raise InvalidJournalPath(repr(text), "a path cannot contain a NUL character")
    try:
        resolved = Path(text).resolve()
    except RuntimeError:  # before Python 3.13
        raise InvalidJournalPath(text, _LOOP) from None
    except ValueError as error:
        raise InvalidJournalPath(repr(text), f"the system has no such file names: {error}") from None
    try:
        resolved.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InvalidJournalPath(text, _LOOP) from None
        # what is missing or forbidden is reported where the file is opened
    return str(resolved)
