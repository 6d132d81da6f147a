"""Jobs per second from submit to completed, with one worker and a handler that does nothing; states are kept.

In memory, on disk, and through servers, beside the limits of Trio, SQLite and the disk.
"""

from __future__ import annotations

import attrs

from benchmarks.frame import Answer, Contestant, Run, Table, at_least, at_most, ratio

BARE = "bare Trio loop"
FOLLOWED_BARE = "bare Trio loop, with events"
MEMORY = "trio-jobs"
FOLLOWED = "trio-jobs, one subscriber"
HUEY = "huey, memory"

FSYNC = "bare fsync, one a job"
SQLITE = "bare SQLite, two commits a job"
JOURNAL = "trio-jobs, one producer"
HUEY_DISK = "huey, SqliteHuey(fsync=True)"
HUNDRED = "trio-jobs, 100 producers, idempotent"

IN_MEMORY = (
    Contestant(BARE, "limit", ("bare", "memory"), 50_000, "channel of 100, cancel scope and one record a job"),
    Contestant(FOLLOWED_BARE, "limit", ("bare", "with_events"), 30_000, "the same, a done event a job, each change to a subscriber"),
    Contestant(MEMORY, "ours", ("ours", "memory"), 20_000, "as it comes"),
    Contestant(FOLLOWED, "ours", ("ours", "memory"), 20_000, "as it comes; every event read by a task", {"subscribers": 1}),
    Contestant(HUEY, "peer", ("huey_", "memory"), 30_000, "best: enqueue all, then drain in the same thread; keeps no state",
               {"consumer": False}, "peers", "huey", keeps_state=False),
    Contestant("huey, memory, results kept", "peer", ("huey_", "memory"), 30_000, "best, store_none=True: each result is kept",
               {"consumer": False, "keep": True}, "peers", "huey", keeps_state=False),
    Contestant("huey, memory, its consumer", "peer", ("huey_", "memory"), 30_000, "as its docs: Consumer, one worker thread",
               {"consumer": True}, "peers", "huey", keeps_state=False),
    Contestant("taskiq, in memory", "peer", ("taskiq_", "memory"), 20_000, "as its docs: a task of asyncio for each, all results kept",
               {"in_place": False}, "peers", "taskiq", keeps_state=False),
    Contestant("taskiq, in memory, in place", "peer", ("taskiq_", "memory"), 20_000, "best: await_inplace=True, all results kept",
               {"in_place": True}, "peers", "taskiq", keeps_state=False),
    Contestant("dramatiq, StubBroker", "peer", ("dramatiq_", "memory"), 10_000, "as its docs: one worker thread, with results",
               {"keep": True}, "peers", "dramatiq", keeps_state=False),
    Contestant("dramatiq, StubBroker, plain", "peer", ("dramatiq_", "memory"), 10_000, "best: no middleware but results",
               {"keep": True, "plain": True}, "peers", "dramatiq", keeps_state=False),
    Contestant("pgqueuer, in memory", "peer", ("pgqueuer_", "memory"), 5000, "as its docs: concurrency_limit=1, one fetched at a time",
               {"single": True}, "peers", "pgqueuer"),
    Contestant("pgqueuer, in memory, side by side", "peer", ("pgqueuer_", "memory"), 20_000, "best, but not one at a time: batch_size=100",
               {"single": False}, "peers", "pgqueuer", keeps_state=False),
)  # fmt: skip

ON_DISK = (
    Contestant(FSYNC, "limit", ("bare", "fsync"), 2000, "150 bytes, then fsync", {"folder": ""}),
    Contestant(SQLITE, "limit", ("bare", "sqlite"), 2000, "WAL, synchronous=FULL", {"folder": ""}),
    Contestant(JOURNAL, "ours", ("ours", "durable"), 2000, "as it comes: start and end on disk", {"folder": ""}),
    Contestant("trio-jobs, closed loop", "ours", ("ours", "closed_loop"), 500, "submit, result, submit: median turn", {"folder": ""}),
    Contestant("trio-jobs, 100 producers", "ours", ("ours", "durable"), 5000, "as it comes", {"folder": "", "producers": 100}),
    Contestant(HUNDRED, "ours", ("ours", "durable"), 20_000, "idempotent=True: its start is not waited for",
               {"folder": "", "producers": 100, "kind": "nothing_twice"}),
    Contestant(HUEY_DISK, "peer", ("huey_", "sqlite"), 2000, "best: enqueue all, then drain; keeps no state",
               {"folder": "", "consumer": False}, "peers", "huey", keeps_state=False),
    Contestant("huey, SqliteHuey, results kept", "peer", ("huey_", "sqlite"), 2000, "best, store_none=True",
               {"folder": "", "consumer": False, "keep": True}, "peers", "huey", keeps_state=False),
    Contestant("huey, SqliteHuey, its consumer", "peer", ("huey_", "sqlite"), 2000, "as its docs: Consumer, one worker thread",
               {"folder": "", "consumer": True}, "peers", "huey", keeps_state=False),
    Contestant("litequeue", "peer", ("sqlite_queues", "litequeue"), 2000, "put, pop, done; synchronous=FULL, not its NORMAL",
               {"folder": ""}, "peers", "litequeue"),
    Contestant("persist-queue", "peer", ("sqlite_queues", "persistqueue"), 2000, "SQLiteAckQueue: put, get, ack",
               {"folder": ""}, "peers", "persist-queue"),
)  # fmt: skip

