"""A service whose SDK lives in a process of its own, and whose handler does what its payload says.

What the SDK has done is in the file that the environment variable LEDGER names, a line for each voucher.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio_jobs
from support import dying
from trio_jobs import Done, JobContext, NotDone, Opening, Retry, Service

dying.install()

killed: list[tuple[int, Opening]] = []  #: what `on_killed` was given

WAIT = 600  #: seconds: longer than any test


class Busy(Exception):
    """The SDK is busy."""

    code = "E42"


class Ledger:
    """The SDK."""

    def __init__(self, opening: Opening) -> None:
        self.opening = opening
        self.pid = os.getpid()
        self.path = Path(os.environ["LEDGER"])

    def book(self, what: str) -> None:
        with self.path.open("a") as file:
            file.write(f"{what}\n")

    def has(self, what: str) -> bool:
        return self.path.exists() and what in self.path.read_text().splitlines()


@contextlib.contextmanager
def open_ledger(opening: Opening) -> Iterator[Ledger]:
    behaviour = os.environ.get("LEDGER_OPENS", "")
    if behaviour == "hangs":
        time.sleep(WAIT)
    if behaviour == "dies once" and not Path(os.environ["LEDGER"]).with_name("died").exists():
        Path(os.environ["LEDGER"]).with_name("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "is busy":
        raise Busy("no licence left")
    print(f"opened {opening.number} {opening.reason} {opening.unclean}")
    try:
        yield Ledger(opening)
    finally:
        print(f"closed by {os.getpid()}", flush=True)
    if os.environ.get("LEDGER_CLOSES") == "hangs":
        time.sleep(WAIT)


def is_booked(ledger: Ledger, job: JobContext) -> Done | NotDone:
    return Done([ledger.opening.reason, ledger.opening.unclean]) if ledger.has(job.id) else NotDone()


service = Service(
    sdk=open_ledger,
    executor="process",
    seat_lock=None,  # tests run beside each other
    close_timeout=2.0,
    cancel_timeout=2.0,
    open_retry=Retry(1, waits=[0], on=Busy),
    on_killed=lambda pid, opening: killed.append((pid, opening)),
)


kept: list[Any] = []  #: in the process of the SDK


class OddError(BaseException):
    """Raises whatever is asked of it."""

    def __str__(self) -> str:
        raise SystemExit

    def __getattr__(self, name: str) -> Any:
        raise KeyboardInterrupt


def hold_the_interpreter() -> None:
    """Hang without a chance for another thread: the C function is called with the interpreter locked."""
    while True:
        ctypes.PyDLL(None).sleep(WAIT)  # a signal ends the sleep


def do(ledger: Ledger, what: str, job: JobContext) -> Any:
    match what:
        case "pid":
            return ledger.pid
        case "opening":
            return [ledger.opening.reason, ledger.opening.number, ledger.opening.unclean]
        case "session":
            return [os.getsid(0), os.getpgid(0), sys.stdin is None or sys.stdin.read()]
        case "raise":
            raise Busy("paper \ud800 jam")
        case "steps":
            first = job.step("first", lambda: ledger.book(f"first of {job.id}"))
            if job.attempt == 1:
                raise trio_jobs.RetryAfter(0, "out of paper")
            return [first, job.steps, job.open_step, job.attempt, job.run, job.key, job.deadline is None]
        case "progress":
            job.progress(1, 2, "half")
            while not job.cancel_requested:
                time.sleep(0.001)
            return "ended in time"
        case "hang":
            ledger.book(job.id)
            hold_the_interpreter()
        case "stop":
            ledger.book(job.id)
            os.kill(os.getpid(), signal.SIGSTOP)
        case "abort":
            os.abort()
        case "crash":
            ctypes.string_at(0)
        case "garbage":
            for fd in range(3, 64):
                with contextlib.suppress(OSError):
                    os.write(fd, b"\xff" * 100)
            time.sleep(WAIT)
        case "flood":
            for n in range(20_000):
                print(f"line {n}")
                print("x" * 60, file=sys.stderr)
        case "grandchild":
            child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({WAIT})"])
            ledger.book(f"pid {child.pid}")
            ledger.book(job.id)
            time.sleep(WAIT)
        case "die when idle":
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        case "big":
            return "x" * 900_000
        case "memory":
            return len(bytearray(8 * 1024**3))
        case "fork":
            if os.fork() == 0:  # as a library does that makes a daemon of its process
                return "the answer of another process"
            time.sleep(0.2)
        case "close":
            os.closerange(3, 128)
            kept.extend(ledger.path.with_name(f"book{n}").open("w") for n in range(100))  # they get the numbers
        case "deaf":
            signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
            ledger.book(job.id)
            time.sleep(WAIT)
        case "daemon":
            program = f"import os, time; os.setsid(); time.sleep({WAIT})"
            ledger.book(f"pid {subprocess.Popen([sys.executable, '-c', program]).pid}")
            ledger.book(job.id)
            time.sleep(WAIT)
        case "late":
            while not ledger.path.with_name("killing").exists():
                time.sleep(0.001)
            return ledger.pid
        case "keep":
            kept.append(job)
        case "kept":
            kept[0].progress(1)
            kept[0].step("of another job", lambda: None)
        case "huge":
            raise Busy("x" * 3_000_000)
        case "huge result":
            return "x" * 2_000_000
        case "last words":
            sys.stderr.write("x" * 40_000 + "\n" + "y" * 50)
            os.kill(os.getpid(), signal.SIGKILL)
        case "odd":
            raise OddError
    return what


@service.handler(attempt_timeout=0.3, verify=is_booked, retry=Retry(1, waits=[0]))
def limited(ledger: Ledger, what: str, job: JobContext) -> Any:
    return do(ledger, what, job)


def is_booked_or_die(ledger: Ledger, job: JobContext) -> Done | NotDone:
    """The first time the process ends, as the environment variable says."""
    asked = ledger.path.with_name("asked")
    if not asked.exists():
        asked.touch()
        if os.environ["LEDGER_VERIFIES"] == "hangs":
            hold_the_interpreter()
        os.abort()
    return is_booked(ledger, job)


@service.handler(verify=is_booked_or_die, verify_timeout=0.3, retry=Retry(1, waits=[0]))
def doubted(ledger: Ledger, what: str, job: JobContext) -> Any:
    if what == "book":
        ledger.book(job.id)
    raise Busy("the reply is lost")


@service.handler(on_doubt="hold", retry=Retry(0))
def unlimited(ledger: Ledger, what: str, job: JobContext) -> Any:
    return do(ledger, what, job)


@service.handler(idempotent=True, retry=Retry(0))
def repeated(ledger: Ledger, what: str, job: JobContext) -> Any:
    return do(ledger, what, job)


@service.handler(idempotent=True, retry=Retry(1, waits=[0]))
def stepwise(ledger: Ledger, what: str, job: JobContext) -> Any:
    return do(ledger, what, job)


class Book:
    """An SDK that keeps its work in memory until it is saved, and whose calls can be freed."""

    def __init__(self) -> None:
        self.path = Path(os.environ["LEDGER"])
        self.unsaved: list[str] = []
        self.is_free = threading.Event()

    def add(self, what: str) -> None:
        self.unsaved.append(what)

    def lines(self) -> list[str]:
        """What is saved."""
        return self.path.read_text().splitlines() if self.path.exists() else []

    def save(self) -> None:
        """Fails or hangs the first time, as the environment variable says."""
        failed = self.path.with_name("failed")
        if not failed.exists():
            failed.touch()
            match os.environ.get("LEDGER_SAVES"):
                case "fails":
                    raise Busy("the disk is slow")
                case "hangs":
                    hold_the_interpreter()
        with self.path.open("a") as file:
            file.writelines(f"{what}\n" for what in self.unsaved)
        self.unsaved.clear()


@contextlib.contextmanager
def open_book() -> Iterator[Book]:
    yield Book()


def is_saved(book: Book, job: JobContext) -> Done | NotDone:
    lines = book.path.read_text().splitlines() if book.path.exists() else []
    return Done("found") if job.id in lines else NotDone()


async def is_saved_async(sdk: trio_jobs.SdkHandle, job: trio_jobs.AsyncJobContext) -> Done | NotDone:
    return Done("found") if job.id in await sdk.call(Book.lines) else NotDone()


saving_service = Service(
    sdk=open_book,
    save=Book.save,
    save_timeout=0.3,
    interrupt=lambda book: book.is_free.set(),
    alive=lambda book: not book.path.with_name("dead").exists(),
    check_after=0.0,
    executor="process",
    seat_lock=None,
)


@saving_service.handler(verify=is_saved, retry=Retry(2, waits=[0]))
def post(book: Book, what: str, job: JobContext) -> Any:
    if what == "step":
        job.step("post", book.unsaved.append, job.id)
        return [list(book.unsaved), book.path.read_text()]
    book.unsaved.append(job.id)
    return os.getpid()


@saving_service.handler(attempt_timeout=0.3, on_doubt="hold", retry=Retry(0))
def wait(book: Book, what: str) -> Any:
    book.path.with_name("waits").touch()
    book.is_free.wait(WAIT)
    if what == "raise":
        raise Busy("the call was freed")
    return os.getpid()


chained_service = Service(
    sdk=open_book,
    save=Book.save,
    alive=lambda book: True,
    check_after=0.0,
    renew_after_jobs=2,
    open_retry=Retry(1, waits=[0]),
    executor="process",
    seat_lock=None,
)
"""Each job needs every message between a queue and the process."""


@chained_service.handler(verify=is_saved, verify_first=True, retry=Retry(2, waits=[0]))
def chained(book: Book, what: str, job: JobContext) -> str:
    job.step("post", book.unsaved.append, job.id)
    return what


# async handlers


async_service = Service(sdk=open_ledger, executor="process", seat_lock=None)


VALUES: list[Any] = [None, True, 2**63, 0.5, "\u20ac", b"\xff", datetime(2026, 3, 1, tzinfo=UTC), {"a": [1, {}]}]


def echo(ledger: Ledger, *values: Any) -> list[Any]:
    return [*values, os.getpid()]


def do_call(ledger: Ledger, what: str) -> Any:
    match what:
        case "raise":
            raise Busy("paper jam")
        case "fail":
            raise trio_jobs.Fail("not a voucher")
        case "retry":
            raise trio_jobs.RetryAfter(0, "out of paper")
        case "lost":
            raise trio_jobs.SessionLost("gone")
        case "object":
            return ledger
        case "hang":
            ledger.path.with_name("hangs").touch()
            hold_the_interpreter()
        case "abort":
            os.abort()
        case "opening":
            return [ledger.opening.reason, ledger.opening.number]
    return what


async def verify_async(sdk: trio_jobs.SdkHandle, job: trio_jobs.AsyncJobContext) -> Done | NotDone:
    return Done(await sdk.call(do_call, "opening")) if await sdk.call(Ledger.has, job.id) else NotDone()


@async_service.handler(on_doubt="hold", retry=Retry(1, waits=[0], on=Busy))
async def call_it(sdk: trio_jobs.SdkHandle, what: str, job: trio_jobs.AsyncJobContext) -> Any:
    match what:
        case "values":
            *values, pid = await sdk.call(echo, *VALUES)
            return [values == VALUES, [type(one) for one in values] == [type(one) for one in VALUES], pid]
        case "step":
            return [await job.step("post", sdk.call, Ledger.book, job.id), job.steps]
    return await sdk.call(do_call, what)


@async_service.handler(attempt_timeout=0.3, verify=verify_async, retry=Retry(0))
async def book_and_hang(sdk: trio_jobs.SdkHandle, what: str, job: trio_jobs.AsyncJobContext) -> Any:
    await sdk.call(Ledger.book, job.id)
    return await sdk.call(do_call, what)


@saving_service.handler(verify=is_saved_async, retry=Retry(2, waits=[0]))
async def post_async(sdk: trio_jobs.SdkHandle, what: str, job: trio_jobs.AsyncJobContext) -> Any:
    await job.step("post", sdk.call, Book.add, job.id)
    return await sdk.call(Book.lines)


plain_service = Service(sdk=open_ledger, seat_lock=None)


@plain_service.handler(idempotent=True)
def pid_of(ledger: Ledger, what: str) -> int:
    return os.getpid()


def located_service() -> Service:
    """For `locate=`."""
    return service


def missing_service() -> Service:
    """As a module that is being replaced."""
    if Path(os.environ["LEDGER"]).with_name("missing").exists():
        raise ImportError("half of a file")
    return service


def empty_service() -> Service:
    """Without handlers."""
    return Service(sdk=open_ledger, executor="process")
