"""What the generators of one file share: they print it, or write it with --write."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["print_or_write"]


def print_or_write(tool: str, path: str | Path, content: bytes, arguments: Sequence[str]) -> int:
    """Print a generated file, or write it with --write; from the top of the repository. Returns the exit code.

    Args:
        tool: The module of the generator.
        path: The file.
        content: All of it.
        arguments: Of the command.
    """
    if list(arguments) not in ([], ["--write"]):
        print(f"usage: python -m {tool} [--write]   (writes {path})", file=sys.stderr)
        return 2
    if arguments:
        Path(path).write_bytes(content)
    else:
        sys.stdout.buffer.write(content)
    return 0
