"""The longest pause of the event loop while a queue does what takes long, and what an idle queue costs.

A pause is a turn of the event loop, in seconds of the CPU time of its thread, so that other processes do not count.
"""

from __future__ import annotations

from typing import Any

import attrs

from benchmarks.frame import Answer, Contestant, Row, Run, Table, at_most

ROUNDS = 3
IDLE = "served, no client"

MANY = Contestant("jobs, 100,000 finished", "ours", ("pauses", "load"), 5000, "in memory", {"finished": 100_000})
SERVED = Contestant(
    "jobs, 100,000 finished, served",
    "ours",
    ("pauses", "load"),
    5000,
    "in memory, modules not collected",
    {"finished": 100_000, "served": True},
)
PAUSES = (
    Contestant("jobs, 100 finished", "ours", ("pauses", "load"), 5000, "in memory", {"finished": 100}),
    MANY,
    Contestant("jobs, pruned as they end", "ours", ("pauses", "load"), 5000, "in memory, max_finished_jobs=1000",
               {"finished": 100, "keep": 1000}),
    Contestant("jobs, 1,000 subscribers", "ours", ("pauses", "load"), 300, "in memory, each reads all events",
               {"finished": 100, "readers": 1000}),
    SERVED,
    Contestant("jobs, 1,000 subscribers, served", "ours", ("pauses", "load"), 300, "the same, modules not collected",
               {"finished": 100, "readers": 1000, "served": True}),
    Contestant("a subscriber from far behind", "ours", ("pauses", "behind"), 3000, "in memory, reads 9,000 events"),
    Contestant("a backup", "ours", ("pauses", "backup"), 3000, "of a journal, while jobs run", {"folder": ""}),
)  # fmt: skip
IDLE_QUEUES = (
    Contestant(IDLE, "ours", ("pauses", "idle"), 0, "3 seconds", {"clients": 0}),
    Contestant("served, 500 connections", "ours", ("pauses", "idle"), 0,
               "20 seconds, in which each is pinged once; each has a subscription", {"clients": 500}),
)  # fmt: skip


def measure(run: Run) -> Answer:
    run = attrs.evolve(run, rounds=min(run.rounds, ROUNDS))
    many = {
        one: attrs.evolve(one, arguments={**one.arguments, "finished": run.size(100_000)}) for one in (MANY, SERVED)
    }
    pauses = Table(
        "The longest pause", "ms",
        [pause(*measured) for measured in run.measure([many.get(one, one) for one in PAUSES])], "lower",
        notes=("A full collection of the garbage collector is made in each, at the end.",),
    )  # fmt: skip
    idle = Table(
        "An idle queue", "times a second that a thread wakes",
        [Row(one.name, "ours", [measured["wakes"] for measured in rounds], one.setting, skipped=why,
             extra={"CPU, ms a second": max((measured["cpu"] for measured in rounds), default=0.0)})
         for one, rounds, why in run.measure(IDLE_QUEUES)], "lower",
    )  # fmt: skip
    alone, connected = idle.rows
    longest = max((max(row.values) for row in pauses.rows if row.values), default=None)
    served = max((max(row.values) for row in pauses.rows if row.values and row.name.endswith("served")), default=None)
    return Answer(
        "pauses", "How long does the event loop stand still?", (pauses, idle),
        (
            at_most("the longest pause of all", longest, 15, " ms", WHY),
            at_most("the longest pause as with `trio-jobs serve`, whose modules are not collected", served, 15, " ms"),
            at_most("an idle served queue wakes a second", alone.median if alone.values else None, 4),
            at_most("500 idle connections, CPU time", connected.extra["CPU, ms a second"] / 10 if connected.values else None, 1, " %"),
        ),
    )  # fmt: skip


WHY = (
    "a full collection visits all that the modules of a program consist of, 33,000 objects, of which 21,000 are those of "
    "Trio and the standard library, and 17 objects of each reader that waits. `trio-jobs serve` excludes the modules; in "
    "other programs `gc.freeze()` behind the imports does, and is for the program to decide."
)


def pause(one: Contestant, rounds: list[Any], why: str) -> Row:
    return Row(one.name, "ours", [measured * 1000 for measured in rounds], one.setting, skipped=why)


if __name__ == "__main__":
    raise SystemExit("run it as: ./run bench pauses")
