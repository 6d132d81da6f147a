"""The process of an SDK: opens the session on its main thread, makes the calls that the queue asks for, and closes it.

A thread of its own reads the third pipe, so that a call can see that it should end, and so that the process ends with
its queue. If a call holds the interpreter, that thread cannot run; on Linux the kernel ends the process then.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from trio_jobs._call_report import CallReport
from trio_jobs._engine.error_info import describe
from trio_jobs._engine.openings import Opening
from trio_jobs._errors import SdkCallRefused, UsageError
from trio_jobs._exception_tree import clear_frames, is_a
from trio_jobs._executors import process_messages as pm
from trio_jobs._executors.call_boundary import CallBoundary, interrupt_call
from trio_jobs._executors.discard import close_problem, exception_to_throw
from trio_jobs._executors.inside_process import enter_process
from trio_jobs._ports import Discard
from trio_jobs._sdk_call import FunctionCall, HandlerCall, SaveCall, SdkCall, VerifyCall
from trio_jobs._sdk_process.context import JobInProcess, ProcessJobContext
from trio_jobs._sdk_process.locate import find_service
from trio_jobs._sdk_process.named_call import NamedCall, was_raised
from trio_jobs._service import Service, parts_of
from trio_jobs._validation import check_manager

__all__ = ["main"]

if sys.platform == "linux":
    import fcntl

PR_SET_PDEATHSIG: Final = 1
CHUNK: Final = 65536


class Link:
    """The pipes to the queue. Used by the main thread, apart from `current`."""

    def __init__(self, inbound: int, outbound: int) -> None:
        self._inbound = inbound
        self.outbound = outbound
        self._frames = pm.FrameReader()
        self._sending = threading.Lock()  # progress and interruptions are reported by other threads too
        self._is_outbound = _recognizer(outbound)
        self._is_forked = False
        self.number = 0
        """The number of the running call, or of the last one."""
        self.current: JobInProcess | None = None
        """The job of the running call."""
        self.save: Callable[[], SaveCall] | None = None
        """Returns a call of `save`; None without one."""

    def send(self, message: Any) -> None:
        data = pm.encode(message)
        if self._is_forked:
            _end_now()  # a handler has forked, and the SDK is not in this process
        with self._sending:
            if not self._is_outbound():
                raise OSError("the SDK has closed the descriptors of its process, and has opened another file")
            while (written := os.write(self.outbound, data)) < len(data):
                data = data[written:]

    def forked(self) -> None:
        """This process was forked from that of the SDK, by the SDK. It must not keep the pipes open."""
        self._is_forked = True
        for fd in (self._inbound, self.outbound):
            with contextlib.suppress(OSError):
                os.close(fd)

    def receive(self) -> Any:
        """Return the next message. Raises EOFError when the queue has closed the pipe."""
        bodies: list[bytes] = []
        while not bodies:
            data = os.read(self._inbound, CHUNK)
            if not data:
                raise EOFError
            bodies = self._frames.feed(data)
        (body,) = bodies  # the queue sends one message at a time, and waits for the answer
        return pm.decode_to_process(body)

    # of a job context

    def start_step(self, job: JobInProcess, name: str) -> None:
        self._ask(job, pm.StartStep(name))

    def finish_step(self, job: JobInProcess, name: str, result: Any) -> None:
        self._ask(job, pm.FinishStep(name, result))

    def save_call(self) -> SaveCall | None:
        return None if self.save is None else self.save()

    def before_save(self, job: JobInProcess) -> None:
        self._ask(job, pm.SaveStep())

    def step_not_saved(self, job: JobInProcess, report: CallReport) -> None:
        self._ask(job, pm.StepNotSaved(pm.CallReported.of(report)))

    def progress(self, job: JobInProcess, report: Any) -> None:
        if self.current is job:  # else its call has returned
            self.send(pm.ProgressReport(report.done, report.total, report.message))

    def _ask(self, job: JobInProcess, message: Any) -> None:
        if self.current is not job:
            raise SdkCallRefused("this attempt is over; nothing of it can be recorded any more")
        if threading.current_thread() is not threading.main_thread():
            raise UsageError("a step must be executed on the thread of the SDK")
        self.send(message)
        answer = self.receive()
        if answer.refused is not None:
            raise SdkCallRefused(answer.refused)


class Session:
    """Opens, calls and closes the SDK."""

    def __init__(self, service: Service, link: Link) -> None:
        parts = parts_of(service)
        assert parts.sdk is not None
        self._factory: Callable[..., Any] = parts.sdk
        self._takes_opening = parts.takes_opening
        self._handlers = parts.handlers
        self._renew = service.settings.renew_after_error
        self._link = link
        self._interrupt = service.settings.interrupt
        self._alive = service.settings.alive
        self.boundary = CallBoundary()
        if service.settings.save is not None:
            save = service.settings.save
            retries = {kind: handler.rules.retry for kind, handler in parts.handlers.items()}
            link.save = lambda: SaveCall(save, retries, self._renew, has_async_sdk=False)
        self._manager: Any = None
        self._sdk: Any = None
        self._error: BaseException | None = None

    def answer(self, message: Any) -> Any:
        """Do what a message asks for, and return the answer."""
        match message:
            case pm.RunHandler():  # first, since most messages are one
                return self._call_handler(message)
            case pm.OpenSession():
                return self._open(message)
            case pm.CloseSession():
                return pm.SessionClosed(self._close(message))
            case pm.RunVerify():
                job = JobInProcess.of(message.job)
                context = ProcessJobContext(job, self._link)
                verify = VerifyCall(self._handlers[message.kind], context, self._renew)
                return self._call(message.number, verify, job)
            case pm.CallFunction():
                return self._call_function(message)
            case pm.RunAlive():
                assert self._alive is not None
                return self._call(message.number, FunctionCall("alive", self._alive, convert=bool), None)
            case pm.RunSave():
                assert self._link.save is not None
                return self._call(message.number, self._link.save(), None)
        raise AssertionError(message)

    def _open(self, message: pm.OpenSession) -> pm.SessionOpened:
        try:
            opening = Opening(message.reason, message.number, message.unclean)  # type: ignore[arg-type] # sent as a str
            manager = self._factory(opening) if self._takes_opening else self._factory()
            check_manager("sdk", manager)
            self._sdk = manager.__enter__()
            self._manager = manager
        except BaseException as error:
            return pm.SessionOpened(was_raised(error))
        return pm.SessionOpened(None)

    def _call(self, number: int, call: SdkCall, job: JobInProcess | None) -> pm.CallReported:
        self._forget_error()
        link, boundary = self._link, self.boundary
        link.number = number
        link.current = job
        boundary.enter(number)
        report, self._error = call.run(self._sdk)
        boundary.leave(number)
        link.current = None
        return pm.CallReported.of(report, number, interrupted=boundary.interrupted == number)

    def _call_handler(self, message: pm.RunHandler) -> pm.CallReported:
        job = context = bind = None
        if message.job is not None:
            job = JobInProcess.of(message.job)
            context = ProcessJobContext(job, self._link)
            bind = None if self._link.save is None else job.bind_sdk
        handler = self._handlers[message.kind]
        return self._call(message.number, HandlerCall(handler, message.payload, context, self._renew, None, bind), job)

    def _call_function(self, message: pm.CallFunction) -> pm.CallReported:
        save = None if self._link.save is None else self._link.save()
        call = NamedCall(message.function, message.args, save)
        reported = self._call(message.number, call, None)
        reported.value, reported.raised = call.value, call.was_raised
        return reported

    def interrupt(self, number: int) -> None:
        """Interrupt the call with this number, and report it. Called on a thread of its own."""
        interrupt = self._interrupt
        assert interrupt is not None
        done = interrupt_call(self.boundary, number, lambda: interrupt(self._sdk))
        self._link.send(pm.InterruptDone(number, done.was_inside, done.problem))

    def _forget_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            clear_frames(error)

    def _close(self, message: pm.CloseSession) -> str | None:
        manager, self._manager, self._sdk = self._manager, None, None
        if manager is None:
            return None
        thrown: BaseException | None = None
        if message.discard is not None:
            thrown = exception_to_throw(Discard(message.discard, by_last_call=message.by_last_call), self._error)
        try:
            if thrown is None:
                manager.__exit__(None, None, None)
            else:
                manager.__exit__(type(thrown), thrown, thrown.__traceback__)
        except BaseException as raised:
            return close_problem(raised, thrown)
        finally:
            self._forget_error()
        return None

    def close_at_end(self) -> None:
        """Close a session that the queue has left open."""
        self._close(pm.CloseSession("the queue has ended", by_last_call=False))


def main() -> None:
    inbound, outbound, control, stack, parent = (int(arg) for arg in sys.argv[1:6])
    _end_with_parent(parent)
    for fd in (inbound, outbound, control, stack):
        os.set_inheritable(fd, False)
    enter_process()
    faulthandler.enable(stack, all_threads=True)
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR2, stack, all_threads=True)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        # a Python function: what is ignored would be ignored by the programs that the SDK starts, too
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _ignore)
    link = Link(inbound, outbound)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=link.forked)
    control_thread = ControlThread(control, link)
    control_thread.start()
    with contextlib.suppress(EOFError, BrokenPipeError):
        session = control_thread.session = _set_up(link)
        if session is not None:
            _serve(link, session)


def _serve(link: Link, session: Session) -> None:
    try:
        while True:
            link.send(session.answer(link.receive()))
    finally:
        session.close_at_end()


def _set_up(link: Link) -> Session | None:
    setup = link.receive()
    sys.path[:] = map(os.fsdecode, setup.sys_path)
    sys.argv[:] = map(os.fsdecode, setup.argv)
    try:
        service = find_service(setup)
    except BaseException as error:
        problem = describe(error, with_traceback=True)
        text = str(problem) if is_a(error, UsageError) else f"{problem}\n{problem.traceback}"
        link.send(pm.Ready(text))
        return None
    if setup.memory_limit is not None:
        _limit_memory(setup.memory_limit)
    link.send(pm.Ready(None))
    return Session(service, link)


class ControlThread(threading.Thread):
    """Reads the third pipe, until the queue closes it; then it ends the process."""

    def __init__(self, control: int, link: Link) -> None:
        super().__init__(name="trio-jobs control", daemon=True)
        self.session: Session | None = None
        self._control = control
        self._link = link

    def run(self) -> None:
        with contextlib.suppress(OSError):  # the SDK has closed the descriptors of its process
            while signal_ := os.read(self._control, 1 + pm.NUMBER_SIZE):  # they are written at once
                number = int.from_bytes(signal_[1:], "little")
                if signal_.startswith(pm.CANCEL):
                    self._cancel(number)
                elif signal_.startswith(pm.INTERRUPT):
                    self._interrupt(number)
        _end_now()  # nothing else ends a thread that is in a call

    def _cancel(self, number: int) -> None:
        job = self._link.current
        if job is not None and self._link.number == number:  # else the call has returned
            job.should_end = True

    def _interrupt(self, number: int) -> None:
        assert self.session is not None
        try:
            threading.Thread(target=self.session.interrupt, args=(number,), daemon=True).start()
        except RuntimeError as error:  # no memory for it
            self._link.send(pm.InterruptDone(number, was_inside=False, problem=str(error)))


def _recognizer(fd: int) -> Callable[[], bool]:
    """Return a function that says whether this descriptor is still the same file.

    The SDK can close it, and its number is then that of the next file that it opens. On Linux this file gets an owner
    that no other file has: the kernel returns it in a third of the time of `os.fstat`, which counts at each call. A
    sandbox can refuse that, and a process whose parent is outside of its container has no parent's number.
    """
    if sys.platform == "linux" and (owner := os.getppid()):
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETOWN, owner)
            if fcntl.fcntl(fd, fcntl.F_GETOWN) == owner:
                return lambda: fcntl.fcntl(fd, fcntl.F_GETOWN) == owner
    file = os.fstat(fd)
    return lambda: os.path.samestat(os.fstat(fd), file)


def _end_now() -> None:
    """End this process from any thread, without any cleanup. On Windows SIGTERM does the same as TerminateProcess."""
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def _ignore(*_: object) -> None:
    """The queue decides when the process ends."""


def _end_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the thread that has started it ends; then the queue has ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it had ended before
            sys.exit(1)


def _limit_memory(limit: int) -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
