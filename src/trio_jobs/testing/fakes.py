"""An SDK that remembers what was done to it, and fails where it is told to.

    sdk = FakeSdk()
    service = trio_jobs.Service(sdk=sdk.session)               # or async_sdk=sdk.async_session

    @service.handler
    def post(session: FakeSession, what: str) -> str:
        return session.call(what)                              # or await session.acall(what)

    sdk.script("call", OSError("busy"), "voucher 1")           # the first call raises, the second gives this back
    ...
    sdk.check()                                                # one at a time, one thread, always closed

What is scripted for a door ("open", "call", "verify", "close") is used up, one item at each passing: an exception is
raised (a `SessionLost` tells the queue to open a new session); a `Blocker` blocks until it is released; a `Slow` takes
its time; a function is called, and what it gives back is awaited where that can be; anything else is given back. A door
without a script lets pass: a call gives back what it was called with. `at` scripts one passing by its number, before
which others may come.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Literal

import attrs
import trio

from trio_jobs.testing._virtual import Work, at_work

__all__ = ["Blocker", "FakeSdk", "FakeSession", "Operation", "Slow", "Step"]

Operation = Literal["open", "call", "verify", "close"]

PATIENCE: Final = 30.0


class Blocker:
    """A place where a call stands still until the test lets it go on.

    then: what happens then, as if it had been scripted in place of the hold. patience: seconds of real time after which
    a thread that nobody lets go on gives up, so that a wrong test ends.
    """

    def __init__(self, then: Any = None, *, patience: float = PATIENCE) -> None:
        self.then = then
        self._patience = patience
        self._standing: list[Work] = []
        self._reached = threading.Event()
        self._let_go = threading.Event()
        self._reached_in_trio = trio.Event()
        self._let_go_in_trio = trio.Event()

    def __repr__(self) -> str:
        return f"<Hold {'passed' if self._let_go.is_set() else 'reached' if self._reached.is_set() else 'ahead'}>"

    def let_go(self) -> None:
        """Whoever stands here goes on; whoever comes later does not stop. From Trio's thread."""
        self._let_go.set()
        self._let_go_in_trio.set()
        standing, self._standing = self._standing, []
        for work in standing:
            work.begin()

    async def reached(self) -> None:
        """Return when a call on a thread stands here. It needs no time of Trio's clock."""
        await trio.to_thread.run_sync(self._reached.wait, self._patience)
        assert self._reached.is_set(), "no call came to this hold"

    async def reached_in_trio(self) -> None:
        """Return when a call in Trio stands here."""
        await self._reached_in_trio.wait()

    def stand(self) -> None:
        """Stand still, on a thread."""
        work = at_work()
        if work is not None:  # virtual time may run on while this thread stands
            work.token.run_sync_soon(self._stands, work)
        self._reached.set()
        assert self._let_go.wait(self._patience), "nobody let this call go on"

    async def astand(self) -> None:
        """Stand still, in Trio. Cancelled: it has been here all the same."""
        self._reached.set()
        self._reached_in_trio.set()
        await self._let_go_in_trio.wait()

    def _stands(self, work: Work) -> None:
        if not self._let_go.is_set():  # else it goes on already, and has not ceased to work
            self._standing.append(work)
            work.end()


@attrs.frozen
class Slow:
    """A call that takes `seconds`; then what `then` says.

    On a thread these are seconds of virtual time where the queue is one of `testing.open_queue`, of real time
    elsewhere; and it cannot be broken off there, as no call on a thread can.
    """

    seconds: float
    then: Any = None


@attrs.frozen
class Step:
    """One thing that was done: through which door, what, in which session (from 1), on which thread."""

    operation: Operation
    what: str
    session: int
    thread: int


