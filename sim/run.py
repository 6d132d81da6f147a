"""One schedule from its seed: lives, deaths, and the calm day at the end on which everything has to come to its end."""

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

from sim.disk import SimDisk
from sim.journal import SimStore
from sim.judging import Life
from sim.machine import Machine, Steps
from sim.memory import SimMemory
from sim.oracle import judge
from sim.people import Client, Follower, Street, resolve_truthfully
from sim.plan import CALM, KINDS, Plan, draw
from sim.sdk import sim_service
from sim.timeline import Timeline, Violation
from sim.world import World
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
from trio_jobs._runtime.clock import TrioClock
from trio_jobs._runtime.queue import Queue, runtime_of
from trio_jobs._service import Service

__all__ = ["Schedule", "simulate", "simulate_all"]

MOST_STEPS: Final = 60_000  #: a schedule takes about a thousand
LONGEST: Final = 20_000.0  #: virtual seconds
CALM_ROUNDS: Final = 300  #: of five seconds
MOST_LAST_DAYS: Final = 2
LONGEST_STALL: Final = 60.0  #: seconds after which a disk that has become calm has done what was waiting
SOON: Final = 2.0  #: seconds in which whoever waits has to be told


@attrs.frozen
class Schedule:
    """How one schedule went. steps: of Trio's scheduler. crashes: how many machines died. digest: of its history, word
    by word. effects: the digest of what it did to the outside, see `effects`."""

    seed: int
    steps: int
    crashes: int
    seconds: float
    digest: str
    effects: str
    violations: tuple[Violation, ...]
    timeline: Timeline = attrs.field(repr=False, eq=False)


def simulate(seed: int, *, crash_at: int | None = None) -> Schedule:
    """Play the schedule of `seed`, to the end. crash_at: the first machine dies at that step instead of its own.

    The same seed gives the same history, bit by bit, in any process of the same Python, Trio and trio-jobs. What is
    found wrong is in `violations`; nothing is raised for it.
    """
    plan = draw(seed)
    if crash_at is not None and not plan.memory:
        plan = attrs.evolve(plan, crashes=(crash_at, *plan.crashes[1:]))
    began = time.perf_counter()
    timeline = Timeline()
    play = _Play(plan, timeline)
    scheduler = cast("Any", _run)
    before, state = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate()
    disabled = logging.root.manager.disable
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(f"{seed}/scheduler")
    logging.disable(logging.CRITICAL)
    try:
        trio.run(play.run, clock=MockClock(autojump_threshold=0), instruments=[play.steps])
    except Exception as error:
        timeline.wrong(play.now(), "crash", f"{type(error).__name__}: {error}")
        play.error = error
    finally:
        logging.disable(disabled)
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before
        scheduler._r.setstate(state)
        play.disk.dispose()
    if play.steps.error is not None:
        raise play.steps.error
    return Schedule(
        seed,
        play.steps.count,
        play.crashes,
        time.perf_counter() - began,
        timeline.digest(),
        play.world.effects.digest(),
        tuple(timeline.violations),
        timeline,
    )


def simulate_all(seeds: Sequence[int]) -> list[Schedule]:
    """The schedules of these seeds, one after another."""
    return [simulate(seed) for seed in seeds]


