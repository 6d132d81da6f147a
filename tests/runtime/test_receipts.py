"""What a submit answers: where the job stands, and how long it may take until its turn."""

from __future__ import annotations

from trio.testing import MockClock, wait_all_tasks_blocked

from support.recording_sdk import RecordingSdk
from support.rig import open_queue
from trio_jobs import Queue, Service, State


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