class FakeSdk:
    """The thing itself; `session` and `async_session` open it.

    steps: what was done, in order, each entered before it does what is scripted. most_inside: how many were in it at
    once, at most. open_now: sessions that are open.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.most_inside = 0
        self.open_now = 0
        self.misuse: list[str] = []
        self._inside = 0
        self._sessions = 0
        self._scripts: dict[Operation, deque[Any]] = {
            "open": deque(),
            "call": deque(),
            "verify": deque(),
            "close": deque(),
        }
        self._by_number: dict[tuple[Operation, int], Any] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<FakeSdk {len(self.steps)} steps, {self.open_now} open>"

    def script(self, operation: Operation, *items: Any) -> None:
        """What the next passings of `operation` come to, behind what is scripted already."""
        self._scripts[operation].extend(items)

    def at(self, operation: Operation, number: int, item: Any) -> None:
        """What passing `number` (from 1) through `operation` comes to, whatever the script says."""
        assert number > self.count(operation), f"passing {number} of {operation!r} has been already"
        self._by_number[operation, number] = item

    def count(self, operation: Operation) -> int:
        """How often that was begun."""
        return sum(step.operation == operation for step in self.steps)

    def calls(self) -> list[str]:
        """What was called, in order."""
        return [step.what for step in self.steps if step.operation == "call"]

    def check(self, *, closed: bool = True) -> None:
        """Assert what every SDK may expect: one at a time, each session on one thread, nothing after its close.

        closed: that no session is open any more, and each close came once.
        """
        assert self.most_inside <= 1, f"{self.most_inside} calls were inside at once: {self.steps}"
        assert not self.misuse, self.misuse
        for session in {step.session for step in self.steps}:
            threads = {step.thread for step in self.steps if step.session == session}
            assert len(threads) == 1, f"session {session} was used on {len(threads)} threads: {self.steps}"
        if closed:
            assert self.open_now == 0, f"{self.open_now} sessions are still open: {self.steps}"
            closes = [step.session for step in self.steps if step.operation == "close"]
            assert len(closes) == len(set(closes)), f"a session was closed twice: {self.steps}"

    @contextmanager
    def session(self) -> Iterator[FakeSession]:
        """For `sdk=`: a session on the thread that enters it."""
        session = self._new_session()
        self._pass(session, "open", "open")
        session.is_open = True
        self.open_now += 1
        dropped = False
        try:
            yield session
        except GeneratorExit:  # nobody left it: the collector found it
            dropped = True
            self.misuse.append(f"session {session.number} was let go of without being closed")
            raise
        finally:
            try:
                if not dropped:
                    self._pass(session, "close", "close")
            finally:
                session.is_open = False
                self.open_now -= 1

    @asynccontextmanager
    async def async_session(self) -> AsyncIterator[FakeSession]:
        """For `async_sdk=`: a session in Trio."""
        session = self._new_session()
        await self._apass(session, "open", "open")
        session.is_open = True
        self.open_now += 1
        dropped = False
        try:
            yield session
        except GeneratorExit:  # nobody left it: the collector found it
            dropped = True
            self.misuse.append(f"session {session.number} was let go of without being closed")
            raise
        finally:
            try:
                if not dropped:
                    await self._apass(session, "close", "close")
            finally:
                session.is_open = False
                self.open_now -= 1

    def _new_session(self) -> FakeSession:
        self._sessions += 1
        return FakeSession(self, self._sessions)

    def _enter(self, session: FakeSession, operation: Operation, what: str) -> Any:
        with self._lock:
            self.steps.append(Step(operation, what, session.number, threading.get_ident()))
            if operation != "open" and not session.is_open:
                self.misuse.append(f"{what} in session {session.number}, which is not open")
            self._inside += 1
            self.most_inside = max(self.most_inside, self._inside)
            script = self._scripts[operation]
            number = operation, self.count(operation)
            if number in self._by_number:
                return self._by_number.pop(number)
            return script.popleft() if script else what

    def _leave(self) -> None:
        with self._lock:
            self._inside -= 1

    def _pass(self, session: FakeSession, operation: Operation, what: str) -> Any:
        item = self._enter(session, operation, what)
        try:
            if isinstance(item, Blocker):
                item.stand()
                item = item.then
            elif isinstance(item, Slow):
                work = at_work()
                time.sleep(item.seconds) if work is None else work.nap(item.seconds)
                item = item.then
            if isinstance(item, BaseException):
                raise item
            return item() if callable(item) else item
        finally:
            self._leave()

    async def _apass(self, session: FakeSession, operation: Operation, what: str) -> Any:
        item = self._enter(session, operation, what)
        try:
            if isinstance(item, Blocker):
                await item.astand()
                item = item.then
            elif isinstance(item, Slow):
                await trio.sleep(item.seconds)
                item = item.then
            if isinstance(item, BaseException):
                raise item
            result = item() if callable(item) else item
            return await result if inspect.isawaitable(result) else result
        finally:
            self._leave()


class FakeSession:
    """What a handler gets. number: from 1."""

    def __init__(self, sdk: FakeSdk, number: int) -> None:
        self.sdk = sdk
        self.number = number
        self.is_open = False

    def __repr__(self) -> str:
        return f"<FakeSession {self.number} {'open' if self.is_open else 'closed'}>"

    def call(self, what: str) -> Any:
        """Do something, on the session's thread."""
        return self.sdk._pass(self, "call", what)

    async def acall(self, what: str) -> Any:
        """Do something, in Trio."""
        return await self.sdk._apass(self, "call", what)

    def verify(self, what: str) -> Any:
        """Look whether something was done, on the session's thread."""
        return self.sdk._pass(self, "verify", what)

    async def averify(self, what: str) -> Any:
        """Look whether something was done, in Trio."""
        return await self.sdk._apass(self, "verify", what)
