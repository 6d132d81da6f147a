"""One queue over several lives, with a ledger that records who has booked what, driven step by step in virtual time.

A step starts a request of a caller and does not wait for its answer; then it lets everything come to rest, or lets the
queue run for a few steps of the scheduler only, so that the next request comes in between. `check` reports two vouchers
of one key, and a completed job whose voucher is not that of its payload.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

import attrs
import msgspec
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from trio_jobs import AsyncJobContext, Done, Fail, NotDone, Queue, Service, State, TrioClock, TrioJobsError, Unknown
from trio_jobs.testing import CrashableStore, pass_time

__all__ = ["CALLS", "KINDS", "REQUESTS", "Ledger", "Step", "VoucherRun", "run_steps"]

Call = Literal["books", "reply lost", "refuses", "fails", "books late", "hangs after", "stuck"]
CALLS: Final[tuple[Call, ...]] = ("books", "reply lost", "refuses", "fails", "books late", "hangs after", "stuck")
"""What a call does. "reply lost": it books, then raises. "refuses": raises `Fail`. "fails": raises before it books.
"books late": it waits for "release", then books. "hangs after": it books, then waits for "release". "stuck": as
"books late", and nothing but "release" ends it."""

KINDS: Final = ("asked", "asked_dropped", "held", "steps")
REQUESTS: Final = (
    "submit", "submit other", "correct", "correct back", "correcting submit", "verify", "retry", "cancel", "resolve",
    "give up", "run now", "retry many", "release", "forget", "crash", "prune", "wait", "wait long",
)  # fmt: skip
RETENTION: Final = 100.0  #: seconds; that of keys is 400 days


@attrs.frozen
class Step:
    """A request, and what happens before the next one: None: everything comes to rest; or so many checkpoints."""

    request: str
    checkpoints: int | None = None


@attrs.define(eq=False)
class Ledger:
    """The books: each voucher is a key, the payload and the attempt that has booked it."""

    vouchers: list[tuple[str, str, int]] = attrs.field(factory=list)
    calls: list[Call] = attrs.field(factory=list)
    """What the next calls do; "books" when there are no more."""
    verifies: list[str] = attrs.field(factory=list)
    """What the next verifies do: "truth", "unknown" or "raises"; "truth" when there are no more."""
    release: trio.Event = attrs.field(factory=trio.Event)
    dead: bool = False
    """The process has died: its tasks run to their end without effect."""

    def of(self, key: str) -> list[tuple[str, str, int]]:
        return [voucher for voucher in self.vouchers if voucher[0] == key]

    def book(self, job: AsyncJobContext, what: str) -> str:
        if not self.dead:
            self.vouchers.append((str(job.key), what, job.attempt))
        return f"voucher of {what}"

    async def call(self, job: AsyncJobContext, what: str) -> str:
        await trio.lowlevel.checkpoint()
        call = self.calls.pop(0) if self.calls else "books"
        if call == "refuses":
            raise Fail("the tax id is wrong")
        if call == "fails":
            raise OSError("no connection")
        if call in ("books late", "stuck"):
            with trio.CancelScope(shield=call == "stuck"):
                await self.release.wait()
        booked = self.book(job, what)
        if call == "reply lost":
            raise OSError("the answer is lost")
        if call == "hangs after":
            await self.release.wait()
        return booked

    async def verify(self, job: AsyncJobContext) -> Any:
        await trio.lowlevel.checkpoint()
        answer = self.verifies.pop(0) if self.verifies else "truth"
        if answer == "raises":
            raise OSError("no connection")
        if answer == "unknown":
            return Unknown()
        return Done("found") if self.of(str(job.key)) else NotDone()


def voucher_service(ledger: Ledger, kind: str) -> Service:
    """A service with the handler of one of `KINDS`, which differ in what they declare about repetition."""

    @asynccontextmanager
    async def session() -> AsyncIterator[Ledger]:
        await trio.lowlevel.checkpoint()
        yield ledger

    service = Service(
        async_sdk=session,
        job_retention=RETENTION,
        watchdog=None,
        seat_lock=None,
        drain_timeout=0,
        cancel_timeout=1,
        buffer=3,
    )

    async def verify(ledger: Ledger, job: AsyncJobContext) -> Any:
        return await ledger.verify(job)

    async def post(ledger: Ledger, what: str, job: AsyncJobContext) -> str:
        return await ledger.call(job, what)

    async def post_in_steps(ledger: Ledger, what: str, job: AsyncJobContext) -> str:
        booked: str = await job.step("book", ledger.call, job, what)
        if ledger.calls and ledger.calls.pop(0) == "refuses":
            raise Fail("the mail address is wrong")
        return booked

    rules: dict[str, Any] = {"on_doubt": "hold"}
    if kind != "held":
        on_doubt = "hold" if kind == "asked" else "fail"
        rules = {"verify": verify, "retry": trio_jobs.Retry(1, waits=[1]), "on_doubt": on_doubt}
    service.handler(kind=kind, attempt_timeout=30, **rules)(post_in_steps if kind == "steps" else post)
    return service


class VoucherRun:
    """The lives of one queue with one key. Use `run_steps`.

    Args:
        kind: One of `KINDS`.
        ledger: The books.
        clock: The clock of the Trio run. It advances only in a step.
        nursery: For the queue and the callers.
    """

    KEY: Final = "A-1"

    def __init__(self, kind: str, ledger: Ledger, clock: MockClock, nursery: trio.Nursery) -> None:
        self._kind = kind
        self._ledger = ledger
        self._clock = clock
        self._nursery = nursery
        self._disk = CrashableStore()
        self._service = voucher_service(ledger, kind)
        self._lives = 0
        self._queue: Queue
        self._scope: trio.CancelScope
        self._ended: trio.Event
        self._job_id = ""
        self.answers: list[str] = []
        """What the callers got, for a failure's message."""

    async def start(self) -> None:
        """Begin a life of the queue."""
        self._lives += 1
        self._ledger.dead, self._ledger.release = False, trio.Event()
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        opened = trio.Event()
        self._nursery.start_soon(self._live, self._scope, self._ended, opened)
        await wait_all_tasks_blocked()
        assert opened.is_set(), "the queue does not open"

    async def _live(self, scope: trio.CancelScope, ended: trio.Event, opened: trio.Event) -> None:
        try:
            with scope:
                async with self._service.open(store=self._disk.store(), clock=TrioClock(), seed=self._lives) as queue:
                    self._queue = queue
                    opened.set()
                    await trio.sleep_forever()
        except TrioJobsError:
            if not self._ledger.dead:
                raise
        finally:
            ended.set()

    async def crash(self) -> None:
        """End the process at once: what is not committed is lost, and nothing of it has an effect any more."""
        self._disk.crash()
        self._ledger.dead = True
        self._ledger.release.set()  # a dead process has no calls
        self._scope.cancel()
        for _ in range(20):
            await wait_all_tasks_blocked()
            if self._ended.is_set():
                return
            self._clock.jump(1.0)
        raise AssertionError("the dead process does not end")

    # requests

    async def step(self, step: Step) -> None:
        """Start a request, and let the queue go on."""
        match step.request:
            case "crash":
                await self.crash()
                await self.start()
            case "prune":
                await pass_time(self._clock, RETENTION + 200)
            case "wait":
                await pass_time(self._clock, 2.0)
            case "wait long":
                await pass_time(self._clock, 70.0)  # an attempt that does not end is stuck by then
            case "release":
                self._ledger.release.set()
                self._ledger.release = trio.Event()
            case request:
                self._nursery.start_soon(self._request, request, self._requests()[request], self._ledger)
        if step.checkpoints is None:
            await wait_all_tasks_blocked()
        for _ in range(step.checkpoints or 0):
            await trio.lowlevel.checkpoint()
        self.check()

    def _requests(self) -> dict[str, Callable[[], Awaitable[Any]]]:
        queue, kind, key = self._queue, self._kind, self.KEY
        job = self._job_id or "nothing"
        return {
            "submit": lambda: queue.submit(kind, "first", key=key),
            "submit other": lambda: queue.submit(kind, "second", key=key),
            "correcting submit": lambda: queue.submit(kind, "second", key=key, correct=True, by="ada"),
            "correct": lambda: queue.correct(job, "second", by="ada"),
            "correct back": lambda: queue.correct(job, "first", by="bob"),
            "verify": lambda: queue.verify(job),
            "retry": lambda: queue.retry(job),
            "retry many": lambda: queue.retry_many(kind=kind),
            "cancel": lambda: queue.cancel(job),
            "resolve": self._resolve,
            "give up": self._give_up,
            "run now": lambda: queue.run_now(job),
            "forget": lambda: queue.forget(job),
        }

    async def _resolve(self) -> None:
        """Resolve a doubt by what is in the books, unless a call that can still book is inside."""
        job = self._queue.get(self._job_id or "nothing")
        if not job.inside:
            await self._queue.resolve(job.id, "done" if self._ledger.of(self.KEY) else "not_done")

    async def _give_up(self) -> None:
        """Resolve a doubt as failed, which says that nothing is done, unless a call is inside."""
        job = self._queue.get(self._job_id or "nothing")
        if job.inside or not self._ledger.of(self.KEY):
            await self._queue.resolve(job.id, "failed")

    async def _request(self, name: str, request: Callable[[], Awaitable[Any]], ledger: Ledger) -> None:
        try:
            answer = await request()
        except TrioJobsError as error:
            self.answers.append(f"{name}: {type(error).__name__}: {error}")
            return
        self.answers.append(f"{name}: {answer}")
        if isinstance(answer, trio_jobs.Receipt):
            self._job_id = answer.job_id

    def check(self) -> None:
        """At most one voucher per key; and a completed job has the voucher of its payload."""
        booked = self._ledger.of(self.KEY)
        assert len(booked) <= 1, f"{len(booked)} vouchers of one key: {booked}"
        for job in self._queue.list(state=State.COMPLETED):
            payload = msgspec.json.decode(job.payload or b"null")
            assert [voucher[1] for voucher in booked] == [payload], (
                f"the job is completed ({job.reason}) with the payload {payload!r}, and the books have {booked}"
            )


async def run_steps(
    kind: str, steps: Sequence[Step], *, calls: Sequence[Call] = (), verifies: Sequence[str] = ()
) -> VoucherRun:
    """Run these steps behind a submit, then let everything end, in the current Trio run with its `MockClock`."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    ledger = Ledger(calls=list(calls), verifies=list(verifies))
    async with trio.open_nursery() as nursery:
        run = VoucherRun(kind, ledger, clock, nursery)
        await run.start()
        try:
            for step in (Step("submit"), *steps, *map(Step, ("release", "wait", "resolve", "wait"))):
                await run.step(step)
        except AssertionError as error:
            error.add_note("\n".join(run.answers))
            raise
        finally:
            with trio.CancelScope(shield=True):
                await run.crash()
            nursery.cancel_scope.cancel()
    return run
