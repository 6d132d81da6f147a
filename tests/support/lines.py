"""Ctrl-C between two lines: at chosen ones of those that a program executes."""

from __future__ import annotations

import ast
import functools
import signal
import sys
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any

import trio

__all__ = ["InterruptLines"]


@functools.cache
def with_lines(file: str) -> frozenset[int]:
    """The lines of the heads of `with` statements."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.With | ast.AsyncWith):
            found.update(range(node.lineno, (node.items[-1].context_expr.end_lineno or node.lineno) + 1))
    return frozenset(found)


class InterruptLines:
    """Counts the lines that a run of Trio executes in some files, and presses Ctrl-C before chosen ones.

    Python reports the head of a `with` statement once more before it leaves the block. It handles no signal there, so
    Ctrl-C is then pressed at the next line.

    Args:
        files: The files, or the folders of the files.
        at: The numbers of the lines, from 1.
    """

    def __init__(self, files: tuple[str, ...], at: Collection[int] = ()) -> None:
        self.count = 0
        self.pressed: list[str] = []
        """Where Ctrl-C was pressed."""
        self._files = files
        self._at = at
        self._due = 0

    def run(self, main: Callable[[], Awaitable[object]]) -> BaseException | None:
        """Return what the run of Trio raised. Lines of the start and the end of Trio itself are not counted."""
        try:
            trio.run(self._run, main)
        except BaseException as error:
            return error
        return None

    async def _run(self, main: Callable[[], Awaitable[object]]) -> None:
        before = sys.gettrace()
        sys.settrace(self._on_call)
        try:
            await main()
        finally:
            sys.settrace(before)

    def _on_call(self, frame: FrameType, event: str, arg: object) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(self._files):
            return None
        heads, line = with_lines(file), frame.f_lineno

        def on_line(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal line
            if event == "line":
                before, line = line, frame.f_lineno
                self._on_line(f"{file}, line {line}", is_exit=line in heads and line < before)
            return on_line

        return on_line

    def _on_line(self, where: str, *, is_exit: bool) -> None:
        self.count += 1
        self._due += self.count in self._at
        if self._due and not is_exit:
            self._due -= 1
            self.pressed.append(where)
            signal.raise_signal(signal.SIGINT)
