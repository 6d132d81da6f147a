"""An SDK of a test whose sessions are used in another process.

The hard part is that a test looks at its SDK: at what was done, and in which order. So a session in the process only
forwards what is called, and the SDK of the test does it, on a thread for each process. An SDK that records its calls,
checks their threads and fails by script therefore need not know where its sessions are used. Arguments, results and
exceptions are pickled. The session of a process that ends without closing it is lost, as for the next session that is
opened: what was called in it may still be blocked.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from multiprocessing.connection import Client, Connection, Listener
from typing import Any, Final, cast

from support.process_time import around_thread

__all__ = ["ServedSdk", "open_served_session"]

_ADDRESS: Final = "TRIO_JOBS_TEST_SDK"
_END: Final = 5.0  #: seconds for the threads to end

OpenSession = Callable[[], AbstractContextManager[Any]]


class ServedSdk:
    """Serves the sessions of an SDK to the processes that are started while it is open.

    Args:
        open_session: Returns the context manager of a session.
        lose_session: Called when a process has ended without closing its session, before the next one is opened.
    """

    def __init__(self, open_session: OpenSession, lose_session: Callable[[], object]) -> None:
        self._open_session = open_session
        self._lose_session = lose_session
        self._in_session: set[Connection] = set()
        self._lock = threading.Lock()
        self._key = secrets.token_bytes(16)
        self._listener = Listener(("127.0.0.1", 0), authkey=self._key, backlog=8)
        address = cast("tuple[str, int]", self._listener.address)
        os.environ[_ADDRESS] = f"{address[1]}:{self._key.hex()}"
        self._has_ended = False
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def end(self) -> None:
        """Take no more processes. The caller has ended them, and has released what blocks."""
        self._has_ended = True
        self.lose_sessions()
        os.environ.pop(_ADDRESS, None)
        Client(self._listener.address, authkey=self._key).close()  # wakes the thread that accepts
        for thread in self._threads:
            thread.join(_END)
        self._listener.close()

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name="served SDK", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            with suppress(OSError, EOFError):  # a process has ended meanwhile
                connection = self._listener.accept()
                if self._has_ended:
                    connection.close()
                    return
                self._start(self._serve, connection)

    def _serve(self, connection: Connection) -> None:
        with around_thread(), connection, suppress(EOFError, OSError):
            while connection.recv() == "open":
                self.lose_sessions()
                manager = self._open_session()
                session: list[Any] = []
                if _do(connection, partial(_enter, manager, session)):
                    self._serve_session(connection, manager, session.pop())

    def _serve_session(self, connection: Connection, manager: AbstractContextManager[Any], session: Any) -> None:
        with self._lock:
            self._in_session.add(connection)
        while True:
            name, args = connection.recv()
            if name == "close":
                with self._lock:
                    self._in_session.discard(connection)
                _do(connection, partial(_close, manager, *args))
                return
            _do(connection, partial(getattr(session, name), *args))

    def lose_sessions(self) -> None:
        """Lose the sessions of processes that have ended."""
        with self._lock:
            for connection in [*self._in_session]:
                if connection.closed or connection.poll(0):  # a process sends nothing while it waits for an answer
                    self._in_session.discard(connection)
                    self._lose_session()


def _enter(manager: AbstractContextManager[Any], session: list[Any]) -> None:
    session.append(manager.__enter__())


def _close(manager: AbstractContextManager[Any], thrown: BaseException | None) -> None:
    if not manager.__exit__(None if thrown is None else type(thrown), thrown, None) and thrown is not None:
        raise thrown


def _do(connection: Connection, fn: Callable[[], Any]) -> bool:
    """Send what the function returns or raises. Returns whether it has returned."""
    try:
        result = fn()
    except BaseException as error:
        connection.send((True, error))
        return False
    connection.send((False, result))
    return True


# in the process

_connections: list[Connection] = []


@contextmanager
def open_served_session() -> Iterator[Any]:
    """For `Service(sdk=...)`: a session whose methods the SDK of the test executes."""
    if not _connections:
        port, _, key = os.environ[_ADDRESS].partition(":")
        _connections.append(Client(("127.0.0.1", int(port)), authkey=bytes.fromhex(key)))
    _ask("open")
    try:
        yield _Session()
    except BaseException as error:
        with suppress(type(error)):  # a manager that raises what was thrown into it
            _ask(("close", (error,)))
        raise
    else:
        _ask(("close", (None,)))


class _Session:
    """Each method is that of the session in the process of the test."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args: _ask((name, args))


def _ask(message: Any) -> Any:
    [connection] = _connections
    connection.send(message)
    has_raised, value = connection.recv()
    if has_raised:
        raise value
    return value
