"""job.progress: told, not recorded."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import RecordingSdk, RecordingThreadSdk, Wrong
from support.rig import open_queue
from trio_jobs import AsyncJobContext, JobContext, Progress, Queue, Retry, Service
from trio_jobs.testing import Blocker


def listen(queue: Queue) -> list[tuple[float, float]]:
    """(when, how far) of all that is passed on from now on."""
    told: list[tuple[float, float]] = []
    queue.backend.progress_listeners.add(lambda progress: told.append((trio.current_time(), progress.done)))
    return told


def ticking(seconds: float, every: float, *, then: Callable[[], None] = lambda: None) -> Service:
    """Its handler says how far it is `every` so many seconds."""
    service = Service()

    @service.handler(retry=Retry(0))
    async def work(what: str, job: AsyncJobContext) -> None:
        began = trio.current_time()
        while (passed := trio.current_time() - began) < seconds:
            job.progress(passed, seconds)
            await trio.sleep(every)
        then()

    return service


async def test_progress_is_published_at_most_five_times_a_second_with_the_newest_value(
    autojump_clock: MockClock,
) -> None:
    async with open_queue(ticking(10, 1 / 64)) as queue:
        told = listen(queue)
        await queue.result((await queue.submit("work", "a")).job_id)
    assert 45 <= len(told) <= 51, "one at once, then five a second"
    assert all(after - before >= 0.199 for (before, _), (after, _) in pairwise(told))
    assert all(when - done < 1 / 32 for when, done in told), "what is passed on is the newest word"


async def test_the_first_progress_is_published_at_once_and_the_last_is_not_lost(autojump_clock: MockClock) -> None:
    service = Service()

    @service.handler
    async def work(what: str, job: AsyncJobContext) -> None:
        for n in range(1, 4):
            job.progress(n)
        await trio.sleep(0.0625)
        job.progress(4)
        await trio.sleep(0.0625)
        job.progress(5)
        await trio.sleep(10)

    async with open_queue(service) as queue:
        told = listen(queue)
        await queue.result((await queue.submit("work", "a")).job_id)
    assert [when for when, _ in told] == [0, 0.2]
    assert told[-1][1] == 5


async def test_the_newest_progress_can_be_read_while_the_attempt_runs(autojump_clock: MockClock) -> None:
    async with open_queue(ticking(10, 1)) as queue:
        receipt = await queue.submit("work", "a")
        assert queue.progress(receipt.job_id) is None
        await trio.sleep(3.5)
        assert queue.progress(receipt.job_id) == Progress(receipt.job_id, 3, 10, "")
        assert queue.progress("another") is None


def fail() -> None:
    raise Wrong


def snooze() -> None:
    raise trio_jobs.Snooze(1000)


@pytest.mark.parametrize("end", [lambda: None, fail, snooze], ids=["completed", "failed", "snoozed"])
async def test_progress_is_dropped_when_the_attempt_ends_and_none_follows(
    end: Callable[[], None], autojump_clock: MockClock
) -> None:
    """The last word falls into the silence after one that was passed on; the attempt ends before that is over."""
    async with open_queue(ticking(0.125, 0.0625, then=end)) as queue:
        told = listen(queue)
        receipt = await queue.submit("work", "a")
        await trio.sleep(5)
        assert queue.progress(receipt.job_id) is None
        assert told == [(0, 0)]


async def test_progress_is_dropped_when_the_job_is_in_doubt(autojump_clock: MockClock) -> None:
    sdk = RecordingSdk()
    service = sdk.service()

    @service.handler(attempt_timeout=1, on_doubt="hold")
    async def work(sdk: RecordingSdk, what: str, job: AsyncJobContext) -> None:
        job.progress(1)
        await sdk.call(what, 5)

    async with open_queue(service) as queue:
        receipt = await queue.submit("work", "a")
        await trio.sleep(0.5)
        assert queue.progress(receipt.job_id) is not None
        await trio.sleep(5)
        assert queue.get(receipt.job_id).state == "in_doubt"
        assert queue.progress(receipt.job_id) is None


async def test_progress_after_the_end_is_not_attributed_to_the_next_attempt(autojump_clock: MockClock) -> None:
    service, contexts = Service(), list[AsyncJobContext]()

    @service.handler
    async def work(what: str, job: AsyncJobContext) -> None:
        contexts.append(job)
        await trio.sleep(5)

    async with open_queue(service) as queue:
        await queue.submit("work", "a")
        second = await queue.submit("work", "b")
        told = listen(queue)
        await trio.sleep(6)
        contexts[0].progress(99)
        await trio.sleep(1)
        assert told == []
        assert queue.progress(second.job_id) is None


async def test_a_progress_message_is_truncated_at_two_hundred_characters_and_escaped(autojump_clock: MockClock) -> None:
    service = Service()

    @service.handler
    async def work(message: str, job: AsyncJobContext) -> None:
        job.progress(1, message=message)
        await trio.sleep(1)

    async with open_queue(service) as queue:
        receipt = await queue.submit("work", "\x1b[2J\u202e" + "x" * 1000)
        await trio.sleep(0.5)
        progress = queue.progress(receipt.job_id)
    assert progress is not None
    assert progress.message.startswith("\\x1b[2J\\u202exxx")
    assert len(progress.message) == 200


async def test_a_plain_handler_reports_progress_from_its_thread(mock_clock: MockClock) -> None:
    sdk, hold = RecordingThreadSdk(), Blocker()
    sdk.does("held", hold)
    service = Service(sdk=sdk.session)

    @service.handler(on_doubt="hold")
    def work(sdk: RecordingThreadSdk, what: str, job: JobContext) -> str:
        job.progress(1, 2, "half")
        return sdk.call(what)

    async with open_queue(service) as queue:
        receipt = await queue.submit(work, "held")
        await hold.reached()
        await wait_all_tasks_blocked()
        assert queue.progress(receipt.job_id) == Progress(receipt.job_id, 1, 2, "half")
        hold.release()
        await queue.result(receipt.job_id)
        assert queue.progress(receipt.job_id) is None


async def test_progress_is_not_recorded_as_an_event(autojump_clock: MockClock) -> None:
    async with open_queue(ticking(5, 1)) as queue:
        await queue.submit("work", "a")
        await trio.sleep(0.5)
        before = queue.statistics().seq
        await trio.sleep(3)
        assert queue.statistics().seq == before