SYNC_WAIT = 1.0  #: milliseconds
SLOW_DISK = tuple(
    attrs.evolve(one, size=300, sync_wait=SYNC_WAIT)
    for one in ON_DISK
    if one.name in (FSYNC, SQLITE, JOURNAL, HUEY_DISK)
)

BEHIND_SERVERS = (
    Contestant("huey on Redis", "peer", ("huey_", "redis"), 2000, "as its docs: blocking pops, results; worker apart",
               {}, "peers", "huey", "redis", keeps_state=False),
    Contestant("taskiq on Redis", "peer", ("taskiq_", "redis"), 2000, "as its docs: stream broker, results; worker apart",
               {"stream": True}, "peers", "taskiq-redis", "redis", keeps_state=False),
    Contestant("taskiq on Redis, list", "peer", ("taskiq_", "redis"), 2000, "best: list broker, which acknowledges nothing",
               {"stream": False}, "peers", "taskiq-redis", "redis", keeps_state=False),
    Contestant("streaQ on Redis", "peer", ("streaq_", "redis"), 700, "on Trio; worker apart",
               {"backend": "trio"}, "peers", "streaq", "redis"),
    Contestant("streaQ on Redis, uvloop", "peer", ("streaq_", "redis"), 700, "best: asyncio with uvloop, 100 submitted at once",
               {"backend": "asyncio", "batch": 100}, "peers", "streaq", "redis"),
    Contestant("procrastinate on PostgreSQL", "peer", ("procrastinate_", "postgres"), 400, "as its docs",
               {"batch": 1}, "peers", "procrastinate", "postgres"),
    Contestant("procrastinate, 100 at once", "peer", ("procrastinate_", "postgres"), 400, "best: 100 deferred with one call",
               {"batch": 100}, "peers", "procrastinate", "postgres"),
    Contestant("oban on PostgreSQL", "peer", ("oban_", "postgres"), 250, "as its docs; fetches at most every 5 ms",
               {"debounce": 0.005, "batch": 1}, "oban", "oban", "postgres"),
    Contestant("oban, no debounce", "peer", ("oban_", "postgres"), 400, "best: debounce_interval=0, 100 enqueued at once",
               {"debounce": 0, "batch": 100}, "oban", "oban", "postgres"),
)  # fmt: skip


WHY_MEMORY = (
    "both of those keep one record, or none, and notify nobody. A job is three events here, each of which is checked "
    "against the table of states and goes through projection, store and feed; its payload is compared with its JSON, and "
    "its receipt has an expected wait. That takes 3,010 bytecodes, 680 of them Trio's, where the bare loop takes 1,520. The "
    "rest is spread over 90 functions, of which none takes more than 7 %. By time the ratio is worse where a processor has "
    "no room for the branches and the data of so many bytecodes: cachegrind counts 1.7 times the instructions of the bare "
    "loop, 1.5 times the misses in the first cache of instructions, 2.6 times those in that of data (48 KiB), and 2.0 "
    "times the branches that are predicted wrongly. By instructions it is the same everywhere. Tried and refused: compiled "
    "packages (mypyc and Cython are 3 and 8 % slower). It would take 27,000 of the 188,000 instructions less: those of one "
    "event of three (19,000), of what lists and counts are made from (5,000), and of the expected wait (3,000), which are "
    "for the promise that a start is published before the SDK is entered, for lists and counts, and for the receipt."
)
WHY_FOLLOWED = (
    "a subscriber takes 6 us a job: three events, each with the kind and the key of its job. A job takes 26 us without "
    "one, 3 less than before, so the share of the subscriber has grown."
)
WHY_DISK = (
    "a lone producer is told “accepted” only when that is synced, so one sync a job is the least; groups for each job are "
    "1.0, and start and end share them. The rest is work of two threads between two syncs: 110 us of Trio's thread, for "
    "Trio's and a job's own Python, and 90 us of the journal's thread, a third of it in the kernel and a sixth in SQLite; "
    "huey commits in the caller's own thread. Where a sync takes 1 ms, one commit instead of two decides (below). Tried and "
    "refused: to commit in Trio's thread, which would stand still for as long as the disk hangs; to spin there until the "
    "commit (1.0 to 0.8 of the jobs, for a fifth more CPU); a log of our own (3 to 7 %); io_uring (10 % at most); to encode "
    "events in Trio's thread while the other one wakes (2 % fewer jobs); to wake Trio's loop before the high-water mark is "
    "written, and to keep both threads on one processor (no difference)."
)
WHY_HUNDRED = (
    "the interpreter is busy, not the disk: the same events as in memory, encoded, checksummed and inserted beside "
    "Trio's thread, and one interpreter lock for both. It would take fewer, larger rows (a job's three events in one) or "
    "a free-threaded Python."
)


