"""What a submit answers: where the job stands, and how long it may take until its turn."""

from __future__ import annotations

from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import RecordingSdk
from support.rig import make_rig, open_queue, pass_time
from support.server import OWNER, bench, make_service
from trio_jobs import Queue, Service, State
from trio_jobs.testing import Blocker


def timed_service(sdk: RecordingSdk, **settings: object) -> Service:
    service = sdk.service(**settings)

    @service.handler(on_doubt="hold")
    async def work(sdk: RecordingSdk, seconds: float) -> None:
        await sdk.call(f"{seconds}", seconds)

    return service


async def measure(queue: Queue, seconds: float) -> None:
    """Let one attempt take `seconds`."""
    await queue.result((await queue.submit("work", seconds)).job_id)


async def test_positions_count_from_the_next_to_be_taken(autojump_clock: MockClock) -> None:
    async with open_queue(timed_service(RecordingSdk())) as queue:
        await queue.submit("work", 1)
        await wait_all_tasks_blocked()
        receipts = [await queue.submit("work", 1) for _ in range(3)]
        assert [r.position for r in receipts] == [1, 2, 3]


async def test_the_receipt_of_a_known_key_has_the_current_position(autojump_clock: MockClock) -> None:
    async with open_queue(timed_service(RecordingSdk())) as queue:
        first = await queue.submit("work", 1, key="first")
        await wait_all_tasks_blocked()
        await queue.submit("work", 1, key="second")
        await queue.submit("work", 1, key="third")
        assert (await queue.submit("work", 1, key="third")).position == 2
        under_way = await queue.submit("work", 1, key="first")
        assert (under_way.position, under_way.state) == (0, State.PROCESSING)
        await queue.result(first.job_id)
        await wait_all_tasks_blocked()
        assert (await queue.submit("work", 1, key="third")).position == 1
        over = await queue.submit("work", 1, key="first")
        assert (over.position, over.state, over.created) == (0, State.COMPLETED, False)


async def test_positions_close_up_when_a_job_leaves_the_queue(autojump_clock: MockClock) -> None:
    async with open_queue(timed_service(RecordingSdk())) as queue:
        await queue.submit("work", 1)
        await wait_all_tasks_blocked()
        second = await queue.submit("work", 1)
        await queue.submit("work", 1, key="third")
        await queue.cancel(second.job_id)
        assert (await queue.submit("work", 1, key="third")).position == 1


async def test_the_first_job_of_a_paused_queue_has_the_first_position(autojump_clock: MockClock) -> None:
    async with open_queue(timed_service(RecordingSdk(), drain_timeout=0)) as queue:
        await wait_all_tasks_blocked()
        await queue.pause()
        for n in (1, 2, 3):
            receipt = await queue.submit("work", 1, key=str(n))
            assert receipt.position == n
            await wait_all_tasks_blocked()
        assert [(await queue.submit("work", 1, key=str(n))).position for n in (1, 2, 3)] == [1, 2, 3]


async def test_a_receipt_has_no_estimate_before_the_first_attempt_has_ended(autojump_clock: MockClock) -> None:
    async with open_queue(timed_service(RecordingSdk())) as queue:
        assert (await queue.submit("work", 1)).expected_wait is None


async def test_the_estimate_is_the_recent_duration_of_attempts_per_position(autojump_clock: MockClock) -> None:
    async with open_queue(timed_service(RecordingSdk())) as queue:
        await measure(queue, 4)
        await queue.submit("work", 1)
        await wait_all_tasks_blocked()
        receipts = [await queue.submit("work", 1) for _ in range(3)]
        assert [r.expected_wait for r in receipts] == [4, 8, 12]
        assert queue.statistics().mean_run == 4


async def test_the_estimate_follows_attempts_that_get_faster_or_slower(autojump_clock: MockClock) -> None:
    async with open_queue(timed_service(RecordingSdk())) as queue:
        await measure(queue, 4)
        for _ in range(60):
            await measure(queue, 10)
        slow = queue.statistics().mean_run
        assert slow is not None
        assert 9.5 < slow < 10
        for _ in range(60):
            await measure(queue, 1)
        fast = queue.statistics().mean_run
        assert fast is not None
        assert 1 < fast < 1.5


async def test_the_estimate_includes_min_interval(autojump_clock: MockClock) -> None:
    async with open_queue(timed_service(RecordingSdk(), min_interval=20)) as queue:
        await measure(queue, 4)
        await queue.submit("work", 1)
        await wait_all_tasks_blocked()
        receipts = [await queue.submit("work", 1) for _ in range(2)]
        assert [r.expected_wait for r in receipts] == [48, 72]  # behind the one that waits for the rest to be over


