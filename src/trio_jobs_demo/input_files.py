"""The files of a run: those that are named, and the XML files of the folders that are named."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import attrs

from trio_jobs_demo.display import escape

__all__ = ["InputFiles", "find_files"]


@attrs.frozen
class InputFiles:
    """What was found."""

    files: tuple[tuple[Path, str], ...]
    """The files to read, in order, each with the name to show: those of a folder with their path in it."""
    passed_over: tuple[Path, ...] = ()
    """The files of the folders that are not XML by their name."""


def find_files(paths: Iterable[Path]) -> InputFiles:
    """Find the files. Links to folders are not followed.

    Raises:
        FileNotFoundError: A path does not exist.
        OSError: A folder cannot be read; its files would be left out otherwise.
    """
    files: list[tuple[Path, str]] = []
    passed_over: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(_files_under(path))
            files += [(file, str(file.relative_to(path))) for file in found if file.suffix.lower() == ".xml"]
            passed_over += [file for file in found if file.suffix.lower() != ".xml"]
        elif path.exists():
            files.append((path, path.name))
        else:
            raise FileNotFoundError(f"there is no file or folder {escape(str(path))}")
    return InputFiles(tuple(files), tuple(passed_over))


def _files_under(folder: Path) -> Iterable[Path]:
    def refuse(error: OSError) -> None:
        raise OSError(f"the folder {escape(str(error.filename))} cannot be read: {error.strerror}") from error

    for parent, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(parent, name) for name in names)
