"""What a page of 100 of 100,000 jobs costs the event loop, by its conditions and its place, in memory and on disk."""

from __future__ import annotations

import statistics
from typing import Any

import attrs

from benchmarks.frame import Answer, Contestant, Row, Run, Table, at_most

ROUNDS = 3
KNOWN = 100_000

SCAN = "a look at each job"
NO_PAGES = ("a step of a count", "the end of an id")


def measure(run: Run) -> Answer:
    run = attrs.evolve(run, rounds=min(run.rounds, ROUNDS))
    known = run.size(KNOWN)
    asked = (
        Contestant("in memory", "ours", ("lists", "pages"), 0, "", {"known": known, "folder": None}),
        Contestant("with a journal", "ours", ("lists", "pages"), 0, "", {"known": known, "folder": ""}),
    )
    tables = [
        table(f"A page of 100 of {known:,} jobs, {one.name}", rounds, why) for one, rounds, why in run.measure(asked)
    ]
    longest = [
        row.extra["longest"]
        for one in tables
        for row in one.rows
        if row.kind == "ours" and row.values and not row.name.startswith(NO_PAGES)
    ]
    return Answer(
        "lists", "What does a page of jobs cost?", tables,
        (at_most("the longest step of a page, whatever its conditions and its place", max(longest, default=None), 2, " ms"),),
    )  # fmt: skip


def table(title: str, rounds: list[dict[str, dict[str, float]]], why: str) -> Table:
    if not rounds:
        return Table(title, "ms (p50)", [Row(SCAN, "limit", [], skipped=why)], "lower")
    return Table(
        title, "ms (p50)", [row(name, rounds) for name in rounds[0]], "lower", against=(SCAN,),
        notes=(
            "Each is measured at the begin, in the middle and at the end, with the oldest and with the newest jobs first; "
            "“longest” is the longest of all steps, in seconds of the processor, so that other processes do not count. A "
            "count and the end of an id are no pages. The look at each job calls a function of one condition, and makes "
            "no page.",
        ),
    )  # fmt: skip


def row(name: str, rounds: list[dict[str, Any]]) -> Row:
    def middle(key: str) -> float:
        values: list[float] = [measured[name][key] for measured in rounds]
        return statistics.median(values) * 1000

    return Row(
        name, "limit" if name == SCAN else "ours", [measured[name]["p50"] * 1000 for measured in rounds],
        extra={"p99": middle("p99"), "longest": middle("longest")},
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit("run it as: ./run bench lists")
