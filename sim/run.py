"""Run one schedule: several lives of a service, and a last one without faults in which every job must become final."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import attrs
import trio
from trio._core import _run
from trio.testing import MockClock

from sim.clients import Client, Follower, MachineDirectory, resolve_truthfully
from sim.disk import SimDisk
from sim.job_rules import Life
from sim.journal import SimStore
from sim.machine import Machine, Steps
from sim.memory import SimMemory
from sim.observer import Observer
from sim.operators import Operator
from sim.oracle import check
from sim.plan import CALM, KINDS, Plan, draw, draw_with_kills
from sim.sdk import sim_service
from sim.timeline import Timeline, Violation
from trio_jobs._engine.jobs import FINAL, State
from trio_jobs._errors import (
    JournalDamaged,
    OutcomeUnknown,
    QueueBroken,
    SdkCallStuck,
    SdkOpenFailed,
    StoreError,
    TrioJobsError,
)
from trio_jobs._ports import Store
from trio_jobs._runtime.queue import Queue, runtime_of
from trio_jobs._service import Service

__all__ = ["Schedule", "simulate", "simulate_all"]

STEP_LIMIT: Final = 60_000  #: a schedule takes about 1,000
TIME_LIMIT: Final = 20_000.0  #: virtual seconds
SETTLE_ROUNDS: Final = 300  #: of 5 virtual seconds each
EXTRA_LIVES: Final = 2  #: further last lives, if the store breaks in the last one
LONGEST_STALL: Final = 60.0  #: virtual seconds within which a disk without faults finishes what stalled before
WAKE_LIMIT: Final = 2.0  #: virtual seconds within which a waiting client must get its result


@attrs.frozen
class Schedule:
    """The result of one schedule."""

    seed: int
    steps: int
    """How many steps Trio's scheduler took."""
    crashes: int
    """How many machines died."""
    seconds: float
    """How long it took, in real seconds."""
    digest: str
    """The digest of its timeline."""
    effects: str
    """The digest of its effects, see `effects`."""
    violations: tuple[Violation, ...]
    """The broken promises."""
    timeline: Timeline = attrs.field(repr=False, eq=False)


def simulate(seed: int, *, crash_at: int | None = None, kills: bool = False) -> Schedule:
    """Run the schedule of a seed.

    The same seed gives exactly the same history in any process with the same Python, Trio and trio-jobs. A broken
    promise raises nothing; it is in `Schedule.violations`.

    Args:
        seed: Any integer.
        crash_at: The step at which the first machine dies, instead of the planned one.
        kills: The SDK has a process that is killed and dies, see `draw_with_kills`.
    """
    plan = draw_with_kills(seed) if kills else draw(seed)
    if crash_at is not None and not plan.memory:
        plan = attrs.evolve(plan, crashes=(crash_at, *plan.crashes[1:]))
    began = time.perf_counter()
    timeline = Timeline()
    run = _ScheduleRun(plan, timeline)
    scheduler = cast("Any", _run)
    before, state = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate()
    disabled = logging.root.manager.disable
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(f"{seed}/scheduler")
    logging.disable(logging.CRITICAL)
    try:
        trio.run(run.run, clock=MockClock(autojump_threshold=0), instruments=[run.steps])
    except Exception as error:
        timeline.report(run.now(), "crash", f"{type(error).__name__}: {error}")
        run.error = error
    finally:
        logging.disable(disabled)
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before
        scheduler._r.setstate(state)
        run.disk.dispose()
    if run.steps.error is not None:
        raise run.steps.error
    return Schedule(
        seed,
        run.steps.count,
        run.crashes,
        time.perf_counter() - began,
        timeline.digest(),
        run.observer.effects.digest(),
        tuple(timeline.violations),
        timeline,
    )


def simulate_all(seeds: Sequence[int], kills: bool = False) -> list[Schedule]:
    """Run the schedules of these seeds one after another."""
    return [simulate(seed, kills=kills) for seed in seeds]


