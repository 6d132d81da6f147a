"""Bugs of the kinds that really happen, each a small patch of the real code, and the check that is meant to find it.

`old` stands exactly once in its file; a test says so when the code has moved on. Keep the snippets short. A check is
"simulator", or tests as pytest is given them.
"""

from __future__ import annotations

from typing import Final

import attrs

__all__ = ["CHECKS", "MUTATIONS", "SIMULATOR", "Mutation"]

SIMULATOR: Final = "simulator"
MACHINE: Final = "tests/engine/test_machine.py"
STORES: Final = "tests/stores/test_conformance.py"
EXECUTORS: Final = "tests/runtime/test_executors.py"
EARLY_ADMISSION: Final = "tests/runtime/test_early_admission.py"
WAITING_SUBMITS: Final = "tests/runtime/test_waiting_submits.py"
EVENT_STREAM: Final = "tests/runtime/test_event_stream.py"
CANCELLATIONS: Final = "tests/runtime/test_cancellations.py"
PROMISES: Final = "tests/runtime/test_promises.py"
POWER: Final = "tests/stores/test_power_cuts.py"
MARK: Final = "tests/stores/test_high_water_mark.py"
DAMAGE: Final = "tests/stores/test_damage.py"
OPERATIONS: Final = "tests/runtime/test_operations.py"
SUBSCRIPTIONS: Final = "tests/server/test_subscriptions.py"
METHODS: Final = "tests/server/test_methods.py"
QUEUE_MACHINE: Final = "tests/harness/test_queue_machine.py"
CHECK_HOST: Final = "tests/harness/test_check_host.py"
CHECK_HANDLER: Final = "tests/harness/test_check_handler.py"

#: All that the campaign tries on every mutation
CHECKS: Final = (
    SIMULATOR,
    MACHINE,
    STORES,
    EXECUTORS,
    EVENT_STREAM,
    CANCELLATIONS,
    PROMISES,
    POWER,
    DAMAGE,
    OPERATIONS,
    SUBSCRIPTIONS,
    METHODS,
    QUEUE_MACHINE,
    CHECK_HOST,
    CHECK_HANDLER,
)


@attrs.frozen
class Mutation:
    """name: short, for the table. what: what goes wrong, in the words of somebody who meets it. check: what is meant to
    find it. file: within the package. more: further snippets of that file. hangs: that its check does not end is what
    it looks like; for all others that says nothing."""

    name: str
    what: str
    check: str
    file: str
    old: str
    new: str
    more: tuple[tuple[str, str], ...] = ()
    hangs: bool = False

    def apply(self, source: str) -> str:
        """Raises `AssertionError` where the code has moved on and a snippet does not stand in it exactly once."""
        for old, new in ((self.old, self.new), *self.more):
            count = source.count(old)
            assert count == 1, f"{self.name}: {old!r} stands {count} times in {self.file}; repair the catalogue"
            source = source.replace(old, new)
        return source


_M = Mutation

