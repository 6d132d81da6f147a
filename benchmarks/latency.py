"""The delay until the handler starts and until a subscriber is notified, idle and at half load.

Idle: one job every 6 ms. Half load: jobs arrive at random (Poisson) at half the rate that the contestant reached in
this run, whether or not it keeps up. Time counts from the moment at which a job was due to be submitted, so that a
queue that delays its own load generator gains nothing (no coordinated omission).

For contestants in an event loop (Trio, asyncio) another process generates the load and writes to a pipe, since the
timers of an event loop are too coarse, and a task that spins leaves the loop no idle turn, which the loop of a program
has at half load. For contestants whose worker is a thread, the main thread sleeps between two arrivals.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import attrs

from benchmarks.frame import Answer, Contestant, Row, Run, Table, at_most, quantile

IDLE_ROUNDS = 4

BARE = Contestant("bare Trio loop", "limit", ("bare", "latency"), 400, "channel of 100, cancel scope")
OURS = Contestant("trio-jobs", "ours", ("ours", "latency"), 400, "as it comes")
WIRE = Contestant(
    "trio-jobs, websocket",
    "ours",
    ("ours", "latency"),
    400,
    "followed by trio_jobs.connect in another process",
    {"wire": True},
)
JOURNAL = Contestant(
    "trio-jobs, journal", "ours", ("ours", "latency"), 200, "each step synced before it is published", {"folder": ""}
)
TASKIQ = Contestant("taskiq, in memory", "peer", ("taskiq_", "latency"), 400, "as its docs", {}, "peers", "taskiq")
DRAMATIQ = Contestant(
    "dramatiq, StubBroker",
    "peer",
    ("dramatiq_", "latency"),
    400,
    "as its docs, one worker thread",
    {},
    "peers",
    "dramatiq",
)
HUEY = Contestant(
    "huey, memory, polls every 1 ms",
    "peer",
    ("huey_", "latency"),
    400,
    "best: Consumer, initial_delay=0.001, max_delay=0.001",
    {"poll": 0.001},
    "peers",
    "huey",
)
HUEY_DEFAULT = Contestant(
    "huey, memory",
    "peer",
    ("huey_", "latency"),
    20,
    "as its docs: Consumer, polls every 0.1 s",
    {"poll": 0.1},
    "peers",
    "huey",
)

ALL = (BARE, OURS, WIRE, JOURNAL, TASKIQ, DRAMATIQ, HUEY, HUEY_DEFAULT)

# how each one's rate is found out, whose half is the load; and how many jobs then
LOADS = {
    BARE: (Contestant(BARE.name, "limit", ("bare", "memory"), 30_000), 30_000),
    OURS: (Contestant(OURS.name, "ours", ("ours", "memory"), 10_000, "", {"subscribers": 1}), 20_000),
    WIRE: (Contestant(WIRE.name, "ours", ("ours", "memory"), 10_000, "", {"subscribers": 1}), 10_000),
    JOURNAL: (Contestant(JOURNAL.name, "ours", ("ours", "durable"), 1000, "", {"folder": ""}), 1500),
    TASKIQ: (Contestant(TASKIQ.name, "peer", ("taskiq_", "memory"), 10_000, "", {"in_place": False}, "peers", "taskiq"), 20_000),
    DRAMATIQ: (Contestant(DRAMATIQ.name, "peer", ("dramatiq_", "memory"), 5000, "", {"keep": False}, "peers", "dramatiq"), 10_000),
    HUEY: (Contestant(HUEY.name, "peer", ("huey_", "memory"), 20_000, "", {"consumer": True}, "peers", "huey"), 20_000),
}  # fmt: skip


def measure(run: Run) -> Answer:
    idle = run.measure(
        [attrs.evolve(one, arguments={**one.arguments, "per_second": None}) for one in ALL],
        min(IDLE_ROUNDS, run.times()),
    )
    loaded: list[tuple[Contestant, list[dict[str, list[float]]], str]] = []
    loads: dict[str, float] = {}
    for one, (rated, jobs) in LOADS.items():
        [(_, rates, why)] = run.measure([rated], 1)
        if not rates:
            loaded.append((one, [], why))
            continue
        share = 0.25 if one is WIRE else 0.5
        loads[one.name] = rates[0] * share
        setting = f"{loads[one.name]:,.0f} jobs/s" + (", a quarter: the reader shares two cores" if one is WIRE else "")
        at_load = attrs.evolve(
            one, size=jobs, setting=setting, arguments={**one.arguments, "per_second": loads[one.name]}
        )
        loaded += run.measure([at_load], min(3, run.times()))
    tables = [
        table(f"{what}, {when}", which, answers, notes)
        for when, answers, notes in (
            ("idle", idle, ()),
            ("at half load", loaded, (NOTE,)),
        )
        for what, which in (
            ("Until the handler starts", "starts"),
            ("Until a subscriber is notified of the end", "told"),
            ("From a commit until a subscriber in the process reads it", "notified"),
        )
    ]
    started, told, afar = tables[0].row(OURS.name), tables[1].row(OURS.name), tables[1].row(WIRE.name)
    notified = tables[-1].row(OURS.name)
    return Answer(
        "latency", "How long until it starts, and until a subscriber is notified?", tables,
        (
            at_most("idle, until the handler starts, p50", None if started is None else started.median / 1000, 0.2, " ms"),
            at_most("idle, until a subscriber in the process is notified of the end, p50", None if told is None else told.median / 1000, 1, " ms"),
            at_most("idle, until a subscriber in another process is notified of the end, p50", None if afar is None else afar.median / 1000, 0.8, " ms", WHY_AFAR),
            at_most("idle, until a subscriber in another process is notified of the end, p99", None if afar is None else afar.extra["p99"] / 1000, 3, " ms", WHY_AFAR),
            at_most("at half load, from a commit until a subscriber in the process reads it, p50", None if notified is None else notified.median / 1000, 0.15, " ms", WHY_PACED),
            at_most("at half load, from a commit until a subscriber in the process reads it, p90", None if notified is None else notified.extra["p90"] / 1000, 0.5, " ms", WHY_PACED),
        ),
    )  # fmt: skip


WHY_PACED = (
    "a notification takes as long as half a job, and while jobs wait or run, notifying may take a tenth of the time of the "
    "event loop. What readers do with each event counts too, so a delay collects events that make the next delay longer, "
    "up to 25 ms, until the queue has nothing to do. Tried and refused: to charge only what a notification takes apart from "
    "the work for its events (at full load 11, 12 and 21 % fewer jobs a second with 1, 20 and 100 readers); to delay by "
    "2 ms at most for each reader (7 to 11 % fewer with one)."
)
WHY_AFAR = (
    "the queue and its feed are a part of it (the row in the process). The rest is the server's write, and another process "
    "that is woken, reads, decodes and checks three events a job."
)
NOTE = "The load of each is half of what it just managed by itself: it is under “set up”."


def table(
    title: str,
    which: str,
    answers: Sequence[tuple[Contestant, list[dict[str, list[float]]], str]],
    notes: tuple[str, ...],
) -> Table:
    rows = []
    for one, rounds, why in answers:
        key = "told over a websocket" if which == "told" and one.name == WIRE.name else which
        if which != "told" and one.name == WIRE.name:
            continue  # the same as without
        if which != "starts" and one.kind != "ours":
            continue  # nobody else tells
        latencies = [[seconds * 1e6 for seconds in answer[key]] for answer in rounds if key in answer]
        everything = [value for values in latencies for value in values]
        extra = (
            {"p90": quantile(everything, 0.9), "p99": quantile(everything, 0.99), "p99.9": quantile(everything, 0.999)}
            if everything
            else {}
        )
        rows.append(
            Row(
                one.name,
                one.kind,
                [statistics.median(values) for values in latencies],
                one.setting,
                "",
                why,
                extra=extra,
            )
        )
    return Table(title, "µs (p50)", rows, "lower", (BARE.name,) if which == "starts" else (), notes)


if __name__ == "__main__":
    raise SystemExit("run it as: ./run bench latency")
