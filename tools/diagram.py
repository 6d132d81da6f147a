"""Generates docs/states.md from the table of transitions. `python -m tools.diagram` prints it; --write writes it.

A diagram that is drawn by hand drifts from the code. A test compares this one with the table.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from tools.output import print_or_write
from trio_jobs._engine.jobs import FINAL, State
from trio_jobs._engine.transitions import TABLE, Transition

__all__ = ["PATH", "main", "mermaid", "page", "table"]

PATH: Final = "docs/states.md"
"""The page, relative to the top of the repository."""

MEANS: Final = {
    State.SCHEDULED: "waits until `due_at`: submitted for later, or snoozed by its handler",
    State.PENDING: "waits for the SDK: has a slot in the queue, or waits for one because it is due again",
    State.PROCESSING: "an attempt is running",
    State.SAVING: "the handler has returned and the SDK has not saved its work yet; only with `Service(save=)`",
    State.RETRYING: "an attempt failed; the next is due at `due_at`",
    State.IN_DOUBT: "the attempt has ended or cannot be stopped, and its effect is unknown",
    State.COMPLETED: "the work is done; no event leaves this state",
    State.FAILED: "ended without success; an operator can retry it",
    State.CANCELLED: "ended by an operator or its handler; an operator can retry it",
}

HEAD: Final = """\
# The states of a job

Generated from the table in `src/trio_jobs/_engine/transitions.py` by `./run generate`. Do not edit this page: a test
fails when it differs from the table.
"""

ABOUT: Final = """\
Every change of a job is one row. Where there is no row for an event and the state of a job, the engine raises
`IllegalTransition` and changes nothing. The guard is what was checked before the event. [attempts.md](attempts.md)
describes which of these events follows the end of an attempt.
"""


def mermaid() -> str:
    """The table as a Mermaid state diagram: an arrow for each pair of states, with the events that take it."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for row in TABLE:
        arrows.setdefault((_dot(row.before), row.after), []).append(row.event.__name__)
    lines = ["stateDiagram-v2"]
    lines += [f"    {before} --> {after}: {', '.join(events)}" for (before, after), events in arrows.items()]
    lines += [f"    {state} --> [*]" for state in State if state in FINAL]
    return "\n".join(lines)


def table() -> str:
    """The table, row by row."""
    lines = ["| before | event | after | guard | reason |", "|---|---|---|---|---|"]
    lines += [_row(row) for row in TABLE]
    return "\n".join(lines)


def page() -> str:
    """The content of docs/states.md."""
    states = "\n".join(["| state | means |", "|---|---|", *(f"| `{state}` | {MEANS[state]} |" for state in State)])
    return f"{HEAD}\n{states}\n\n```mermaid\n{mermaid()}\n```\n\n## The table\n\n{ABOUT}\n{table()}\n"


def _dot(state: State | None) -> str:
    return "[*]" if state is None else state


def _row(row: Transition) -> str:
    before = "" if row.before is None else f"`{row.before}`"
    return f"| {before} | {row.event.__name__} | `{row.after}` | {row.guard} | {row.reason} |"


def main(arguments: Sequence[str]) -> int:
    """See `print_or_write`."""
    return print_or_write("tools.diagram", PATH, page().encode(), arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
