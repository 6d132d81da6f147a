"""Whether clients that only watch can make a submit wait: ten of them, each at its rate limit, with 100,000 jobs."""

from __future__ import annotations

import attrs

from benchmarks.frame import Answer, Contestant, Row, Run, Table, at_most, ratio

ROUNDS = 3
KNOWN = 100_000
WATCHERS = 10

NONE = "no watchers"
SOME = "ten watchers"


def measure(run: Run) -> Answer:
    run = attrs.evolve(run, rounds=min(run.rounds, ROUNDS))
    known = run.size(KNOWN)
    asked = [
        Contestant(name, "ours", ("watch", "submits"), 500, setting, {"known": known, "watchers": watchers})
        for name, watchers, setting in (
            (NONE, 0, "one submit every 11 ms over a websocket"),
            (SOME, WATCHERS, "the same; each watcher requests pages of 500, jobs and snapshots, as many as it may"),
        )
    ]
    measured = run.measure(asked)
    table = Table(
        f"One submit, with {known:,} jobs", "ms (p50)",
        [
            Row(one.name, one.kind, [answer["p50"] * 1000 for answer in rounds], one.setting, skipped=why,
                extra={} if not rounds else {"p99": sorted(answer["p99"] for answer in rounds)[len(rounds) // 2] * 1000})
            for one, rounds, why in measured
        ],
        "lower", against=(NONE,),
        notes=("On a machine that does other things too, both wait for a core, and the ratio says little.",),
    )  # fmt: skip
    return Answer(
        "watchers", "Can watchers make others wait?", (table,),
        (at_most("a submit with ten watchers, p50, of the same without", ratio(table, SOME, NONE), 2),),
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit("run it as: ./run bench watchers")
