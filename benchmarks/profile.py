"""The time of one job by module, to show where an optimization pays.

Only Trio's thread is measured: with a journal, most of the time is spent waiting for the disk in another thread.
"""

from __future__ import annotations

import statistics
from typing import Any

import attrs

from benchmarks.frame import Answer, Contestant, Row, Run, Table

ROUNDS = 3

PLAIN = Contestant("plain", "ours", ("profiled", "profile"), 40_000, "", {"folder": None, "sampled": False})
SAMPLED = Contestant("sampled", "ours", ("profiled", "profile"), 40_000, "", {"folder": None, "sampled": True})
DISK = Contestant("journal", "ours", ("profiled", "profile"), 3000, "", {"folder": "", "sampled": True})


def measure(run: Run) -> Answer:
    run = attrs.evolve(run, rounds=min(run.rounds, ROUNDS))
    measured = {one.name: (rounds, why) for one, rounds, why in run.measure((PLAIN, SAMPLED, DISK))}
    plain = [answer["seconds"] for answer in measured["plain"][0]]
    sampled = [answer["seconds"] for answer in measured["sampled"][0]]
    overhead = (
        "unknown" if not plain or not sampled else f"{statistics.median(sampled) / statistics.median(plain) - 1:+.1%}"
    )
    return Answer(
        "profile", "Where does the time of one job go?",
        (
            modules("In memory", *measured["sampled"], f"With the samples, a job takes {overhead} time."),
            modules("With a journal, in Trio's thread", *measured["journal"], "Beside this, the journal's own thread waits for the disk. Samples of Trio while it polls for I/O are left out, since it may be asleep there."),
        ),
    )  # fmt: skip


def modules(title: str, rounds: list[dict[str, Any]], why: str, note: str) -> Table:
    if not rounds:
        return Table(title, "µs a job", [Row("all", "ours", [], skipped=why)], "lower")
    names = {name for answer in rounds for name in answer["samples"]}
    shares = {name: [share(answer, name) for answer in rounds] for name in names}
    busy = [answer["busy"] * 1e6 for answer in rounds]
    rows = [
        Row(
            name, "peer" if name in ("Trio", "the benchmark itself", "elsewhere") else "ours",
            [part * time for part, time in zip(shares[name], busy, strict=True)],
            extra={"% of it": statistics.median(shares[name]) * 100},
        )
        for name in sorted(names, key=lambda name: -statistics.median(shares[name]))
    ]  # fmt: skip
    seen = sum(sum(answer["samples"].values()) for answer in rounds)
    together = f"{seen:,} samples of the stack, in {len(rounds)} rounds. Together {statistics.median(busy):.1f} µs of work a job."
    return Table(title, "µs a job", rows, "lower", notes=(f"{together} {note}",), whole=True)


def share(answer: dict[str, Any], name: str) -> float:
    samples: dict[str, int] = answer["samples"]
    return samples.get(name, 0) / max(sum(samples.values()), 1)


if __name__ == "__main__":
    raise SystemExit("run it as: ./run bench profile")
