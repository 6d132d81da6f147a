"""`trio-jobs watch`: a live table of jobs in a terminal, one JSON line an event when piped."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final

import attrs
import msgspec
import trio

from trio_jobs._client.client import Client
from trio_jobs._client.updates import Gap, Snapshot, Update, Updates
from trio_jobs._errors import UsageError
from trio_jobs._jobs import FINAL, State, escape
from trio_jobs._wire.methods import Progress
from trio_jobs._wire.values import EventView

__all__ = ["Board", "watch"]

ROWS: Final = 30  #: jobs in the table: the open ones first, then those that ended last
FRAME: Final = 0.1  #: seconds between two pictures
_COLOURS: Final = {"completed": "green", "failed": "red", "in_doubt": "magenta", "processing": "cyan"}


async def watch(client: Client, arguments: argparse.Namespace) -> int:
    states = None if arguments.state is None else [State(state) for state in arguments.state]
    live = sys.stdout.isatty() and not arguments.json
    async with client.updates(
        jobs=arguments.job, kinds=arguments.kind, states=states, snapshot=live or arguments.snapshot
    ) as updates:
        if live:
            await _show(updates)
        else:
            await _print(updates)
    return 0


async def _print(updates: Updates) -> None:
    async for update in updates:
        print(msgspec.json.encode(_plain(update)).decode(), flush=True)


def _plain(update: Update) -> Any:
    """An update as a JSON object, with what it is under `type`."""
    match update:
        case Snapshot():
            return {"type": "snapshot", "first": update.first, "last": update.last, "jobs": update.jobs}
        case Gap():
            return {"type": "gap", **attrs.asdict(update)}
        case Progress():
            told = {"job": update.job, "done": update.done, "total": update.total, "message": update.message}
            return {"type": "progress", **told}
    return update


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
        self.counts: dict[str, int] = {}
        self.news = ""

    def take(self, update: Update) -> None:
        match update:
            case Snapshot():
                if update.first:
                    self.rows.clear()
                for job in update.jobs:
                    what = job.reason if job.error is None else f"{job.error.type}: {job.error.message}"
                    self.rows[job.id] = Row(job.id, job.kind, job.key or "", job.state, job.attempts, what)
                self._trim()
            case Gap():
                self.news = "the history was lost; this is how things are now" if update.new_history else "some missed"
            case Progress():
                row = self.rows.get(update.job)
                if row is not None:
                    part = f"{update.done:g}" + ("" if update.total is None else f" of {update.total:g}")
                    row.what = f"{part} {update.message}"
            case EventView():
                self._event(update)

    def _event(self, event: EventView) -> None:
        if event.job is None:
            self.news = event.type if not event.reason else f"{event.type}: {event.reason}"
            return
        row = self.rows.pop(event.job, None) or Row(event.job)
        self.rows[event.job] = row
        row.kind = event.kind or row.kind
        row.key = event.key or row.key
        row.state = str(event.state or row.state)
        row.attempt = event.attempt or row.attempt
        row.what = event.reason if event.error is None else f"{event.error.type}: {event.error.message}"
        if row.state in FINAL:
            self._trim()

    def _trim(self) -> None:
        final = [job for job, row in self.rows.items() if row.state in FINAL]
        for job in final[: max(len(final) - ROWS, 0)]:
            del self.rows[job]

    def shown(self) -> list[Row]:
        """Open jobs in their order, then the last that ended."""
        rows = [*self.rows.values()]
        is_open = [row for row in rows if row.state not in FINAL]
        ended = [row for row in rows if row.state in FINAL]
        return is_open[:ROWS] + ended[::-1][: max(ROWS - len(is_open), 0)]


async def _show(updates: Updates) -> None:
    try:
        from rich.live import Live
    except ImportError:
        raise UsageError("the table needs rich: pip install trio-jobs[cli]; or say --json") from None
    board = Board()
    changed = trio.Event()

    async def follow() -> None:
        async for update in updates:
            board.take(update)
            changed.set()

    with Live(_table(board), auto_refresh=False, screen=False) as picture:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            while True:
                await changed.wait()
                changed = trio.Event()
                picture.update(_table(board), refresh=True)
                await trio.sleep(FRAME)


def _table(board: Board) -> Any:
    from rich.table import Table
    from rich.text import Text

    hidden = max(len(board.rows) - ROWS, 0)
    table = Table(
        "job", "kind", "key", "state", "attempt", "what", title=escape(board.news) or None, title_justify="left",
        caption=f"and {hidden} more" if hidden else None, expand=True,
    )  # fmt: skip
    for row in board.shown():
        table.add_row(
            row.job[-12:],
            *(Text(escape(text)) for text in (row.kind, row.key)),  # Text, for it is data and no markup
            Text(row.state, style=_COLOURS.get(row.state, "")),
            str(row.attempt or ""),
            Text(escape(row.what)),
        )
    return table