MUTATIONS: Final[tuple[Mutation, ...]] = (
    # the store
    _M(
        "ack before the sync",
        "a submit is acknowledged when it is appended, not when it is synced",
        SIMULATOR,
        "_stores/durable_store.py",
        "        if seq <= self.last_seq:\n",
        "        if seq <= self.appended_seq:\n",
    ),
    _M(
        "failed commit not read back",
        "a failed commit is treated as not committed, although it may be",
        SIMULATOR,
        "_stores/writer_thread.py",
        "if self._log.last_seq > before:",
        "if False:",
    ),
    _M(
        "failed commit ignored",
        "a failed commit is reported as committed",
        SIMULATOR,
        "_stores/writer_thread.py",
        "            return self._handle_failure(group, failure)\n",
        "            log.error(failure)\n",
    ),
    _M(
        "refused place leaked",
        "a submit that the store refused keeps its place in the line",
        SIMULATOR,
        "_runtime/event_log.py",
        "        for submit in rejected.values():\n",
        "        for submit in ():\n",
    ),
    _M(
        "refused submit kept",
        "a submit that the store refused stays among the jobs",
        SIMULATOR,
        "_runtime/event_log.py",
        "if isinstance(event, ev.JobEvent) and event.job in rejected\n            else event",
        "if isinstance(event, ev.JobEvent) and event.job in ()\n            else event",
    ),
    _M(
        "refused start kept",
        "a job whose submit the store refused stays among the jobs if it was begun at once",
        SIMULATOR,
        "_runtime/event_log.py",
        "if isinstance(event, ev.JobEvent) and event.job in rejected",
        "if isinstance(event, ev.Submitted) and event.job in rejected",
    ),
    _M(
        "begun and not awaited",
        "a handler that waits for no start is called for a job whose submit is refused afterwards",
        EARLY_ADMISSION,
        "_runtime/admission.py",
        "and waits_for_its_start and",
        "and",
    ),
    _M(
        "refused one in the line",
        "a job that the store refused after it had joined the line still has its place there",
        EARLY_ADMISSION,
        "_runtime/admission.py",
        "            self._channel.remove(one.in_channel)",
        "            pass",
    ),
    _M(
        "rejection not reported",
        "the caller of a submit that the store rejected waits for ever",
        SIMULATOR,
        "_stores/durable_store.py",
        "                waiter.error = error\n                waiter.done.set()\n        self._commit_started",
        "                waiter.error = error\n        self._commit_started",
    ),
    _M(
        "uncommitted shown",
        "a job is shown as it is in memory, before that is on the disk",
        EARLY_ADMISSION,
        "_runtime/event_log.py",
        "return self._committed_copies.get(record.id, record) if self._committed_copies else record",
        "return record",
    ),
    _M(
        "numbers used again",
        "after a start events are numbered on from the last one of a job",
        SIMULATOR,
        "_runtime/event_log.py",
        "        projection.seq = self.committed_seq = self.store.last_seq\n",
        "        self.committed_seq = projection.seq\n",
    ),
    _M(
        "pause forgotten at restart",
        "a paused queue works again after a restart",
        SIMULATOR,
        "_runtime/event_log.py",
        "        projection.tombstones.add(self.store.keys())",
        "        projection.paused = None",
    ),
    _M(
        "high-water mark torn in all slots",
        "slots of the high-water mark are written whether they are synced or not",
        SIMULATOR,
        "_stores/sqlite/high_water_mark.py",
        "free = set(_SLOTS) - {self._synced_slot, self._syncing_slot}",
        "free = set(_SLOTS)",
    ),
    _M(
        "high-water mark torn during its sync",
        "a slot of the high-water mark that was written during a sync counts as synced",
        MARK,
        "_stores/sqlite/high_water_mark.py",
        "slot = min(free - {self._written_slot} or free)",
        "slot = min(free)",
    ),
    _M(
        "high-water mark of a kill not synced",
        "a power cut soon after a kill leaves no high-water mark, and a good journal is refused",
        POWER,
        "_stores/sqlite/journal.py",
        "            file.sync()  # a kill",
        "            pass  # a kill",
    ),
    _M(
        "high-water mark not synced when idle",
        "a power cut long after the last group leaves an old high-water mark",
        "tests/stores/test_hanging_disks.py",
        "_stores/writer_thread.py",
        "            except Empty:\n                self._log.start_deferred_sync()\n",
        "            except Empty:\n                pass\n",
    ),
    _M(
        "high-water mark ahead of the journal",
        "the high-water mark names an event that is not on the disk",
        SIMULATOR,
        "_stores/sqlite/journal.py",
        "self._high_water_mark_file.write(HighWaterMark(self.epoch, self.last_seq, committed[-1][3]))",
        "self._high_water_mark_file.create(HighWaterMark(self.epoch, self.last_seq + 1, committed[-1][3]))",
    ),
    _M(
        "not synced",
        "SQLite syncs at checkpoints alone",
        POWER,
        "_stores/sqlite/schema.py",
        '("synchronous", "FULL", 2)',
        '("synchronous", "NORMAL", 1)',
    ),
    _M(
        "WAL not synced at opening",
        "after a crash the WAL is trusted as it is read",
        POWER,
        "_stores/sqlite/journal.py",
        '            self._disk.rewrite(self.path + "-wal")\n',
        "            return\n",
    ),
    _M(
        "page begins one early",
        "a page of the journal repeats the event before it",
        STORES,
        "_stores/sqlite/journal.py",
        "FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
        "FROM events WHERE seq >= ? ORDER BY seq LIMIT ?",
    ),
    _M(
        "epoch kept after a loss",
        "a journal that lost events keeps its epoch, so subscribers continue as if nothing were missing",
        DAMAGE,
        "_stores/sqlite/recovery.py",
        "    inconsistent: list[str] = []\n",
        "    inconsistent: list[str] = []\n    epoch = secrets.token_hex(16)\n",
        (
            (
                "            rows, inconsistent, last_seen = salvage",
                "            epoch = get_meta(connection, path)['epoch']\n"
                "            rows, inconsistent, last_seen = salvage",
            ),
            ("create(connection, secrets.token_hex(16))", "create(connection, epoch)"),
        ),
    ),
    _M(
        "lost numbers used again",
        "after a loss new events get the numbers of lost events",
        DAMAGE,
        "_stores/sqlite/recovery.py",
        "last_seq = max(last_known, last_seen)",
        "last_seq = max([0, *(row[0] for row in rows[-1:])])",
    ),
    _M(
        "key forgotten at prune",
        "pruning a job lets its key be used for a second time",
        "tests/runtime/test_retention.py",
        "_engine/projection.py",
        "        self.tombstones.add(keys)\n",
        "",
    ),
    # the engine
    _M(
        "retry off by one",
        "one more retry than the policy has",
        SIMULATOR,
        "_engine/attempt_result.py",
        "record.retries_used >= rules.retry.max_retries",
        "record.retries_used > rules.retry.max_retries",
    ),
    _M(
        "wrong wait",
        "the wait before a retry is that of the one before",
        SIMULATOR,
        "_engine/attempt_result.py",
        "wait_before(record.retries_used + 1, chance)",
        "wait_before(max(record.retries_used, 1), chance)",
    ),
    _M(
        "poison off by one",
        "a job that kills the process is tried once more",
        MACHINE,
        "_engine/attempt_result.py",
        "record.crashes + 1 >= rules.max_crashes",
        "record.crashes >= rules.max_crashes",
    ),
    _M(
        "attempt number reused",
        "attempts are numbered anew in each run",
        SIMULATOR,
        "_engine/decide.py",
        "attempt=len(record.attempts) + 1",
        "attempt=record.retries_used + 1",
    ),
    _M(
        "cancel forgotten after a crash",
        "a job that was to be cancelled is tried again after the process died",
        MACHINE,
        "_engine/attempt_result.py",
        "may_have_acted=record.may_have_acted)\n        if record.cancel_requested:",
        "may_have_acted=record.may_have_acted)\n        if False:",
    ),
    _M(
        "cancel forgotten at a retry",
        "an attempt that fails after a cancel was asked for is tried again",
        "tests/engine/test_attempts_table.py",
        "_engine/attempt_result.py",
        "elif record.cancel_requested or not retryable or",
        "elif not retryable or",
    ),
    _M(
        "nothing is in doubt",
        "what was broken off inside the SDK is simply tried again",
        SIMULATOR,
        "_engine/attempt_result.py",
        "    return ending.entered and not rules.idempotent\n",
        "    return False\n",
    ),
    _M(
        "late return dropped",
        "what a call comes to that returns after it was called stuck is thrown away",
        SIMULATOR,
        "_engine/attempt_result.py",
        "record.state is State.IN_DOUBT and record.doubt is not None and record.doubt.inside\n    )",
        "record.state is State.IN_DOUBT and record.doubt is None\n    )",
    ),
    _M(
        "deadline mistaken",
        "a job may begin although its deadline has just passed",
        SIMULATOR,
        "_engine/attempt_result.py",
        "record.deadline_at is not None and record.deadline_at <= now",
        "record.deadline_at is not None and record.deadline_at <= now - 0.5",
    ),
    _M(
        "doubt fails open",
        'on_doubt="hold" is treated as "retry"',
        SIMULATOR,
        "_engine/attempt_result.py",
        'elif rules.on_doubt == "retry" and',
        'elif rules.on_doubt != "fail" and',
    ),
    _M(
        "done is done again",
        "verify says done, and the attempt is repeated",
        SIMULATOR,
        "_engine/attempt_result.py",
        "    if isinstance(answer.verdict, Done):\n        out.complete",
        "    if False:\n        out.complete",
        (("elif isinstance(answer.verdict, NotDone):", "elif isinstance(answer.verdict, Done | NotDone):"),),
    ),
    # the loops
    _M(
        "start not awaited",
        "the SDK is called before the start of the attempt is on the disk",
        SIMULATOR,
        "_runtime/attempt_runner.py",
        "            if event_log.durable and not handler.rules.idempotent:\n                with running",
        "            if event_log.durable and handler.rules.idempotent:\n                with running",
    ),
    _M(
        "entry not awaited",
        "an async handler's first call begins before it is on the disk",
        SIMULATOR,
        "_runtime/attempt_runner.py",
        "            if event_log.durable and not running.handler.rules.idempotent:\n",
        "            if False:\n",
    ),
    _M(
        "place leaked",
        "a job that is taken keeps its place for ever",
        SIMULATOR,
        "_runtime/consumer.py",
        "        self._channel.received()\n",
        "",
    ),
    _M(
        "verify skipped",
        "a job whose earlier attempt was in the SDK is tried again without asking",
        "tests/runtime/test_restart.py",
        "_runtime/verification.py",
        "(record.may_have_acted or handler.verify_first)",
        "handler.verify_first",
    ),
    _M(
        "doubt not looked after",
        "nobody asks verify about a job that came into doubt",
        SIMULATOR,
        "_runtime/verification.py",
        "        if self._strict_order or not can_verify(record, handler):",
        "        if record:",
    ),
    _M(
        "no time limit",
        "attempt_timeout is noticed and ends nothing",
        SIMULATOR,
        "_runtime/attempt_runner.py",
        "running.limit_at = running.scope.deadline = now",
        "running.limit_at = now",
    ),
    _M(
        "head of the line passed",
        "in strict order the next job passes one that waits for its retry",
        SIMULATOR,
        "_runtime/consumer.py",
        "            while record.state not in FINAL and",
        "            while record.state is State.PENDING and",
    ),
    _M(
        "lost wake-up of the scheduler",
        "a job that waits for a place waits until something else happens",
        SIMULATOR,
        "_runtime/scheduler.py",
        "        self._channel.set_requeue_waiting(True)\n        self._wake.set()\n",
        "        self._channel.set_requeue_waiting(True)\n",
    ),
    _M(
        "lost timer",
        "a job that is due first does not come back before those after it",
        SIMULATOR,
        "_runtime/scheduler.py",
        "        self._alarm.set(when)\n",
        "",
    ),
    _M(
        "expired stays in line",
        "deadlines of waiting jobs are looked at a minute late",
        SIMULATOR,
        "_runtime/scheduler.py",
        "        self._alarm.set(self._clock.monotonic() + self._until(record.deadline_at))\n",
        "",
    ),
    _M(
        "overdue not told",
        "an attempt that goes on after its limit is not told of",
        SIMULATOR,
        "_runtime/overrun_monitor.py",
        "        if self.overdue is not running:",
        "        if self.overdue is running:",
    ),
    _M(
        "stuck not told",
        "a call that is stuck is not told of",
        SIMULATOR,
        "_runtime/overrun_monitor.py",
        "        if self.stuck is not running:",
        "        if self.stuck is running:",
    ),
    _M(
        "cursor skips at the ring's edge",
        "a reader that takes from the ring misses its first event",
        SIMULATOR,
        "_runtime/feed.py",
        "        start = len(ring) - missing\n",
        "        start = len(ring) - missing + 1\n",
    ),
    _M(
        "news not told",
        "readers are not woken",
        SIMULATOR,
        "_runtime/feed.py",
        "            self._published.set()\n",
        "            pass\n",
    ),
    _M(
        "cursor skips its event",
        "a reader of one job is moved past the event it is woken for",
        SIMULATOR,
        "_runtime/feed.py",
        "cursor.notify(event.seq - 1)",
        "cursor.notify(event.seq)",
    ),
    _M(
        "lagged not told",
        "a reader whose events are gone goes on behind the gap as if there were none",
        EVENT_STREAM,
        "_runtime/feed.py",
        "                raise Lagged(after, self.store.oldest)\n",
        "                after = self.store.oldest - 1\n",
    ),
    # the queue
    _M(
        "key looked up once",
        "two who wait for a place with the same key make two jobs",
        "tests/runtime/test_submit.py",
        "_runtime/admission.py",
        "known = self._receipt_of_known(new)  # another",
        "known = None  # somebody",
    ),
    _M(
        "place kept after a conflict",
        "a submit that meets a key conflict after its wait keeps the place",
        "tests/runtime/test_submit.py",
        "_runtime/admission.py",
        "            except KeyConflict:\n                self._channel.release()\n",
        "            except KeyConflict:\n",
    ),
    _M(
        "submit not shielded",
        "a cancel while the disk works says not accepted, and the job is there",
        SIMULATOR,
        "_runtime/commit_waiter.py",
        "trio.CancelScope(deadline=started + self._timeout, shield=True)",
        "trio.CancelScope(deadline=started + self._timeout)",
    ),
    _M(
        "waiting submit cancelled",
        "a cancel reaches a submit that sleeps until it is told by another: not accepted, and the job is there",
        WAITING_SUBMITS,
        "_runtime/pending_submits.py",
        "return trio.lowlevel.Abort.FAILED",
        "return trio.lowlevel.Abort.SUCCEEDED",
    ),
    _M(
        "asking not passed on",
        "who waits behind the one that asked the store is never given up, whatever happens to the store",
        WAITING_SUBMITS,
        "_runtime/pending_submits.py",
        "            finally:\n                self._appoint_next_leader()\n",
        "            finally:\n                self._leader = None\n",
    ),
    _M(
        "result not told",
        "who waits for a result is not woken",
        SIMULATOR,
        "_runtime/shared_state.py",
        "        if waiter is not None:\n            waiter.set()\n\n    async def wait_idle",
        "\n    async def wait_idle",
    ),
    _M(
        "pause ignored",
        "attempts begin while the queue is paused",
        SIMULATOR,
        "_runtime/sdk_session.py",
        "            and self._projection.paused is None\n",
        "",
    ),
    _M(
        "no rest",
        "calls follow each other without min_interval",
        SIMULATOR,
        "_runtime/sdk_session.py",
        "return rest > 0 and self._last_end is not None and",
        "return rest < 0 and self._last_end is not None and",
    ),
    _M(
        "sdk left open",
        "the SDK is not closed when the queue stops",
        SIMULATOR,
        "_runtime/supervisor.py",
        "closed, problem = await self._runtime.sessions.close_sdk()",
        "closed, problem = True, None",
    ),
    _M(
        "job dropped at stop",
        "the report of the stop does not name jobs that wait for their retry",
        SIMULATOR,
        "_runtime/supervisor.py",
        "if r.state not in FINAL\n        )\n        return ShutdownReport",
        "if r.state is State.PENDING\n        )\n        return ShutdownReport",
    ),
    _M(
        "job dropped at restart",
        "pending jobs of the journal are not taken up",
        SIMULATOR,
        "_runtime/restored_jobs.py",
        "    elif was_pending:\n",
        "    elif False:\n",
    ),
    _M(
        "scheduled dropped at restart",
        "scheduled jobs of the journal are not taken up",
        SIMULATOR,
        "_runtime/restored_jobs.py",
        "elif record.state in (State.SCHEDULED, State.RETRYING):",
        "elif record.state is State.RETRYING:",
    ),
    _M(
        "crash not noticed",
        "what was under way when the process died is left as it was",
        SIMULATOR,
        "_runtime/restored_jobs.py",
        "if record.state is State.PROCESSING or (record.doubt",
        "if (record.doubt",
    ),
    _M(
        "cancel does not reach the attempt",
        "a cancel is recorded, and the attempt goes on",
        SIMULATOR,
        "_runtime/operations.py",
        "                current.cancel(EndedBy.CANCEL)\n",
        "                pass\n",
    ),
    # the hosts and the server
    _M(
        "closed on the wrong thread",
        "the session is closed on Trio's thread",
        EXECUTORS,
        "_executors/thread.py",
        "closed = await self._round_trip(self._leave, can_leave=True)",
        "closed = outcome.capture(self._leave)",
    ),
    _M(
        "second call beside a hung one",
        "a call that is over its limit is left behind on its thread, and the next begins on a new one",
        SIMULATOR,
        "_executors/thread.py",
        "                return trio.lowlevel.Abort.FAILED\n",
        "                self._thread = None\n"
        "                self._inside = self._is_open = False\n"
        "                return trio.lowlevel.Abort.SUCCEEDED\n",
    ),
    _M(
        "abandoned session left open",
        "a session whose call came back too late is never closed",
        EXECUTORS,
        "_executors/thread.py",
        "        outcome.capture(self._leave)\n\n",
        "        return\n\n",
    ),
    _M(
        "opening given up in silence",
        "who waits for a session to open is not told that it was given up",
        EXECUTORS,
        "_executors/trio_task.py",
        "            if not opened:  # abandoned",
        "            if False:  # abandoned",
    ),
    _M(
        "begins in a pause",
        "what waits for a disk in trouble begins although the queue was paused meanwhile",
        SIMULATOR,
        "_runtime/attempt_runner.py",
        "        events = decide.start(record, handler.enters_at_start",
        "        await event_log.committed(event_log.projection.seq)\n"
        "        events = decide.start(record, handler.enters_at_start",
    ),
    _M(
        "foreign epoch accepted",
        "a client goes on with numbers of another history",
        METHODS,
        "_server/methods.py",
        "known = params.epoch in (None, self._backend.epoch)",
        "known = True",
    ),
    # what a person's own machine, host and handler would meet
    _M(
        "drained too early",
        "drain does not wait for jobs that wait for their retry",
        QUEUE_MACHINE,
        "_runtime/operations.py",
        "_OPEN_WORK: Final = (State.PENDING, State.PROCESSING, State.RETRYING)",
        "_OPEN_WORK: Final = (State.PENDING, State.PROCESSING)",
    ),
    _M(
        "close problem kept back",
        "what closing the session raises is told to nobody",
        CHECK_HOST,
        "_executors/trio_task.py",
        '                self._close_problem = f"{type(error).__name__}: {error}"\n',
        "                pass\n",
    ),
    _M(
        "fail not believed",
        "a job whose handler vouched for its failure is taken for one that may have acted",
        CHECK_HANDLER,
        "_engine/attempt_result.py",
        'out.write(ev.Failed, reason="fail")',
        'out.write(ev.Failed, reason="fail", may_have_acted=True)',
    ),
)
