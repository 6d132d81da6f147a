"""A machine on which the service runs for one life: it can die at any step of Trio's scheduler.

Death is cut off from the world before anything else: from that step on the disk takes nothing, the SDK notices nothing
and nobody is told anything. What still runs on the dead machine is let run out (a queue cannot be dropped in the middle
of Trio), seen by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from sim.world import World
from trio_jobs._runtime.queue import Queue

__all__ = ["GaveUp", "Lost", "Machine", "Steps"]


class Lost(Exception):
    """The machine died, or is not up: nobody knows what became of what was asked."""


class GaveUp(Lost):
    """Whoever asked has lost patience, and has broken it off."""


class Steps(trio.abc.Instrument):
    """Counts Trio's steps. `strike` is called before step number `at`, and `give_up` before `most`."""

    def __init__(self, most: int, give_up: Callable[[], object]) -> None:
        self.count = 0
        self.at: int | None = None
        self.strike: Callable[[], object] = lambda: None
        self.error: Exception | None = None
        self._most = most
        self._give_up = give_up

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1
        try:
            if self.count == self.at:
                self.strike()
            elif self.count == self._most:
                self._give_up()
        except Exception as error:  # Trio would take the instrument away and go on
            self.error = error


class Machine:
    """number: of the life, from 1. alive: until it dies or is switched off. queue: None while it is not up."""

    def __init__(self, world: World, number: int, nursery: trio.Nursery) -> None:
        self.world = world
        self.number = number
        self.nursery = nursery
        self.alive = True
        self.died = trio.Event()
        self.scope = trio.CancelScope()
        self.queue: Queue | None = None
        self.on_death: Callable[[], None] = lambda: None
        # what the SDK's thread has still to do behind its call: seconds, then what happens
        self.script: list[tuple[float, Callable[[], None]]] = []
        self._connections: dict[trio.CancelScope, None] = {}

    def note(self, who: str, what: str) -> None:
        if self.alive:
            self.world.note(who, what)

    async def sleep(self, seconds: float) -> None:
        """Virtual time; over at once where the machine is dead."""
        if seconds <= 0 or not self.alive:
            await trio.lowlevel.checkpoint()
            return
        with trio.move_on_after(seconds):
            await self.died.wait()

    def die(self) -> None:
        """The power fails."""
        if not self.alive:
            return
        self.note("machine", f"dies (life {self.number})")
        self.on_death()
        self.switch_off()
        self.scope.cancel()

    def switch_off(self) -> None:
        """Nothing that happens here is seen any more."""
        self.alive = False
        self.queue = None
        self.world.power_off(self.number)
        self.died.set()
        connections, self._connections = self._connections, {}
        for scope in connections:
            scope.cancel()

    @contextmanager
    def connection(self) -> Iterator[Queue]:
        """A person's connection to the queue. Raises `Lost` where the machine dies meanwhile."""
        if self.queue is None:
            raise Lost
        scope = trio.CancelScope()
        self._connections[scope] = None
        try:
            with scope:
                yield self.queue
        except BaseException:
            if self.alive:
                raise
            raise Lost from None
        finally:
            self._connections.pop(scope, None)
        if not self.alive:
            raise Lost