async def test_a_scheduled_job_has_no_position(autojump_clock: MockClock) -> None:
    async with open_queue(timed_service(RecordingSdk())) as queue:
        await measure(queue, 4)
        receipt = await queue.submit("work", 1, delay=10)
        assert (receipt.position, receipt.expected_wait) == (0, 0)


def service_of_two_kinds(sdk: RecordingSdk) -> Service:
    service = timed_service(sdk)

    @service.handler(on_doubt="hold")
    async def long(sdk: RecordingSdk, seconds: float) -> None:
        await sdk.call(f"{seconds}", seconds)

    return service


async def test_the_estimate_is_the_sum_of_the_kinds_before_the_job(autojump_clock: MockClock) -> None:
    async with open_queue(service_of_two_kinds(RecordingSdk())) as queue:
        await measure(queue, 1)
        await queue.result((await queue.submit("long", 100)).job_id)
        await queue.submit("long", 100)
        await wait_all_tasks_blocked()
        waits = [
            (await queue.submit(kind, 1, key=f"{n}")).expected_wait for n, kind in enumerate(["work", "long", "work"])
        ]
        assert waits == [100, 101, 201]
        again = [
            (await queue.submit(kind, 1, key=f"{n}")).expected_wait for n, kind in enumerate(["work", "long", "work"])
        ]
        assert again == waits, "a known key has the same, wherever its job is"
        got = queue.find("work", "2")
        assert (got.position, got.expected_wait) == (3, 201)
        assert queue.get(got.id) == got
        assert (queue.list()[0].position, queue.list()[0].expected_wait) == (None, None)


async def test_a_kind_without_an_attempt_has_the_estimate_of_all(autojump_clock: MockClock) -> None:
    async with open_queue(service_of_two_kinds(RecordingSdk())) as queue:
        await measure(queue, 4)
        await queue.submit("long", 1)
        await wait_all_tasks_blocked()
        assert [(await queue.submit("long", 1)).expected_wait for _ in range(2)] == [4, 8]


async def test_the_job_that_starts_at_once_does_not_wait(autojump_clock: MockClock) -> None:
    async with open_queue(timed_service(RecordingSdk())) as queue:
        await measure(queue, 4)
        assert (await queue.submit("work", 1)).expected_wait == 0


async def test_there_is_no_estimate_while_the_queue_is_paused(autojump_clock: MockClock) -> None:
    async with open_queue(timed_service(RecordingSdk())) as queue:
        await measure(queue, 4)
        await queue.pause()
        receipt = await queue.submit("work", 1)
        assert (receipt.position, receipt.expected_wait) == (1, None)
        await wait_all_tasks_blocked()  # the consumer may receive it and put it back
        assert (queue.get(receipt.job_id).position, queue.get(receipt.job_id).expected_wait) == (1, None)
        await queue.submit("work", 1)
        await queue.resume()
        await queue.result(receipt.job_id)
        assert queue.get(receipt.job_id).position is None, "it is not pending any more"


async def test_there_is_no_estimate_while_a_call_is_stuck(mock_clock: MockClock) -> None:
    rig = make_rig("thread", attempt_timeout=5, stuck_after=5)
    async with rig.open() as queue:
        await queue.result((await queue.submit("work", "a")).job_id)
        hold = Blocker()
        rig.sdk.script("call", hold)
        await queue.submit("work", "b")
        await rig.reached(hold)
        assert (await queue.submit("work", "c")).expected_wait is not None
        await pass_time(mock_clock, 5)
        await pass_time(mock_clock, 5)
        assert queue.health().problems == ("stuck",)
        receipt = await queue.submit("work", "d")
        assert (receipt.position, receipt.expected_wait) == (2, None)
        hold.release()


async def test_a_client_gets_the_estimate_with_the_receipt_and_by_get() -> None:
    async with bench(make_service(drain_timeout=0.0), metrics=False) as b:
        async with trio_jobs.connect(f"ws://127.0.0.1:{b.port}/ws", token=OWNER.secret) as client:
            await client.result((await client.submit("double", 1)).job_id)
            await client.submit("wait", 30)
            receipt = await client.submit("double", 2)
            assert receipt.position == 1
            assert receipt.expected_wait is not None
            got, here = await client.get(receipt.job_id), b.queue.get(receipt.job_id)
            assert (
                (got.position, got.expected_wait) == (here.position, here.expected_wait) == (1, receipt.expected_wait)
            )
