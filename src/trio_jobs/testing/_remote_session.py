"""The session of a `RemoteSdk`, in the process of an executor: whatever is done with it is asked of the process of the
test.

Each thread has a connection of its own, so that the process of the test knows which one does what. Another connection
is open as long as this process lives.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection
from typing import Any, Final, final

import attrs

from trio_jobs import Service
from trio_jobs.testing._executor_errors import PlannedError
from trio_jobs.testing._sdk_objects import SdkObject, SdkObjects
from trio_jobs.testing.fake_sdk import FakeSdk, FakeSession, Operation

__all__ = ["ADDRESS", "Die", "MakeObject", "RemoteSession", "call_x", "interrupt", "open_session", "service"]

ADDRESS: Final = "TRIO_JOBS_TESTING_SDK"
"""The environment variable with the port of the process of the test, and the key for it."""


@attrs.frozen
class MakeObject:
    """An item of a script: an object of the SDK is made here."""

    fails: bool
    """An exception is raised with the object in its frame; otherwise the object is returned."""


@attrs.frozen
class Die:
    """An item of a script: this process ends at once."""


@final
class RemoteSession(FakeSession):
    """What a handler receives."""

    def __init__(self, number: int) -> None:
        super().__init__(FakeSdk(), number)
        self.is_open = True

    def _do(self, operation: Operation, what: str) -> Any:
        return _ask(operation, what)


@contextmanager
def open_session() -> Iterator[FakeSession]:
    """A session of the SDK in the process of the test."""
    _be_known()
    number = _ask("open", None)
    thrown: BaseException | None = None
    try:
        yield RemoteSession(number)
    except BaseException as error:
        thrown = error
        raise
    finally:
        try:
            _ask("close", thrown)
        finally:
            del thrown


def interrupt(session: FakeSession) -> None:
    """For `Service(interrupt=...)`."""
    _ask("interrupt", None)


def call_x(session: FakeSession) -> Any:
    """For a handle."""
    return session.call("x")


class _ReportedObjects(SdkObjects):
    """What is made and destroyed here, as the process of the test gets to know it."""

    def make(self) -> SdkObject:
        _connection().send(("made", None))
        return super().make()

    def record(self, at_home: bool) -> None:
        _connection().send(("destroyed", at_home))


_objects: Final = _ReportedObjects()
_of_thread: Final = threading.local()
_life: list[Connection] = []


def _connect(kind: str) -> Connection:
    port, _, key = os.environ[ADDRESS].partition(":")
    connection = Client(("127.0.0.1", int(port)), authkey=bytes.fromhex(key))
    connection.send((kind, os.getpid()))
    connection.recv()
    return connection


def _be_known() -> None:
    if not _life:
        _life.append(_connect("life"))


def _connection() -> Connection:
    if not hasattr(_of_thread, "connection"):
        _of_thread.connection = _connect("thread")
    connection: Connection = _of_thread.connection
    return connection


def _ask(operation: str, argument: Any) -> Any:
    connection = _connection()
    connection.send((operation, argument))
    has_raised, value = connection.recv()
    if isinstance(value, Die):
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    if isinstance(value, MakeObject):
        made = _objects.make()
        if value.fails:
            raise PlannedError("its frame has an object of the SDK")
        return made
    if has_raised:
        raise value
    return value


service: Final = Service(sdk=open_session, interrupt=interrupt, executor="process", seat_lock=None)
"""What `check_executor` gives to the maker of an executor whose SDK is in another process."""


@service.handler(kind="call", on_doubt="hold")
def _call(session: FakeSession, what: str) -> Any:
    return session.call(what)
