"""What goes on around a queue's callers: processes begin and end, time passes, and SDK calls go wrong by plan.

`QueueMachine` is this with what callers do, and what must hold.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Literal

from trio_jobs._engine.directives import SessionLost
from trio_jobs._engine.events import Event
from trio_jobs._engine.jobs import FINAL, State
from trio_jobs._errors import OutcomeUnknown, QueueClosed, StoreError
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._runtime.report import ShutdownReport
from trio_jobs._service import Service
from trio_jobs.testing._model import Model
from trio_jobs.testing._own_service import OwnWork, own_service
from trio_jobs.testing._process import Keeps, Process, Shelf
from trio_jobs.testing._watched import Plan, Point
from trio_jobs.testing.fakes import Blocker, FakeSdk
from trio_jobs.testing.stateful import TrioStateMachine, initialize, note, precondition, rule, st

__all__ = ["FAULTS", "Surroundings"]

_SECONDS: Final = (0.01, 1.0, 5.0, 60.0, 3600.0)
FAULTS: Final = st.sampled_from(["raise", "slow", "hang", "lose the session", "cancel", "die"])


class PlannedError(Exception):
    """What an SDK call raises by plan."""


class Surroundings(TrioStateMachine):
    """See `QueueMachine`, which says what a subclass may set."""

    payloads: ClassVar[Mapping[str, st.SearchStrategy[Any]]] = {}
    keeps: ClassVar[Keeps] = "disk"
    queue_settings: ClassVar[Mapping[str, Any]] = {"watchdog": None}
    quiet: ClassVar[bool] = True

    def make_service(self) -> Service:
        """The service under test, with its SDK in its first state. By default one with three handlers of ours: one that
        verify can be asked about, one that nobody can be asked about, and one that may be done twice."""
        self.sdk = FakeSdk()
        return own_service(self.sdk)

    def payload_strategy(self, kind: str) -> st.SearchStrategy[Any]:
        """Payloads for that kind of job."""
        if kind in self.payloads:
            return self.payloads[kind]
        if self.service._handlers[kind].payload_type is OwnWork:
            return st.builds(OwnWork, st.integers(0, 9))
        return st.from_type(self.service._handlers[kind].payload_type)

    def __init__(self) -> None:
        super().__init__()
        self.service = self.make_service()
        self.model = Model({kind: one.attempt_timeout for kind, one in self.service._handlers.items()})
        self.reports: list[ShutdownReport] = []
        self._shelf = Shelf(self.keeps)
        log = logging.getLogger("trio_jobs")
        self._log_level = log.level
        if self.quiet:
            log.setLevel(logging.CRITICAL + 1)
        self._process: Process | None = None
        self._processes = 0
        self._unanswered: set[tuple[str, str | None]] = set()
        self._returned: list[tuple[str, int]] = []
        self._unheard: list[Event] = []
        self._plan: Plan | None = None
        self._hang: Blocker | None = None

    @property
    def process(self) -> Process:
        assert self._process is not None, "the queue is not open"
        return self._process

    @property
    def queue(self) -> Any:
        return self.process.queue

    async def settle(self) -> None:
        if self._process is None:
            await super().settle()
            return
        await self._process.settle()
        if self._process.watch.dead:  # it has died in the midst of a call
            await self._process.crash(self._forget_what_hangs)
            await self.open()
            await self._process.settle()

    async def pass_time(self, seconds: float) -> None:
        await self.process.pass_time(seconds)

    # what happens around the callers

    @initialize()
    async def open(self) -> None:
        """Begin a process. Called again after each end of one."""
        if self._process is not None:
            self._returned += self._process.watch.returned
        self.model.new_process()
        self._processes += 1
        self._process = Process(self.service, self._shelf, self.clock, dict(self.queue_settings), self._processes)
        self._process.follow_after = self._unheard[0].seq - 1 if self._unheard else self.model.seq
        await self._process.open(self.nursery)
        self._process.watch.on_death = self._died
        self._process.watch.on_cancel = self._cancel_under_way
        self._process.watch.plan = self._plan

    @precondition(lambda self: self.model.jobs)
    @rule(seconds=st.sampled_from(_SECONDS))
    async def time_passes(self, seconds: float) -> None:
        await self.pass_time(seconds)

    @precondition(lambda self: self._plan is None or self.process.watch.happened)
    @rule(fault=FAULTS, number=st.integers(1, 3), side=st.sampled_from(["before", "after"]))
    async def a_call_will(self, fault: str, number: int, side: Literal["before", "after"]) -> None:
        """The next time that call `number` of an attempt is made, this goes wrong before it or after it was made.

        Where the process cannot die in the midst of a call ("memory", "sqlite"), the call raises instead.
        """
        self._will(fault, Point(number, side, ""))

    def _will(self, fault: str, at: Point) -> None:
        if fault == "raise":
            self._plan = Plan("raise", at, error=PlannedError("planned"))
        elif fault == "lose the session":
            self._plan = Plan("raise", at, error=SessionLost("planned"))
        elif fault == "slow":
            self._plan = Plan("slow", at, seconds=90.0)
        elif fault == "cancel":
            self._plan = Plan("cancel", at)
        elif fault == "die":
            self._plan = Plan("die" if self.keeps == "disk" else "raise", at, error=PlannedError("planned"))
        else:
            self._let_go()
            self._hang = Blocker()
            self._plan = Plan("hang", at, hold=self._hang)
        self.process.watch.plan = self._plan
        self.process.watch.happened = False

    @precondition(lambda self: self._hang is not None)
    @rule()
    async def what_hangs_returns(self) -> None:
        self._let_go()

    @precondition(lambda self: self.model.jobs)
    @rule(how=st.sampled_from(["stop", "crash", "drain"]))
    async def the_process_ends(self, how: str) -> None:
        """And the next one begins, on what it has kept. Drained: first all that can end within a day does."""
        if how == "crash" and self.keeps != "memory":
            await self.process.crash(self._forget_what_hangs)
        else:
            if how == "drain" and self.queue.paused is None and self._hang is None:
                with self._unless_dead():
                    self._look_drained(await self.process.drain(86_400.0))
            if self.process.watch.dead:  # it died on the way
                await self.process.crash(self._forget_what_hangs)
            else:
                await self._leave()
        await self.open()

    # ends

    def _look_drained(self, drained: bool) -> None:
        """What it says is so, and it says so as soon as it is. What takes longer than its time is still there."""
        if self.process.watch.dead:
            return
        jobs = self.queue.statistics().jobs
        left = {str(state): jobs[state] for state in (State.PENDING, State.PROCESSING, State.RETRYING) if jobs[state]}
        if drained:
            assert not left, f"a drained queue has nothing to do, and there are {left}"
        else:
            assert left, "a queue that has nothing to do is drained"

    async def _leave(self) -> None:
        process = self.process
        report = await process.leave()
        self.reports.append(report)
        hangs = process.log.inside > 0
        assert report.sdk_closed or hangs, f"P3: the SDK is not closed: {report.sdk_problem}"
        assert process.log.opened - process.log.closed <= hangs, "P3: each open has its close"
        left = {one.job_id for one in report.unfinished}
        final = {job_id for job_id in self.queue.job_ids() if self.queue.get(job_id).state in FINAL}
        for job in self.model.jobs.values():
            assert job.forgotten or not job.told or (job.id in left) != (job.id in final), (
                f"P5: job {job.id} ended, or is reported"
            )
        self._forget_what_hangs()

    def _died(self) -> None:
        self._shelf.die()
        note("the process died inside a call")

    @contextmanager
    def _unless_dead(self) -> Iterator[None]:
        """What is asked of a process that dies meanwhile may come to nothing."""
        try:
            yield
        except (OutcomeUnknown, StoreError, QueueClosed):
            if not self.process.watch.dead:
                raise

    def _cancel_under_way(self) -> None:
        """A person cancels whatever is under way, at this very moment."""
        queue = self.queue
        for job in queue.list(state=State.PROCESSING):
            runtime_of(queue).operations.cancel_now(job.id, by="a rule")

    def _let_go(self) -> None:
        hang, self._hang = self._hang, None
        if hang is not None:
            hang.let_go()

    def _forget_what_hangs(self) -> None:
        """What still hangs when its process ends finds it dead. What is planned and has not happened is still to
        come."""
        self.process.watch.dead = True
        self._let_go()
        if self.process.watch.happened or (self._plan is not None and self._plan.fault == "hang"):
            self._plan = None

    async def teardown(self) -> None:
        """End the queue, and look at the promises of its end. Subclasses `await super().teardown()`."""
        try:
            if self._process is not None and not self._process.ended.is_set():
                if self._failure is None:
                    self._let_go()
                    await self._leave()
                else:  # it has failed already; what more its end would show is no news
                    await self.process.crash(self._forget_what_hangs)
        finally:
            self._shelf.clear()
            logging.getLogger("trio_jobs").setLevel(self._log_level)
        await super().teardown()