def measure(run: Run) -> Answer:
    memory = Table(
        "In memory", "jobs/s", run.race(IN_MEMORY), against=(BARE, HUEY),
        notes=(
            "The bare loop is the one that the target names: a memory channel, a cancel scope around each call, one record "
            "that keeps the state of the job. It checks no payload and has no ids, keys, history, retries or promises; "
            "nobody can wait for a job of it, or follow it. “With events” adds both, and is what a queue in Trio cannot "
            "do without.",
            "In memory, trio-jobs moves each job through three events (submitted, started, completed), "
            "checks its payload against the handler's type, keeps its attempts, and can report each event to any subscriber.",
            "huey, taskiq and dramatiq can be asked for a job's result, not whether it waits or runs, and pgqueuer side by "
            "side is not one at a time; they do not count where “keeps a job's state, one at a time” is said.",
        ),
    )  # fmt: skip
    disk = Table(
        "On disk, synced", "jobs/s", run.race(ON_DISK), against=(SQLITE, HUEY_DISK),
        notes=(
            "All wait for the disk before they acknowledge. trio-jobs syncs a job's acceptance, the start of its attempt "
            "and its end (the first two together where the queue is idle, as in a closed loop); a loop that only enqueues "
            "and drains has two commits, or three with a result.",
        ),
    )  # fmt: skip
    slow = Table(
        "On disk, where a sync takes 1 ms longer", "jobs/s", run.race(SLOW_DISK), against=(SQLITE, HUEY_DISK),
        notes=("The same wait is added to each sync of every contestant, in the C library, as on a slower disk.",),
    )  # fmt: skip
    servers = Table(
        "Behind a server on loopback", "jobs/s",
        (*(row for row in memory.rows if row.name == MEMORY), *(row for row in disk.rows if row.name == JOURNAL),
         *attrs.evolve(run, rounds=min(run.rounds, 3)).race(BEHIND_SERVERS)),
        against=(JOURNAL,),
        notes=(
            "Redis as it comes: what it acknowledged in the last seconds a power cut takes back, so compare with trio-jobs "
            "in memory and on disk. PostgreSQL as it comes: synced. The two first rows are those of the tables above.",
        ),
    )  # fmt: skip
    # of huey, taskiq and dramatiq one can ask for results, not whether a job waits or runs
    stateful = [r for t in (memory, servers) for r in t.rows if r.kind == "peer" and r.keeps_state and r.values]
    ours = memory.row(MEMORY)
    fastest = max(stateful, key=lambda row: row.median, default=None)
    closed = disk.row("trio-jobs, closed loop")
    return Answer(
        "throughput", "How many jobs a second?", (memory, disk, slow, servers),
        (
            at_least("in memory, of the bare loop", ratio(memory, MEMORY, BARE), 0.7, WHY_MEMORY),
            at_least("in memory, of huey's memory storage", ratio(memory, MEMORY, HUEY), 1.05, WHY_MEMORY),
            at_least("with one subscriber, of that without", ratio(memory, FOLLOWED, MEMORY), 0.8, WHY_FOLLOWED),
            at_least(
                f"in memory, of the fastest that keeps a job's state, one at a time ({fastest.name if fastest else 'none ran'})",
                None if ours is None or fastest is None else ours.median / fastest.median, 5,
            ),
            at_least("on disk, one producer, of huey's SqliteHuey", ratio(disk, JOURNAL, HUEY_DISK), 1.2, WHY_DISK),
            at_least("on disk, one producer, of bare SQLite", ratio(disk, JOURNAL, SQLITE), 0.8, WHY_DISK),
            at_least(
                "on disk, where a sync takes 1 ms longer, one producer, of huey's SqliteHuey",
                ratio(slow, JOURNAL, HUEY_DISK), 1.6,
            ),
            at_least("on disk, 100 producers, of huey's SqliteHuey", ratio(disk, HUNDRED, HUEY_DISK), 4, WHY_HUNDRED),
            at_most("on disk, closed loop, p50", None if closed is None else 1000 / closed.median, 1.5, " ms"),
        ),
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit("run it as: ./run bench throughput")
