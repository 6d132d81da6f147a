"""A fake SDK that records what is done with it, and fails by script.

    sdk = FakeSdk()
    service = trio_jobs.Service(sdk=sdk.session)               # or async_sdk=sdk.async_session

    @service.handler(retry=trio_jobs.Retry())
    def post(session: FakeSession, what: str) -> str:
        return session.call(what)                              # or await session.acall(what)

    sdk.script("call", OSError("busy"), "voucher 1")           # the first call raises, the second returns "voucher 1"
    ...
    sdk.check()                                                # one at a time, one thread, always closed

Each operation ("open", "call", "verify", "save", "close") has a script: a queue of items, of which each operation takes
one. An exception is raised (a `SessionLost` makes the queue open a new session); a `Blocker` blocks the operation until
it is released; a `Slow` takes its time; a function is called, and its result is awaited if it can be; anything else is
returned. Without an item an operation succeeds: a call returns its argument. `at` sets the item of one operation by its
number.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, Literal, get_args

import attrs
import trio

from trio_jobs.testing._blocker import Blocker
from trio_jobs.testing._checked_managers import CheckedAsyncManager, CheckedManager
from trio_jobs.testing._virtual_time import current_activity

__all__ = ["Blocker", "FakeSdk", "FakeSession", "Operation", "Slow", "Step"]

Operation = Literal["open", "call", "verify", "save", "close"]


@attrs.frozen
class Slow:
    """An operation that takes some time.

    In Trio, and on a thread of a queue from `testing.open_queue`, the time is virtual; on any other thread it is real.
    On a thread it cannot be cancelled, as no call on a thread can.
    """

    seconds: float
    """How long it takes."""

    then: Any = None
    """The item that takes effect after that time."""


@attrs.frozen
class Step:
    """One operation of a `FakeSdk`."""

    operation: Operation
    """Which one."""

    what: str
    """The argument of a call or a verify; otherwise the name of the operation."""

    session: int
    """The number of the session, from 1."""

    thread: int
    """The identifier of the thread, see `threading.get_ident`."""


class FakeSdk:
    """The SDK; `session` and `async_session` open sessions of it."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        """The operations, in order; each is entered before its item takes effect."""
        self.max_concurrent = 0
        """The largest number of operations that were in progress at once."""
        self.open_sessions = 0
        """How many sessions are open."""
        self.misuse: list[str] = []
        """What callers did wrong, a sentence each: used or dropped a session that was not open or not closed."""
        self.thrown: list[BaseException] = []
        """What was thrown into sessions that were discarded, in order."""
        self._concurrent = 0
        self._inside: Counter[int] = Counter()  # operations in progress, by session
        self._lost: set[int] = set()  # sessions whose process has ended
        self._sessions = 0
        self._scripts: dict[Operation, deque[Any]] = {operation: deque() for operation in get_args(Operation)}
        self._by_number: dict[tuple[Operation, int], Any] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<FakeSdk {len(self.steps)} steps, {self.open_sessions} open>"

    def script(self, operation: Operation, *items: Any) -> None:
        """Append items to the script of an operation.

        Args:
            operation: "open", "call", "verify", "save" or "close".
            items: See the head of this module.
        """
        self._scripts[operation].extend(items)

    def at(self, operation: Operation, number: int, item: Any) -> None:
        """Set the item of one operation, whatever the script has.

        Args:
            operation: "open", "call", "verify", "save" or "close".
            number: Counts from 1.
            item: See the head of this module.

        Raises:
            AssertionError: That operation has already happened.
        """
        assert number > self.count(operation), f"{operation} number {number} has already happened"
        self._by_number[operation, number] = item

    def count(self, operation: Operation) -> int:
        """How many operations of that name have started."""
        return sum(step.operation == operation for step in self.steps)

    def calls(self) -> list[str]:
        """The arguments of all calls, in order."""
        return [step.what for step in self.steps if step.operation == "call"]

    def check(self, *, closed: bool = True) -> None:
        """Assert that the SDK was used correctly.

        Operations must not overlap, each session must be used on one thread, and not after its close.

        Args:
            closed: Also assert that no session is open, and that none was closed twice.

        Raises:
            AssertionError: It was not; the message says how.
        """
        assert self.max_concurrent <= 1, f"{self.max_concurrent} calls were in the SDK at once: {self.steps}"
        for session in {step.session for step in self.steps}:
            threads = {step.thread for step in self.steps if step.session == session}
            assert len(threads) == 1, f"session {session} was used on {len(threads)} threads: {self.steps}"
        if closed:
            assert self.open_sessions == 0, f"sessions that are still open: {self.open_sessions}; {self.steps}"
            closes = [step.session for step in self.steps if step.operation == "close"]
            assert len(closes) == len(set(closes)), f"a session was closed twice: {self.steps}"
        # last, since the garbage collector may find a session that was not closed at any moment
        assert not self.misuse, self.misuse

    def session(self) -> AbstractContextManager[FakeSession]:
        """Return the context manager of a session, for `Service(sdk=...)`."""
        return CheckedManager(self._session(), self.misuse.append)

    def async_session(self) -> AbstractAsyncContextManager[FakeSession]:
        """Return the context manager of a session, for `Service(async_sdk=...)`.

        Cancelled:
            While it is entered: no session is open.
        """
        return CheckedAsyncManager(self._async_session(), self.misuse.append)

    @contextmanager
    def _session(self) -> Iterator[FakeSession]:
        session = self._new_session()
        self._perform(session, "open", "open")
        session.is_open = True
        self.open_sessions += 1
        dropped = False
        try:
            yield session
        except GeneratorExit:  # the garbage collector closes the generator of a session that was not closed
            dropped = True
            self.misuse.append(f"session {session.number} was garbage-collected without being closed")
            raise
        except BaseException as error:
            self.thrown.append(error)
            raise
        finally:
            try:
                if not dropped:
                    self._perform(session, "close", "close")
            finally:
                session.is_open = False
                self.open_sessions -= 1

    @asynccontextmanager
    async def _async_session(self) -> AsyncIterator[FakeSession]:
        session = self._new_session()
        await self._aperform(session, "open", "open")
        session.is_open = True
        self.open_sessions += 1
        dropped = False
        try:
            yield session
        except GeneratorExit:  # the garbage collector closes the generator of a session that was not closed
            dropped = True
            self.misuse.append(f"session {session.number} was garbage-collected without being closed")
            raise
        except BaseException as error:
            self.thrown.append(error)
            raise
        finally:
            try:
                if not dropped:
                    await self._aperform(session, "close", "close")
            finally:
                session.is_open = False
                self.open_sessions -= 1

    def _new_session(self) -> FakeSession:
        self._sessions += 1
        return FakeSession(self, self._sessions)

    def _enter(self, session: FakeSession, operation: Operation, what: str) -> Any:
        with self._lock:
            self.steps.append(Step(operation, what, session.number, threading.get_ident()))
            if operation != "open" and not session.is_open:
                self.misuse.append(f"{what} in session {session.number}, which is not open")
            self._concurrent += 1
            self._inside[session.number] += 1
            self.max_concurrent = max(self.max_concurrent, self._concurrent)
            script = self._scripts[operation]
            number = operation, self.count(operation)
            if number in self._by_number:
                return self._by_number.pop(number)
            return script.popleft() if script else what

    def _leave(self, session: FakeSession) -> None:
        with self._lock:
            if session.number not in self._lost:
                self._concurrent -= 1
                self._inside[session.number] -= 1

    def _lose(self, session: FakeSession) -> None:
        """The process of a session has ended: nothing of it is in the SDK any more."""
        with self._lock:
            self._concurrent -= self._inside[session.number]
            self._lost.add(session.number)
            self.open_sessions -= session.is_open
            session.is_open = False

    def _perform(self, session: FakeSession, operation: Operation, what: str) -> Any:
        item = self._enter(session, operation, what)
        try:
            if isinstance(item, Blocker):
                item.block()
                item = item.then
            elif isinstance(item, Slow):
                activity = current_activity()
                time.sleep(item.seconds) if activity is None else activity.sleep(item.seconds)
                item = item.then
            if isinstance(item, BaseException):
                raise item
            return item() if callable(item) else item
        finally:
            self._leave(session)

    async def _aperform(self, session: FakeSession, operation: Operation, what: str) -> Any:
        item = self._enter(session, operation, what)
        try:
            if isinstance(item, Blocker):
                await item.ablock()
                item = item.then
            elif isinstance(item, Slow):
                await trio.sleep(item.seconds)
                item = item.then
            if isinstance(item, BaseException):
                raise item
            result = item() if callable(item) else item
            return await result if inspect.isawaitable(result) else result
        finally:
            self._leave(session)


class FakeSession:
    """A session of a `FakeSdk`: what a handler receives."""

    def __init__(self, sdk: FakeSdk, number: int) -> None:
        self.sdk = sdk
        """The SDK."""
        self.number = number
        """Counts from 1."""
        self.is_open = False
        """Between the return of the open and the end of the close."""

    def __repr__(self) -> str:
        return f"<FakeSession {self.number} {'open' if self.is_open else 'closed'}>"

    def call(self, what: str) -> Any:
        """Call the SDK on the session's thread; the script decides what it returns or raises."""
        return self._do("call", what)

    async def acall(self, what: str) -> Any:
        """Call the SDK in Trio; the script decides what it returns or raises.

        Cancelled:
            The call is recorded in `FakeSdk.steps`.
        """
        return await self._ado("call", what)

    def verify(self, what: str) -> Any:
        """Query the SDK on the session's thread, for a `verify`; the script decides what it returns or raises."""
        return self._do("verify", what)

    async def averify(self, what: str) -> Any:
        """Query the SDK in Trio, for a `verify`; the script decides what it returns or raises.

        Cancelled:
            The query is recorded in `FakeSdk.steps`.
        """
        return await self._ado("verify", what)

    def save(self) -> Any:
        """Save on the session's thread, for `Service(save=FakeSession.save)`; the script decides what it raises."""
        return self._do("save", "save")

    async def asave(self) -> Any:
        """Save in Trio, for `Service(save=FakeSession.asave)`; the script decides what it raises.

        Cancelled:
            The save is recorded in `FakeSdk.steps`.
        """
        return await self._ado("save", "save")

    def _do(self, operation: Operation, what: str) -> Any:
        return self.sdk._perform(self, operation, what)

    async def _ado(self, operation: Operation, what: str) -> Any:
        return await self.sdk._aperform(self, operation, what)
