"""`trio-jobs watch`: a live table of jobs in a terminal, one JSON line for each update in a pipe."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from datetime import datetime
from typing import Any, Final

import attrs
import trio

from trio_jobs._cli.json_lines import json_line
from trio_jobs._cli.output import print_line, writing
from trio_jobs._cli.status import age, troubles
from trio_jobs._client.client import Client
from trio_jobs._client.subscription import Subscription
from trio_jobs._client.updates import Gap, Snapshot, Update
from trio_jobs._concurrency import WakeUp
from trio_jobs._engine.events import Claimed, Event, InDoubt, JobEvent, QueueEvent, Verified
from trio_jobs._engine.job_block import SUFFIX
from trio_jobs._engine.jobs import FINAL, ErrorInfo, State, escape
from trio_jobs._engine.json_values import moment
from trio_jobs._engine.progress import Progress
from trio_jobs._errors import UsageError
from trio_jobs._runtime.clock import SystemClock

__all__ = ["JobTable", "watch"]

ROWS: Final = 30  #: jobs in the table at most
FRAME: Final = 0.1  #: seconds between two updates of the screen
HEALTH: Final = 5.0  #: seconds between two requests for the health of the queue, at most
_COLOURS: Final = {"completed": "green", "failed": "red", "in_doubt": "magenta", "processing": "cyan"}
_WAITING: Final = frozenset({State.PENDING, State.SCHEDULED})
_TIMED: Final = frozenset({State.SCHEDULED, State.RETRYING})


async def watch(client: Client, arguments: argparse.Namespace) -> int:
    states = None if arguments.state is None else [State(state) for state in arguments.state]
    if sys.stdout is None:
        raise UsageError("standard output is closed, so there is nowhere to show the events")
    live = sys.stdout.isatty() and not arguments.json
    # one job can be named by the end of its id in a subscription, several cannot
    jobs = None if arguments.job is None else [(await client.get(job)).id for job in arguments.job]
    async with client.subscribe(
        jobs=jobs, kinds=arguments.kind, states=states, snapshot=live or arguments.snapshot
    ) as subscription:
        if live:
            await _show(subscription, client)
        else:
            await _print(subscription)
    return 0


async def _print(subscription: Subscription) -> None:
    async for update in subscription:
        if not print_line(json_line(_plain(update))):
            return


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
    """The row of a job."""

    job: str
    kind: str = ""
    key: str = ""
    state: str = ""
    attempt: int = 0
    detail: str = ""
    since: datetime | None = None
    """Since when the job is in its state, as far as the updates say."""
    due: datetime | None = None
    """When a job that waits for a time becomes due."""
    claimed_by: str = ""
    """Who works on the job; empty for a client that is not sent it."""
    claimed_until: datetime | None = None

    def text(self, now: datetime) -> str:
        """The last column: who works on the job, when it is due, and its error or reason."""
        parts = []
        if self.claimed_until is not None and self.claimed_until > now:
            parts.append(f"{self.claimed_by or 'somebody'} works on it")
        if self.due is not None and self.state in _TIMED:
            parts.append(f"due in {age(now, self.due)}")
        return "; ".join([*parts, self.detail] if self.detail else parts)


class JobTable:
    """The jobs as of the updates so far. Open jobs are kept, and of the final ones the last `ROWS`."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.ended: Counter[str] = Counter()
        """The number of jobs that became final since the table began, by state."""
        self.notice = ""
        """The last event of the queue itself, or the last gap."""
        self.troubles: list[str] = []
        """What keeps the queue from working, and what waits for a person."""

    def apply(self, update: Update) -> None:
        match update:
            case Snapshot():
                if update.first:
                    self.rows.clear()
                for job in update.jobs:
                    detail = job.reason if job.error is None else str(job.error)
                    row = Row(job.id, job.kind, job.key or "", job.state, job.attempt_count, detail, job.changed_at)
                    row.due, row.claimed_by, row.claimed_until = job.due_at, job.claimed_by or "", job.claimed_until
                    self.rows[job.id] = row
                self._trim()
            case Gap():
                self.notice = "another history of events" if update.new_history else "some events are missing"
            case Progress():
                running = self.rows.get(update.job_id)
                if running is not None:
                    part = f"{update.done:g}" + ("" if update.total is None else f" of {update.total:g}")
                    running.detail = f"{part} {update.message}"
            case Event():
                self._event(update)

    def _event(self, event: Event) -> None:
        reason: str = getattr(event, "reason", "")
        if not isinstance(event, JobEvent):
            self.notice = f"{event.type}: {reason}" if reason else event.type
            return
        if isinstance(event, Claimed | Verified):
            self._remark(event)
            return
        row = self.rows.pop(event.job, None) or Row(event.job)
        self.rows[event.job] = row
        row.kind = event.kind or row.kind
        row.key = event.key or row.key
        if event.state is not None and event.state != row.state:
            row.state, row.since = str(event.state), event.occurred_at
        row.attempt = getattr(event, "attempt", 0) or row.attempt
        row.due = moment(due) if (due := getattr(event, "due_at", None)) is not None else None
        error: ErrorInfo | None = getattr(event, "error", None)
        row.detail = reason if error is None else str(error)
        if row.state in FINAL:
            self.ended[row.state] += 1
            self._trim()
        if row.state == State.COMPLETED:
            row.claimed_until = None

    def _remark(self, event: Claimed | Verified) -> None:
        """Apply an event that changes neither the state of a job nor its place in the table."""
        row = self.rows.get(event.job)
        if isinstance(event, Claimed) and row is not None:
            row.claimed_by = event.by or ""
            row.claimed_until = None if event.until is None else moment(event.until)

    def _trim(self) -> None:
        final = [job for job, row in self.rows.items() if row.state in FINAL]
        for job in final[: max(len(final) - ROWS, 0)]:
            del self.rows[job]

    def visible(self, count: int) -> list[Row]:
        """At most `count` rows: jobs in doubt, other active ones, final ones (the newest first), waiting ones in order.

        Final and waiting jobs share the rows that the active ones leave; each gets half if there are enough of both.
        """
        rows = [*self.rows.values()]
        waiting = [row for row in rows if row.state in _WAITING]
        final = [row for row in rows if row.state in FINAL][::-1]
        active = [row for row in rows if row.state not in FINAL and row.state not in _WAITING]
        active.sort(key=lambda row: row.state != State.IN_DOUBT)
        active = active[:count]
        free = count - len(active)
        final = final[: max(free - len(waiting), free // 2)]
        return active + final + waiting[: free - len(final)]

    def summary(self) -> str:
        """The number of jobs in each open state, and of those that became final since the table began."""
        is_open = Counter(row.state for row in self.rows.values() if row.state not in FINAL)
        parts = [f"{is_open[state]} {state}" for state in State if is_open[state]]
        parts += [f"{self.ended[state]} {state} so far" for state in State if self.ended[state]]
        return ", ".join(parts) or "no open jobs"


async def _show(subscription: Subscription, client: Client) -> None:
    try:
        from rich.live import Live
    except ImportError:
        raise UsageError("the table needs rich: install trio-jobs[cli], or use --json") from None
    jobs, clock = JobTable(), SystemClock()
    changed, asked = WakeUp(), WakeUp()

    async def follow() -> None:
        async for update in subscription:
            jobs.apply(update)
            changed.set()
            if isinstance(update, QueueEvent | InDoubt):
                asked.set()

    async def ask_health() -> None:
        while True:
            jobs.troubles = [*troubles(await client.health(), moment(clock.now()))]
            changed.set()
            with trio.move_on_after(HEALTH):
                await asked.wait()

    def show() -> None:
        with writing():
            shown = _render(jobs, live.console.width, live.console.height, moment(clock.now()))
            live.update(shown, refresh=True)

    with writing(), Live(console=_console(), auto_refresh=False, screen=False) as live:
        show()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            nursery.start_soon(ask_health)
            while True:
                await changed.wait()
                show()
                await trio.sleep(FRAME)


def _console() -> Any:
    """The terminal. Some programs set COLUMNS and LINES to 0, which says that they do not know its size."""
    from rich.console import Console

    console = Console()
    if console.width and console.height:
        return console
    columns, lines = shutil.get_terminal_size()
    return Console(width=columns, height=lines)


def _render(jobs: JobTable, width: int, height: int, now: datetime) -> Any:
    """The table for a terminal of this size. A narrow one has no columns for kind, key, attempt and age."""
    from rich.table import Table
    from rich.text import Text

    notice = f"  ({escape(jobs.notice)})" if jobs.notice else ""
    title = Text(jobs.summary() + notice)
    for line in jobs.troubles:
        title.append(f"\n{escape(line)}", style="bold red")
    table = Table(title=title, title_justify="left", expand=True)
    table.add_column("job", no_wrap=True, width=SUFFIX)
    if width >= 72:
        table.add_column("kind", no_wrap=True, max_width=18)
    if width >= 60:
        table.add_column("key", no_wrap=True, max_width=18)
    table.add_column("state", no_wrap=True, min_width=10)
    if width >= 90:
        table.add_column("attempt", no_wrap=True, justify="right")
    if width >= 80:
        table.add_column("for", no_wrap=True, justify="right")
    table.add_column("detail", no_wrap=True, ratio=1)
    above = sum(-(-len(line) // width) for line in title.plain.splitlines())  # a long line is wrapped
    for row in jobs.visible(max(min(ROWS, height - 6 - above), 3)):
        # Text, so that no data is read as markup
        cells = [Text(row.job[-SUFFIX:])]
        if width >= 72:
            cells.append(Text(escape(row.kind)))
        if width >= 60:
            cells.append(Text(escape(row.key)))
        cells.append(Text(row.state, style=_COLOURS.get(row.state, "")))
        if width >= 90:
            cells.append(Text(str(row.attempt or "")))
        if width >= 80:
            cells.append(Text("" if row.since is None else age(row.since, now)))
        table.add_row(*cells, Text(escape(row.text(now))))
    return table
