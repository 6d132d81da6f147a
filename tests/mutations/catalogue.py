"""Realistic bugs, each a small patch of the code, and the check that is meant to find it.

Each snippet `old` must occur exactly once in its file, which a test checks; keep the snippets short. A check is
"simulator" or a path of tests for pytest.
"""

from __future__ import annotations

import functools
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
FAILING_STOP: Final = "tests/journal/test_failing_stop.py"
LOCK: Final = "tests/stores/test_lock.py"
COMMITTED_VIEW: Final = "tests/runtime/test_committed_view.py"
REBUILD: Final = "tests/stores/test_rebuild.py"
SECOND_TIMES: Final = "tests/stores/test_second_times.py"
WRITER_THREAD: Final = "tests/stores/test_writer_thread.py"
YOUNG: Final = "tests/stores/test_young_journals.py"
OPERATIONS: Final = "tests/runtime/test_operations.py"
SUBSCRIPTIONS: Final = "tests/server/test_subscriptions.py"
METHODS: Final = "tests/server/test_methods.py"
REQUEST: Final = "tests/server/test_request.py"
REFUSALS: Final = "tests/server/test_refusals.py"
DRAIN: Final = "tests/runtime/test_drain.py"
STOP: Final = "tests/server/test_stop.py"
ORIGINS: Final = "tests/server/test_origins.py"
CERTIFICATES: Final = "tests/server/test_certificates.py"
PAGES: Final = "tests/server/test_pages.py"
LISTING: Final = "tests/runtime/test_listing.py"
MEMORY: Final = "tests/server/test_memory.py"
HOSTILE: Final = "tests/server/test_hostile_clients.py"
QUEUE_MACHINE: Final = "tests/harness/test_queue_machine.py"
CONNECTION_LIMITS: Final = "tests/server/test_limits_of_a_connection.py"
PACING: Final = "tests/client/test_pacing.py"
HOSTILE_SERVER: Final = "tests/client/test_hostile_server.py"
CHECK_EXECUTOR: Final = "tests/harness/test_check_executor.py"
METRICS: Final = "tests/server/test_metrics.py"
OUTPUT: Final = "tests/cli/test_output.py"
EXIT_CODES: Final = "tests/cli/test_exit_codes.py"
TOKEN_FILE: Final = "tests/cli/test_token_file.py"
CALLERS: Final = "tests/runtime/test_callers.py"
OWN_WAITS: Final = "tests/runtime/test_own_waits.py"
LOG_HANDLERS: Final = "tests/runtime/test_log_handlers.py"
NOT_RUN: Final = "tests/runtime/test_not_run.py"
PLAIN_VALUES: Final = "tests/runtime/test_plain_values.py"
HOSTILE_ERRORS: Final = "tests/runtime/test_hostile_errors.py"
RETRY: Final = "tests/engine/test_retry.py"
ERRORS: Final = "tests/engine/test_errors.py"
CHECK_HANDLER: Final = "tests/harness/test_check_handler.py"
THREAD_STARTS: Final = "tests/runtime/test_thread_starts.py"
BAD_HANDLERS: Final = "tests/runtime/test_bad_handlers.py"
ATTEMPTS: Final = "tests/runtime/test_attempts.py"
POISON: Final = "tests/journal/test_poison.py"
RESTART: Final = "tests/runtime/test_restart.py"
TRACEBACKS: Final = "tests/runtime/test_tracebacks.py"

BOOKED_ONCE: Final = "tests/demo/test_booked_once.py"
DEMO_OWNER: Final = "tests/demo/test_owner.py"
DEMO_READER: Final = "tests/demo/test_reader.py"
DEMO_STOPS: Final = "tests/demo/test_stops.py"
DEMO_SUMMARY: Final = "tests/demo/test_summary.py"
DEMO_VOUCHERS: Final = "tests/demo/test_vouchers.py"
HOSTILE_FILES: Final = "tests/demo/test_hostile_files.py"

#: The checks that the campaign tries on every mutation
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
    CHECK_EXECUTOR,
    CHECK_HANDLER,
)


@attrs.frozen
class Mutation:
    """One bug."""

    name: str
    """A short name for the table."""
    what: str
    """What goes wrong, as a user would describe it."""
    check: str
    """The check that is meant to find it."""
    file: str
    """The file to patch, relative to the package."""
    old: str
    new: str
    more: tuple[tuple[str, str], ...] = ()
    """Further pairs of old and new snippets of the same file."""
    package: str = "trio_jobs"
    """The package with the file."""
    hangs: bool = False
    """The check does not end with this bug, so a timeout counts as found."""

    def apply(self, source: str) -> str:
        """Return the patched source. Raises `AssertionError` unless each snippet occurs exactly once."""
        for old, new in ((self.old, self.new), *self.more):
            count = source.count(old)
            assert count == 1, f"{self.name}: {old!r} occurs {count} times in {self.file}; repair the catalogue"
            source = source.replace(old, new)
        return source


_M = Mutation
_D = functools.partial(Mutation, package="trio_jobs_demo")

