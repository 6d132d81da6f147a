"""The parts of one running queue, and how they are connected."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import trio

from trio_jobs._engine.handlers import Handler
from trio_jobs._errors import StoreError
from trio_jobs._ports import Clock, SdkExecutor, Store
from trio_jobs._runtime.activity_keeper import ActivityKeeper
from trio_jobs._runtime.admission import Admission
from trio_jobs._runtime.alive_check import AliveCheck
from trio_jobs._runtime.attempt import AttemptSlot
from trio_jobs._runtime.attempt_recorder import AttemptRecorder
from trio_jobs._runtime.attempt_runner import AttemptRunner
from trio_jobs._runtime.blocking_job import BlockingJob
from trio_jobs._runtime.call_parts import CallParts
from trio_jobs._runtime.caller import CallerCheck
from trio_jobs._runtime.commit_waiter import CommitWaiter
from trio_jobs._runtime.consumer import Consumer
from trio_jobs._runtime.corrections import Corrections
from trio_jobs._runtime.erasure import Erasure
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.expected_wait import ExpectedWaits
from trio_jobs._runtime.feed import Feed
from trio_jobs._runtime.histories import Histories
from trio_jobs._runtime.hook_names import HookName
from trio_jobs._runtime.hooks import Hooks
from trio_jobs._runtime.interrupter import Interrupter
from trio_jobs._runtime.job_channel import JobChannel
from trio_jobs._runtime.job_commands import JobCommands
from trio_jobs._runtime.job_context import context_factory
from trio_jobs._runtime.lookups import Lookups
from trio_jobs._runtime.operations import Operations
from trio_jobs._runtime.overrun_monitor import OverrunMonitor
from trio_jobs._runtime.pruner import Pruner
from trio_jobs._runtime.pump import Pump
from trio_jobs._runtime.pumped_executor import PumpedExecutor
from trio_jobs._runtime.queries import Queries
from trio_jobs._runtime.reactions import Reactions
from trio_jobs._runtime.save_call import SaveCalls
from trio_jobs._runtime.saver import Saver
from trio_jobs._runtime.scheduler import Scheduler
from trio_jobs._runtime.sdk_session import SdkSessionManager
from trio_jobs._runtime.seat_lock import SeatLock
from trio_jobs._runtime.settings import MAX_KEYS, Settings
from trio_jobs._runtime.shared_state import Estimates, JobWaiters, QueueStatus
from trio_jobs._runtime.submission import SubmissionFactory
from trio_jobs._runtime.verification import Verification
from trio_jobs._runtime.verify_requests import VerifyRequests

__all__ = ["Runtime", "build_runtime"]


@attrs.frozen(eq=False, kw_only=True)
class Runtime:
    """The parts. Each gets the parts that it uses as arguments; none accesses another one through this record."""

    handlers: Mapping[str, Handler]
    settings: Settings
    clock: Clock
    chance: random.Random
    token: trio.lowlevel.TrioToken
    """The token of the event loop in which the queue runs."""
    caller: CallerCheck

    event_log: EventLog
    executor: SdkExecutor
    channel: JobChannel
    slot: AttemptSlot
    blocking_job: BlockingJob
    status: QueueStatus
    waiters: JobWaiters
    estimates: Estimates
    feed: Feed

    scheduler: Scheduler
    overruns: OverrunMonitor
    interrupter: Interrupter
    pump: Pump | None
    """None without one."""
    recorder: AttemptRecorder
    sessions: SdkSessionManager
    pruner: Pruner
    hooks: Hooks
    histories: Histories
    activity: ActivityKeeper
    erasure: Erasure
    verification: Verification
    consumer: Consumer
    saver: Saver | None
    """None without `save`."""

    requests: VerifyRequests
    submissions: SubmissionFactory
    corrections: Corrections
    admission: Admission
    queries: Queries
    lookups: Lookups
    operations: Operations
    commands: JobCommands
    reactions: Reactions


def build_runtime(
    *,
    handlers: Mapping[str, Handler],
    settings: Settings,
    store: Store,
    executor: SdkExecutor,
    seat: SeatLock | None,
    clock: Clock,
    chance: random.Random,
    hooks: Mapping[HookName, Sequence[Callable[[Any], Any]]],
    on_stuck: Callable[[str], None],
    fail: Callable[[StoreError], None],
) -> Runtime:
    """Make the parts of a queue and connect them. Nothing is opened and no task is started.

    Args:
        on_stuck: Called once for each call that is stuck, with its name, after its event was appended.
        fail: Called when the store has failed permanently.
    """
    token = trio.lowlevel.current_trio_token()
    event_log = EventLog(store, clock.elapsed)
    channel = JobChannel(settings.buffer, strict=settings.strict_order)
    caller = CallerCheck(executor)
    slot, blocking_job, status, waiters = AttemptSlot(), BlockingJob(), QueueStatus(), JobWaiters()
    estimates = Estimates(settings.min_interval)
    called_hooks, interrupter = Hooks(hooks), Interrupter(executor, settings.interrupt)
    slot.interrupts = interrupter.request

    sessions = SdkSessionManager(event_log=event_log, executor=executor, clock=clock, settings=settings, seat=seat)
    scheduler = Scheduler(event_log=event_log, channel=channel, clock=clock, blocking_job=blocking_job)
    overruns = OverrunMonitor(
        event_log=event_log,
        executor=executor,
        clock=clock,
        slot=slot,
        interrupter=interrupter,
        cancel_timeout=settings.cancel_timeout,
        on_overdue=lambda running: called_hooks.call_soon("overdue", running.record),
        on_stuck=lambda running: on_stuck(str(running) if running.group else f"the call of job {running.record.id}"),
    )
    if settings.alive is not None:
        sessions.ask_alive = AliveCheck(
            fn=settings.alive,
            is_async=any(handler.is_async and handler.enters_at_start for handler in handlers.values()),
            executor=executor,
            event_log=event_log,
            clock=clock,
            interrupter=interrupter,
            status=status,
            on_stuck=on_stuck,
        ).ask
    pump = None
    if isinstance(executor, PumpedExecutor):
        pump = Pump(
            executor=executor,
            event_log=event_log,
            clock=clock,
            sessions=sessions,
            slot=slot,
            interrupter=interrupter,
            status=status,
            on_stuck=on_stuck,
        )
    recorder = AttemptRecorder(event_log=event_log, clock=clock, slot=slot)
    activity = ActivityKeeper(event_log)
    pruner = Pruner(
        activity=activity,
        event_log=event_log,
        clock=clock,
        job_retention=settings.job_retention,
        max_finished_jobs=settings.max_finished_jobs,
        key_retention=settings.key_retention,
        max_keys=settings.max_keys if settings.max_keys is not None else MAX_KEYS[event_log.durable],
    )
    slot.recorder = recorder
    make_context = context_factory(recorder, token)
    requests = VerifyRequests(channel)
    parts = CallParts(
        event_log=event_log,
        executor=executor,
        clock=clock,
        handlers=handlers,
        sessions=sessions,
        slot=slot,
        overruns=overruns,
        interrupter=interrupter,
        chance=chance.random,
    )
    verification = Verification(
        parts,
        scheduler=scheduler,
        make_context=make_context,
        requests=requests,
        strict_order=settings.strict_order,
        max_crashes=settings.max_crashes,
    )
    saver = None
    if settings.save is not None:
        calls = SaveCalls(
            parts,
            save=settings.save,
            timeout=settings.save_timeout,
        )
        saver = sessions.unsaved = recorder.unsaved = Saver(
            parts,
            channel=channel,
            verification=verification,
            estimates=estimates,
            status=status,
            calls=calls,
            save_after_jobs=settings.save_after_jobs,
            save_after=settings.save_after,
            min_interval=settings.min_interval,
        )
    runner = AttemptRunner(
        parts,
        scheduler=scheduler,
        verification=verification,
        make_context=make_context,
        saver=saver,
        estimates=estimates,
        max_crashes=settings.max_crashes,
    )
    consumer = Consumer(
        event_log=event_log,
        channel=channel,
        clock=clock,
        handlers=handlers,
        sessions=sessions,
        runner=runner,
        verification=verification,
        caller=caller,
        blocking_job=blocking_job,
        saver=saver,
        strict_order=settings.strict_order,
    )
    commits = CommitWaiter(event_log, settings.commit_timeout)
    submissions = SubmissionFactory(handlers, clock, chance.getrandbits)
    corrections = Corrections(
        event_log=event_log, handlers=handlers, clock=clock, slot=slot, scheduler=scheduler, requests=requests
    )
    expected = ExpectedWaits(
        estimates=estimates,
        projection=event_log.projection,
        channel=channel,
        slot=slot,
        sessions=sessions,
        overruns=overruns,
    )
    admission = Admission(
        submissions=submissions,
        corrections=corrections,
        event_log=event_log,
        channel=channel,
        caller=caller,
        scheduler=scheduler,
        commits=commits,
        waiters=waiters,
        estimates=estimates,
        expected=expected,
        status=status,
        max_waiting=settings.max_waiting,
    )
    queries = Queries(
        event_log=event_log,
        handlers=handlers,
        executor=executor,
        channel=channel,
        slot=slot,
        blocking_job=blocking_job,
        scheduler=scheduler,
        sessions=sessions,
        overruns=overruns,
        caller=caller,
        waiters=waiters,
        expected=expected,
        estimates=estimates,
        status=status,
    )
    operations = Operations(
        event_log=event_log,
        handlers=handlers,
        clock=clock,
        admission=admission,
        channel=channel,
        slot=slot,
        scheduler=scheduler,
        sessions=sessions,
        caller=caller,
        commits=commits,
        waiters=waiters,
        saver=saver,
        requests=requests,
        status=status,
    )
    commands = JobCommands(
        event_log=event_log,
        clock=clock,
        admission=admission,
        channel=channel,
        slot=slot,
        scheduler=scheduler,
        blocking_job=blocking_job,
        caller=caller,
        commits=commits,
        corrections=corrections,
        requests=requests,
        status=status,
    )
    feed = Feed(store, event_log.projection.jobs.get, consumer.is_idle)
    erasure = Erasure(
        event_log=event_log, clock=clock, slot=slot, commits=commits, feed=feed, activity=activity, requests=requests
    )
    pruner.remove_forgotten = erasure.remove
    pruner.on_prune = feed.job_pruned
    reactions = Reactions(
        event_log=event_log,
        handlers=handlers,
        strict_order=settings.strict_order,
        admission=admission,
        start_commit=runner.start_commit,
        slot=slot,
        blocking_job=blocking_job,
        scheduler=scheduler,
        sessions=sessions,
        pruner=pruner,
        hooks=called_hooks,
        feed=feed,
        waiters=waiters,
        status=status,
        fail=fail,
    )
    return Runtime(
        handlers=handlers,
        settings=settings,
        clock=clock,
        chance=chance,
        token=token,
        caller=caller,
        event_log=event_log,
        executor=executor,
        channel=channel,
        slot=slot,
        blocking_job=blocking_job,
        status=status,
        waiters=waiters,
        estimates=estimates,
        feed=feed,
        scheduler=scheduler,
        overruns=overruns,
        interrupter=interrupter,
        pump=pump,
        recorder=recorder,
        sessions=sessions,
        pruner=pruner,
        hooks=called_hooks,
        histories=Histories(event_log),
        activity=activity,
        erasure=erasure,
        verification=verification,
        consumer=consumer,
        saver=saver,
        requests=requests,
        submissions=submissions,
        corrections=corrections,
        admission=admission,
        queries=queries,
        lookups=Lookups(event_log=event_log, submissions=submissions, queries=queries, feed=feed),
        operations=operations,
        commands=commands,
        reactions=reactions,
    )
