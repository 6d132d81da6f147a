"""SDKs that record when each call was made, one in the loop and one on a thread.

`trio_jobs.testing.FakeSdk` scripts its calls in their order and records no times. These SDKs script a call by its name,
since retried jobs change the order, and record the virtual time of each call. Tests use quarters of a second, which
floats represent exactly, so times are compared with ==.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import trio

from support.rig import declared
from trio_jobs import Service
from trio_jobs.testing import Blocker

__all__ = ["RecordingSdk", "RecordingThreadSdk", "Wrong", "work_service"]


class Wrong(Exception):
    """What a test raises on purpose."""


class RecordingSdk:
    """An SDK in the loop. It records each call with its time, and refuses two calls at once."""

    def __init__(self) -> None:
        self.record: list[tuple[float, str]] = []
        self.script: dict[str, list[BaseException]] = {}
        self.session_no = 0
        self.is_open = False
        self._inside: str | None = None

    @asynccontextmanager
    async def session(self) -> AsyncIterator[RecordingSdk]:
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
        """A service without handlers."""
        return Service(async_sdk=self.session, **settings)


class RecordingThreadSdk:
    """An SDK that must be used on one thread, which it checks. `clock` says when a call was made."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.record: list[tuple[float, str]] = []
        self.script: dict[str, list[BaseException | Blocker]] = {}
        self.threads: set[int] = set()
        self._clock = clock
        self._inside: str | None = None
        self._home: int | None = None
        self._sessions = 0
        self._lost: set[int] = set()

    @contextmanager
    def session(self) -> Iterator[RecordingThreadSdk]:
        assert self._home is None, "a second session"
        self._home = threading.get_ident()
        number = self._sessions = self._sessions + 1
        self._note("open")
        try:
            yield self
        finally:
            if number not in self._lost:
                self._note("close")
                self._home = None

    def call(self, what: str) -> str:
        self._note(what)
        assert self._inside is None, f"{what} enters while {self._inside} is inside"
        self._inside, number = what, self._sessions
        try:
            script = self.script.get(what)
            step = script.pop(0) if script else None
            if isinstance(step, Blocker):
                step.block()
            elif step is not None:
                raise step
        finally:
            if number not in self._lost:
                self._inside = None
        return what

    def lose(self) -> None:
        """The process of the session has ended, whatever was inside, and may still be blocked."""
        self._lost.add(self._sessions)
        self._home = self._inside = None
        self.record.append((self._clock(), "close"))

    def does(self, what: str, *steps: BaseException | Blocker) -> None:
        self.script.setdefault(what, []).extend(steps)

    def _note(self, what: str) -> None:
        assert self._home == threading.get_ident(), f"{what} on another thread than open"
        self.threads.add(threading.get_ident())
        self.record.append((self._clock(), what))

    @property
    def calls(self) -> list[str]:
        return [what for _, what in self.record if what not in ("open", "close")]

    def service(self, **settings: Any) -> Service:
        """A service without handlers."""
        return Service(sdk=self.session, **settings)


def work_service(
    sdk: RecordingSdk | RecordingThreadSdk,
    *,
    kinds: Sequence[str] = ("work",),
    seconds: float | Callable[[str], float] = 1,
    rules: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Service:
    """A service with a handler for each of `kinds`, whose payload names its call and which returns that name.

    Args:
        seconds: How long a call takes in the loop, or a function of its name. A thread takes none.
        rules: Of each handler, see `declared`.
        settings: Of the service.
    """
    service = sdk.service(**settings)
    for kind in kinds:

        async def in_the_loop(sdk: RecordingSdk, what: str) -> str:
            return await sdk.call(what, seconds(what) if callable(seconds) else seconds)

        def on_a_thread(sdk: RecordingThreadSdk, what: str) -> str:
            return sdk.call(what)

        work = in_the_loop if isinstance(sdk, RecordingSdk) else on_a_thread
        service.handler(kind=kind, **declared(rules or {}))(work)
    return service
