"""The delay of events for 1,000 subscribers of which a fifth do not read."""

from __future__ import annotations

import statistics

import attrs

from benchmarks.frame import Answer, Contestant, Row, Run, Table, at_most, ratio

ROUNDS = 3
SUBSCRIBERS = 1000
SHARE = 0.2

NONE = "none frozen"
OWN = "a fifth frozen, each at a job of its own"
ALL = "a fifth frozen, which asked for all jobs"
SETTINGS = {
    NONE: (0, "", "2,000 events/s in all, to 1,000 subscribers with a job of their own"),
    OWN: (SHARE, "own", "the same; a fifth read nothing, and get little"),
    ALL: (SHARE, "all", "the same; a fifth read nothing and would get all: they are reset after a second"),
}


def measure(run: Run) -> Answer:
    run = attrs.evolve(run, rounds=min(run.rounds, ROUNDS))
    subscribers, seconds = (20, 0.3) if run.quick else (SUBSCRIBERS, 5)
    asked = [
        Contestant(name, "ours", ("late", "late"), 0, setting,
                   {"jobs": subscribers, "seconds": seconds, "frozen": int(subscribers * share), "what": what})
        for name, (share, what, setting) in SETTINGS.items()
    ]  # fmt: skip
    measured = run.measure(asked)
    late = Table(
        "Until a subscriber that reads is notified", "ms (p99)",
        [
            Row(one.name, one.kind, [answer["p99"] * 1000 for answer in rounds], one.setting, skipped=why,
                extra={} if not rounds else {
                    "p50": middle(rounds, "p50") * 1000, "worst": middle(rounds, "worst") * 1000,
                    "reset": middle(rounds, "kicked"),
                })
            for one, rounds, why in measured
        ],
        "lower", against=(NONE,),
        notes=(
            "Where the frozen ask for all jobs they ask for 400,000 deliveries a second, two hundred times what is sent "
            "else, until they are reset; the last row shows that burst, and stands outside the target.",
        ),
    )  # fmt: skip
    closed = Table(
        "Until all have close code 1001 at the stop", "s",
        [Row(one.name, one.kind, [answer["closed"] for answer in rounds], skipped=why) for one, rounds, why in measured],
        "lower",
    )  # fmt: skip
    last = closed.row(NONE)
    return Answer(
        "frozen", "Do subscribers that do not read delay those that do?", (late, closed),
        (
            at_most("with a fifth frozen, p99 of those that read, of the same with none frozen", ratio(late, OWN, NONE), 1.2),
            at_most("all have close code 1001 at the stop", None if last is None else last.median, 1, " s"),
        ),
    )  # fmt: skip


def middle(rounds: list[dict[str, float]], what: str) -> float:
    return statistics.median(answer[what] for answer in rounds)


if __name__ == "__main__":
    raise SystemExit("run it as: ./run bench frozen")
