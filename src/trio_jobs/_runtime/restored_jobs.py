"""Restores the open jobs of the store when a queue starts."""

from __future__ import annotations

from typing import Final

import attrs

from trio_jobs._engine import decide
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import FINAL, JobRecord, State
from trio_jobs._engine.retry import Rules
from trio_jobs._errors import UnhandledJobs
from trio_jobs._log import Log
from trio_jobs._runtime.runtime import Runtime
from trio_jobs._runtime.waits import restore_waits

__all__ = ["check_restored_jobs", "resume_restored_jobs"]

log: Final = Log("trio_jobs.queue")


def check_restored_jobs(runtime: Runtime) -> None:
    """Find the open jobs that no handler of this service can process.

    Raises:
        UnhandledJobs: There are some, and `unhandled_jobs` is "refuse".
    """
    unknown: dict[str, int] = {}
    undecodable: dict[str, int] = {}
    for record in runtime.event_log.projection.jobs.values():
        if record.state in FINAL:
            continue
        handler = runtime.handlers.get(record.kind)
        if handler is None:
            unknown[record.kind] = unknown.get(record.kind, 0) + 1
        elif not _decodes(handler, record):
            undecodable[record.kind] = undecodable.get(record.kind, 0) + 1
        else:
            continue
        runtime.status.unhandled.add(record.id)
    if not unknown and not undecodable:
        return
    why = [f"{count} of kind {kind!r}, which has no handler" for kind, count in sorted(unknown.items())]
    why += [f"{count} of kind {k!r}, whose payload does not fit" for k, count in sorted(undecodable.items())]
    if runtime.settings.unhandled_jobs == "refuse":
        raise UnhandledJobs({**unknown, **undecodable}, "; ".join(why))
    log.warning("kept out of the queue: %s", "; ".join(why))


def resume_restored_jobs(runtime: Runtime) -> None:
    """Schedule every restored job that is not final, in order. Attempts that were running have crashed."""
    projection = runtime.event_log.projection
    was_inside = any(record.doubt is not None and record.doubt.inside for record in projection.by_state[State.IN_DOUBT])
    alone = projection.count(State.SAVING) == 1 and not projection.count(State.PROCESSING) and not was_inside
    for record in sorted(runtime.event_log.projection.jobs.values(), key=_restore_order):
        if record.deadline_wait is not None or record.due_wait is not None:
            handler = runtime.handlers.get(record.kind)  # also of a final job, which a person may retry
            restore_waits(record, Rules() if handler is None else handler.rules, runtime.clock)
        if record.state not in FINAL:
            _resume(runtime, record, alone=alone)
    runtime.operations.watch_pause()
    runtime.scheduler.fill_channel()


def _resume(runtime: Runtime, record: JobRecord, *, alone: bool) -> None:
    """alone: the work of one job was not saved when the process died, and no attempt was running."""
    event_log, scheduler = runtime.event_log, runtime.scheduler
    handler = runtime.handlers.get(record.kind)
    rules = attrs.evolve(Rules() if handler is None else handler.rules, max_crashes=runtime.settings.max_crashes)
    was_pending = record.state is State.PENDING
    if record.state in (State.PROCESSING, State.SAVING) or (record.doubt is not None and record.doubt.inside):
        now, elapsed, seq = runtime.clock.now(), runtime.clock.elapsed(), event_log.next_seq
        chance = runtime.chance.random()
        event_log.append(decide.crashed(record, rules, now, chance, seq, elapsed, alone=alone))
    if record.id in runtime.status.unhandled or handler is None:
        return
    if record.deadline_at is not None and record.state not in FINAL:
        scheduler.watch_deadline(record)
    if runtime.settings.strict_order and _was_blocking(record):
        runtime.consumer.first_jobs.append(record)
    elif record.state is State.IN_DOUBT:
        if handler.rules.verifies and record.doubt is not None and not record.doubt.asked:
            if handler.verify_delay:
                scheduler.schedule_verify(record, handler.verify_delay)
            else:
                scheduler.requeue(record)
    elif was_pending:
        scheduler.requeue(record)
    elif record.state in (State.SCHEDULED, State.RETRYING):
        scheduler.schedule(record)


def _decodes(handler: Handler, record: JobRecord) -> bool:
    try:
        handler.decode(record.payload)
    except Exception:  # the checks of the payload's type may raise anything
        return False
    return True


def _was_blocking(record: JobRecord) -> bool:
    """Whether the job blocked the queue in strict order: its run has started and it is not final.

    A job that was retried by an operator and has not started again did not block the queue.
    """
    last = record.last_attempt
    return record.state not in FINAL and last is not None and last.run == record.run


def _restore_order(record: JobRecord) -> tuple[bool, int]:
    """First the jobs that were processing or saving, or are in doubt, so that they are verified before other jobs
    start; then in the order of their submit."""
    first = (State.PROCESSING, State.SAVING, State.IN_DOUBT)
    return record.state not in first, record.submitted_seq
