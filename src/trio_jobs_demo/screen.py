"""The output of the demo: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from trio_jobs import State
from trio_jobs_demo.file_results import FileResult, FileResults, FileStatus

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["LiveScreen", "PlainScreen", "Screen"]

_COLOURS = {
    State.PENDING: "bright_black",
    State.SCHEDULED: "bright_black",
    State.PROCESSING: "bold cyan",
    State.RETRYING: "yellow",
    State.IN_DOUBT: "bold magenta",
    State.COMPLETED: "green",
    State.FAILED: "red",
    State.CANCELLED: "red",
}


class Screen(Protocol):
    """Shows the results of files while the demo runs."""

    def __enter__(self) -> Screen: ...
    def __exit__(self, *args: object) -> None: ...
    def show(self, result: FileResult) -> None: ...
    def print_line(self, line: str) -> None: ...


class PlainScreen:
    """Prints a line for each important change, for pipes and logs."""

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(self, *args: object) -> None:
        sys.stdout.flush()

    def show(self, result: FileResult) -> None:
        is_open = result.status is FileStatus.OPEN
        if not is_open or result.state in (State.RETRYING, State.IN_DOUBT):
            word = result.state if is_open else result.status
            self.print_line(f"{word:16}{result.label:46}{result.amount:>18}  {result.note}")

    def print_line(self, line: str) -> None:
        print(line)


class LiveScreen:
    """A table of the files with the states of their jobs, refreshed ten times a second.

    Untrusted text is passed as plain text, never as markup.
    """

    def __init__(self, results: FileResults, paused: Callable[[], bool]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._results = results
        self._paused = paused
        self._console = Console(markup=False, highlight=False, emoji=False)
        self._live = Live(get_renderable=self._draw, console=self._console, refresh_per_second=10)

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._live.stop()

    def show(self, result: FileResult) -> None:
        """Do nothing: the next refresh shows it."""

    def print_line(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False)

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        results = self._results.files
        rows = max(self._console.size.height - 6, 5)
        table = Table(box=None, expand=True, pad_edge=False)
        for name, options in (
            ("invoice", {"ratio": 3}),
            ("amount", {"justify": "right", "ratio": 2}),
            ("state", {"min_width": 15}),
            ("tries", {"justify": "right"}),
            ("", {"ratio": 4}),
        ):
            table.add_column(name, no_wrap=True, overflow="ellipsis", **options)
        for result in _visible(results, rows):
            state: str = result.state if result.state is not None else result.status
            colour = _COLOURS.get(result.state, "bright_black") if result.state is not None else "blue"
            if result.status is FileStatus.REFUSED:
                state, colour = FileStatus.REFUSED, "red"
            table.add_row(
                Text(result.label),
                Text(result.amount),
                Text(state, colour),
                str(result.attempts or ""),
                Text(result.note),
            )
        counts = Counter(str(i.state if i.state is not None else i.status) for i in results)
        foot = "  ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        pause = "paused, p resumes" if self._paused() else "p pauses, Ctrl-C stops"
        return Group(table, Text(f"{foot}    {pause}", "bright_black"))


def _visible(results: list[FileResult], rows: int) -> list[FileResult]:
    """The results that fit into `rows` rows: those around the job that is being processed."""
    if len(results) <= rows:
        return results
    current = next((i for i, result in enumerate(results) if result.state is State.PROCESSING), len(results) - 1)
    begin = min(max(current - rows // 2, 0), len(results) - rows)
    return results[begin : begin + rows]
