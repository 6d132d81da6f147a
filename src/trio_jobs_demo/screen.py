"""What a person sees: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from trio_jobs import State
from trio_jobs_demo.tally import Fate, Item, Tally

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
    def __enter__(self) -> Screen: ...
    def __exit__(self, *args: object) -> None: ...
    def show(self, item: Item) -> None: ...
    def say(self, line: str) -> None: ...


class PlainScreen:
    """One line for each change that matters, for pipes and logs."""

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(self, *args: object) -> None:
        sys.stdout.flush()

    def show(self, item: Item) -> None:
        quiet = item.fate is Fate.OPEN and item.state is not State.RETRYING and item.state is not State.IN_DOUBT
        if not quiet:
            word = item.fate if item.fate is not Fate.OPEN else item.state
            self.say(f"{word:16}{item.label:46}{item.amount:>18}  {item.note}")

    def say(self, line: str) -> None:
        print(line)


class LiveScreen:
    """A table of the jobs with their states, drawn anew a few times a second. Foreign text is shown as text, never
    markup."""

    def __init__(self, tally: Tally, paused: Callable[[], bool]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._tally = tally
        self._paused = paused
        self._console = Console(markup=False, highlight=False, emoji=False)
        self._live = Live(get_renderable=self._draw, console=self._console, refresh_per_second=10)

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._live.stop()

    def show(self, item: Item) -> None:
        """The table shows it at its next turn."""

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False)

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        items = self._tally.items
        room = max(self._console.size.height - 6, 5)
        table = Table(box=None, expand=True, pad_edge=False)
        for name, options in (
            ("invoice", {"ratio": 3}),
            ("amount", {"justify": "right", "ratio": 2}),
            ("state", {"min_width": 15}),
            ("tries", {"justify": "right"}),
            ("", {"ratio": 4}),
        ):
            table.add_column(name, no_wrap=True, overflow="ellipsis", **options)
        for item in _most_telling(items, room):
            state: str = item.state if item.state is not None else item.fate
            colour = _COLOURS.get(item.state, "bright_black") if item.state is not None else "blue"
            if item.fate is Fate.REFUSED:
                state, colour = Fate.REFUSED, "red"
            table.add_row(
                Text(item.label), Text(item.amount), Text(state, colour), str(item.attempts or ""), Text(item.note)
            )
        counts = Counter(str(i.state if i.state is not None else i.fate) for i in items)
        foot = "  ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        pause = "paused: p goes on" if self._paused() else "p pauses, Ctrl-C stops"
        return Group(table, Text(f"{foot}    {pause}", "bright_black"))


def _most_telling(items: list[Item], room: int) -> list[Item]:
    """As many as fit: if not all do, those that were last in motion, around the one under way."""
    if len(items) <= room:
        return items
    under_way = next((i for i, item in enumerate(items) if item.state is State.PROCESSING), len(items) - 1)
    begin = min(max(under_way - room // 2, 0), len(items) - room)
    return items[begin : begin + room]
