"""An executor whose SDK lives in a process of its own, which can be killed when a call does not return.

The hard part is that nothing may be left behind, whoever ends first: the process is in a session and a process group
of its own; it ends when its queue ends, also by SIGKILL (`_sdk_process.child`); and a call counts as inside until the
process is proven dead. So a task waits for the end of the process, and only that task reports it.

The process is started by Trio's thread, and not by a thread of Trio's cache: the kernel takes the end of the thread
that started it for the end of its parent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

import trio

from trio_jobs._call_report import CallReport, RaisedError, stuck
from trio_jobs._engine.error_info import class_name
from trio_jobs._engine.jobs import ErrorInfo
from trio_jobs._engine.openings import Opening
from trio_jobs._engine.sdk_call_error import SdkCallError
from trio_jobs._errors import SdkCallStuck, UsageError
from trio_jobs._executors import process_messages as pm
from trio_jobs._executors.handle import SdkHandle
from trio_jobs._executors.process_child import SdkProcess
from trio_jobs._executors.remote_call import RemoteCall
from trio_jobs._interruption import Interruption
from trio_jobs._log import Log
from trio_jobs._ports import Discard
from trio_jobs._sdk_call import FunctionCall, HandlerCall, SaveCall, SdkCall, VerifyCall

__all__ = ["ProcessExecutor"]

log: Final = Log("trio_jobs.sdk")

ON_KILLED_LIMIT: Final = 30.0  #: seconds for `on_killed`


class ProcessExecutor:
    """An `SdkExecutor` with a process of its own.

    Args:
        setup: How the process finds the service.
        nursery: Runs the tasks that read from the process.
        on_killed: Called in a thread with the process id and the opening of a session whose process has been killed or
            has died, before the next one is opened.
    """

    def __init__(
        self, setup: pm.Setup, nursery: trio.Nursery, on_killed: Callable[[int, Opening], object] | None = None
    ) -> None:
        self.session = 0
        self.on_started: Callable[[int], None] = lambda pid: None
        """See `StartsProcesses`."""
        self._setup = setup
        self._nursery = nursery
        self._on_killed = on_killed
        self._process: SdkProcess | None = None
        self._is_open = False
        self._close_problem: str | None = None
        self._opening: Opening | None = None
        """Of the session that is open, or is being opened or closed; None without one."""
        self._killed: tuple[int, Opening] | None = None
        self._lost = False
        self._calls = 0
        self._call_inside: int | None = None
        self._interrupted_call = 0

    def __repr__(self) -> str:
        return f"<ProcessExecutor {'open' if self.is_open else 'closed'}{', a call is inside' if self.inside else ''}>"

    @property
    def is_open(self) -> bool:
        return self._is_open and self._process is not None and not self._process.is_stuck

    @property
    def inside(self) -> bool:
        return self._process is not None and self._process.inside

    @property
    def pid(self) -> int | None:
        """The id of the process; None without one."""
        return None if self._process is None else self._process.pid

    @property
    def has_lost_session(self) -> bool:
        return self._lost

    @property
    def waits_for_queue(self) -> bool:
        """Whether the call that is inside waits until the queue has recorded a step."""
        return self._process is not None and self._process.serving

    def is_inside(self, thread: int, tasks: Collection[object]) -> bool:
        return False  # no code of the SDK runs in this process

    def take_close_problem(self) -> str | None:
        problem, self._close_problem = self._close_problem, None
        self._lost = False
        return problem

    async def open(self, opening: Opening) -> None:
        if self._process is not None and self._process.was_killed:
            await self._process.kill_and_wait()  # one that does not end is looked at again only after some seconds
        if self.inside:
            raise SdkCallStuck("a call is inside the SDK; nothing else can enter it")  # P1
        await self._call_on_killed()
        if self._process is None or self._process.has_ended:
            self._process = await self._start()
        process = self._process
        self._opening = opening
        try:
            opened = await process.ask(pm.OpenSession(opening.reason, opening.number, opening.unclean))
        except BaseException:
            await process.kill_and_wait()
            raise
        if not isinstance(opened, pm.SessionOpened):
            raise SdkCallError(opened.type, (), opened.message)
        if opened.error is not None:
            self._opening = None
            raise _error_of(opened.error)
        self.session += 1
        self._is_open = True

    async def _start(self) -> SdkProcess:
        """Start a process that has found the service.

        Raises:
            UsageError: It cannot find it.
            SdkCallError: It cannot find it, although an earlier process could; or it has ended.
        """
        self._process = None
        process = SdkProcess(self._nursery, self._ended)
        self.on_started(process.pid)  # before it can open the SDK
        try:
            ready = await process.ask(self._setup)
        except BaseException:
            await process.kill_and_wait()
            raise
        if not isinstance(ready, pm.Ready):
            raise SdkCallError(ready.type, (), ready.message)
        if ready.problem is not None:
            await process.kill_and_wait()
            problem = f"executor='process': the process of the SDK cannot start: {ready.problem}"
            if self.session == 0:
                raise UsageError(problem)
            raise SdkCallError("UsageError", (), problem)  # a file that is being replaced: it is tried again
        return process

    async def call(self, call: SdkCall) -> CallReport:
        process = self._process
        if process is None or not self.is_open:
            info = ErrorInfo("SdkProcessDied", "the process of the SDK has ended before the call")
            if isinstance(call, RemoteCall):
                call.end(info, killed=False)
            return CallReport(error=RaisedError(info, died=True), entered=False)
        if process.inside:
            raise SdkCallStuck("a call is inside the SDK; nothing else can enter it")  # P1
        number = self._calls = self._calls + 1
        message = _message_of(number, call)
        self._call_inside = number
        if call.running is not None:
            call.running.on_end_requested = process.push_cancel
        answer = await process.ask(message, call)
        self._call_inside = None
        if isinstance(answer, pm.CallReported):
            if answer.interrupted:
                self._interrupted_call = number
            if isinstance(call, RemoteCall):
                call.answered(answer)
            return answer.report()
        if answer.type == "SdkCallStuck":
            return stuck()
        if isinstance(call, RemoteCall):
            call.end(answer, killed=process.was_killed)
        return CallReport(error=RaisedError(answer, killed=process.was_killed, died=not process.was_killed))

    @property
    def call_inside(self) -> int | None:
        return self._call_inside

    @property
    def interrupted_call(self) -> int:
        return self._interrupted_call

    async def interrupt(self, number: int, fn: Callable[[Any], Any]) -> Interruption:
        """Let the process call its `interrupt`, which is the same function as `fn` there."""
        process = self._process
        if process is None or number != self._call_inside:
            return Interruption(was_inside=False)
        process.interrupt(number)
        await process.interrupt_done.wait()
        interruption = process.interruptions.pop(number, Interruption(was_inside=False))
        if interruption.was_inside:
            self._interrupted_call = number
        return interruption

    def handle(self, enter: Callable[[], Awaitable[None]], leave: Callable[[], None]) -> Any:
        return SdkHandle(self, enter, leave, lambda fn, args: RemoteCall(fn, args, self._setup.module))

    def kill(self) -> None:
        """Kill the process, if a call is inside. The call then ends with a report that is `killed`."""
        if self._process is not None and self._process.inside:
            self._process.kill()

    def abandon(self) -> None:
        if self._process is not None and self._process.inside:
            self._is_open = False
            self._process.kill()
            if self._process.is_stuck:
                self._process.leave()

    async def close(self, discard: Discard | None = None) -> bool:
        process = self._process
        if process is None or process.has_ended:
            return True
        if process.inside:
            return False
        if not self._is_open or process.is_stuck:
            return not process.is_stuck
        message = pm.CloseSession(
            None if discard is None else discard.reason, discard is not None and discard.by_last_call
        )
        try:
            answer = await process.ask(message)
        except trio.Cancelled:
            if not await process.kill_and_wait():
                raise
            self._close_problem = "it did not close in time; its process was killed"
            return True
        self._is_open = False
        if isinstance(answer, pm.SessionClosed):
            self._opening = None
            self._close_problem = answer.problem
        return True

    async def stop(self) -> None:
        """End the process. The caller has closed the session."""
        process, self._process = self._process, None
        if process is not None:
            await process.stop()
        await self._call_on_killed()

    def _ended(self, process: SdkProcess, how: str) -> None:
        """The process has ended."""
        opening, self._opening = self._opening, None
        if opening is not None and process is self._process:
            self._is_open = False
            self._close_problem = f"the process of the SDK {how}"
            self._lost = True
            self._killed = process.pid, opening

    async def _call_on_killed(self) -> None:
        killed, self._killed = self._killed, None
        if killed is None or self._on_killed is None:
            return
        try:
            with trio.move_on_after(ON_KILLED_LIMIT) as scope:
                await trio.to_thread.run_sync(self._on_killed, *killed, abandon_on_cancel=True)
            if scope.cancelled_caught:
                log.error("on_killed did not return within %g s", ON_KILLED_LIMIT)
        except Exception as error:
            log.error("on_killed raised %s", class_name(error))


def _error_of(raised: pm.WasRaised) -> Exception:
    """What opening the SDK has raised in its process, as an exception of this one."""
    info = raised.info
    if raised.is_usage_error:
        return UsageError(info.message)
    return SdkCallError(info.type, tuple(raised.mro), info.message, info.code)


def _message_of(number: int, call: SdkCall) -> Any:
    """The message by which the process makes this call."""
    match call:
        case HandlerCall():
            facts = _facts(call) if call.handler.takes_job else None
            return pm.RunHandler(number, call.handler.kind, call.payload, facts)
        case VerifyCall():
            return pm.RunVerify(number, call.handler.kind, _facts(call))
        case SaveCall():
            return pm.RunSave(number)
        case RemoteCall():
            return call.message(number)
        case FunctionCall(name="alive"):
            return pm.RunAlive(number)
    raise UsageError(f"{call!r} cannot be made in the process of the SDK")


def _facts(call: SdkCall) -> pm.JobFacts:
    running = call.running
    record = running.record
    return pm.JobFacts(
        id=record.id,
        kind=record.kind,
        key=record.key,
        attempt=record.attempt_count,
        run=record.run,
        deadline_at=record.deadline_at,
        cancel_requested=running.should_end,
        finished_steps={name: result for name, result in record.steps.items() if result is not None},
        open_steps=[name for name, result in record.steps.items() if result is None],
    )
