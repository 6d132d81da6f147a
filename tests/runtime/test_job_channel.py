"""Places of the line that only a rare order of steps comes to; what they are for is tested with the queue."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from trio_jobs._runtime.job_channel import JobChannel


async def test_in_strict_order_places_that_were_kept_go_to_those_who_wait_when_nobody_comes_back_after_all() -> None:
    channel = JobChannel(2, strict=True)
    got: list[int] = []

    async def wait(number: int) -> None:
        await channel.reserve()
        got.append(number)

    channel.set_requeue_waiting(True)
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(wait, number)
            await wait_all_tasks_blocked()
        assert channel.statistics().waiting == 3
        channel.set_requeue_waiting(False)  # they were cancelled, say
        await wait_all_tasks_blocked()
        assert sorted(got) == [0, 1], "those who came first"
        channel.release()
    assert got[2:] == [2]
    assert repr(channel) == "<JobChannel 0 waiting, 0 of 2 free>"
