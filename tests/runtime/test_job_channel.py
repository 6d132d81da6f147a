"""Places of the line that only a rare order of steps comes to; what they are for is tested with the queue."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from trio_jobs._runtime.job_channel import JobChannel


async def test_in_strict_order_slots_kept_for_requeued_jobs_go_to_waiting_submits_when_no_job_comes_back() -> None:
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
