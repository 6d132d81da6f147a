"""A machine that runs the service for one life and can die at any step of Trio's scheduler.

At its death the machine is first isolated: from that step on no write reaches the disk, no call the SDK and no answer a
client. Then its tasks are cancelled and run to their end without effect, since a queue cannot be dropped inside Trio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from sim.observer import Observer
from trio_jobs._runtime.queue import Queue

__all__ = ["ConnectionLost", "Machine", "RequestAbandoned", "Steps"]


class ConnectionLost(Exception):
    """The machine died or is not running, so the outcome of the request is unknown."""


class RequestAbandoned(ConnectionLost):
    """The client cancelled its own request after a timeout."""


class Steps(trio.abc.Instrument):
    """Counts the steps of Trio's scheduler.

    Args:
        limit: The step before which `on_limit` is called.
        on_limit: Ends a schedule that takes too many steps.
    """

    def __init__(self, limit: int, on_limit: Callable[[], object]) -> None:
        self.count = 0
        """The number of steps so far."""
        self.at: int | None = None
        """The step before which `on_step` is called."""
        self.on_step: Callable[[], object] = lambda: None
        """Called before step `at`."""
        self.error: Exception | None = None
        """What a callback raised."""
        self._limit = limit
        self._on_limit = on_limit

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1
        try:
            if self.count == self.at:
                self.on_step()
            elif self.count == self._limit:
                self._on_limit()
        except Exception as error:  # Trio would remove the instrument and continue
            self.error = error


class Machine:
    """One life of the service.

    Args:
        observer: Records what happens outside the machine.
        number: Counts lives, from 1.
        nursery: Runs the tasks of the machine.
    """

    def __init__(self, observer: Observer, number: int, nursery: trio.Nursery) -> None:
        self.observer = observer
        self.number = number
        self.nursery = nursery
        self.alive = True
        """False after its death or its orderly end."""
        self.died = trio.Event()
        self.scope = trio.CancelScope()
        self.queue: Queue | None = None
        """None unless the queue is open."""
        self.on_death: Callable[[], None] = lambda: None
        # what happens in the SDK after the call of its thread: seconds, and the function to call after them
        self.script: list[tuple[float, Callable[[], None]]] = []
        self.hanging: Callable[[], None] | None = None
        """Ends the call whose time passes when it is interrupted; None if it does not hang."""
        self.freed = trio.Event()
        """Set when the call that hangs is interrupted."""
        self._connections: dict[trio.CancelScope, None] = {}

    def note(self, who: str, what: str) -> None:
        """Add a line to the timeline, unless the machine is dead."""
        if self.alive:
            self.observer.note(who, what)

    async def sleep(self, seconds: float) -> None:
        """Sleep in virtual time. Returns immediately if the machine is dead or dies."""
        if seconds <= 0 or not self.alive:
            await trio.lowlevel.checkpoint()
            return
        with trio.move_on_after(seconds):
            await self.died.wait()

    async def hang(self, seconds: float) -> bool:
        """As `sleep`. Returns True as soon as the call is interrupted."""
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def wait_for_death() -> None:
                    await self.died.wait()
                    nursery.cancel_scope.cancel()

                await self.freed.wait()
                nursery.cancel_scope.cancel()
        return self.freed.is_set()

    def die(self) -> None:
        """Die: isolate the machine and cancel its tasks."""
        if not self.alive:
            return
        self.note("machine", f"dies (life {self.number})")
        self.on_death()
        self.switch_off()
        self.scope.cancel()

    def switch_off(self) -> None:
        """Isolate the machine: what still happens on it has no effect."""
        self.alive = False
        self.queue = None
        self.observer.power_off(self.number)
        self.died.set()
        connections, self._connections = self._connections, {}
        for scope in connections:
            scope.cancel()

    @contextmanager
    def connection(self) -> Iterator[Queue]:
        """Connect a client to the queue. Raises `ConnectionLost` if the machine dies meanwhile."""
        if self.queue is None:
            raise ConnectionLost
        scope = trio.CancelScope()
        self._connections[scope] = None
        try:
            with scope:
                yield self.queue
        except BaseException:
            if self.alive:
                raise
            raise ConnectionLost from None
        finally:
            self._connections.pop(scope, None)
        if not self.alive:
            raise ConnectionLost
