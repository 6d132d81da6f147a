"""A `FakeSdk` whose sessions are in other processes, as those of an executor with a process are.

The hard part is to know what a process has done that is killed at any moment. So its sessions only ask: the SDK, its
script and its steps are here. Each thread of a process has a connection, and here a thread that does what it asks for;
the fake SDK therefore sees on how many threads a session is used. A process is dead when its connection is closed.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.connection import Client, Connection, Listener
from pickle import PicklingError
from typing import Any, Final, cast

from trio_jobs.testing._remote_session import ADDRESS
from trio_jobs.testing._sdk_objects import SdkObjects
from trio_jobs.testing.fake_sdk import FakeSdk, FakeSession

__all__ = ["RemoteSdk"]

_END: Final = 1.0  #: seconds for the threads to end


class RemoteSdk(FakeSdk):
    """Serves the sessions of processes.

    Processes that are started while it is open find it by an environment variable.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pids: list[int] = []
        """The processes that have opened a session, in order."""
        self.objects = SdkObjects()
        """The objects that were made and destroyed in the processes."""
        self.on_interrupt: Callable[[Any], Any] = lambda session: None
        """What `interrupt` of the service calls."""
        self.around_thread: Callable[[], AbstractContextManager[object]] = nullcontext
        """Entered by each thread that does the operations of a process."""
        key = secrets.token_bytes(16)
        self._listener = Listener(("127.0.0.1", 0), authkey=key, backlog=8)
        self._key = key
        self._before = os.environ.get(ADDRESS)
        address = cast("tuple[str, int]", self._listener.address)
        os.environ[ADDRESS] = f"{address[1]}:{key.hex()}"
        self._of_process: dict[int, FakeSession] = {}
        self._lives: dict[int, Connection] = {}
        self._process_lock = threading.Lock()
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __repr__(self) -> str:
        return f"<RemoteSdk {len(self.steps)} steps, processes {self.pids}>"

    def is_dead(self, pid: int) -> bool:
        """Whether a process that has opened a session has ended."""
        return self._lives[pid].poll(0)  # it sends nothing

    def kill(self, pid: int) -> None:
        """Kill a process."""
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))

    def settle(self) -> None:
        """Let the sessions of processes that have ended count as lost: they are not open any more."""
        with self._process_lock:
            for pid in [pid for pid in self._of_process if self.is_dead(pid)]:
                self._lose(self._of_process.pop(pid))

    def end(self) -> None:
        """Take no more processes. The caller has ended them, and has released what blocks."""
        self._ended.set()
        if self._before is None:
            os.environ.pop(ADDRESS, None)
        else:
            os.environ[ADDRESS] = self._before
        Client(self._listener.address, authkey=self._key).close()  # wakes the thread that accepts
        for thread in self._threads:
            thread.join(_END)
        self._listener.close()
        for life in self._lives.values():
            life.close()

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name="trio-jobs remote SDK", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection = self._listener.accept()
            except (OSError, EOFError):  # a process has ended meanwhile
                continue
            if not self._ended.is_set():
                self._start(self._serve, connection)

    def _serve(self, connection: Connection) -> None:
        """Do what one thread of a process asks for."""
        try:
            kind, pid = connection.recv()
            if kind == "life":
                self._lives[pid] = connection
                connection.send(None)
                return
            connection.send(None)
            with self.around_thread():
                self._serve_thread(connection, pid)
        except (OSError, EOFError):
            pass  # the process has ended
        finally:
            self._ended.wait()  # another thread must not get the same identifier
            if connection not in self._lives.values():
                connection.close()

    def _serve_thread(self, connection: Connection, pid: int) -> None:
        while True:
            operation, argument = connection.recv()
            if operation == "made":
                self.objects.made += 1
            elif operation == "destroyed":
                self.objects.record(argument)
            else:
                _send(connection, *self._answer(pid, operation, argument))

    def _answer(self, pid: int, operation: str, argument: Any) -> tuple[bool, Any]:
        """Returns whether it raised, and what it raised or returned."""
        try:
            return False, self._do(pid, operation, argument)
        except BaseException as error:
            return True, error

    def _do(self, pid: int, operation: Any, argument: Any) -> Any:
        match operation:
            case "open":
                return self._open(pid)
            case "close":
                return self._close(pid, argument)
            case "interrupt":
                return self.on_interrupt(self._of_process[pid])
        return self._perform(self._of_process[pid], operation, argument)

    def _open(self, pid: int) -> Any:
        self.settle()
        for other in self._of_process:
            self.misuse.append(f"process {pid} opens a session while one is open in process {other}")
        self.pids.append(pid)
        session = self._of_process[pid] = self._new_session()
        done: Any = None
        try:
            done = self._perform(session, "open", "open")
        finally:
            with self._process_lock:
                if not isinstance(done, str):  # it has raised, or is to raise there
                    self._of_process.pop(pid, None)
                elif session.number not in self._lost:  # its process is alive
                    session.is_open = True
                    self.open_sessions += 1
        return session.number if isinstance(done, str) else done

    def _close(self, pid: int, thrown: BaseException | None) -> None:
        session = self._of_process[pid]
        if thrown is not None:
            self.thrown.append(thrown)
        try:
            self._perform(session, "close", "close")
        finally:
            with self._process_lock:
                if self._of_process.get(pid) is session:  # else the process has ended meanwhile
                    del self._of_process[pid]
                    session.is_open = False
                    self.open_sessions -= 1


def _send(connection: Connection, has_raised: bool, value: object) -> None:
    try:
        connection.send((has_raised, value))
    except (TypeError, ValueError, AttributeError, PicklingError) as error:
        connection.send((True, TypeError(f"{value!r:.100} cannot be sent to the process: {error}")))
