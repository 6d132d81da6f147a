"""`trio-jobs watch`: a live table of jobs in a terminal, one JSON line an event when piped."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import Any, Final

import attrs
import trio

from trio_jobs._cli.json_lines import json_line
from trio_jobs._client.client import Client
from trio_jobs._client.subscription import Subscription
from trio_jobs._client.updates import Gap, Snapshot, Update
from trio_jobs._engine.events import Event, JobEvent, Submitted
from trio_jobs._engine.jobs import FINAL, ErrorInfo, State, escape
from trio_jobs._engine.status import Progress
from trio_jobs._errors import UsageError

__all__ = ["Board", "watch"]

ROWS: Final = 30  #: jobs in the table at most: what is under way, then what ended last, then what waits
FRAME: Final = 0.1  #: seconds between two pictures
_COLOURS: Final = {"completed": "green", "failed": "red", "in_doubt": "magenta", "processing": "cyan"}
_WAITING: Final = frozenset({State.PENDING, State.SCHEDULED})


async def watch(client: Client, arguments: argparse.Namespace) -> int:
    states = None if arguments.state is None else [State(state) for state in arguments.state]
    live = sys.stdout.isatty() and not arguments.json
    async with client.subscribe(
        jobs=arguments.job, kinds=arguments.kind, states=states, snapshot=live or arguments.snapshot
    ) as subscription:
        if live:
            await _show(subscription)
        else:
            await _print(subscription)
    return 0


async def _print(subscription: Subscription) -> None:
    async for update in subscription:
        print(json_line(_plain(update)), flush=True)


def _plain(update: Update) -> dict[str, Any]:
    """An update as JSON types, with its sort under `type`."""
    match update:
        case Snapshot():
            jobs = [job.to_dict() for job in update.jobs]
            return {"type": "snapshot", "first": update.first, "last": update.last, "jobs": jobs}
        case Gap():
            return {"type": "gap", **attrs.asdict(update)}
        case Progress():
            return {"type": "progress", **attrs.asdict(update)}
    return update.to_dict()


@attrs.define
class Row:
    """What the table shows of a job."""

    job: str
    kind: str = ""
    key: str = ""
    state: str = ""
    attempt: int = 0
    what: str = ""


class Board:
    """The jobs as the updates tell them; final ones are kept for as long as they have a row."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.ended: Counter[str] = Counter()
        """Jobs that ended while we looked, by state."""
        self.notice = ""

    def take(self, update: Update) -> None:
        match update:
            case Snapshot():
                if update.first:
                    self.rows.clear()
                for job in update.jobs:
                    what = job.reason if job.error is None else f"{job.error.type}: {job.error.message}"
                    self.rows[job.id] = Row(job.id, job.kind, job.key or "", job.state, job.attempt_count, what)
                self._trim()
            case Gap():
                self.notice = "another history of events" if update.new_history else "some events are missing"
            case Progress():
                row = self.rows.get(update.job_id)
                if row is not None:
                    part = f"{update.done:g}" + ("" if update.total is None else f" of {update.total:g}")
                    row.what = f"{part} {update.message}"
            case Event():
                self._event(update)

    def _event(self, event: Event) -> None:
        reason: str = getattr(event, "reason", "")
        if not isinstance(event, JobEvent):
            self.notice = f"{event.type}: {reason}" if reason else event.type
            return
        row = self.rows.pop(event.job, None) or Row(event.job)
        self.rows[event.job] = row
        row.kind = event.kind or row.kind
        if isinstance(event, Submitted):
            row.key = event.key or ""
        row.state = str(event.state or row.state)
        row.attempt = getattr(event, "attempt", 0) or row.attempt
        error: ErrorInfo | None = getattr(event, "error", None)
        row.what = reason if error is None else str(error)
        if row.state in FINAL:
            self.ended[row.state] += 1
            self._trim()

    def _trim(self) -> None:
        final = [job for job, row in self.rows.items() if row.state in FINAL]
        for job in final[: max(len(final) - ROWS, 0)]:
            del self.rows[job]

    def shown(self, most: int) -> list[Row]:
        """What is under way (or in doubt, or to be tried again), the last that ended, then those that wait, in order.

        Half of the rows that are left are for those that wait, if there are as many.
        """
        rows = [*self.rows.values()]
        waiting = [row for row in rows if row.state in _WAITING]
        ended = [row for row in rows if row.state in FINAL][::-1]
        moving = [row for row in rows if row.state not in FINAL and row.state not in _WAITING][:most]
        left = most - len(moving)
        ended = ended[: max(left - len(waiting), left // 2)]
        return moving + ended + waiting[: left - len(ended)]

    def summary(self) -> str:
        """How many there are in each open state, and how many ended while we looked."""
        is_open = Counter(row.state for row in self.rows.values() if row.state not in FINAL)
        parts = [f"{is_open[state]} {state}" for state in State if is_open[state]]
        parts += [f"{self.ended[state]} {state} so far" for state in State if self.ended[state]]
        return ", ".join(parts) or "nothing to do"


async def _show(subscription: Subscription) -> None:
    try:
        from rich.live import Live
    except ImportError:
        raise UsageError("the table needs rich: pip install trio-jobs[cli]; or say --json") from None
    board = Board()
    changed = trio.Event()

    async def follow() -> None:
        async for update in subscription:
            board.take(update)
            changed.set()

    with Live(auto_refresh=False, screen=False) as picture:
        picture.update(_table(board, picture.console.width, picture.console.height), refresh=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            while True:
                await changed.wait()
                changed = trio.Event()
                picture.update(_table(board, picture.console.width, picture.console.height), refresh=True)
                await trio.sleep(FRAME)


def _table(board: Board, width: int, height: int) -> Any:
    """As much as fits: in a narrow terminal what a job is called gives way to what becomes of it."""
    from rich.table import Table
    from rich.text import Text

    news = f"  ({escape(board.notice)})" if board.notice else ""
    table = Table(title=Text(board.summary() + news), title_justify="left", expand=True)
    table.add_column("job", no_wrap=True, width=12)
    if width >= 72:
        table.add_column("kind", no_wrap=True, max_width=18)
    if width >= 60:
        table.add_column("key", no_wrap=True, max_width=18)
    table.add_column("state", no_wrap=True, min_width=10)
    if width >= 90:
        table.add_column("attempt", no_wrap=True, justify="right")
    table.add_column("what", no_wrap=True, ratio=1)
    for row in board.shown(max(min(ROWS, height - 7), 3)):
        # Text, for it is data and no markup
        cells = [Text(row.job[-12:])]
        if width >= 72:
            cells.append(Text(escape(row.kind)))
        if width >= 60:
            cells.append(Text(escape(row.key)))
        cells.append(Text(row.state, style=_COLOURS.get(row.state, "")))
        if width >= 90:
            cells.append(Text(str(row.attempt or "")))
        table.add_row(*cells, Text(escape(row.what)))
    return table
