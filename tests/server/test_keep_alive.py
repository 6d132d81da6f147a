"""Pings of all connections by one task."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_jobs._server.keep_alive import KeepAlive


class Pinged:
    """A connection that notes when it was called."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def keep_alive(self) -> None:
        self.at.append(trio.current_time())


async def test_each_connection_is_called_in_its_own_interval_until_it_is_removed(autojump_clock: MockClock) -> None:
    pings, first, second, third = KeepAlive(20.0), Pinged(), Pinged(), Pinged()
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pings.run)
        await trio.sleep(5)
        pings.add(first)
        await trio.sleep(5)
        pings.add(second)
        pings.add(third)
        await trio.sleep(1)
        pings.remove(third)
        pings.remove(third)  # does nothing
        await trio.sleep(40)
        pings.remove(first)
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    assert [at - start for at in first.at] == [25, 45]
    assert [at - start for at in second.at] == [30, 50, 70]
    assert third.at == []


async def test_a_connection_that_is_removed_by_the_call_of_another_one_is_not_called() -> None:
    clock_step = KeepAlive(0.0)
    removed = Pinged()

    class Removing(Pinged):
        def keep_alive(self) -> None:
            super().keep_alive()
            clock_step.remove(removed)
            clock_step.remove(self)

    removing = Removing()
    clock_step.add(removing)
    clock_step.add(removed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clock_step.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (len(removing.at), removed.at) == (1, [])
