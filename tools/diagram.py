"""Floor 3: docs/states.md, made from the table. `python -m tools.diagram` prints it, with --write writes it.

A drawing that is kept by hand drifts from its code; this one is compared with the table by a test.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from trio_jobs._engine.jobs import FINAL, State
from trio_jobs._engine.transitions import TABLE, Transition

__all__ = ["PATH", "main", "mermaid", "page", "table"]

PATH: Final = "docs/states.md"  #: from the top of the repository

MEANS: Final = {
    State.SCHEDULED: "accepted for later, or put off by its handler; due at `due_at`",
    State.PENDING: "has a place in the line, or waits for one because it has come back",
    State.PROCESSING: "an attempt is under way",
    State.RETRYING: "an attempt failed, the next is due at `due_at`",
    State.IN_DOUBT: "the attempt has ended, or cannot be ended, and nobody knows what it did",
    State.COMPLETED: "its work is done; nothing leaves this state",
    State.FAILED: "over without success; a person may retry it",
    State.CANCELLED: "over because a person or the handler said so; a person may retry it",
}

HEAD: Final = """\
# The states of a job

Made from the table in `src/trio_jobs/_engine/transitions.py` by `./run generate`. Do not edit it: a test fails when it
is stale.
"""

ABOUT: Final = """\
Every change of a job is one row. An event that has no row for the state a job is in cannot happen to it: the engine
raises `IllegalTransition` and changes nothing. The guard is what has been made sure of before such an event is made.
What an attempt comes to, and so which of these events it gives, is in [attempts.md](attempts.md).
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
    """docs/states.md as it has to be."""
    states = "\n".join(["| state | means |", "|---|---|", *(f"| `{state}` | {MEANS[state]} |" for state in State)])
    return f"{HEAD}\n{states}\n\n```mermaid\n{mermaid()}\n```\n\n## The table\n\n{ABOUT}\n{table()}\n"


def _dot(state: State | None) -> str:
    return "[*]" if state is None else state


def _row(row: Transition) -> str:
    before = "" if row.before is None else f"`{row.before}`"
    return f"| {before} | {row.event.__name__} | `{row.after}` | {row.guard} | {row.reason} |"


def main(arguments: Sequence[str]) -> int:
    """Print the page, or write it with --write; from the top of the repository. Gives the exit code."""
    if list(arguments) not in ([], ["--write"]):
        print(f"usage: python -m tools.diagram [--write]   (writes {PATH})", file=sys.stderr)
        return 2
    if arguments:
        with open(PATH, "w", encoding="utf-8", newline="\n") as file:  # noqa: PTH123 - pathlib is not for this floor
            file.write(page())
    else:
        sys.stdout.write(page())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
