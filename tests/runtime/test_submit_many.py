"""A day's invoices in one go: all of them or none."""

from __future__ import annotations

from itertools import count
from typing import Literal

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.cancellation import cut_at
from support.recording_sdk import RecordingSdk, work_service
from support.rig import open_queue
from trio_jobs import NewJob, Queue, QueueClosed, Receipt, State
from trio_jobs._engine.events import JobEvent, Submitted


def jobs(*names: str) -> list[NewJob]:
    return [NewJob("work", name) for name in names]


async def fill(queue: Queue, n: int) -> None:
    """One job under way, `n` in the line."""
    await queue.submit("work", "busy")
    await wait_all_tasks_blocked()
    for i in range(n):
        await queue.submit("work", f"filler {i}")


async def test_all_jobs_of_a_batch_are_accepted_in_its_order(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(work_service(sdk)) as queue:
        receipts = await queue.submit_many(jobs("a", "b", "c"))
        assert [r.created for r in receipts] == [True] * 3
        assert [r.position for r in receipts] == [1, 2, 3]
        assert [queue.get(r.job_id).payload for r in receipts] == [b'"a"', b'"b"', b'"c"']
    assert sdk.calls == ["a", "b", "c"]


async def test_an_empty_batch_is_accepted_and_changes_nothing(autojump_clock: MockClock) -> None:
    async with open_queue(work_service(RecordingSdk())) as queue:
        before = queue.statistics().seq
        assert await queue.submit_many([]) == []
        assert queue.statistics().seq == before


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (NewJob("work", 1), trio_jobs.InvalidPayload),
        (NewJob("nobody", "x"), trio_jobs.UnknownKind),
        (NewJob("work", "x", key=""), trio_jobs.UsageError),
        (NewJob("work", "x", deadline_after=0), trio_jobs.UsageError),
        (NewJob("work", "x", key="taken"), trio_jobs.KeyConflict),
    ],
)
async def test_one_refused_job_refuses_the_whole_batch(
    bad: NewJob, error: type[Exception], autojump_clock: MockClock
) -> None:
    async with open_queue(work_service(RecordingSdk())) as queue:
        await queue.submit("work", "before", key="taken")
        with pytest.raises(error):
            await queue.submit_many([*jobs("a"), bad, *jobs("b")])
        assert len(queue.list()) == 1
        assert queue.statistics().free == queue.statistics().capacity - 1


