"""The cost of many jobs and subscribers, and how it grows: at most linearly, and not at all for submit and delivery.

Each figure at a size is the median of its rounds. The power of growth is the slope of the regression line of the
logarithms: 0 is constant, 1 is linear.
"""

from __future__ import annotations

import statistics

import attrs

from benchmarks.frame import Answer, Contestant, Curve, Row, Run, Table, Target, at_most, exponent

SIZES = (1000, 10_000, 100_000)
HUGE = 1_000_000
ROUNDS = 3
FLAT = 0.1  #: the power up to which a line is called flat; caches of the processor alone are worth 0.05

CURVES = {  # what `many` measures: its name, its unit, and how many of that unit it measures
    ("known", "submit"): ("one submit, published", "µs", 1.0),
    ("known", "run"): ("bringing one job to its end", "µs", 1.0),
    ("known", "get"): ("looking one up", "µs", 1.0),
    ("known", "list"): ("listing a hundred", "µs", 1.0),
    ("known", "statistics"): ("the numbers of the queue", "µs", 1.0),
    ("waiting", "submit"): ("one submit into the journal, in hundreds", "µs", 1.0),
    ("known", "memory"): ("memory of finished jobs", "MiB", 2.0**20),
    ("waiting", "memory"): ("memory of jobs from the journal", "MiB", 2.0**20),
    ("waiting", "open"): ("opening a journal of waiting jobs", "ms", 0.001),
}
FLAT_ONES = ("one submit, published", "bringing one job to its end", "looking one up", "one submit into the journal, in hundreds")  # fmt: skip


def measure(run: Run) -> Answer:
    run = attrs.evolve(run, rounds=min(run.rounds, ROUNDS))
    sizes = [50, 100, 200] if run.quick else [*SIZES, *([HUGE] if run.huge else [])]
    waiting = sizes[:3]  # a journal holds a hundred thousand waiting jobs by default
    asked = (
        Contestant("known", "ours", ("many", "known"), 0, "", {"sizes": sizes}),
        Contestant("waiting", "ours", ("many", "waiting"), 0, "", {"sizes": waiting, "folder": ""}),
    )
    curves = []
    for one, rounds, why in run.measure(asked):
        if not rounds:
            raise SystemExit(f"scale, {one.name}: {why}")
        curves += [curve(one.name, key, sizes if one.name == "known" else waiting, rounds) for key in rounds[0]]
    subscribers = run.race((
        Contestant("in the process", "ours", ("many", "subscribers"), 1000, "queue.events() and the task that reads it"),
        Contestant("over a websocket", "ours", ("many", "connections"), 500, "in the server; what the kernel buffers is not counted"),
    ))  # fmt: skip
    by_name = {one.name: one for one in curves}
    memory, reopened = by_name["memory of finished jobs"], by_name["opening a journal of waiting jobs"]
    size, bytes_each = memory.points[-1][0], memory.points[-1][1] * 2**20 / memory.points[-1][0]
    tables = (
        Table("Memory of one subscriber", "KiB", [kib(row) for row in subscribers], "lower"),
        Table(
            "Memory of one finished job", "bytes",
            [Row(f"of {n:,.0f}", "ours", [mib * 2**20 / n]) for n, mib in memory.points], "lower",
            notes=("The first thousands also pay for the ring of the newest events (4,096 of them), which is bounded.",),
        ),
    )  # fmt: skip
    worst = max((c.exponent for c in curves if c.exponent is not None), default=None)
    flat = max((e for c in curves if c.name in FLAT_ONES and (e := c.exponent) is not None), default=None)
    measured = [
        at_most(f"memory of a finished job, of {size:,.0f}", bytes_each, 1024, " bytes"),
        at_most(
            "memory of a websocket subscriber",
            None if not tables[0].rows[1].values else tables[0].rows[1].median,
            32,
            " KiB",
        ),
        at_most(
            f"opening a journal of {reopened.points[-1][0]:,.0f} waiting jobs",
            reopened.points[-1][1],
            1000,
            " ms",
            "each event is read, compared with its checksum, decoded, folded and indexed, which takes 10 us. Six runs on "
            "one machine measured 963 to 1,009 ms",
        ),
        growth("nothing grows worse than linear: the largest power", worst, 1.1),
        growth("submit, publishing, running and looking up are flat: the largest power", flat, FLAT),
    ]
    return Answer("scale", "What do many jobs cost?", tables, measured, curves)


def growth(what: str, power: float | None, wanted: float) -> Target:
    return Target(
        what,
        f"at most {wanted:g}",
        None if power is None else f"{power:.2f}",
        None if power is None else power <= wanted,
    )


def curve(action: str, key: str, sizes: list[int], rounds: list[dict[str, list[float]]]) -> Curve:
    name, unit, per = CURVES[action, key]
    middle = [statistics.median(at_size) / per for at_size in zip(*(measured[key] for measured in rounds), strict=True)]
    points = tuple(zip(map(float, sizes), middle, strict=True))
    return Curve(name, unit, points, exponent(points))


def kib(row: Row) -> Row:
    return attrs.evolve(row, values=[max(value, 0.0) / 1024 for value in row.values])


if __name__ == "__main__":
    raise SystemExit("run it as: ./run bench scale")
