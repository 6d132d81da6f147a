"""The output of the demo: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import sys
from typing import TYPE_CHECKING, Final, Protocol

from trio_jobs import State
from trio_jobs_demo.display import fit
from trio_jobs_demo.file_results import FileResult, FileResults, FileStatus
from trio_jobs_demo.output import Output

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["LiveScreen", "PlainScreen", "Screen", "columns", "row"]

_COLOURS: Final = {
    FileStatus.BOOKED: "green",
    FileStatus.THERE: "green",
    FileStatus.DUPLICATE: "blue",
    FileStatus.NOTHING: "blue",
    FileStatus.REFUSED: "red",
    FileStatus.FAILED: "red",
    FileStatus.IN_DOUBT: "bold magenta",
    FileStatus.NOT_LOOKED_AT: "bright_black",
}
_STATE_COLOURS: Final = {State.PROCESSING: "bold cyan", State.RETRYING: "yellow"}

#: Columns of a terminal: status and voucher, date, and an amount such as -1,234,567.89 EUR
STATUS, DATE, AMOUNT = 15, 10, 16
HEADINGS: Final = ("status", "file", "issuer", "number", "date", "amount")


def columns(width: int) -> tuple[int, int, int, int, int, int]:
    """The widths of status, file, issuer, number, date and amount, which fill `width` columns, 80 at least."""
    rest = max(width, 80) - STATUS - DATE - AMOUNT - 5
    file, issuer = rest * 2 // 5, rest * 3 // 10
    return STATUS, file, issuer, rest - file - issuer, DATE, AMOUNT


def row(item: FileResult) -> tuple[str, str, str, str, str, str]:
    """What is shown of a file, in the order of `columns`."""
    status: str = item.status
    if item.status is FileStatus.OPEN and item.state is not None:
        status = f"{item.state} {item.attempts}" if item.attempts > 1 else item.state
    elif item.status is FileStatus.BOOKED:
        status = f"{status} {item.voucher}"
    return status, item.name, item.issuer, item.number, item.date, item.amount


class Screen(Protocol):
    """Shows the results of files while the demo runs."""

    paused: bool
    """The queue is paused by hand."""

    def __enter__(self) -> Screen: ...
    def __exit__(self, *args: object) -> None: ...
    def show(self, result: FileResult) -> None: ...
    def print_line(self, line: str) -> None: ...


class PlainScreen:
    """Prints a line for each important change. In a terminal it fits, in a pipe or file it is complete."""

    def __init__(self, output: Output) -> None:
        self.paused = False
        self._output = output
        self._width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else None

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(self, *args: object) -> None:
        """Do nothing: whoever made the output closes it."""

    def show(self, result: FileResult) -> None:
        if result.status is FileStatus.OPEN and result.state is not State.RETRYING:
            return
        parts = row(result)
        if self._width is None:
            words = [part for part in parts[1:] if part]
            self._output.print("  ".join([f"{parts[0]:{STATUS}}", *words, result.note]))
            return
        widths = columns(self._width)
        cells = [fit(part, width, right=width == AMOUNT) for part, width in zip(parts, widths, strict=True)]
        self._output.print(" ".join(cells).rstrip())
        if result.status is not FileStatus.BOOKED or result.remarks:
            self._output.print(f"    {result.note}")

    def print_line(self, line: str) -> None:
        self._output.print(line)


class LiveScreen:
    """A table of the files with the states of their jobs, refreshed ten times a second.

    Untrusted text is passed as plain text, never as markup.
    """

    def __init__(self, results: FileResults) -> None:
        from rich.console import Console
        from rich.live import Live

        self.paused = False
        self._results = results
        self._console = Console(markup=False, highlight=False, emoji=False)
        self._live = Live(get_renderable=self._draw, console=self._console, refresh_per_second=10)

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(self, *args: object) -> None:
        with contextlib.suppress(OSError):  # the terminal may have been closed
            self._live.stop()

    def show(self, result: FileResult) -> None:
        """Do nothing: the next refresh shows it."""

    def print_line(self, line: str) -> None:
        with contextlib.suppress(OSError):
            self._console.print(line, markup=False, highlight=False)

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        height, width = self._console.size.height, self._console.size.width
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        widths = columns(width - 1)  # the last column has padding as well
        for name, size in zip(HEADINGS, widths, strict=True):
            table.add_column(name, width=size, no_wrap=True, overflow="ellipsis")
        for result in _visible(self._results.files, max(height - 6, 5)):
            parts = row(result)
            colour = _COLOURS.get(result.status) or _STATE_COLOURS.get(result.state or State.PENDING, "bright_black")
            table.add_row(Text(parts[0], colour), *map(Text, parts[1:-1]), Text(parts[-1], justify="right"))
        counts = self._results.counts
        foot = ", ".join(f"{counts[status]} {status}" for status in FileStatus if counts[status])
        pause = "paused, p resumes" if self.paused else "p pauses, Ctrl-C stops"
        return Group(table, *(Text(line, "bright_black", no_wrap=True, overflow="ellipsis") for line in (foot, pause)))


def _visible(results: list[FileResult], rows: int) -> list[FileResult]:
    """The results that fit into `rows` rows: those around the job that is being processed."""
    if len(results) <= rows:
        return results
    looked_at = [i for i, result in enumerate(results) if result.status is not FileStatus.NOT_LOOKED_AT]
    last = looked_at[-1] if looked_at else 0
    current = next((i for i, result in enumerate(results) if result.state is State.PROCESSING), last)
    begin = min(max(current - rows // 2, 0), len(results) - rows)
    return results[begin : begin + rows]