MUTATIONS: Final[tuple[Mutation, ...]] = (
    # what a client costs the server, what it may see and what it can undo
    _M(
        "connections taken apart while others wait",
        "a stop with thousands of clients ends their connections one by one, and the last get no close frame in time",
        STOP,
        "_server/stream.py",
        "        if self.gate is not None:\n",
        "        if False:\n",
    ),
    _M(
        "request executed after the close frame",
        "a job is accepted whose submit the server can no longer answer",
        STOP,
        "_server/connection.py",
        "            if self._leaving is not None:\n                continue  # it cannot be answered any more\n",
        "",
    ),
    _M(
        "stop undone",
        "a client lets a queue accept jobs again that its owner is closing",
        DRAIN,
        "_runtime/admission.py",
        "        if self._status.stopping:\n",
        "        if False:\n",
    ),
    _M(
        "resume of a drain",
        "an operator resumes a queue that drains, gets success, and no job is accepted",
        DRAIN,
        "_runtime/operations.py",
        "        elif self._status.closing and not self._status.stopping:\n",
        "        elif False:\n",
    ),
    _M(
        "newline in an id",
        "a subscription with the id 'a' and a newline is accepted",
        "tests/wire/test_messages.py",
        "_wire/schemas.py",
        "{1,64}$(?!\\n)",
        "{1,64}$",
    ),
    _M(
        "number of any history accepted",
        "a client resumes without an epoch, after a number that belongs to another history",
        METHODS,
        "_server/methods.py",
        "            if params.epoch is None:",
        "            if False:",
    ),
    _M(
        "prefix of an origin accepted",
        "a page of https://shop.example.evil.example connects where https://shop.example is allowed",
        ORIGINS,
        "_server/origins.py",
        "origin is None or origin in origins",
        "origin is None or any(origin.startswith(allowed) for allowed in origins)",
    ),
    _M(
        "port of an own origin ignored",
        "a page of another server on the same machine connects with the token that it finds",
        ORIGINS,
        "_server/origins.py",
        "    return (page[2], page[3] or port) == (own[1], own[2] or port)",
        "    return page[2] == own[1]",
    ),
    _M(
        "end of a host name accepted",
        "a page of evil-localhost, which resolves to this machine, reaches the server",
        "tests/server/test_request.py",
        "_server/request.py",
        "if name not in hosts and not _is_address",
        "if not name.endswith(tuple(hosts)) and not _is_address",
    ),
    _M(
        "traceback in a result",
        "a token that only watches reads the traceback of a failed job",
        METHODS,
        "_server/methods.py",
        "        error=error_to_wire(job.error),\n",
        "        error=error_to_wire(job.error, private=True),\n",
    ),
    _M(
        "feed from zero after a restart",
        "after a restart no subscriber can resume until the first new event is committed",
        RESTART,
        "_runtime/supervisor.py",
        "        runtime.feed.seq = runtime.event_log.committed_seq\n",
        "",
    ),
    _M(
        "list by scanning",
        "a page of jobs in the middle of a list looks at all jobs before it",
        LISTING,
        "_runtime/queries.py",
        "        records = log.by_submit(end, kinds) if state is None else log.in_state(state, end, kinds)\n",
        "        records = log.by_submit(0, kinds) if state is None else log.in_state(state, 0, kinds)\n"
        "        records = (r for r in records if (r.submitted_seq if state is None else r.state_seq) > end)\n",
    ),
    _M(
        "pages without a limit of bytes",
        "a page of jobs with long errors is larger than a client accepts, and is sent again and again",
        PAGES,
        "_wire/pages.py",
        "if self.jobs and self._bytes + len(body) > MAX_PAGE_BYTES:",
        "if False:",
    ),
    _M(
        "job dropped between pages",
        "the job that did not fit into a page of a snapshot is in no page",
        PAGES,
        "_runtime/queries.py",
        "                if taken == limit or not take(view(record, brief=True)):\n                    return after\n",
        "                if taken == limit or not take(view(record, brief=True)):\n"
        "                    return record.submitted_seq\n",
    ),
    _M(
        "pages without a pause",
        "snapshots occupy the event loop, and a submit waits until they are sent",
        PAGES,
        "_server/pacing.py",
        "+ took / SHARE",
        "+ took",
    ),
    _M(
        "reference cycle of a subscription",
        "the memory of connections that have ended is freed only by a full garbage collection",
        MEMORY,
        "_engine/event_cursor.py",
        "        self.on_available = _do_nothing\n",
        "        pass\n",
    ),
    # the files of a journal
    _M(
        "young journal without its mark opened",
        "a young journal that was copied without its other files opens as an empty queue",
        YOUNG,
        "_stores/sqlite/files.py",
        "    if file.stored is None:\n        raise",
        "    if file.stored is None and file.exists:\n        raise",
        (
            (
                "    return file.stored\n",
                "    return file.stored or HighWaterMark(NO_EPOCH, 0, 0)\n",
            ),
        ),
    ),
    _M(
        "mark begun after the file",
        "a power cut while a journal is created leaves one that is refused for ever",
        YOUNG,
        "_stores/sqlite/files.py",
        "    file.create(stored)  # also",
        "    file._file = disk.open_file(f'{path}-mark', create=True)  # also",
    ),
    _M(
        "WAL without its file deleted",
        "a journal whose main file is missing begins anew, and its log is deleted",
        YOUNG,
        "_stores/sqlite/files.py",
        '    if disk.size(path + "-wal") and (',
        "    if False and (",
    ),
    _M(
        "journal begun in silence",
        "a journal that is begun in a file that was there is not logged",
        YOUNG,
        "_stores/sqlite/files.py",
        "    if stored is None and (file.exists or",
        "    if False and (file.exists or",
    ),
    _M(
        "empty log left behind",
        "a journal that was refused gets an empty log beside it",
        YOUNG,
        "_stores/sqlite/journal.py",
        "        if not self._had_wal:\n",
        "        if False:\n",
    ),
    _M(
        "second name opened",
        "a journal with a second hard link is opened, with other files beside it",
        LOCK,
        "_stores/sqlite/lock.py",
        "    if found.st_nlink > 1:",
        "    if False:",
    ),
    _M(
        "lock by name alone",
        "a second name lets this process open a journal that it has open",
        LOCK,
        "_stores/sqlite/lock.py",
        "= {journal, *filter(None, (_key(journal), _key(path)))}",
        "= {journal}",
    ),
    _M(
        "SQLite's lock not tried",
        "a journal in use under another name is called damaged",
        LOCK,
        "_stores/sqlite/lock.py",
        "        _try_sqlite_lock(journal)\n",
        "        pass\n",
    ),
    _M(
        "check releases the lock",
        "a check lets other processes write to a journal that is in use",
        LOCK,
        "_stores/sqlite/check.py",
        "    mark = _read_mark(names[2])\n",
        "    mark = _read_mark(names[2])\n    Disk().read_start(str(file), HEADER_SIZE)\n",
    ),
    _M(
        "every failed lock in use",
        "a file system without locks is reported as a journal in use",
        LOCK,
        "_stores/sqlite/lock.py",
        "            if error.errno in _IN_USE:  # also",
        "            if True:  # also",
    ),
    _M(
        "failing disk waited for",
        "a stop on a full disk takes as long as one on a disk that does not respond",
        FAILING_STOP,
        "_runtime/supervisor.py",
        "if patience.cancelled_caught and not event_log.is_failing:",
        "if patience.cancelled_caught:",
    ),
    _M(
        "unstored events not reported",
        "a process whose last events are not on the disk exits as if they were",
        FAILING_STOP,
        "_cli/serve.py",
        "return ExitCode.NOT_STORED if report.unstored_events else ExitCode.DONE",
        "return 0",
    ),
    _M(
        "SDK kept open by a failing disk",
        "a thread that waits for the commit of its step keeps the SDK from being closed",
        FAILING_STOP,
        "_runtime/attempt.py",
        "            if self.commit_scope is not None:\n",
        "            if False:\n",
    ),
    _M(
        "record with a surrogate lost",
        "an error whose text UTF-8 cannot encode is not in the log",
        LOG_HANDLERS,
        "_log.py",
        "            text.encode()\n",
        "            text.encode(errors='replace')\n",
    ),
    # the thread of a store
    _M(
        "thread ended without memory",
        "a commit for which there is no memory ends the queue",
        WRITER_THREAD,
        "_stores/sqlite/durable_log.py",
        "OSError, MemoryError):\n            self.journal.write",
        "OSError):\n            self.journal.write",
    ),
    _M(
        "opening without a typed error",
        "an error of an opening that nobody expected is raised as it is",
        WRITER_THREAD,
        "_stores/durable_store.py",
        "            if not isinstance(error, TrioJobsError):",
        "            if False:",
    ),
    _M(
        "report of a failed store trusted",
        "a callback that raises while a store fails ends Trio's run",
        WRITER_THREAD,
        "_stores/durable_store.py",
        "            except BaseException as problem:  # it",
        "            except ZeroDivisionError as problem:  # it",
    ),
    _M(
        "lock kept after a failed close",
        "a journal whose close raised stays locked",
        WRITER_THREAD,
        "_stores/sqlite/durable_log.py",
        "            self.journal.close()\n        finally:\n",
        "            self.journal.close()\n        except ZeroDivisionError:\n            pass\n        else:\n",
    ),
    _M(
        "interrupted rebuild forgotten",
        "a kill while a damaged journal is rebuilt leaves an empty queue",
        REBUILD,
        "_stores/sqlite/recovery.py",
        "    if disk.size(path) is not None or disk.size(rebuilt) is None:\n",
        "    if damaged is None:\n",
    ),
    _M(
        "WAL of a missing file deleted",
        "a rebuild deletes the log of a journal whose main file is missing",
        REBUILD,
        "_stores/sqlite/recovery.py",
        "    if disk.size(path):  # SQLite",
        "    if True:  # SQLite",
    ),
    # what a restart sets up again, and what matters only the second time
    _M(
        "seventh failure in a row",
        "a disk that is full for more than six commits in a row ends the queue",
        SECOND_TIMES,
        "_stores/writer_thread.py",
        "RETRY_DELAYS[min(self._failures, len(RETRY_DELAYS) - 1)]",
        "RETRY_DELAYS[self._failures]",
    ),
    _M(
        "stall behind a commit",
        "a commit that does not return is not reported if another one returned before it",
        SECOND_TIMES,
        "_stores/durable_store.py",
        "self._commit_started = self._monotonic() if self.appended_seq > self.last_seq else None",
        "self._commit_started = None",
    ),
    _M(
        "key counted twice",
        "a key that is forgotten twice makes the next start refuse the journal",
        SECOND_TIMES,
        "_stores/sqlite/journal.py",
        'set_meta(connection, "keys", str(self._key_count - deleted))',
        'set_meta(connection, "keys", str(self._key_count - len(tombstones)))',
    ),
    _M(
        "pruned job kept in memory",
        "a pruned job comes back if its events lie behind those of others",
        SECOND_TIMES,
        "_stores/memory.py",
        "chunk[-1].seq >= first",
        "chunk[0].seq >= first",
    ),
    _M(
        "feed begun at zero",
        "a reader after a restart gets no old events until there is a new one",
        SECOND_TIMES,
        "_runtime/supervisor.py",
        "        runtime.feed.seq = runtime.event_log.committed_seq\n",
        "",
    ),
    _M(
        "backup named before its sync",
        "a power cut leaves a backup that is not whole",
        SECOND_TIMES,
        "_stores/sqlite/backup.py",
        "            os.fsync(fd)\n",
        "",
    ),
    _M(
        "end of an attempt seen early",
        "the history of a job shows the end of an attempt that a power cut can undo",
        COMMITTED_VIEW,
        "_runtime/event_log.py",
        "    twin.attempts = [copy.copy(attempt) for attempt in record.attempts]\n",
        "    twin.attempts = list(record.attempts)\n",
    ),
    # the store
    _M(
        "acknowledged before the sync",
        "a submit returns once its event is appended, not once it is on the disk",
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
        "a commit that failed is reported as committed",
        SIMULATOR,
        "_stores/writer_thread.py",
        "            return self._handle_failure(group, failure)\n",
        "            log.error(failure)\n",
    ),
    _M(
        "slot of a rejected submit leaked",
        "a submit that the store rejected keeps its slot",
        SIMULATOR,
        "_runtime/event_log.py",
        "        for submit in rejected.values():\n",
        "        for submit in ():\n",
    ),
    _M(
        "rejected submit kept",
        "a submit that the store rejected remains in the projection",
        SIMULATOR,
        "_runtime/event_log.py",
        "if isinstance(event, ev.JobEvent) and event.job in rejected\n            else event",
        "if isinstance(event, ev.JobEvent) and event.job in ()\n            else event",
    ),
    _M(
        "rejected start kept",
        "a job whose submit the store rejected remains in the projection if its attempt had started",
        SIMULATOR,
        "_runtime/event_log.py",
        "if isinstance(event, ev.JobEvent) and event.job in rejected",
        "if isinstance(event, ev.Submitted) and event.job in rejected",
    ),
    _M(
        "early start without a wait",
        "a handler that does not wait for its start is called for a job whose submit the store then rejects",
        EARLY_ADMISSION,
        "_runtime/admission.py",
        "and waits_for_its_start and",
        "and",
    ),
    _M(
        "rejected job in the channel",
        "a job that the store rejected after it had entered the channel keeps its slot",
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
        "uncommitted state shown",
        "a job is shown as it is in memory, before that is on the disk",
        EARLY_ADMISSION,
        "_runtime/event_log.py",
        "return self._committed_copies.get(record.id, record) if self._committed_copies else record",
        "return record",
    ),
    _M(
        "event numbers reused",
        "after a restart events are numbered from the last event of a job",
        SIMULATOR,
        "_runtime/event_log.py",
        "        projection.seq = self.committed_seq = self.store.last_seq\n",
        "        self.committed_seq = projection.seq\n",
    ),
    _M(
        "pause lost at restart",
        "a paused queue runs again after a restart",
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
        "commits not synced",
        "SQLite syncs at checkpoints only",
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
        "page starts one event early",
        "a page from the journal repeats the event before it",
        STORES,
        "_stores/sqlite/journal.py",
        "FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
        "FROM events WHERE seq >= ? ORDER BY seq LIMIT ?",
    ),
    _M(
        "epoch kept after a loss",
        "a journal that lost events keeps its epoch, so followers do not notice",
        DAMAGE,
        "_stores/sqlite/recovery.py",
        "        create(connection, secrets.token_hex(16))\n",
        "        damaged = connect(disk, path.removesuffix(_REBUILDING))\n"
        "        create(connection, get_meta(damaged, path)['epoch'])\n"
        "        disk.close_without_checkpoint(damaged, path.removesuffix(_REBUILDING))\n",
    ),
    _M(
        "lost numbers reused",
        "after a loss new events get the numbers of lost ones",
        DAMAGE,
        "_stores/sqlite/recovery.py",
        "last_seq = max(last_known, last_seen)",
        "last_seq = max([0, *(row[0] for row in rows[-1:])])",
    ),
    _M(
        "key lost at prune",
        "pruning a job lets its key be used a second time",
        "tests/runtime/test_retention.py",
        "_engine/projection.py",
        "        self.tombstones.add(keys)\n",
        "",
    ),
    # the engine
    _M(
        "one retry too many",
        "a job has one more retry than its policy",
        SIMULATOR,
        "_engine/attempt_result.py",
        "record.retries_used >= rules.retry.max_retries",
        "record.retries_used > rules.retry.max_retries",
    ),
    _M(
        "wait of the previous retry",
        "the wait before a retry is that of the retry before",
        SIMULATOR,
        "_engine/attempt_result.py",
        "wait_before(record.retries_used + 1, chance)",
        "wait_before(max(record.retries_used, 1), chance)",
    ),
    _M(
        "one crash too many",
        "a job that kills the process is repeated once more than allowed",
        MACHINE,
        "_engine/attempt_result.py",
        "record.crashes + 1 >= rules.max_crashes",
        "record.crashes >= rules.max_crashes",
    ),
    _M(
        "attempt numbers reused",
        "attempts are numbered from 1 in each run",
        SIMULATOR,
        "_engine/decide.py",
        "attempt=len(record.attempts) + 1",
        "attempt=record.retries_used + 1",
    ),
    _M(
        "cancel lost in a crash",
        "a job with a cancel request is repeated after the process died",
        MACHINE,
        "_engine/attempt_result.py",
        "may_have_acted=record.may_have_acted)\n        if record.cancel_requested:",
        "may_have_acted=record.may_have_acted)\n        if False:",
    ),
    _M(
        "cancel lost at a retry",
        "an attempt that fails after a cancel request is repeated",
        "tests/engine/test_attempts_table.py",
        "_engine/attempt_result.py",
        "elif record.cancel_requested or not retryable or",
        "elif not retryable or",
    ),
    _M(
        "no job in doubt",
        "an attempt that was interrupted inside the SDK is repeated without a verify",
        SIMULATOR,
        "_engine/attempt_result.py",
        "    return ending.entered and not rules.idempotent\n",
        "    return False\n",
    ),
    _M(
        "late result dropped",
        "the result of a call that returns after it was reported stuck is discarded",
        SIMULATOR,
        "_engine/attempt_result.py",
        "record.state is State.IN_DOUBT and record.doubt is not None and record.doubt.inside\n    )",
        "record.state is State.IN_DOUBT and record.doubt is None\n    )",
    ),
    _M(
        "deadline off by one moment",
        "an attempt can start just after the deadline",
        SIMULATOR,
        "_engine/attempt_result.py",
        "record.deadline_at is not None and record.deadline_at <= now",
        "record.deadline_at is not None and record.deadline_at <= now - 0.5",
    ),
    _M(
        "on_doubt ignored",
        'on_doubt="hold" is treated as "retry"',
        SIMULATOR,
        "_engine/attempt_result.py",
        'elif rules.on_doubt == "retry" and',
        'elif rules.on_doubt != "fail" and',
    ),
    _M(
        "verified job repeated",
        "verify returns Done, and the attempt is repeated",
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
        "            if event_log.durable and self._awaits_start(record, handler):\n                with running",
        "            if event_log.durable and not self._awaits_start(record, handler):\n                with running",
    ),
    _M(
        "entry not awaited",
        "the first call of an async handler begins before its entry is on the disk",
        SIMULATOR,
        "_runtime/attempt_runner.py",
        "            if event_log.durable and not running.handler.rules.idempotent:\n",
        "            if False:\n",
    ),
    _M(
        "slot leaked",
        "a job that the consumer received keeps its slot",
        SIMULATOR,
        "_runtime/consumer.py",
        "        self._channel.received()\n",
        "",
    ),
    _M(
        "verify skipped",
        "a job whose earlier attempt entered the SDK is repeated without a verify",
        "tests/runtime/test_restart.py",
        "_runtime/verification.py",
        "(record.may_have_acted or handler.verify_first)",
        "handler.verify_first",
    ),
    _M(
        "doubt not verified",
        "no verify runs for a job that became in doubt",
        SIMULATOR,
        "_runtime/verification.py",
        "        if self._strict_order or not can_verify(record, handler):",
        "        if record:",
    ),
    _M(
        "limit without effect",
        "attempt_timeout passes and ends nothing",
        SIMULATOR,
        "_runtime/attempt_runner.py",
        "running.limit_at = running.scope.deadline = now",
        "running.limit_at = now",
    ),
    _M(
        "first job passed",
        "in strict order the next job passes one that waits for its retry",
        SIMULATOR,
        "_runtime/consumer.py",
        "            while record.state not in FINAL and",
        "            while record.state is State.PENDING and",
    ),
    _M(
        "lost wake-up of the scheduler",
        "a job that waits for a slot waits until another event wakes the scheduler",
        SIMULATOR,
        "_runtime/scheduler.py",
        "        self._channel.set_requeue_waiting(True)\n        self._wake.set()\n",
        "        self._channel.set_requeue_waiting(True)\n",
    ),
    _M(
        "lost timer",
        "the job that is due first is requeued after later ones",
        SIMULATOR,
        "_runtime/scheduler.py",
        "        self._alarm.set(when)\n",
        "",
    ),
    _M(
        "expiry one minute late",
        "deadlines of waiting jobs are checked one minute late",
        SIMULATOR,
        "_runtime/scheduler.py",
        "        self._alarm.set(self._clock.monotonic() + self._until(record.deadline_at))\n",
        "",
    ),
    _M(
        "overdue not reported",
        "an attempt that exceeds its limit is not reported overdue",
        SIMULATOR,
        "_runtime/overrun_monitor.py",
        "        if self.overdue is not running:",
        "        if self.overdue is running:",
    ),
    _M(
        "stuck not reported",
        "a stuck call is not reported",
        SIMULATOR,
        "_runtime/overrun_monitor.py",
        "        if self.stuck is not running:",
        "        if self.stuck is running:",
    ),
    _M(
        "cursor skips at the ring's edge",
        "a reader that reads from the ring misses its first event",
        SIMULATOR,
        "_runtime/feed.py",
        "        start = len(ring) - missing\n",
        "        start = len(ring) - missing + 1\n",
    ),
    _M(
        "readers not woken",
        "readers are not woken by new events",
        SIMULATOR,
        "_runtime/feed.py",
        "            self._published.set()\n",
        "            pass\n",
    ),
    _M(
        "cursor skips its event",
        "a reader of one job is moved past the event that woke it",
        SIMULATOR,
        "_runtime/feed.py",
        "cursor.notify(event.seq - 1)",
        "cursor.notify(event.seq)",
    ),
    _M(
        "gap not reported",
        "a reader whose events are gone continues behind the gap without an error",
        EVENT_STREAM,
        "_runtime/feed.py",
        "                raise Lagged(after, self.store.oldest)\n",
        "                after = self.store.oldest - 1\n",
    ),
    # the queue
    _M(
        "key looked up once",
        "two submits with the same key that wait for a slot create two jobs",
        "tests/runtime/test_submit.py",
        "_runtime/admission.py",
        "known = self._receipt_of_known(new)  # another",
        "known = None  # somebody",
    ),
    _M(
        "slot kept after a conflict",
        "a submit with a key conflict after its wait keeps the slot",
        "tests/runtime/test_submit.py",
        "_runtime/admission.py",
        "            except KeyConflict:\n                self._channel.release()\n",
        "            except KeyConflict:\n",
    ),
    _M(
        "submit not shielded",
        "a submit is cancelled during its commit, and the job exists",
        SIMULATOR,
        "_runtime/commit_waiter.py",
        "trio.CancelScope(deadline=started + self._timeout, shield=True)",
        "trio.CancelScope(deadline=started + self._timeout)",
    ),
    _M(
        "waiting submit cancelled",
        "a submit that waits for the commit of another is cancelled, and the job exists",
        WAITING_SUBMITS,
        "_runtime/pending_submits.py",
        "return trio.lowlevel.Abort.FAILED",
        "return trio.lowlevel.Abort.SUCCEEDED",
    ),
    _M(
        "commit wait not handed over",
        "submits that wait behind a cancelled one are never woken",
        WAITING_SUBMITS,
        "_runtime/pending_submits.py",
        "            finally:\n                self._appoint_next_leader()\n",
        "            finally:\n                self._leader = None\n",
    ),
    _M(
        "result not delivered",
        "a caller that waits for a result is not woken",
        SIMULATOR,
        "_runtime/shared_state.py",
        "        if waiter is not None:\n            waiter.set()\n\n    async def wait_idle",
        "\n    async def wait_idle",
    ),
    _M(
        "pause ignored",
        "attempts start while the queue is paused",
        SIMULATOR,
        "_runtime/sdk_session.py",
        "            and self._projection.paused is None\n",
        "",
    ),
    _M(
        "min_interval ignored",
        "calls follow each other without min_interval",
        SIMULATOR,
        "_runtime/sdk_session.py",
        "return rest > 0 and self._last_end is not None and",
        "return rest < 0 and self._last_end is not None and",
    ),
    _M(
        "SDK left open",
        "the SDK is not closed when the queue stops",
        SIMULATOR,
        "_runtime/supervisor.py",
        "closed, problem = await self._runtime.sessions.close_sdk()",
        "closed, problem = True, None",
    ),
    _M(
        "job missing in the report",
        "the shutdown report does not name jobs that wait for their retry",
        SIMULATOR,
        "_runtime/supervisor.py",
        "if r.state not in FINAL\n        )\n        jobs =",
        "if r.state is State.PENDING\n        )\n        jobs =",
    ),
    _M(
        "pending job lost at restart",
        "pending jobs of the journal are not requeued",
        SIMULATOR,
        "_runtime/restored_jobs.py",
        "    elif was_pending:\n",
        "    elif False:\n",
    ),
    _M(
        "scheduled job lost at restart",
        "scheduled jobs of the journal are not restored",
        SIMULATOR,
        "_runtime/restored_jobs.py",
        "elif record.state in (State.SCHEDULED, State.RETRYING):",
        "elif record.state is State.RETRYING:",
    ),
    _M(
        "crash not noticed",
        "an attempt that was running when the process died stays as it was",
        SIMULATOR,
        "_runtime/restored_jobs.py",
        "if record.state is State.PROCESSING or (record.doubt",
        "if (record.doubt",
    ),
    _M(
        "cancel without effect",
        "a cancel is recorded, and the attempt continues",
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
        "second call beside a stuck one",
        "a call over its limit is left on its thread, and the next one starts on another",
        SIMULATOR,
        "_executors/thread.py",
        "                return trio.lowlevel.Abort.FAILED\n",
        "                self._thread = None\n"
        "                self._inside = self._is_open = False\n"
        "                return trio.lowlevel.Abort.SUCCEEDED\n",
    ),
    _M(
        "abandoned session left open",
        "a session whose call returned too late is never closed",
        EXECUTORS,
        "_executors/thread.py",
        "        _captured(self._leave)\n\n",
        "        return\n\n",
    ),
    _M(
        "closed without an open",
        "a session that could not be opened is closed",
        EXECUTORS,
        "_executors/thread.py",
        "        self._sdk = manager.__enter__()\n        self._manager = manager\n",
        "        self._manager = manager\n        self._sdk = manager.__enter__()\n",
    ),
    _M(
        "abandoned opening not reported",
        "a caller that waits for a session to open is not woken when the opening is abandoned",
        EXECUTORS,
        "_executors/trio_task.py",
        "            elif not opened:  # abandoned",
        "            elif False:  # abandoned",
    ),
    _M(
        "start during a pause",
        "an attempt that waits for a failing disk starts although the queue was paused meanwhile",
        SIMULATOR,
        "_runtime/attempt_runner.py",
        "        events = decide.start(record, handler.enters_at_start",
        "        await event_log.committed(event_log.projection.seq)\n"
        "        events = decide.start(record, handler.enters_at_start",
    ),
    _M(
        "other epoch accepted",
        "a client resumes with event numbers of another history",
        METHODS,
        "_server/methods.py",
        "known = params.epoch == self._backend.epoch",
        "known = True",
    ),
    _M(
        "page at the cost of a job",
        "a client that may read a hundred jobs a second reads a hundred pages of jobs",
        HOSTILE,
        "_server/connection.py",
        "self._limiter.measure(message, cost(params), request_id)",
        "self._limiter.measure(message, 1, request_id)",
    ),
    # threads and interrupts
    _M(
        "thread kept that did not start",
        "an SDK thread that could not start once is never started again",
        THREAD_STARTS,
        "_executors/thread.py",
        "            thread.start()  # raises RuntimeError where no thread can start; the next open tries again\n"
        "            self._thread, self._thread_id = thread, thread.ident\n",
        "            self._thread = thread\n            thread.start()\n",
    ),
    _M(
        "interrupt of a library",
        "a KeyboardInterrupt that a library raises ends the queue, and its job is given back for ever",
        BAD_HANDLERS,
        "_concurrency.py",
        "    return any(frame.f_code is code for",
        "    return code is not None or any(frame.f_code is code for",
    ),
    _M(
        "abandoned call said to have ended",
        "the log says that a call has ended, although it is still inside",
        ATTEMPTS,
        "_runtime/attempt_runner.py",
        "        elif result.outcome is not Outcome.INSIDE:",
        "        else:",
    ),
    _M(
        "traceback begins in the queue",
        "the kept traceback of an error begins with frames of the queue",
        TRACEBACKS,
        "_engine/error_info.py",
        "_from_handler(traceback_of(error))",
        "traceback_of(error)",
    ),
    _M(
        "second length accepted",
        "a request with two lengths is accepted, and a proxy can take for its body what is another request",
        REQUEST,
        "_server/request.py",
        '            raise BadRequest(400, f"header {name} is repeated")\n',
        "            headers[name] = text\n",
    ),
    _M(
        "refusals of a minute not logged",
        "only the first refused client is logged, not those of the following minute",
        REFUSALS,
        "_server/refusals.py",
        "                elif period.count:\n",
        "                elif False:\n",
    ),
    _M(
        "last handshake dropped at the stop",
        "a client that connects while the server stops gets no close frame",
        STOP,
        "_server/server.py",
        "            if scope not in self._answered:",
        "            if True:",
    ),
    _M(
        "line ends not seen between reads",
        "the answer to a malformed request depends on how its bytes arrive",
        REQUEST,
        "_server/request.py",
        "_LINE_END.search(self._data, max(0, start - 1)",
        "_LINE_END.search(self._data, start",
    ),
    _M(
        "answer lost over TLS",
        "a client that sends more than the server reads loses the answer",
        CERTIFICATES,
        "_server/handshake.py",
        "    if isinstance(transport, trio.SSLStream):  # the response",
        "    if False:  # the response",
    ),
    _M(
        "unmatched origin accepted",
        "an origin with a slash at its end is accepted as an option, and no page has it",
        ORIGINS,
        "_server/origins.py",
        "_SENT.fullmatch(origin.lower())",
        "_SENT.match(origin.lower())",
    ),
    _M(
        "replaced link of a certificate not seen",
        "a renewed certificate is not served if its name is a link, as certbot makes it",
        CERTIFICATES,
        "_server/certificates.py",
        "        found = path.stat()\n",
        "        found = path.lstat()\n",
    ),
    _M(
        "cancelled wait keeps its place",
        "64 cancelled waits for results block a connection for 30 seconds",
        CONNECTION_LIMITS,
        "_server/connection.py",
        "            scope.cancel()\n",
        "            pass\n",
        hangs=True,
    ),
    _M(
        "full connection is a strike",
        "a client that asks too much at once is disconnected, although it stays below the rate",
        CONNECTION_LIMITS,
        "_server/connection.py",
        "                await self._send(lambda: body)  # noqa: B023 - it is called before the next message is read\n",
        "                await self._refuse(refusal)\n",
    ),
    _M(
        "idempotent crash not counted",
        "an idempotent handler that kills the process at once does so at each start, for ever",
        POISON,
        "_runtime/attempt_runner.py",
        "not handler.rules.idempotent or record.crashes > 0 or self._attempts <= FIRST_ATTEMPTS",
        "not handler.rules.idempotent",
    ),
    _M(
        "max_crashes ignored",
        "a job kills three processes although max_crashes is 1",
        RESTART,
        "_runtime/restored_jobs.py",
        "max_crashes=runtime.settings.max_crashes",
        "max_crashes=3",
    ),
    # values and errors of other people's code
    _M(
        "attributes of errors trusted",
        "an exception whose `code` is a property that exits ends the queue",
        HOSTILE_ERRORS,
        "_engine/error_info.py",
        "    except BaseException:  # a property can raise anything\n",
        "    except Exception:  # a property can raise anything\n",
    ),
    _M(
        "classes of errors trusted",
        "an exception that Trio cannot read is recorded as another one if its attempt is cancelled",
        HOSTILE_ERRORS,
        "_runtime/attempt.py",
        "        passing = holding(error, trio.Cancelled)\n",
        "        passing: BaseException | None = error\n",
    ),
    _M(
        "tracebacks read on the SDK's thread",
        "an exception whose `__traceback__` raises ends the thread of the SDK, and the attempt never ends",
        HOSTILE_ERRORS,
        "_executors/thread.py",
        "            result = _captured(work)\n",
        "            result = outcome.capture(work)\n",
    ),
    _M(
        "groups judged by one error",
        "a group with one error that must not be retried is retried",
        RETRY,
        "_engine/retry.py",
        "all(is_a(leaf, on) for leaf in leaves(error))",
        "any(is_a(leaf, on) for leaf in leaves(error))",
    ),
    _M(
        "attributes of a copied error lost",
        "an error that was pickled has its message, but not its attributes",
        ERRORS,
        "_errors.py",
        "    error.__dict__.update(attributes)\n",
        "",
    ),
    _M(
        "key kept as given",
        "a key of a str subclass is refused, although its text could be kept",
        PLAIN_VALUES,
        "_runtime/submission.py",
        '            key = check_text("a key", key, MAX_KEY)\n',
        '            check_text("a key", key, MAX_KEY)\n',
    ),
    _M(
        "events not checked",
        "an event that cannot be encoded reaches the thread of the journal, and ends the queue",
        PLAIN_VALUES,
        "_runtime/event_log.py",
        "            if type(event) not in _WITHOUT_TEXT:\n",
        "            if False:\n",
    ),
    _M(
        "slot of a refused event leaked",
        "a submit whose event cannot be encoded keeps its slot",
        PLAIN_VALUES,
        "_runtime/admission.py",
        "        if new.due is None:\n            self._channel.release()\n",
        "        return\n",
    ),
    _M(
        "date that cannot be shown",
        "a job that is due at the last moment of the year 9999 makes every list fail",
        PLAIN_VALUES,
        "_validation.py",
        "min(float(datetime.timestamp(at)), MAX_DATE)",
        "float(datetime.timestamp(at))",
    ),
    _M(
        "progress of NaN published",
        "a report of progress that is not a number cuts off every follower",
        PLAIN_VALUES,
        "_runtime/job_context.py",
        "return number if math.isfinite(number) else None",
        "return number",
    ),
    _M(
        "coroutine taken for a result",
        "a job whose handler returned a coroutine is completed, and nothing has run",
        NOT_RUN,
        "_runtime/attempt.py",
        "        if not_run is not None:\n",
        "        if False:\n",
    ),
    _M(
        "attempt that did not run not doubted",
        "a job whose handler entered the SDK and returned a coroutine fails, and nobody looks at what it did",
        NOT_RUN,
        "_engine/attempt_result.py",
        " or not ending.has_run",
        "",
    ),
    _M(
        "coroutines in a result left open",
        "Python warns of a coroutine that was never awaited, at any later time",
        NOT_RUN,
        "_engine/handlers.py",
        '        close_lazy(value)\n        return EncodedResult(None, f"not JSON: {error}", error.noun)',
        '        return EncodedResult(None, f"not JSON: {error}", error.noun)',
    ),
    _M(
        "step left out",
        "a step whose line was copied without a new name is left out without a word",
        NOT_RUN,
        "_runtime/job_context.py",
        "        if name in self._step_names:\n",
        "        if False:\n",
    ),
    _M(
        "factory tried again",
        "an SDK function that returns no context manager is called again for seconds",
        NOT_RUN,
        "_runtime/sdk_session.py",
        " or is_a(error, UsageError):",
        ":",
    ),
    _M(
        "refusal without an id dropped",
        "a call waits for ever when the server refuses a request without naming it",
        HOSTILE_SERVER,
        "_client/session.py",
        "            if answer.error is not None and self._in_flight:\n",
        "            if False:\n",
        hangs=True,
    ),
    _M(
        "requests in transit not counted",
        "requests that arrive at once after a stall of the network are refused",
        PACING,
        "_client/pacer.py",
        "        needed = self.in_transit + amount\n",
        "        needed = amount\n",
    ),
    _M(
        "submit without a key repeated",
        "a submit without a key is sent again after a lost connection, and the work is done twice",
        HOSTILE_SERVER,
        "_client/reconnect.py",
        "if lost.sent and (not repeatable or blamed >= MOST_BLAMED):",
        "if lost.sent and blamed >= MOST_BLAMED:",
    ),
    _M(
        "large request sent again",
        "a request that a proxy refuses because of its size is sent again",
        HOSTILE_SERVER,
        "_client/session.py",
        "                if code == CloseCode.TOO_BIG:\n                    self._end_largest()\n",
        "",
    ),
    _M(
        "hello is useful",
        "a server that closes each connection after its greeting is asked without a pause",
        HOSTILE_SERVER,
        "_client/session.py",
        'self.useful or request.method != "server.hello"',
        "True",
        hangs=True,
    ),
    _M(
        "abandoned wait not cancelled",
        "cancelled calls of result leave no place for others for 30 seconds",
        HOSTILE_SERVER,
        "_client/session.py",
        "        request.abandoned = True\n        self._cancel(request)\n",
        "        request.abandoned = True\n",
        hangs=True,
    ),
    _M(
        "wrong path tried for ever",
        "a client with a wrong URL tries again until its time is over",
        HOSTILE_SERVER,
        "_client/handshake.py",
        "self.status is None or (self.status < 500 and self.status not in _LATER)",
        "False",
        hangs=True,
    ),
    _M(
        "calls wait for a closed client",
        "a call that outlives the block of its client waits for ever",
        HOSTILE_SERVER,
        "_client/reconnect.py",
        "        self.refused = self.refused or ConnectionFailed(",
        "        ConnectionFailed(",
        hangs=True,
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
        "close problem not reported",
        "an exception from closing the session is not reported",
        CHECK_EXECUTOR,
        "_executors/trio_task.py",
        "                self._close_problem = str(describe(failure))\n",
        "                pass\n",
    ),
    _M(
        "Fail not trusted",
        "a job whose handler raised Fail is marked as one that may have acted",
        CHECK_HANDLER,
        "_engine/attempt_result.py",
        'out.write(ev.Failed, reason="fail")',
        'out.write(ev.Failed, reason="fail", may_have_acted=True)',
    ),
    # the program around the queue: its threads, logs and terminals
    _M(
        "log handlers trusted",
        "a log handler that calls sys.exit ends the queue",
        LOG_HANDLERS,
        "_log.py",
        "        except BaseException as error:\n            if raised_by_signal",
        "        except Exception as error:\n            if raised_by_signal",
    ),
    _M(
        "hooks trusted",
        "a hook that calls sys.exit ends the queue",
        LOG_HANDLERS,
        "_runtime/hooks.py",
        "        except BaseException as error:\n",
        "        except Exception as error:\n",
    ),
    _M(
        "threads not checked",
        "a method called on the thread of the SDK records a job and then raises",
        CALLERS,
        "_concurrency.py",
        "        if threading.get_ident() != self.id:\n",
        "        if False:\n",
    ),
    _M(
        "own wait in a thread",
        "a plain handler that waits for its own queue waits forever",
        OWN_WAITS,
        "_executors/thread.py",
        "return self._inside and self._thread_id == thread",
        "return False",
    ),
    _M(
        "own wait in a task",
        "a task of a handler that waits for its own queue waits forever",
        OWN_WAITS,
        "_runtime/caller.py",
        "is_own = self.consumer in tasks",
        "is_own = self.consumer is tasks[0]",
    ),
    # the demo: what it says is booked is in the book
    _D(
        "content not compared",
        "an invoice counts as booked if the book has its number, whatever it contains",
        BOOKED_ONCE,
        "content.py",
        "old is not None and old.digest == digest and",
        "old is not None and",
    ),
    _D(
        "stamps not compared",
        "a CFDI counts as booked if the book has another one with its folio and another UUID",
        BOOKED_ONCE,
        "content.py",
        "(not old.uuid or not uuid or old.uuid == uuid)",
        "True",
    ),
    _D(
        "series and number joined",
        "series A-1 with number 2 is taken for series A with number 1-2",
        BOOKED_ONCE,
        "invoices.py",
        "        if self.series:\n",
        "        if self.series and not self.number:\n",
    ),
    _D(
        "journal of another book accepted",
        "a journal is used with another book, which has none of what the journal says is booked",
        BOOKED_ONCE,
        "bookkeeping.py",
        "        if self.journal_book not in (None, self.book_id):\n",
        "        if self.journal_book == self.book_id == None:\n",
    ),
    _D(
        "failed invoices not tried again",
        "what the journal has as failed stays so, also when the reason is gone",
        BOOKED_ONCE,
        "demo_run.py",
        "await queue.retry(job.id)",
        "pass",
    ),
    _D(
        "doubt of an earlier run kept",
        "what a run left in doubt stays so for ever, although the book can be asked",
        BOOKED_ONCE,
        "demo_run.py",
        "await self._resolve(queue, job.id, booking)",
        "pass",
    ),
    _D(
        "journal believed",
        "an invoice counts as booked because the journal says so, although the book has no voucher",
        BOOKED_ONCE,
        "demo_run.py",
        "receipt = await queue.submit(FIND, booking)\n            else:",
        "pass\n            else:",
    ),
    _D(
        "duplicates of refused files not refused",
        "a second copy of a refused file counts as a duplicate, as if the first were in the book",
        DEMO_SUMMARY,
        "file_results.py",
        "            if first.status not in (FileStatus.BOOKED, FileStatus.THERE, FileStatus.DUPLICATE):\n",
        "            if first.status is FileStatus.NOT_LOOKED_AT:\n",
    ),
    _D(
        "formulas in the CSV",
        "the name of an issuer runs as a formula in a spreadsheet",
        DEMO_SUMMARY,
        "csv_report.py",
        "shown.lstrip().startswith(FORMULA)",
        'shown.startswith("=")',
    ),
    _D(
        "refused files not reported",
        "the exit code of a run with refused files is 0",
        DEMO_SUMMARY,
        "exit_codes.py",
        "return REFUSED if counts[FileStatus.REFUSED] and not refusals_expected else 0",
        "return 0",
    ),
    _D(
        "SIGHUP not heeded",
        "the demo dies when its terminal is closed, and closes no ledger",
        DEMO_STOPS,
        "stop_signals.py",
        '"SIGTERM", "SIGHUP", "SIGBREAK")',
        '"SIGTERM", "SIGBREAK")',
    ),
    _D(
        "reader of the output trusted",
        "`| head` breaks the booking off",
        DEMO_STOPS,
        "output.py",
        "            except (OSError, ValueError):  # ValueError: it is closed\n                is_broken = True\n",
        "            except (OSError, ValueError):  # ValueError: it is closed\n                os._exit(1)\n",
    ),
    _D(
        "purchases booked as sales",
        "what the owner of the book received is booked as what the owner sold",
        DEMO_OWNER,
        "owner.py",
        "        return Side.PURCHASE\n",
        "        return Side.SALE\n",
    ),
    _D(
        "owner of a book replaced",
        "a book takes the invoices of two companies",
        DEMO_OWNER,
        "bookkeeping.py",
        "            if owner and not owner & self.given_owner:\n",
        "            if owner and not self.given_owner:\n",
    ),
    # the demo: it books what a bookkeeper would book
    _D(
        "prepayment booked as a sale",
        "a prepayment invoice and its final invoice are counted twice",
        DEMO_VOUCHERS,
        "vouchers.py",
        "    if invoice.prepayment:\n        sale =",
        "    if invoice.prepayment and side is Side.PURCHASE:\n        sale =",
    ),
    _D(
        "rounding of lines not bounded",
        "lines that do not make the total are booked, and the difference is called rounding",
        DEMO_READER,
        "ubl.py",
        "total(line.net for line in lines), len(lines))",
        "total(line.net for line in lines), 10**6)",
    ),
    _D(
        "repeated tax total not compared",
        "of two tax totals in the same currency that differ one is ignored",
        DEMO_READER,
        "ubl_taxes.py",
        "    for amount in plain:\n",
        "    for amount in plain[:0]:\n",
    ),
    _D(
        "byte order mark not believed",
        "names of UTF-8 files that declare Latin-1 are garbled",
        DEMO_READER,
        "xml_tree.py",
        'codecs.BOM_UTF8: "utf-8", ',
        "",
    ),
    _D(
        "cut texts not marked",
        "the beginning of an overlong amount is booked as the amount",
        HOSTILE_FILES,
        "xml_tree.py",
        "text[: MAX_TEXT - before] + CUT",
        "text[: MAX_TEXT - before]",
    ),
    _M(
        "escapes of Python",
        "with a narrow encoding, a line of JSON has escapes that JSON does not know",
        OUTPUT,
        "_cli/output.py",
        'return "".join(f"\\\\u{high:02x}{low:02x}" for high, low in pairs), error.end',
        'return error.object[error.start : error.end].encode("unicode_escape").decode(), error.end',
    ),
    _M(
        "dropped lines not reported",
        "lines of the log are missing, and nothing says so",
        OUTPUT,
        "_cli/output.py",
        "                self._unsaid += lines\n",
        "",
    ),
    _M(
        "exit code of Python",
        "an uncaught error ends a command with the exit code of a failed job",
        EXIT_CODES,
        "_cli/exit_codes.py",
        "    return ExitCode.UNEXPECTED\n",
        "    return ExitCode.NOT_COMPLETED\n",
    ),
    _M(
        "byte order mark kept",
        "a token file that was written with Notepad is refused",
        TOKEN_FILE,
        "_cli/token_file.py",
        '"utf-8-sig"',
        '"utf-8"',
    ),
    _M(
        "bound in the next range",
        "a job that has run for exactly a second is not among those that have run for at most a second",
        METRICS,
        "_server/metrics.py",
        "self._counts[bisect_left(self._bounds, value)] += 1",
        "self._counts[sum(bound <= value for bound in self._bounds)] += 1",
    ),
)
