"""The cost of a call into the SDK: through the executors, through Trio's threads, and the least possible."""

from __future__ import annotations

import attrs

from benchmarks.frame import Answer, Contestant, Row, Run, Table, at_most, ratio

BARE = "bare thread"
EXECUTOR = "trio-jobs, thread executor"

CONTESTANTS = (
    Contestant(BARE, "limit", ("calls", "bare"), 20_000, "a queue in, run_sync_soon out, woken by hand"),
    Contestant(EXECUTOR, "ours", ("calls", "executor"), 20_000, "what a plain handler costs beyond the job"),
    Contestant("trio-jobs, sdk.call", "ours", ("calls", "handle"), 20_000, "from inside an async handler"),
    Contestant("trio.to_thread.run_sync", "peer", ("calls", "to_thread"), 20_000, "a limiter of 1; another thread each time it likes"),
    Contestant("trio-jobs, a whole job", "ours", ("calls", "queue"), 5000, "submit, run, wait for the result, one by one"),
)  # fmt: skip

PIPE = "bare pipe, echoed by a process"
THREAD = "trio-jobs, handler on a thread"
PROCESS = "trio-jobs, handler in a process"

APART = (
    Contestant(PIPE, "limit", ("calls", "pipe"), 20_000, "60 bytes in, 60 out, waited for by trio.lowlevel.wait_readable"),
    Contestant(THREAD, "ours", ("calls", "handler"), 20_000, "a plain handler", {"where": "thread"}),
    Contestant(PROCESS, "ours", ("calls", "handler"), 20_000, 'executor="process"', {"where": "process"}),
)  # fmt: skip

SESSIONS = (
    Contestant("thread", "ours", ("calls", "session"), 200, "a new thread, and back", {"where": "thread"}),
    Contestant("process", "ours", ("calls", "session"), 5, "a new interpreter that imports the service, and its end", {"where": "process"}),
)  # fmt: skip


WHY_PROCESS = (
    "both processes together take less CPU time than both threads, but each of the two wake-ups of a process takes longer "
    "than that of a thread. How much depends on the system: least where it leaves both processes on one processor. The "
    "JSON of both messages takes 1 us."
)


def measure(run: Run) -> Answer:
    rows = [times(row) for row in run.race(CONTESTANTS)]
    table = Table(
        "One call and back", "µs", rows, "lower", (BARE,),
        ("Most of it is two switches between threads, which the operating system does when it likes: compare within this run.",),
    )  # fmt: skip
    apart = Table(
        "One call into another process and back", "µs", [times(row) for row in run.race(APART)], "lower", (PIPE, THREAD),
        ("The message has the kind and the payload; the process decodes it, calls the handler and encodes the report.",),
    )  # fmt: skip
    sessions = Table("A session opened and closed", "ms", [times(row, 1e3) for row in run.race(SESSIONS)], "lower")
    return Answer(
        "sdk", "What does a call into the SDK cost?", (table, apart, sessions),
        (
            at_most("thread executor, of a bare round trip", ratio(table, EXECUTOR, BARE), 1.2),
            at_most("process, of a bare pipe", ratio(apart, PROCESS, PIPE), 2.5),
            at_most("process, of a thread", ratio(apart, PROCESS, THREAD), 1.2, why=WHY_PROCESS),
        ),
    )  # fmt: skip


def times(row: Row, unit: float = 1e6) -> Row:
    """Convert calls per second to microseconds per call, or to others of which a second has `unit`."""
    return attrs.evolve(row, values=[unit / value for value in row.values])


if __name__ == "__main__":
    raise SystemExit("run it as: ./run bench sdk")
