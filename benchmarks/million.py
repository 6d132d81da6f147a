"""A million jobs in one life, in memory and through a journal: speed, memory, pauses, and what pruning leaves."""

from __future__ import annotations

from typing import Any, Final

import attrs

from benchmarks.frame import Answer, Contestant, Row, Run, Table, at_most

JOBS: Final = 1_000_000
TIMEOUT: Final = 1800.0  #: seconds: ten times what it takes on a machine that does nothing else

MEMORY = Contestant(
    "in memory", "ours", ("million", "life"), JOBS, "one producer", {"producers": 1, "kind": "nothing"}, timeout=TIMEOUT
)
JOURNAL = Contestant(
    "journal",
    "ours",
    ("million", "life"),
    JOBS,
    "100 producers, idempotent",
    {"producers": 100, "kind": "nothing_twice", "folder": ""},
    timeout=TIMEOUT,
)
WHY_PAUSE = (
    "a full collection of the garbage collector, which visits all that modules consist of, 35,000 objects; jobs cause none, "
    "since they leave nothing that the collector counts. `trio-jobs serve` excludes modules."
)
COLUMNS: Final[tuple[tuple[str, str, float], ...]] = (
    ("CPU, µs a job", "cpu", 1.0),
    ("MiB after 150,000", "early", 2**-20),
    ("MiB at the end", "late", 2**-20),
    ("longest pause, ms", "longest", 1e3),
    ("pauses over 15 ms", "long", 1.0),
    ("jobs kept", "kept", 1.0),
    ("journal, MiB", "file", 2**-20),
    ("opened again, ms", "open", 1e3),
)


def measure(run: Run) -> Answer:
    run = attrs.evolve(run, rounds=1)
    answers = run.measure((MEMORY, JOURNAL))
    table = Table(
        "A million jobs", "jobs/s", [row(*told) for told in answers],
        notes=(
            "All settings as they are by default: of the finished jobs the newest 100,000 are kept, and up to 500 more. "
            "Pauses are CPU time of the thread of the event loop. Jobs a second depend on what else the machine does.",
        ),
    )  # fmt: skip
    rounds = [told for _, told_in_each, _ in answers for told in told_in_each]
    growth = max((told["late"] / max(told["early"], 1) for told in rounds), default=None)
    longest = max((told["longest"] * 1e3 for told in rounds), default=None)
    return Answer(
        "million", "And a million jobs?", (table,),
        (
            at_most("memory after 1,000,000 jobs, of that after 150,000", growth, 1.2),
            at_most("the longest pause in 1,000,000 jobs", longest, 15, " ms", WHY_PAUSE),
        ),
    )  # fmt: skip


def row(one: Contestant, rounds: list[dict[str, Any]], why: str) -> Row:
    extra = {title: rounds[0].get(key, 0) * per for title, key, per in COLUMNS} if rounds else {}
    return Row(one.name, "ours", [told["rate"] for told in rounds], one.setting, skipped=why, extra=extra)


if __name__ == "__main__":
    raise SystemExit("run it as: ./run bench million")
