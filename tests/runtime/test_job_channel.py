"""Places of the line that only a rare order of steps comes to; what they are for is tested with the queue."""

from __future__ import annotations

from collections import Counter

import msgspec
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from trio_jobs._engine import events as ev
from trio_jobs._engine.fold import begin
from trio_jobs._engine.jobs import JobRecord
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


async def test_a_job_that_is_being_delivered_to_the_consumer_is_the_first_one() -> None:
    channel, jobs = JobChannel(3), [record(n, "a") for n in range(1, 4)]

    async def consume() -> None:
        channel.received(await channel.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        await wait_all_tasks_blocked()
        assert channel.consumer_waits
        for job in jobs:
            channel.try_reserve()
            channel.send(job)
        assert [channel.position(job) for job in jobs] == [1, 2, 3]
        assert channel.kinds_before(3) == ["a", "a"]
    assert [channel.position(job) for job in jobs] == [0, 1, 2]


def record(n: int, kind: str) -> JobRecord:
    return begin(ev.Submitted(seq=n, at=0.0, job=f"j{n}", kind=kind, payload=msgspec.Raw(b"1")))


@given(steps=st.lists(st.sampled_from(["a", "b", "c", "receive", "put back", "remove"]), max_size=40))
def test_the_kinds_in_the_channel_are_counted_whatever_joins_and_leaves_it(steps: list[str]) -> None:
    async def main() -> None:
        channel = JobChannel(100)
        inside: list[JobRecord] = []
        for n, step in enumerate(steps, 1):
            if step == "remove":
                if inside:
                    assert channel.remove(inside.pop(n % len(inside)))
            elif step in ("receive", "put back"):
                if inside:
                    job = await channel.receive()
                    assert job is inside[0]
                    if step == "receive":
                        channel.received(inside.pop(0))
                    else:
                        channel.unreceive(job)
            else:
                assert channel.try_reserve()
                inside.append(record(n, step))
                channel.send(inside[-1])
            assert +Counter(channel.kinds) == Counter(job.kind for job in inside)
            assert channel.used == len(inside)
            for position, job in enumerate(inside, 1):
                assert channel.kinds_before(position) == [other.kind for other in inside[: position - 1]]
                assert channel.position(job) == position

    trio.run(main)