class _Play:
    def __init__(self, plan: Plan, timeline: Timeline) -> None:
        self.plan = plan
        self.timeline = timeline
        self.crashes = 0
        self.error: Exception | None = None
        self._everything = trio.CancelScope()
        self.steps = Steps(MOST_STEPS, self._give_up)
        self._now: Callable[[], float] = lambda: 0.0
        self.world = World(plan, timeline, self.now)
        self._disk_chance = plan.stream("disk")
        self.disk = SimDisk(self._disk_chance, self._clash, self.world.effects.event)
        self.memory = SimMemory(self.disk)
        self._street = Street()
        self._lives: list[Life] = []
        self._is_settled = False
        self._store: SimStore | None = None
        self._opened: float | None = None
        self._asked: float | None = None

    def now(self) -> float:
        """Virtual seconds; outside of Trio, those of the last moment."""
        if not trio.lowlevel.in_trio_run():
            return self.timeline.moments[-1].at if self.timeline.moments else 0.0
        return self._now()

    def _clash(self, seq: int) -> None:
        self.world.wrong("P6", f"event {seq} is written a second time, and is another one")

    def _give_up(self) -> None:
        self.world.wrong("stuck", f"{MOST_STEPS} steps, and no end")
        self._everything.cancel()

    async def run(self) -> None:
        zero = trio.current_time()
        self._now = lambda: round(trio.current_time() - zero, 9)
        self.world.kept = lambda job, attempt: (job, attempt) in self.disk.starts
        with self._everything, trio.move_on_after(LONGEST) as patience:
            async with trio.open_nursery() as street:
                await self._play(street)
                street.cancel_scope.cancel()
        if patience.cancelled_caught:
            self.world.wrong("stuck", f"nothing has come to its end in {LONGEST:g} s")

    async def _play(self, street: trio.Nursery) -> None:
        plan, world = self.plan, self.world
        followers = [Follower(world, self._street, n + 1) for n in range(plan.followers)]
        for follower in followers:
            street.start_soon(follower.run)
        clients_done = trio.Event()
        street.start_soon(self._clients, clients_done)
        for number in range(1, plan.lives):

            async def ordinary_day(queue: Queue, seconds: float = plan.life_seconds[number - 1]) -> None:
                await trio.sleep(seconds)

            await self._live(number, ordinary_day, calm=False)
            await trio.sleep(0.2)

        async def last_day(queue: Queue) -> None:
            for follower in followers:
                follower.calm = True
            await self._settle(queue, followers, clients_done)
            self._is_settled = True

        number = plan.lives
        await self._live(number, last_day, calm=True)
        while not self._is_settled and not self.timeline.violations and number < plan.lives + MOST_LAST_DAYS:
            number += 1  # the disk has broken the store once more, before it came to rest
            await self._live(number, last_day, calm=True)
        if not self.timeline.violations:
            judge(world, self.disk.truth, followers, self._lives)

    async def _clients(self, done: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(1, self.plan.clients + 1):
                nursery.start_soon(Client(self.world, self._street, number).run)
        done.set()

    async def _live(self, number: int, body: Callable[[Queue], Any], *, calm: bool) -> None:
        """One life of the service, from its start to its stop or its death."""
        plan, world = self.plan, self.world
        async with trio.open_nursery() as nursery:
            machine = Machine(world, number, nursery)
            store: Store = self.memory
            if not plan.memory:
                store = SimStore(self.disk, machine, CALM if number > plan.lives else plan.disk, self._disk_chance)
                self._store = store
            if not calm and (crash := plan.crashes[number - 1]) is not None:
                assert isinstance(store, SimStore)
                machine.on_death = self._death_of(store)
                self.steps.strike = machine.die
                self.steps.at = self.steps.count + crash
            machine.note("machine", f"starts (life {number})")
            began = self.now()
            self._opened = self._asked = None
            try:
                with machine.scope:
                    await self._serve(machine, sim_service(machine, calm=calm), store, body)
            except Exception as error:
                self._ended_by(machine, error, calm=calm)
            self.steps.at = None
            self._lives.append(Life(began, self._opened, self._asked, self.now()))
            if machine.alive:
                machine.switch_off()
            self._street.is_down()
            if not plan.memory:
                self.disk.crash()  # whoever gave up on the store's thread has left it in the middle
            nursery.cancel_scope.cancel()

    def _death_of(self, store: SimStore) -> Callable[[], None]:
        def death() -> None:
            self.crashes += 1
            store.crash()
            self.disk.crash()

        return death

    async def _serve(self, machine: Machine, service: Service, store: Store, body: Callable[[Queue], Any]) -> None:
        world, number = self.world, machine.number
        queue: Queue | None = None
        try:
            async with service.open(store=store, clock=TrioClock(), seed=self.plan.seed * 10 + number) as queue:
                if machine.alive:
                    runtime_of(queue).feed.set_ring_size(self.plan.ring)
                    machine.queue = queue
                    machine.note("queue", "is open")
                    self._opened = self.now()
                    self._street.is_up(machine)
                await body(queue)
                machine.note("queue", "is asked to stop")
                self._asked = self.now()
        finally:
            if machine.alive and queue is not None:
                report = queue.report
                if report is None:
                    world.wrong("P5", "the queue has stopped without a report")
                else:
                    machine.note(
                        "queue", f"has stopped; {len(report.unfinished)} jobs are left, closed {report.sdk_closed}"
                    )
                    if report.sdk_closed and world.open_sessions:
                        world.wrong("P3", f"sessions {world.open_sessions} are open, and it is said that none is")
                    if not report.sdk_closed and not self._was_inside(number):
                        world.wrong("P3", f"the SDK is not closed, and nothing was inside: {report.sdk_problem}")
                    self._check_left(queue)

    def _was_inside(self, life: int) -> bool:
        """Was a call in the SDK when the queue was asked to stop, or came in later?"""
        since = self.now() if self._asked is None else self._asked
        return any(call.life == life and (call.ended is None or call.ended >= since) for call in self.world.calls)

    def _check_left(self, queue: Queue) -> None:
        """P5: what has not ended is named."""
        assert queue.report is not None
        named = {left.job_id for left in queue.report.unfinished}
        for job in self.world.told.accepted:
            record = runtime_of(queue).event_log.projection.jobs.get(job)
            if record is not None and record.state not in FINAL and job not in named:
                self.world.wrong("P5", f"{self.world.name(job)} is {record.state}, and the report does not name it")

    def _ended_by(self, machine: Machine, error: Exception, *, calm: bool) -> None:
        if not machine.alive:
            return
        machine.note("queue", f"ends with {type(error).__name__}: {error}")
        plan = self.plan
        if isinstance(error, StoreError):
            excused = plan.disk.fails > 0 and not isinstance(error, JournalDamaged) and machine.number <= plan.lives
        else:
            excused = not calm and (
                isinstance(error, SdkCallStuck) or (isinstance(error, SdkOpenFailed) and plan.open_failures > 0)
            )
        if not excused:
            known = isinstance(error, TrioJobsError) and not isinstance(error, QueueBroken)
            cause = error.__cause__
            self.world.wrong("P7" if known else "bug", f"{type(error).__name__}: {error} ({cause!r})")

    async def _settle(self, queue: Queue, followers: list[Follower], clients_done: trio.Event) -> None:
        """On a calm day everything ends, everybody is told, and every place is free again."""
        world = self.world
        for _ in range(CALM_ROUNDS):
            await self._take_care(queue)
            await trio.sleep(5.0)
            if clients_done.is_set() and queue.paused is None:
                break
        else:
            world.wrong("stuck", "the clients are not done")
        if self._store is not None and (self.plan.disk.stalls or self.plan.disk.fails):
            self._store.habits = CALM
            await trio.sleep(LONGEST_STALL)
        waiters: dict[str, bool] = {}
        async with trio.open_nursery() as nursery:
            for job in queue.job_ids():
                waiters[job] = False
                nursery.start_soon(self._wait_for, queue, job, waiters)
            for _ in range(CALM_ROUNDS):
                await self._take_care(queue)
                if not _unfinished(queue):
                    break
                await trio.sleep(5.0)
            else:
                for job in _unfinished(queue):
                    world.wrong("P5", f"{world.name(job)} never comes to its end: {queue.get(job).state}")
            await trio.sleep(SOON)
            if not _unfinished(queue):
                for job in (job for job, was_told in waiters.items() if not was_told):
                    world.wrong("told", f"{world.name(job)} has ended, and who waits for it is not told")
            nursery.cancel_scope.cancel()
        statistics = queue.statistics()
        if statistics.free != statistics.capacity and not _unfinished(queue):
            world.wrong("P9", f"{statistics.free} of {statistics.capacity} places are free, and nobody is there")
        for follower in followers:
            if follower.began is not None and not follower.wanted and follower.position != statistics.seq:
                world.wrong("P8", f"{follower.name} stands at {follower.position} of {statistics.seq}")

    async def _take_care(self, queue: Queue) -> None:
        """A person goes round."""
        if queue.paused is not None:
            with contextlib.suppress(OutcomeUnknown):
                await queue.resume(by="person")
            self.world.note("person", "resumes")
        for job in queue.list(state=State.IN_DOUBT, limit=1000):
            # what verify can settle nobody should have to
            if not job.inside and (self.disk.asked.get(job.id) or not KINDS[job.kind].verifies):
                await self._resolve(queue, job.id)

    async def _resolve(self, queue: Queue, job: str) -> None:
        try:
            await resolve_truthfully(queue, self.world, job)
        except TrioJobsError as error:  # it has been settled in the meantime
            self.world.note("person", f"finds nothing to resolve: {type(error).__name__}")

    async def _wait_for(self, queue: Queue, job: str, told: dict[str, bool]) -> None:
        with contextlib.suppress(TrioJobsError):
            await queue.result(job)
        told[job] = True


def _unfinished(queue: Queue) -> list[str]:
    return [job.id for state in State if state not in FINAL for job in queue.list(state=state, limit=1000)]
