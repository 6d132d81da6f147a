"""The cost of a call into the SDK: through the thread executor, through Trio's threads, and the least possible."""

from __future__ import annotations

import attrs

from benchmarks.frame import Answer, Contestant, Row, Run, Table, at_most, ratio

BARE = "bare thread"
HOST = "trio-jobs, thread host"

CONTESTANTS = (
    Contestant(BARE, "limit", ("calls", "bare"), 20_000, "a queue in, run_sync_soon out, woken by hand"),
    Contestant(HOST, "ours", ("calls", "host"), 20_000, "what a plain handler costs beyond the job"),
    Contestant("trio-jobs, sdk.call", "ours", ("calls", "handle"), 20_000, "from inside an async handler"),
    Contestant("trio.to_thread.run_sync", "peer", ("calls", "to_thread"), 20_000, "a limiter of 1; another thread each time it likes"),
    Contestant("trio-jobs, a whole job", "ours", ("calls", "queue"), 5000, "submit, run, wait for the result, one by one"),
)  # fmt: skip


def measure(run: Run) -> Answer:
    rows = [times(row) for row in run.race(CONTESTANTS)]
    table = Table(
        "One call and back", "µs", rows, "lower", (BARE,),
        ("Most of it is two switches between threads, which the operating system does when it likes: compare within this run.",),
    )  # fmt: skip
    return Answer(
        "sdk", "What does a call into the SDK cost?", (table,),
        (at_most("thread host, of a bare round trip", ratio(table, HOST, BARE), 1.2),),
    )  # fmt: skip


def times(row: Row) -> Row:
    """Convert calls per second to microseconds per call."""
    return attrs.evolve(row, values=[1e6 / value for value in row.values])


if __name__ == "__main__":
    raise SystemExit("run it as: ./run bench sdk")
