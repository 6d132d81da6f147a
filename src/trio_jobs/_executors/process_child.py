"""The process of an SDK, as its queue sees it: started, asked, killed and proven dead.

For speed, the task that makes a call reads its answer from the pipe itself. Everything else that the process sends,
such as steps and progress, and the answer to a call that is cancelled, interrupted or killed, is read by a task of the
process: the caller hands the pipe over to it and is suspended, so that no cancellation reaches what it does.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from trio_jobs._concurrency import bare_nursery
from trio_jobs._engine.jobs import MAX_TRACEBACK, ErrorInfo
from trio_jobs._engine.progress import Progress
from trio_jobs._errors import OutcomeUnknown, SdkCallRefused, SdkCallStuck
from trio_jobs._executors import process_messages as pm
from trio_jobs._executors.process_output import OutputLog
from trio_jobs._executors.process_pipes import CHUNK, ProcessPipes, read_all, read_some
from trio_jobs._interruption import Interruption
from trio_jobs._log import Log
from trio_jobs._sdk_call import SdkCall

__all__ = ["SdkProcess", "start_process"]

log: Final = Log("trio_jobs.sdk")

_PROGRAM: Final = "import sys; sys.path.insert(0, {folder!r}); from trio_jobs._sdk_process.child import main; main()"

STACK_WAIT: Final = 0.2  #: seconds for the stack of a call that is killed
EOF_WAIT: Final = 0.5  #: seconds in which a process ends that has closed its pipe
END_WAIT: Final = 5.0  #: seconds for a process to end after SIGKILL, before it counts as stuck
EXIT_WAIT: Final = 2.0  #: seconds for a process to end by itself after its last session was closed
MAX_STACK: Final = 256 * 1024  #: bytes that are read of the stacks of a process
MAX_LAST: Final = 4 * 1024 * 1024  #: bytes that are read of a process that has died


class SdkProcess:
    """One process.

    Args:
        nursery: Runs its tasks.
        on_end: Called when it is proven dead, with what has ended it in words.
    """

    def __init__(self, nursery: trio.Nursery, on_end: Callable[[SdkProcess, str], None]) -> None:
        self._on_end = on_end
        self._pipes = ProcessPipes()
        self._outputs = [OutputLog(self._pipes.output, "stdout"), OutputLog(self._pipes.errors, "stderr")]
        self._popen = start_process(self._pipes)
        self.pid: Final = self._popen.pid
        self.has_ended = False
        self.inside = False
        self.serving = False
        """A call waits until the queue has recorded a step."""
        self.was_killed = False
        self.is_stuck = False
        """It does not end, although it was killed."""
        self.interruptions: dict[int, Interruption] = {}
        """What came of interruptions, by the number of the call."""
        self.interrupt_done = trio.Event()
        self._call: SdkCall | None = None
        self._number = 0
        """The number of the call; 0 for other messages."""
        self._answer: Any = None
        self._is_answered = False
        self._late_answer: Any = None
        """What a call returned after it was killed. It counts, but nothing may enter before the process is dead."""
        self._frames = pm.FrameReader()
        self._bodies: list[bytes] = []
        """Frames that were read, and that the task of the process has not received yet."""
        self._is_read_directly = False
        self._handed_over = trio.Event()
        """The task of the process reads from it."""
        self._is_interrupting = False
        self._waiter: trio.lowlevel.Task | None = None
        self._killing = trio.Event()
        self._gone = trio.Event()
        self._scope = trio.CancelScope(shield=True)
        nursery.start_soon(self._run)

    async def ask(self, message: Any, call: SdkCall | None = None) -> Any:
        """Send a message and return the answer; an `ErrorInfo` if the process ends instead.

        Cancelled:
            The answer is lost. The process must be killed. **Not raised** for a call, which is waited for.
        """
        if self.inside:
            raise SdkCallStuck("a call is inside the SDK; nothing else can enter it")  # P1
        if self.has_ended:
            return ErrorInfo("SdkProcessDied", "the process of the SDK has ended")
        data = pm.encode(message)
        is_sent = self._pipes.send_now(data)  # first of all: the process begins while the rest is done here
        self.inside = True
        self._call = call
        self._number = 0 if call is None else message.number
        self._is_answered = False
        if not is_sent:
            with trio.CancelScope(shield=call is not None):
                await self._pipes.send(data)
        if call is not None and not self._handed_over.is_set() and not self._is_answered:
            direct = await self._read_answer()
            if direct is not None:
                return direct
        if not self._is_answered:
            self._hand_over()
            await self._wait_for_answer(can_leave=call is None)
        answer, self._answer = self._answer, None
        return answer

    async def _read_answer(self) -> pm.CallReported | None:
        """Return the answer to a call; None if the task of the process must read it. Does not raise Cancelled."""
        fd = self._pipes.outbound.own
        self._is_read_directly = True
        try:
            await trio.lowlevel.wait_readable(fd)
        except (trio.Cancelled, trio.ClosedResourceError):  # a cancellation is delivered again at the next checkpoint
            return None
        finally:
            self._is_read_directly = False
        if self._is_answered:  # the process has ended, and its pipes are closed
            return None
        try:
            self._bodies = self._frames.feed(os.read(fd, CHUNK))
            answer = pm.decode_from_process(self._bodies[0]) if len(self._bodies) == 1 else None
        except (OSError, ValueError, msgspec.MsgspecError):
            return None
        if not isinstance(answer, pm.CallReported) or answer.number != self._number or self.was_killed:
            return None
        self._bodies.clear()
        self.inside = False
        self._call = None
        self._is_answered = True
        if self._is_interrupting:  # the report of that has not been read
            self._hand_over()
        return answer

    def _hand_over(self) -> None:
        """Let the task of the process read from it."""
        self._handed_over.set()

    async def _wait_for_answer(self, *, can_leave: bool) -> None:
        """Suspend the task, without an event or a cancel scope, which cost as much as the pipes."""
        self._waiter = trio.lowlevel.current_task()

        def abort(raise_cancel: object) -> trio.lowlevel.Abort:
            if not can_leave:
                return trio.lowlevel.Abort.FAILED
            self._waiter = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def push_cancel(self) -> None:
        """Let the call that is inside see that it should end."""
        self._pipes.push(pm.CANCEL + self._number.to_bytes(pm.NUMBER_SIZE, "little"))

    def kill(self) -> None:
        """Kill the process and its group, after it was asked for its stack."""
        if not self.was_killed and not self.has_ended:
            self.was_killed = True
            with contextlib.suppress(OSError):
                self._popen.send_signal(signal.SIGUSR2)
            self._killing.set()

    async def kill_and_wait(self) -> bool:
        """Kill the process. Returns whether it has ended."""
        self.kill()
        with trio.move_on_after(STACK_WAIT + END_WAIT, shield=True):
            await self._gone.wait()
        return self.has_ended

    async def stop(self) -> None:
        """Let the process end, and kill it if it does not."""
        self._pipes.inbound.close(self._pipes.inbound.own)
        with trio.move_on_after(EXIT_WAIT):
            await self._gone.wait()
        if not self._gone.is_set():
            await self.kill_and_wait()
        self._scope.cancel()

    def leave(self) -> None:
        """Do not wait any longer for the end of a process that is stuck. A thread reaps it when it ends."""
        threading.Thread(target=self._popen.wait, name="trio-jobs stuck process", daemon=True).start()
        self._scope.cancel()

    # the tasks of the process

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        with self._scope:
            async with bare_nursery() as nursery:
                nursery.start_soon(self._read)
                nursery.start_soon(self._kill_when_asked)
                for output in self._outputs:
                    nursery.start_soon(output.run)
                await self._wait_for_end()
                nursery.cancel_scope.cancel()
        if self._popen.returncode is not None:
            self._conclude()
        self._pipes.close()

    async def _wait_for_end(self) -> None:
        """Return when the process is dead, and the rest of its group is killed."""
        try:
            fd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # another system, an old kernel, or no descriptor is free
            wait = functools.partial(os.waitid, os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            await trio.to_thread.run_sync(wait, abandon_on_cancel=True)
        else:
            try:
                await trio.lowlevel.wait_readable(fd)
            finally:
                os.close(fd)
        self._kill_group()  # before its id can be given to another process
        self._popen.wait()  # it is dead: this does not block

    @trio.lowlevel.enable_ki_protection
    async def _kill_when_asked(self) -> None:
        await self._killing.wait()
        await trio.sleep(STACK_WAIT)
        self._kill_group()
        await trio.sleep(END_WAIT)
        log.error("the process %d of the SDK does not end after SIGKILL", self.pid)
        self.is_stuck = True
        if self.inside:
            late, self._late_answer = self._late_answer, None
            self._reply(late or ErrorInfo("SdkCallStuck", "the process of the SDK does not end"), inside=True)

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    @trio.lowlevel.enable_ki_protection
    async def _read(self) -> None:
        try:
            while True:
                await self._handed_over.wait()
                if not await self._serve():
                    break
                # nothing is left to read, so what was handed over meanwhile is done too
                self._handed_over = trio.Event()
        except (ValueError, msgspec.MsgspecError):
            log.error("the process %d of the SDK has written into the pipe of its queue", self.pid)
        await trio.sleep(EOF_WAIT)  # it is about to end, or else cannot answer any more
        self._killing.set()

    async def _serve(self) -> bool:
        """Read until the call is answered, and an interruption is reported. Returns False at the end of the pipe."""
        data = b""
        while True:
            bodies, self._bodies = [*self._bodies, *self._frames.feed(data)], []
            for body in bodies:
                await self._receive(pm.decode_from_process(body))
            if not (self.inside and not self._is_answered) and not self._is_interrupting:
                return True
            data = await read_some(self._pipes.outbound)
            if not data:
                return False

    async def _receive(self, message: Any) -> None:
        call = self._call
        match message:
            case pm.StartStep() | pm.SaveStep() | pm.StepNotSaved() | pm.FinishStep():
                if call is None or call.running is None:
                    raise ValueError("a step without a call")
                self.serving = True
                refused = await _record_step(call, message)
                self.serving = False
                await self._pipes.send(pm.encode(pm.StepRecorded(refused)))
            case pm.ProgressReport():
                if call is not None and call.running is not None:
                    job_id = call.running.record.id
                    report = Progress(job_id, message.done, message.total, message.message)
                    call.running.recorder.progress(call.running, report)
            case pm.InterruptDone():
                self._is_interrupting = False
                self.interruptions[message.number] = Interruption(message.was_inside, message.problem)
                self.interrupt_done.set()
            case _:
                self._answered(message)

    def _answered(self, message: Any, *, is_late: bool = False) -> None:
        """Take the answer to what was asked; not that of another process, which the SDK has forked."""
        number = message.number if isinstance(message, pm.CallReported) else 0
        if not self.inside or number != self._number:
            raise ValueError("an answer to no question")
        if self.was_killed or is_late:
            self._late_answer = message
        else:
            self._reply(message)

    def interrupt(self, number: int) -> None:
        """Let the process interrupt a call. `interrupt_done` is set when it has."""
        self.interrupt_done = trio.Event()
        self._is_interrupting = True
        if self._is_read_directly:
            trio.lowlevel.notify_closing(self._pipes.outbound.own)  # the caller then hands it over
        else:
            self._hand_over()
        self._pipes.push(pm.INTERRUPT + number.to_bytes(pm.NUMBER_SIZE, "little"))

    def _reply(self, answer: Any, *, inside: bool = False) -> None:
        self.inside = inside
        self._call = None
        self._answer = answer
        self._is_answered = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            trio.lowlevel.reschedule(waiter)
        elif self._is_read_directly:
            trio.lowlevel.notify_closing(self._pipes.outbound.own)

    def _conclude(self) -> None:
        """The process is dead: report it. An answer that it has sent before counts."""
        if self.inside and not self._is_answered and self._late_answer is None:
            with contextlib.suppress(ValueError, msgspec.MsgspecError):
                for body in [*self._bodies, *self._frames.feed(read_all(self._pipes.outbound, MAX_LAST))]:
                    message = pm.decode_from_process(body)
                    if isinstance(message, pm.CallReported | pm.SessionClosed | pm.Ready) or (
                        isinstance(message, pm.SessionOpened) and message.error is not None
                    ):
                        self._answered(message, is_late=True)
        for output in self._outputs:
            output.finish()  # its last words say why it has died
        stack = read_all(self._pipes.stack, MAX_STACK).decode("utf-8", "replace")
        self.has_ended = True
        how = _in_words(self._popen.returncode, killed=self.was_killed)
        self._on_end(self, how)
        if self.inside:
            kind = "SdkProcessKilled" if self.was_killed else "SdkProcessDied"
            message = f"the process of the SDK {how}"
            self._reply(self._late_answer or ErrorInfo(kind, message, traceback=stack[-MAX_TRACEBACK:] or None))
        self.interrupt_done.set()
        self._gone.set()


def start_process(pipes: ProcessPipes) -> subprocess.Popen[bytes]:
    """Start a process with its ends of the pipes, which are closed here; if it cannot be started, so are all others."""
    # this package may have been imported from a folder that is only on the path of this process
    program = _PROGRAM.format(folder=str(Path(__file__).resolve().parents[2]))
    numbers = [str(number) for number in (*pipes.inherited, os.getpid())]
    try:
        return subprocess.Popen(  # noqa: S603 # our own program
            [sys.executable, "-u", "-c", program, *numbers],
            stdin=subprocess.DEVNULL,
            stdout=pipes.output.child,
            stderr=pipes.errors.child,
            pass_fds=pipes.inherited,
            start_new_session=True,
        )
    except BaseException:
        pipes.close()
        raise
    finally:
        pipes.close_childs_ends()


async def _record_step(call: SdkCall, message: pm.StepMessage) -> str | None:
    """Record a part of a step of the call. Returns why it was refused; None if its event is committed."""
    running = call.running
    try:
        match message:
            case pm.StartStep():
                await running.recorder.start_step(running, message.name)
            case pm.SaveStep():
                await running.recorder.before_save(running)
            case pm.StepNotSaved():
                await running.recorder.step_not_saved(running, message.report.report())
            case _:
                await running.recorder.finish_step(running, message.name, message.result)
    except (SdkCallRefused, OutcomeUnknown) as refused:
        return str(refused)
    return None


def _in_words(code: int, *, killed: bool) -> str:
    """What has ended a process, by its return code."""
    if killed:
        return "was killed"
    if code >= 0:
        return f"ended by itself with exit code {code}"
    try:
        return f"ended by itself with {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by itself with signal {-code}"
