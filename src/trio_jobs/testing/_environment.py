"""The part of `QueueMachine` around the callers: processes start and end, time passes, SDK calls fail by plan, and
events are read.

`QueueMachine` adds the rules of the callers and the invariants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Literal

from trio_jobs._engine.directives import SessionLost
from trio_jobs._engine.event_identity import as_stored
from trio_jobs._engine.events import Event
from trio_jobs._engine.jobs import FINAL, State
from trio_jobs._errors import OutcomeUnknown, QueueClosed, StoreError
from trio_jobs._runtime.clock import TrioClock
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._runtime.report import ShutdownReport
from trio_jobs._service import Service, parts_of
from trio_jobs.testing._example_service import ExamplePayload, example_service
from trio_jobs.testing._instrumented import CallSite, FaultPlan
from trio_jobs.testing._model import Model
from trio_jobs.testing._queue_process import JobStorage, QueueProcess, StorageKind
from trio_jobs.testing._quiet_log import QuietLog
from trio_jobs.testing.fake_sdk import Blocker, FakeSdk
from trio_jobs.testing.stateful import TrioStateMachine, initialize, note, precondition, rule, st

__all__ = ["FAULTS", "QueueEnvironment"]

_DELIVERY_LIMIT: Final = 0.5  #: seconds within which a reader receives an event, whatever the load
_SECONDS: Final = (0.01, 1.0, 5.0, 60.0, 3600.0)
FAULTS: Final = st.sampled_from(["raise", "slow", "hang", "lose the session", "cancel", "die"])


class PlannedError(Exception):
    """What a planned fault raises in an SDK call."""


class QueueEnvironment(TrioStateMachine):
    """Base of `QueueMachine`, which documents what a subclass can override."""

    payloads: ClassVar[Mapping[str, st.SearchStrategy[Any]]] = {}
    """A strategy for the payloads of each kind; for a kind that is missing, one is derived from the payload type."""

    storage: ClassVar[StorageKind] = "disk"
    """`"memory"`, `"disk"` (simulated, the fastest storage that can crash) or `"sqlite"` (a file)."""

    queue_settings: ClassVar[Mapping[str, Any]] = {"watchdog": None}
    """Override settings of the service."""

    quiet: ClassVar[bool] = True
    """Log nothing while the machine runs, since all faults are planned."""

    def make_service(self) -> Service:
        """Return the service under test, with its SDK in the initial state. Called for each example.

        The default is a `FakeSdk` with three handlers: one with a verify, one without, and an idempotent one.
        """
        self.sdk = FakeSdk()
        return example_service(self.sdk)

    def payload_strategy(self, kind: str) -> st.SearchStrategy[Any]:
        """Return the strategy for payloads of a kind: `payloads[kind]`, or one derived from the payload type."""
        if kind in self.payloads:
            return self.payloads[kind]
        if parts_of(self.service).handlers[kind].payload_type is ExamplePayload:
            return st.builds(ExamplePayload, st.integers(0, 9))
        return st.from_type(parts_of(self.service).handlers[kind].payload_type)

    def __init__(self) -> None:
        super().__init__()
        self.service = self.make_service()
        self.model = Model({kind: one.attempt_timeout for kind, one in parts_of(self.service).handlers.items()})
        """What the events so far say about each job."""
        self.reports: list[ShutdownReport] = []
        """The reports of all processes that stopped normally."""
        self._storage = JobStorage(self.storage)
        self._log = QuietLog()
        if self.quiet:
            self._log.start()
        self._process: QueueProcess | None = None
        self._processes = 0
        self._unanswered: set[tuple[str, str | None]] = set()
        self._returned: list[tuple[str, int]] = []
        self._undelivered: list[Event] = []
        self._stored: list[Event] = []
        self._plan: FaultPlan | None = None
        self._blocker: Blocker | None = None

    @property
    def process(self) -> QueueProcess:
        """The current process."""
        assert self._process is not None, "the queue is not open"
        return self._process

    @property
    def queue(self) -> Any:
        """The queue of the current process."""
        return self.process.queue

    async def settle(self) -> None:
        """Wait until all tasks are blocked and no thread is active; replace a process that has died."""
        if self._process is None:
            await super().settle()
            return
        await self._process.settle()
        if self._process.recorder.dead:  # the process died in a call
            await self._process.crash(self._discard_blocked_calls)
            await self.open()
            await self._process.settle()

    async def pass_time(self, seconds: float) -> None:
        """Advance virtual time by `seconds`, stopping at each deadline on the way."""
        await self.process.pass_time(seconds)

    async def _read_events(self) -> None:
        """Check the stored events and what a reader received of them, which under load may be a little late."""
        store, process = runtime_of(self.queue).event_log.store, self.process
        stored: list[Event] = []
        while page := await store.events(stored[-1].seq if stored else self.model.seq, 200):
            stored += page
        self._stored += stored
        wrong = self.model.read(stored, self._returned + process.recorder.returned)
        assert not wrong, wrong
        assert self.model.seq == store.last_seq, f"P8: the store has events up to {self.model.seq} of {store.last_seq}"
        received, process.read = [as_stored(event) for event in process.read], []
        expected = self._undelivered + stored
        self._undelivered = expected[len(received) :]
        assert received == expected[: len(received)], (
            f"P8: a reader received {[event.seq for event in received]} of {[event.seq for event in expected]}"
        )
        late = [event.seq for event in self._undelivered if TrioClock().now() > event.at + _DELIVERY_LIMIT]
        assert not late, f"P8: a reader has not received the events {late}"

    # processes, time and faults

    @initialize()
    async def open(self) -> None:
        """Start a process. Called again after each end of one."""
        if self._process is not None:
            self._returned += self._process.recorder.returned
        self.model.new_process()
        self._processes += 1
        self._process = QueueProcess(
            self.service, self._storage, self.clock, dict(self.queue_settings), self._processes
        )
        self._process.read_after = self._undelivered[0].seq - 1 if self._undelivered else self.model.seq
        await self._process.open(self.nursery)
        self._process.recorder.on_death = self._on_death
        self._process.recorder.on_cancel = self._cancel_running
        self._process.recorder.plan = self._plan

    @precondition(lambda self: self.model.jobs)
    @rule(seconds=st.sampled_from(_SECONDS))
    async def advance_time(self, seconds: float) -> None:
        """Let virtual time pass."""
        await self.pass_time(seconds)

    @precondition(lambda self: self._plan is None or self.process.recorder.triggered)
    @rule(fault=FAULTS, number=st.integers(1, 3), side=st.sampled_from(["before", "after"]))
    async def plan_fault(self, fault: str, number: int, side: Literal["before", "after"]) -> None:
        """The next call `number` of an attempt fails in this way, before or after the SDK is called.

        If the process cannot die during a call ("memory", "sqlite"), the call raises instead.
        """
        self._plan_fault(fault, CallSite(number, side, ""))

    def _plan_fault(self, fault: str, at: CallSite) -> None:
        if fault == "raise":
            self._plan = FaultPlan("raise", at, error=PlannedError("planned"))
        elif fault == "lose the session":
            self._plan = FaultPlan("raise", at, error=SessionLost("planned"))
        elif fault == "slow":
            self._plan = FaultPlan("slow", at, seconds=90.0)
        elif fault == "cancel":
            self._plan = FaultPlan("cancel", at)
        elif fault == "die":
            self._plan = FaultPlan("die" if self.storage == "disk" else "raise", at, error=PlannedError("planned"))
        else:
            self._release()
            self._blocker = Blocker()
            self._plan = FaultPlan("hang", at, blocker=self._blocker)
        self.process.recorder.plan = self._plan
        self.process.recorder.triggered = False

    @precondition(lambda self: self._blocker is not None)
    @rule()
    async def release_blocked_call(self) -> None:
        """Let the call of a planned "hang" return."""
        self._release()

    @precondition(lambda self: self.model.jobs)
    @rule(how=st.sampled_from(["stop", "crash", "drain"]))
    async def end_process(self, how: str) -> None:
        """Stop or crash the process and start the next one. "drain": first jobs have a day of virtual time to end."""
        if how == "crash" and self.storage != "memory":
            await self.process.crash(self._discard_blocked_calls)
        else:
            if how == "drain" and self.queue.paused is None and self._blocker is None:
                with self._ignoring_death():
                    self._check_drained(await self.process.drain(86_400.0))
            if self.process.recorder.dead:  # the process died during the drain
                await self.process.crash(self._discard_blocked_calls)
            else:
                await self._stop()
        await self.open()

    # the end of a process

    def _check_drained(self, drained: bool) -> None:
        """The drain returned if, and only if, no job is pending, processing, saving or retrying."""
        if self.process.recorder.dead:
            return
        jobs = self.queue.statistics().jobs
        waited_for = (State.PENDING, State.PROCESSING, State.SAVING, State.RETRYING)
        left = {str(state): jobs[state] for state in waited_for if jobs[state]}
        if drained:
            assert not left, f"drain returned while there were jobs: {left}"
        else:
            assert left, "drain did not return although no job was pending, processing, saving or retrying"

    async def _stop(self) -> None:
        process = self.process
        report = await process.stop()
        self.reports.append(report)
        blocked = process.log.inside > 0
        assert report.sdk_closed or blocked, f"P3: the SDK is not closed: {report.sdk_problem}"
        assert process.log.opened - process.log.closed <= blocked, (
            f"P3: {process.log.opened} sessions were opened and {process.log.closed} closed"
        )
        left = {one.job_id for one in report.unfinished}
        final = {job_id for job_id in self.queue.job_ids() if self.queue.get(job_id).state in FINAL}
        for job in self.model.jobs.values():
            assert job.forgotten or not job.acknowledged or (job.id in left) != (job.id in final), (
                f"P5: job {job.id} is {'final and' if job.id in final else 'neither final nor'} in the shutdown report"
            )
        self._discard_blocked_calls()

    def _on_death(self) -> None:
        self._storage.crash_now()
        note("the process died in an SDK call")

    @contextmanager
    def _ignoring_death(self) -> Iterator[None]:
        """Suppress the errors of an operation during which the process dies."""
        try:
            yield
        except (OutcomeUnknown, StoreError, QueueClosed):
            if not self.process.recorder.dead:
                raise

    def _cancel_running(self) -> None:
        """Cancel the job whose attempt is running, from within the attempt."""
        queue = self.queue
        for job in queue.list(state=State.PROCESSING):
            runtime_of(queue).operations.cancel_now(job.id, by="a rule")

    def _release(self) -> None:
        blocker, self._blocker = self._blocker, None
        if blocker is not None:
            blocker.release()

    def _discard_blocked_calls(self) -> None:
        """Release blocked calls, which then raise `ProcessDied`. A fault that has not been triggered stays planned."""
        self.process.recorder.dead = True
        self._release()
        if self.process.recorder.triggered or (self._plan is not None and self._plan.fault == "hang"):
            self._plan = None

    async def teardown(self) -> None:
        """Stop the queue and check the promises about its end. An override must `await super().teardown()`."""
        try:
            if self._process is not None and not self._process.ended.is_set():
                if self._failure is None:
                    self._release()
                    await self._stop()
                else:  # the example has failed already; a second failure would only hide the first
                    await self.process.crash(self._discard_blocked_calls)
        finally:
            self._storage.clear()
            self._log.stop()
        await super().teardown()
