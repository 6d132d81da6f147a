"""The simulated executor whose SDK is in a process, which can be killed and can die at any moment.

As with `LoopThreadExecutor` a call runs in one step, and its time passes afterwards. Here the process can end while it
passes: what the call had not done by then never happens, what was only in the memory of its session is lost, and the
session is not closed. A process that is killed may need some time to end, or seem not to end at all. Until it is dead,
its call is inside, whatever the queue has been told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

import outcome
import trio

from sim.machine import Machine
from trio_jobs._call_report import CallReport, RaisedError, stuck
from trio_jobs._engine.jobs import ErrorInfo
from trio_jobs._engine.openings import Opening
from trio_jobs._engine.sdk_call_error import SdkCallError
from trio_jobs._errors import SdkCallStuck
from trio_jobs._exception_tree import clear_frames
from trio_jobs._executors.discard import close_problem, exception_to_throw
from trio_jobs._executors.handle import HandleCall, SdkHandle
from trio_jobs._ports import Discard
from trio_jobs._sdk_call import SdkCall

__all__ = ["END_WAIT", "STACK_WAIT", "LoopProcessExecutor"]

STACK_WAIT: Final = 0.2  #: virtual seconds until a process that is killed ends
END_WAIT: Final = 5.0  #: further seconds, after which one that has not ended counts as stuck


class LoopProcessExecutor:
    """An `SdkExecutor` that conforms to `Kills`.

    Args:
        factory: Returns the context manager of a session.
        machine: On which the process runs.
        calm: The process does not die by itself, and ends at once when it is killed.
    """

    def __init__(self, factory: Callable[[], Any], machine: Machine, *, calm: bool) -> None:
        self._calm = calm
        self.session = 0
        self.inside = False
        self.has_lost_session = False
        self.waits_for_queue = False
        self._factory = factory
        self._machine = machine
        self._observer = machine.observer
        self._manager: Any = None
        self._sdk: Any = None
        self._error: BaseException | None = None
        self._number: int | None = None  # of the session in the observer
        self._is_open = False
        self._is_abandoned = False
        self._close_problem: str | None = None
        self._ended = ""  # "killed" or "died", of the process of the last session
        self._kills = False  # the process is being killed
        self._dead = trio.Event()
        self._stuck = trio.Event()

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<LoopProcessExecutor {state}{', a call is inside' if self.inside else ''}>"

    @property
    def is_open(self) -> bool:
        return self._is_open and not self._is_abandoned and not self._stuck.is_set()

    def is_inside(self, thread: int, tasks: Collection[object]) -> bool:
        return False

    def take_close_problem(self) -> str | None:
        problem, self._close_problem = self._close_problem, None
        self.has_lost_session = False
        return problem

    async def open(self, opening: Opening) -> None:
        if self.inside:
            raise SdkCallStuck("a call is inside the SDK; nothing else can enter it")
        self._ended, self._kills, self._is_abandoned = "", False, False
        self._dead, self._stuck = trio.Event(), trio.Event()
        self.inside = True
        manager = self._factory()
        try:
            self._sdk = manager.__enter__()
            self._manager, self._number = manager, self._sdk.number
        except BaseException as error:
            clear_frames(error)
            await self._pass_time_of_open()
            self.inside = False
            raise
        self._may_die()
        await self._pass_time_of_open()
        self.inside = False
        if self._dead.is_set():
            raise SdkCallError(self._error_name(), (), "the process of the SDK ended")
        self.session += 1
        self._is_open = True
        self._die_when_idle()

    async def _pass_time_of_open(self) -> None:
        try:
            await self._pass_time()
        except trio.Cancelled:
            self._kill()
            with trio.CancelScope(shield=True):
                await self._wait_for_death()
            self.inside = not self._dead.is_set()
            raise

    async def call(self, call: SdkCall) -> CallReport:
        if self._dead.is_set() or not self.is_open:
            info = ErrorInfo("SdkProcessDied", "the process of the SDK has ended before the call")
            _end(call, SdkCallError(info.type, (), info.message, ended="died"))
            return CallReport(error=RaisedError(info, died=True), entered=False)
        if self.inside:
            raise SdkCallStuck("a call is inside the SDK; nothing else can enter it")
        self.inside = True
        self._forget_error()
        report, self._error = call.run(self._sdk)
        self._may_die()
        with trio.CancelScope(shield=True):
            has_returned = await self._pass_time()
            if self._kills and self._machine.alive:
                await self._wait_for_death()  # what it has returned counts, but nothing may enter before
        if self._stuck.is_set() and not self._dead.is_set():
            if not has_returned:
                _end(call, None)
            return report if has_returned else stuck()
        self.inside = False
        if has_returned:
            return report
        info = ErrorInfo(self._error_name(), f"the process of the SDK {self._ended}")
        _end(call, SdkCallError(info.type, (), info.message, ended=self._ended))
        killed = self._ended == "killed"
        return CallReport(error=RaisedError(info, killed=killed, died=not killed))

    def handle(self, enter: Callable[[], Awaitable[None]], leave: Callable[[], None]) -> Any:
        return SdkHandle(self, enter, leave)

    def kill(self) -> None:
        if self.inside:
            self._kill()

    def abandon(self) -> None:
        if self.inside:
            self._is_abandoned = True
            self._kill()

    async def close(self, discard: Discard | None = None) -> bool:
        if self._number is None or self._dead.is_set():
            return True
        if self.inside:
            return False
        if not self.is_open:
            return not self._stuck.is_set()
        manager, self._manager, self._sdk = self._manager, None, None
        self.inside = True
        thrown = None if discard is None else exception_to_throw(discard, self._error)
        problem: str | None = None
        try:
            if thrown is None:
                manager.__exit__(None, None, None)
            else:
                manager.__exit__(type(thrown), thrown, thrown.__traceback__)
        except BaseException as raised:
            problem = close_problem(raised, thrown)
            clear_frames(raised)
        self._forget_error()
        self._may_die()
        try:
            await self._pass_time()
        except trio.Cancelled:
            self._kill()
            with trio.CancelScope(shield=True):
                await self._wait_for_death()
            if not self._dead.is_set():
                raise
            self._close_problem = "it did not close in time; its process was killed"
            return True
        self._is_open = False
        if not self._dead.is_set():
            self.inside = False
            self._number = None
            self._close_problem = problem
        return True

    async def stop(self) -> None:
        self._number = None
        await trio.lowlevel.checkpoint()

    def _forget_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            clear_frames(error)

    def _error_name(self) -> str:
        return "SdkProcessKilled" if self._ended == "killed" else "SdkProcessDied"

    async def _pass_time(self) -> bool:
        """Let the time of a call pass, and apply its effects. Returns False if the process has ended meanwhile."""
        machine = self._machine
        script, machine.script = machine.script, []
        for seconds, then in script:
            if await self._ends_within(seconds):
                return False
            if machine.alive:
                then()
        return True

    async def _ends_within(self, seconds: float) -> bool:
        """Sleep. Returns True as soon as the process is dead, or counts as stuck."""
        machine = self._machine
        if seconds <= 0 or not machine.alive:
            await trio.lowlevel.checkpoint()
            return self._dead.is_set() or self._stuck.is_set()
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for event in (self._dead, self._stuck, machine.died):

                    @nursery.start_soon
                    async def wait(event: trio.Event = event) -> None:
                        await event.wait()
                        nursery.cancel_scope.cancel()

        return self._dead.is_set() or self._stuck.is_set()

    async def _wait_for_death(self) -> None:
        """Return when the process is dead, or counts as stuck."""
        await self._ends_within(STACK_WAIT + END_WAIT + 1)

    def _kill(self) -> None:
        if not self._kills and not self._dead.is_set():
            self._kills = True
            self._observer.note("sdk", "its process is killed")
            self._machine.nursery.start_soon(self._die_killed, self._dead, self._stuck)

    async def _die_killed(self, dead: trio.Event, stuck: trio.Event) -> None:
        needs = STACK_WAIT if self._calm else self._observer.time_to_die()
        longest = STACK_WAIT + END_WAIT
        await self._machine.sleep(min(needs, longest))
        if needs > longest and not dead.is_set():
            self._observer.note("sdk", "its process does not end")
            if self._number is not None and self._machine.alive:
                self._observer.stuck_processes[self._number] = None
            stuck.set()
            await self._machine.sleep(needs - longest)
        self._die(dead, "killed")

    def _may_die(self) -> None:
        """The process may die during what has just begun."""
        after = None if self._calm else self._observer.dies_within()
        if after is not None:
            self._machine.nursery.start_soon(self._die_by_itself, self._dead, self._observer.inside[-1:], after)

    async def _die_by_itself(self, dead: trio.Event, inside: list[Any], after: float) -> None:
        await self._machine.sleep(after)
        if inside == self._observer.inside:  # else what it was to die in has returned
            self._die(dead, "died")

    def _die_when_idle(self) -> None:
        for after in () if self._calm else self._observer.idle_deaths():
            self._machine.nursery.start_soon(self._die_idle, self._dead, after)

    async def _die_idle(self, dead: trio.Event, after: float) -> None:
        await self._machine.sleep(after)
        if not self.inside:
            self._die(dead, "died")

    def _die(self, dead: trio.Event, how: str) -> None:
        if dead.is_set() or dead is not self._dead or self._number is None or not self._machine.alive:
            return
        dead.set()
        self._ended = "killed" if self._kills else how
        self._observer.process_ended(self._number, self._ended)
        self._is_open = False
        self.has_lost_session = True
        self._close_problem = f"the process of the SDK {self._ended}"
        self._manager = self._sdk = None
        if self._stuck.is_set():
            self.inside = False  # nobody waits for its call


def _end(call: SdkCall, error: SdkCallError | None) -> None:
    """Set the outcome of a call of a handle."""
    if isinstance(call, HandleCall):
        call.ended = True
        call.outcome = None if error is None else outcome.Error(error)