class _ScheduleRun:
    def __init__(self, plan: Plan, timeline: Timeline) -> None:
        self.plan = plan
        self.timeline = timeline
        self.crashes = 0
        self.error: Exception | None = None
        self._scope = trio.CancelScope()
        self.steps = Steps(STEP_LIMIT, self._on_step_limit)
        self._now: Callable[[], float] = lambda: 0.0
        self.observer = Observer(plan, timeline, self.now)
        self.observer.machine_clock.step = lambda: self.steps.count
        self._disk_rng = plan.stream("disk")
        self.disk = SimDisk(self._disk_rng, self._on_clash, self.observer.effects.event)
        self.memory = SimMemory(self.disk)
        self._directory = MachineDirectory()
        self._lives: list[Life] = []
        self._is_settled = False
        self._store: SimStore | None = None
        self._opened: float | None = None
        self._stop_requested: float | None = None

    def now(self) -> float:
        """Virtual seconds; after the Trio run the time of the last moment."""
        if not trio.lowlevel.in_trio_run():
            return self.timeline.moments[-1].at if self.timeline.moments else 0.0
        return self._now()

    def _on_clash(self, seq: int) -> None:
        self.observer.report("P6", f"event {seq} is written a second time with another content")

    def _on_step_limit(self) -> None:
        self.observer.report("stuck", f"the schedule has not ended after {STEP_LIMIT} steps")
        self._scope.cancel()

    async def run(self) -> None:
        zero = trio.current_time()
        self._now = lambda: round(trio.current_time() - zero, 9)
        self.observer.is_start_on_disk = lambda job, attempt: (job, attempt) in self.disk.starts
        with self._scope, trio.move_on_after(TIME_LIMIT) as limit:
            async with trio.open_nursery() as nursery:
                await self._run_lives(nursery)
                nursery.cancel_scope.cancel()
        if limit.cancelled_caught:
            self.observer.report("stuck", f"the schedule has not ended after {TIME_LIMIT:g} s")

    async def _run_lives(self, nursery: trio.Nursery) -> None:
        plan, observer = self.plan, self.observer
        followers = [Follower(observer, self._directory, n + 1) for n in range(plan.followers)]
        for follower in followers:
            nursery.start_soon(follower.run)
        clients_done = trio.Event()
        nursery.start_soon(self._run_clients, clients_done)
        nursery.start_soon(self._change_clocks)
        for number in range(1, plan.lives):

            async def wait(queue: Queue, seconds: float = plan.life_seconds[number - 1]) -> None:
                await trio.sleep(seconds)

            await self._run_life(number, wait, calm=False)
            await trio.sleep(0.2)

        async def settle(queue: Queue) -> None:
            for follower in followers:
                follower.calm = True
            await self._settle(queue, followers, clients_done)
            self._is_settled = True

        number = plan.lives
        await self._run_life(number, settle, calm=True)
        while not self._is_settled and not self.timeline.violations and number < plan.lives + EXTRA_LIVES:
            number += 1  # a late fault of the disk broke the store
            await self._run_life(number, settle, calm=True)
        if not self.timeline.violations:
            check(observer, self.disk.truth, followers, self._lives)

    async def _change_clocks(self) -> None:
        for change in self.plan.clock_changes:
            await trio.sleep(change.after)
            self.observer.machine_clock.change(change)
            what = "the machine was suspended for" if change.suspends else "the wall clock is set by"
            self.observer.note("clock", f"{what} {change.seconds:.3f} s")

    async def _run_clients(self, done: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(1, self.plan.clients + 1):
                nursery.start_soon(Client(self.observer, self._directory, number).run)
            for number in range(1, self.plan.operators + 1):
                nursery.start_soon(Operator(self.observer, self._directory, number).run)
        done.set()

    async def _run_life(self, number: int, body: Callable[[Queue], Any], *, calm: bool) -> None:
        """Run one life of the service, from its start to its stop or death."""
        plan, observer = self.plan, self.observer
        async with trio.open_nursery() as nursery:
            machine = Machine(observer, number, nursery)
            store: Store = self.memory
            if not plan.memory:
                store = SimStore(self.disk, machine, CALM if number > plan.lives else plan.disk, self._disk_rng)
                self._store = store
            if not calm and (crash := plan.crashes[number - 1]) is not None:
                assert isinstance(store, SimStore)
                machine.on_death = self._death_of(store)
                self.steps.on_step = machine.die
                self.steps.at = self.steps.count + crash
            machine.note("machine", f"starts (life {number})")
            began = self.now()
            self._opened = self._stop_requested = None
            try:
                with machine.scope:
                    await self._serve(machine, sim_service(machine, calm=calm), store, body)
            except Exception as error:
                self._check_error(machine, error, calm=calm)
            self.steps.at = None
            self._lives.append(Life(began, self._opened, self._stop_requested, self.now()))
            if machine.alive:
                machine.switch_off()
            self._directory.unregister()
            if not plan.memory:
                self.disk.crash()  # the store may have been closed during a commit
            nursery.cancel_scope.cancel()

    def _death_of(self, store: SimStore) -> Callable[[], None]:
        def death() -> None:
            self.crashes += 1
            store.crash()
            self.disk.crash()

        return death

    async def _serve(self, machine: Machine, service: Service, store: Store, body: Callable[[Queue], Any]) -> None:
        observer, number = self.observer, machine.number
        queue: Queue | None = None
        try:
            async with service.open(
                store=store, clock=observer.machine_clock, seed=self.plan.seed * 10 + number
            ) as queue:
                if machine.alive:
                    runtime_of(queue).feed.set_ring_size(self.plan.ring)
                    machine.queue = queue
                    machine.note("queue", "is open")
                    self._opened = self.now()
                    self._directory.register(machine)
                await body(queue)
                machine.note("queue", "is asked to stop")
                self._stop_requested = self.now()
        finally:
            if machine.alive and queue is not None:
                report = queue.report
                if report is None:
                    observer.report("P5", "the queue stopped without a report")
                else:
                    machine.note(
                        "queue", f"has stopped; {len(report.unfinished)} jobs are left, closed {report.sdk_closed}"
                    )
                    if report.sdk_closed and observer.open_sessions:
                        observer.report("P3", f"sessions {observer.open_sessions} are open although sdk_closed is True")
                    if not report.sdk_closed and not self._was_inside(number):
                        observer.report(
                            "P3", f"the SDK is not closed although no call was inside: {report.sdk_problem}"
                        )
                    self._check_left(queue)

    def _was_inside(self, life: int) -> bool:
        """Whether a call was in the SDK at the stop request or after it."""
        since = self.now() if self._stop_requested is None else self._stop_requested
        stuck = self.observer.stuck_processes.values()
        return any(ended is None or ended >= since for ended in stuck) or any(
            call.life == life and (call.ended is None or call.ended >= since) for call in self.observer.calls
        )

    def _check_left(self, queue: Queue) -> None:
        """P5: the report names each job that is not final."""
        assert queue.report is not None
        named = {left.job_id for left in queue.report.unfinished}
        for job in self.observer.clients.accepted:
            record = runtime_of(queue).event_log.projection.jobs.get(job)
            if record is not None and record.state not in FINAL and job not in named:
                self.observer.report(
                    "P5", f"{self.observer.name(job)} is {record.state} and not in the shutdown report"
                )

    def _check_error(self, machine: Machine, error: Exception, *, calm: bool) -> None:
        if not machine.alive:
            return
        machine.note("queue", f"ends with {type(error).__name__}: {error}")
        plan = self.plan
        if isinstance(error, StoreError):
            excused = plan.disk.fails > 0 and not isinstance(error, JournalDamaged) and machine.number <= plan.lives
        else:
            excused = not calm and (
                isinstance(error, SdkCallStuck)
                or (isinstance(error, SdkOpenFailed) and (plan.open_failures > 0 or plan.deaths > 0))
            )
        if not excused:
            known = isinstance(error, TrioJobsError) and not isinstance(error, QueueBroken)
            cause = error.__cause__
            self.observer.report("P7" if known else "bug", f"{type(error).__name__}: {error} ({cause!r})")

    async def _settle(self, queue: Queue, followers: list[Follower], clients_done: trio.Event) -> None:
        """Without faults every job becomes final, every client gets its result, and every slot is free again."""
        observer = self.observer
        for _ in range(SETTLE_ROUNDS):
            await self._operate(queue)
            await trio.sleep(5.0)
            if clients_done.is_set() and queue.paused is None:
                break
        else:
            observer.report("stuck", "the clients have not finished")
        if self._store is not None and (self.plan.disk.stalls or self.plan.disk.fails):
            self._store.habits = CALM
            await trio.sleep(LONGEST_STALL)
        waiters: dict[str, bool] = {}
        async with trio.open_nursery() as nursery:
            for job in queue.job_ids():
                waiters[job] = False
                nursery.start_soon(self._wait_for, queue, job, waiters)
            for _ in range(SETTLE_ROUNDS):
                await self._operate(queue)
                if not _unfinished(queue):
                    break
                await trio.sleep(5.0)
            else:
                for job in _unfinished(queue):
                    observer.report("P5", f"{observer.name(job)} never becomes final: {queue.get(job).state}")
            await trio.sleep(WAKE_LIMIT)
            if not _unfinished(queue):
                for job in (job for job, has_result in waiters.items() if not has_result):
                    observer.report("result", f"{observer.name(job)} is final, and a client still waits for its result")
            nursery.cancel_scope.cancel()
        statistics = queue.statistics()
        if statistics.free != statistics.capacity and not _unfinished(queue):
            observer.report(
                "P9", f"{statistics.free} of {statistics.capacity} slots are free although every job is final"
            )
        for follower in followers:
            if follower.began is not None and not follower.filter and follower.position != statistics.seq:
                observer.report("P8", f"{follower.name} has read {follower.position} of {statistics.seq} events")

    async def _operate(self, queue: Queue) -> None:
        """Do the work of an operator: resume the queue and resolve jobs in doubt."""
        if queue.paused is not None:
            with contextlib.suppress(OutcomeUnknown):
                await queue.resume(by="person")
            self.observer.note("person", "resumes")
        for job in queue.list(state=State.IN_DOUBT, limit=1000):
            # jobs that verify can resolve are left to it
            if not job.inside and (self.disk.asked.get(job.id) or not KINDS[job.kind].verifies):
                await self._resolve(queue, job.id)

    async def _resolve(self, queue: Queue, job: str) -> None:
        try:
            await resolve_truthfully(queue, self.observer, job)
        except TrioJobsError as error:  # the doubt was resolved in the meantime
            self.observer.note("person", f"finds nothing to resolve: {type(error).__name__}")

    async def _wait_for(self, queue: Queue, job: str, waiters: dict[str, bool]) -> None:
        with contextlib.suppress(TrioJobsError):
            await queue.result(job)
        waiters[job] = True


def _unfinished(queue: Queue) -> list[str]:
    return [job.id for state in State if state not in FINAL for job in queue.list(state=state, limit=1000)]
