"""Instructions of a job in memory, from submit to completed. Unlike seconds they are the same on each machine, to about
1 %: how long an instruction takes depends on how much code the processor can keep at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from benchmarks.frame import Answer, Contestant, Kind, Row, Run, Table, at_least, of
from benchmarks.peers.common import warm
from benchmarks.throughput import WHY_MEMORY

__all__ = ["BARE", "FEW", "MANY", "PROGRAMS", "measure", "of_a_job"]

BARE: Final = "bare Trio loop"
MEMORY: Final = "trio-jobs"
FOLLOWED: Final = "trio-jobs, one subscriber"
THREAD: Final = "trio-jobs, SDK on a thread"
HUEY: Final = "huey, memory"

FEW, MANY = 200, 1000  #: jobs of two processes, whose difference is that of the jobs alone
TIMEOUT: Final = 300.0  #: seconds


def _program(
    name: str, kind: Kind, asked: tuple[str, str], setting: str, environment: str = "own", **arguments: Any
) -> Contestant:
    return Contestant(
        name, kind, asked, 0, setting, arguments, environment, "huey" if environment == "peers" else "",
        timeout=TIMEOUT, is_counted=True,
    )  # fmt: skip


PROGRAMS: Final[Mapping[str, Contestant]] = {
    one.name: one
    for one in (
        _program(BARE, "limit", ("counted", "bare"), "channel of 100, cancel scope and one record a job"),
        _program(MEMORY, "ours", ("counted", "memory"), "as it comes"),
        _program(FOLLOWED, "ours", ("counted", "followed"), "as it comes; every event read by a task"),
        _program(THREAD, "ours", ("counted", "thread"), "as it comes; the handler runs in the thread of the SDK"),
        _program(
            HUEY, "peer", ("huey_", "memory"), "best: enqueue all, then drain in the same thread; keeps no state",
            "peers", consumer=False,
        ),
    )
}  # fmt: skip


def of_a_job(run: Run, name: str, few: int = FEW, many: int = MANY) -> Row:
    """Count the instructions of one job of that program.

    Args:
        run: How to run it.
        name: One of `PROGRAMS`.
        few: The jobs of one process.
        many: The jobs of the other one.
    """
    one = PROGRAMS[name]
    sized = [
        attrs.evolve(one, name=f"{name}, {jobs} jobs", arguments={**one.arguments, "jobs": jobs})
        for jobs in (few, many)
    ]
    (_, small, problem), (_, large, other_problem) = run.measure(sized, rounds=1)
    jobs = many + warm(many) - few - warm(few)
    values = [(large[0] - small[0]) / jobs] if small and large else []
    version = run.version(one) if values else ""
    return Row(name, one.kind, values, one.setting, version, problem or other_problem, one.keeps_state)


def measure(run: Run) -> Answer:
    few, many = (20, 60) if run.quick else (FEW, MANY)
    table = Table(
        "A job in memory", "instructions", [of_a_job(run, name, few, many) for name in PROGRAMS], "lower",
        (BARE, HUEY),
        ("The difference of two processes, one with more jobs, divided by the jobs. Instructions of the kernel are not "
         "counted.",),
    )  # fmt: skip
    return Answer(
        "instructions", "How many instructions does a job take?", (table,),
        (
            at_least("by instructions, in memory, of the bare loop", _speed(table, BARE), 0.7, WHY_MEMORY),
            at_least("by instructions, in memory, of huey's memory storage", _speed(table, HUEY), 1.05, WHY_MEMORY),
        ),
    )  # fmt: skip


def _speed(table: Table, to: str) -> float | None:
    ours, other = table.row(MEMORY), table.row(to)
    return None if ours is None or other is None else of(other, ours)


if __name__ == "__main__":
    raise SystemExit("run it as: ./run bench instructions")
