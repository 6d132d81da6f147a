"""What the tests of the features share: an SDK in the loop and one on a thread, each with a record of its own.

Time is virtual wherever time is the point (`autojump_clock`, `TrioClock`). Tests speak of quarters of a second, which
floats hold exactly, so times are compared with ==.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal, TypeVar

import attrs
import trio

from trio_jobs import Job, Queue, Service, TrioClock

__all__ = ["Blocker", "Book", "ThreadBook", "Wrong", "cut_at", "open_queue", "outcomes", "until"]


T = TypeVar("T")


class Wrong(Exception):
    """What a test raises on purpose."""


class Book:
    """An SDK in the loop. It writes down what is done to it, and when, and refuses two things at once."""

    def __init__(self) -> None:
        self.record: list[tuple[float, str]] = []
        self.script: dict[str, list[BaseException]] = {}
        self.session_no = 0
        self.is_open = False
        self._inside: str | None = None

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Book]:
        assert not self.is_open, "a second session"
        self.note("open")
        self.is_open = True
        self.session_no += 1
        try:
            yield self
        finally:
            assert self._inside is None, f"closed while {self._inside} is inside"
            self.is_open = False
            self.note("close")

    async def call(self, what: str, seconds: float = 0) -> str:
        """Take `seconds`, then raise what `fails` said for this call, or return its name."""
        assert self.is_open, "not open"
        assert self._inside is None, f"{what} enters while {self._inside} is inside"
        self._inside = what
        self.note(what)
        try:
            await trio.sleep(seconds)
        finally:
            self._inside = None
        script = self.script.get(what)
        if script:
            raise script.pop(0)
        return what

    def fails(self, what: str, *errors: BaseException) -> None:
        """Each of the next calls `what` raises one of these."""
        self.script.setdefault(what, []).extend(errors)

    def note(self, what: str) -> None:
        self.record.append((trio.current_time(), what))

    @property
    def calls(self) -> list[str]:
        return [what for _, what in self.record if what not in ("open", "close")]

    def service(self, **settings: Any) -> Service:
        """With one handler, "work", whose payload names its call."""
        return Service(async_sdk=self.session, **settings)


class Blocker:
    """A place in a thread where it waits until the test lets it go; no test waits longer than it must."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._go = threading.Event()

    def wait(self) -> None:
        self._reached.set()
        assert self._go.wait(20), "nobody let it go"

    def let_go(self) -> None:
        self._go.set()

    async def reached(self) -> None:
        assert await trio.to_thread.run_sync(self._reached.wait, 20), "nobody came"


class ThreadBook:
    """An SDK that must be used on one thread, which it checks. `clock` says when a call was made."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.record: list[tuple[float, str]] = []
        self.script: dict[str, list[BaseException | Blocker]] = {}
        self.threads: set[int] = set()
        self._clock = clock
        self._inside: str | None = None
        self._home: int | None = None

    @contextmanager
    def session(self) -> Iterator[ThreadBook]:
        assert self._home is None, "a second session"
        self._home = threading.get_ident()
        self._note("open")
        try:
            yield self
        finally:
            self._note("close")
            self._home = None

    def call(self, what: str) -> str:
        self._note(what)
        assert self._inside is None, f"{what} enters while {self._inside} is inside"
        self._inside = what
        try:
            script = self.script.get(what)
            step = script.pop(0) if script else None
            if isinstance(step, Blocker):
                step.wait()
            elif step is not None:
                raise step
        finally:
            self._inside = None
        return what

    def does(self, what: str, *steps: BaseException | Blocker) -> None:
        self.script.setdefault(what, []).extend(steps)

    def _note(self, what: str) -> None:
        assert self._home == threading.get_ident(), f"{what} on another thread than open"
        self.threads.add(threading.get_ident())
        self.record.append((self._clock(), what))

    @property
    def calls(self) -> list[str]:
        return [what for _, what in self.record if what not in ("open", "close")]


@asynccontextmanager
async def open_queue(service: Service, *, seed: int = 1, **kwargs: Any) -> AsyncIterator[Queue]:
    """In virtual time, which ends after ten days: a test that waits for ever fails.

    seed: another one for a second queue on the same store at the same moment, else it draws the same ids.
    """
    with trio.fail_after(864_000):
        async with service.open(clock=TrioClock(), seed=seed, **kwargs) as queue:
            yield queue


async def until(queue: Queue, job_id: str, state: str) -> Job:
    """The job, as soon as an event brings it into `state`."""
    async for _ in queue.events(after=0, jobs={job_id}):
        job = queue.get(job_id)
        if job.state == state:
            return job
    raise AssertionError(f"the queue ended, and the job is {queue.get(job_id).state}")


def outcomes(job: Job) -> list[str]:
    return [str(attempt.outcome) for attempt in job.attempts]


@attrs.define(eq=False)
class _Cut:
    """A trio instrument that cancels `scope` when `task` has gone to sleep (or is about to wake) for the n-th time."""

    task: trio.lowlevel.Task
    scope: trio.CancelScope
    left: int
    when: Literal["asleep", "waking"]

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._count(task, "waking")

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._count(task, "asleep")

    def _count(self, task: trio.lowlevel.Task, when: str) -> None:
        if task is self.task and when == self.when:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


async def cut_at(n: int, when: Literal["asleep", "waking"], fn: Callable[[], Awaitable[T]]) -> tuple[T | None, bool]:
    """`await fn()`, cancelled at its n-th checkpoint, from 1: while it sleeps there, or just when it wakes.

    What it returned, None if Cancelled came out of it; and whether it has so many checkpoints.
    """
    result = None
    cut: Any = _Cut(trio.lowlevel.current_task(), trio.CancelScope(), n, when)
    with cut.scope:
        trio.lowlevel.add_instrument(cut)
        try:
            result = await fn()
        finally:
            trio.lowlevel.remove_instrument(cut)
    return result, cut.left <= 0