async def test_a_batch_waits_until_there_is_a_slot_for_each_job(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(work_service(sdk, buffer=3)) as queue:
        await fill(queue, 3)
        await queue.submit_many(jobs("a", "b", "c"))
        # busy ends at 1, the fillers at 2, 3: then the last of them has left the line, and all three places are free
        assert trio.current_time() == 3
        assert queue.statistics().free == 0
    assert sdk.calls[-3:] == ["a", "b", "c"]


async def test_a_batch_with_more_jobs_than_slots_is_refused_at_once(autojump_clock: MockClock) -> None:
    async with open_queue(work_service(RecordingSdk(), buffer=2)) as queue:
        with pytest.raises(trio_jobs.UsageError, match="3 jobs cannot have a slot each in a channel of 2"):
            await queue.submit_many(jobs("a", "b", "c"))
        assert queue.list() == []
        assert queue.statistics().free == 2


async def test_scheduled_jobs_of_a_batch_need_no_slot(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(work_service(sdk, buffer=2)) as queue:
        receipts = await queue.submit_many(
            [*[NewJob("work", f"in {n} s", delay=n) for n in (9, 10, 11)], *jobs("a", "b")]
        )
        assert [r.state for r in receipts] == ["scheduled"] * 3 + ["pending"] * 2
        for receipt in receipts:
            await queue.result(receipt.job_id)
    assert sdk.calls == ["a", "b", "in 9 s", "in 10 s", "in 11 s"]


async def test_scheduled_jobs_of_a_batch_count_towards_max_waiting(autojump_clock: MockClock) -> None:
    async with open_queue(work_service(RecordingSdk(), max_waiting=2)) as queue:
        with pytest.raises(trio_jobs.QueueFull):
            await queue.submit_many([NewJob("work", str(n), delay=9) for n in range(3)])
        assert queue.list() == []
        await queue.submit_many([NewJob("work", str(n), delay=9) for n in range(2)])


async def test_a_batch_of_known_keys_is_answered_whatever_waits(autojump_clock: MockClock) -> None:
    async with open_queue(work_service(RecordingSdk(), max_waiting=2)) as queue:
        batch = [NewJob("work", str(n), key=str(n), delay=9) for n in range(2)]
        first = await queue.submit_many(batch)
        again = await queue.submit_many([*batch, *batch])
        assert [(r.job_id, r.created) for r in again] == [(r.job_id, False) for r in [*first, *first]]


async def test_a_job_that_became_due_while_its_batch_waited_runs(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    async with open_queue(work_service(sdk, buffer=1)) as queue:
        await fill(queue, 1)
        receipts = await queue.submit_many([NewJob("work", "soon", delay=0.25), *jobs("a")])
        assert [r.state for r in receipts] == ["pending", "pending"]
    assert sorted(sdk.calls[2:]) == ["a", "soon"]


async def test_the_first_of_several_jobs_with_one_key_is_accepted_and_the_others_get_its_receipt(
    autojump_clock: MockClock,
) -> None:
    sdk = RecordingSdk()
    async with open_queue(work_service(sdk)) as queue:
        known = await queue.submit("work", "known", key="k")
        new = [NewJob("work", "known", key="k"), NewJob("work", "a", key="a"), NewJob("work", "a", key="a")]
        first, second, third = await queue.submit_many(new)
        assert (first.job_id, first.created) == (known.job_id, False)
        assert second.created
        assert third.job_id == second.job_id
        assert len(queue.list()) == 2
    assert sdk.calls == ["known", "a"]


async def test_a_batch_with_two_payloads_for_one_key_is_refused(autojump_clock: MockClock) -> None:
    async with open_queue(work_service(RecordingSdk())) as queue:
        with pytest.raises(trio_jobs.KeyConflict):
            await queue.submit_many([NewJob("work", "a", key="k"), NewJob("work", "b", key="k")])
        assert queue.list() == []


async def test_a_key_accepted_while_the_batch_waits_frees_its_slot(
    autojump_clock: MockClock,
) -> None:
    sdk = RecordingSdk()
    async with open_queue(work_service(sdk, buffer=2)) as queue:
        await fill(queue, 2)
        answers: list[Receipt] = []

        async def batch() -> None:
            answers.extend(await queue.submit_many([NewJob("work", "a", key="a"), *jobs("b")]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.submit, "work", "rival")
            await wait_all_tasks_blocked()
            nursery.start_soon(batch)
            await wait_all_tasks_blocked()
            scheduled = await queue.submit("work", "a", key="a", delay=100)
        assert [(r.job_id == scheduled.job_id, r.created) for r in answers] == [(True, False), (False, True)]
        await trio.sleep(50)
        assert queue.statistics().free == 2


async def test_two_batches_that_each_need_the_whole_queue_do_not_wait_for_each_other(
    autojump_clock: MockClock,
) -> None:
    sdk = RecordingSdk()
    async with open_queue(work_service(sdk, buffer=4)) as queue:
        await fill(queue, 4)
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(queue.submit_many, jobs(*[f"{name}{n}" for n in range(4)]))
        assert len(queue.list()) == 5 + 12
    batches = [call[0] for call in sdk.calls[5:]]
    assert ["".join(batches[i : i + 4]) for i in (0, 4, 8)] == [name * 4 for name in dict.fromkeys(batches)]


async def test_single_submits_are_accepted_beside_a_batch_that_waits(autojump_clock: MockClock) -> None:
    async with open_queue(work_service(RecordingSdk(), buffer=2)) as queue:
        await fill(queue, 2)
        async with trio.open_nursery() as nursery:
            for n in range(5):
                nursery.start_soon(queue.submit, "work", str(n))
                nursery.start_soon(queue.submit_many, jobs(f"{n}a", f"{n}b"))
        assert len(queue.list()) == 3 + 15


async def test_subscribers_see_a_batch_as_one_change(autojump_clock: MockClock) -> None:
    """Its events follow each other without another between, whoever submits at the same time."""
    sdk = RecordingSdk()
    async with open_queue(work_service(sdk, buffer=10)) as queue:
        events = queue.events(after=0)
        async with trio.open_nursery() as nursery:
            for n in range(5):
                nursery.start_soon(queue.submit, "work", f"single {n}")
                nursery.start_soon(queue.submit_many, jobs(*[f"{n}.{i}" for i in range(6)]))
    submitted = [e.to_dict() async for e in events if isinstance(e, Submitted)]
    for n in range(5):
        seqs = [event["seq"] for event in submitted if event["payload"].startswith(f"{n}.")]
        assert seqs == list(range(seqs[0], seqs[0] + 6))


@pytest.mark.parametrize("when", ["asleep", "waking"])
async def test_a_batch_cancelled_at_any_checkpoint_is_accepted_whole_or_not_at_all(
    when: Literal["asleep", "waking"], autojump_clock: MockClock
) -> None:
    cuts = 0
    for n in count(1):
        sdk = RecordingSdk()
        async with open_queue(work_service(sdk, buffer=3)) as queue:
            await fill(queue, 3)
            receipts, cut = await cut_at(n, when, lambda: queue.submit_many(jobs("a", "b", "c")))
            accepted = len(queue.list()) - 4
            assert accepted == (0 if receipts is None else 3)
            cuts += receipts is None
            await trio.sleep(20)
            assert queue.statistics().free == 3, "every place that was held is given back"
        assert len(sdk.calls) == 4 + accepted
        if not cut:
            break
    assert cuts >= 3, "at least once in the wait for each place"


async def test_a_cancelled_batch_lets_the_submits_behind_it_continue(autojump_clock: MockClock) -> None:
    async with open_queue(work_service(RecordingSdk(), buffer=2)) as queue:
        await fill(queue, 2)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(queue.submit_many, jobs("a", "b"))
                await trio.sleep(1.5)  # by now it holds one place
                scope.cancel()
        await queue.submit_many(jobs("c", "d"))
        assert [job.payload for job in queue.list()[-2:]] == [b'"c"', b'"d"']


async def test_batches_that_wait_get_queue_closed(autojump_clock: MockClock) -> None:
    """The one that waits for places, the one that waits behind it, and single submits: all of them, at once."""
    told = []

    async def batch(queue: Queue) -> None:
        with pytest.raises(QueueClosed):
            await queue.submit_many(jobs("a", "b"))
        told.append(trio.current_time())

    async def single(queue: Queue) -> None:
        with pytest.raises(QueueClosed):
            await queue.submit("work", "c")
        told.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        async with open_queue(work_service(RecordingSdk(), buffer=2, drain_timeout=10)) as queue:
            await queue.pause()
            await queue.submit_many(jobs("x", "y"))
            for _ in range(2):
                nursery.start_soon(batch, queue)
                nursery.start_soon(single, queue)
            await wait_all_tasks_blocked()
        assert queue.statistics().free == 0
    assert told == [0, 0, 0, 0]


async def test_requeued_jobs_take_no_extra_slot_when_the_queue_closes(
    autojump_clock: MockClock,
) -> None:
    """While submits and a job that is due wait for one place, the submits are sent away: their places do not exist."""
    sdk = RecordingSdk()
    service = work_service(sdk, buffer=1)

    @service.handler(on_doubt="hold")
    async def snoozes(sdk: RecordingSdk, what: str) -> str:
        if sdk.calls.count(what) == 0:
            await sdk.call(what)
            raise trio_jobs.Snooze(0.5)
        return await sdk.call(what)

    async with trio.open_nursery() as nursery:
        async with open_queue(service) as queue:
            back = await queue.submit(snoozes, "back")
            await wait_all_tasks_blocked()
            await fill(queue, 1)

            async def refused() -> None:
                with pytest.raises(QueueClosed):
                    await queue.submit("work", "never")

            await trio.sleep(0.75)
            assert queue.statistics().waiting_jobs == 1
            for _ in range(3):
                nursery.start_soon(refused)
            await wait_all_tasks_blocked()
        assert queue.get(back.job_id).state is State.COMPLETED
        assert queue.statistics().free == 1
    assert sdk.calls == ["back", "busy", "filler 0", "back"]


async def test_a_batch_records_by_for_each_job(autojump_clock: MockClock) -> None:
    async with open_queue(work_service(RecordingSdk())) as queue:
        events = queue.events()
        receipts = await queue.submit_many(jobs("a", "b"), by="Ada")
        assert [queue.get(r.job_id).by for r in receipts] == ["Ada", "Ada"]
        first = await anext(events)
        assert isinstance(first, JobEvent)
        assert first.job == receipts[0].job_id
