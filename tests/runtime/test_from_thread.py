"""The queue for threads that Trio does not run in: real threads, in real time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import RecordingThreadSdk, work_service
from trio_jobs import Queue, QueueClosed, State, UsageError
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._runtime.runtime import Runtime
from trio_jobs.testing import Blocker


async def in_thread(fn: Callable[..., Any], *args: Any) -> Any:
    """In a thread that Trio knows nothing of."""
    done = trio.Event()
    answer: list[tuple[Any, BaseException | None]] = []
    token = trio.lowlevel.current_trio_token()

    def run() -> None:
        try:
            answer.append((fn(*args), None))
        except BaseException as error:
            answer.append((None, error))
        token.run_sync_soon(done.set)

    threading.Thread(target=run, daemon=True).start()
    await done.wait()
    value, error = answer[0]
    if error is not None:
        raise error
    return value


async def test_a_thread_submits_and_gets_the_result() -> None:
    sdk = RecordingThreadSdk()

    def caller(queue: Queue) -> tuple[str, Any]:
        receipt = queue.from_thread.submit("work", "a", key="k")
        again = queue.from_thread.submit("work", "a", key="k")
        assert (again.job_id, again.created) == (receipt.job_id, False)
        return receipt.job_id, queue.from_thread.result(receipt.job_id)

    async with work_service(sdk).open() as queue:
        job_id, result = await in_thread(caller, queue)
        assert result == "a"
        assert queue.from_thread is not None
        job = await in_thread(queue.from_thread.get, job_id)
        assert job.state is State.COMPLETED
        assert await in_thread(queue.from_thread.cancel, job_id) == "too_late"
    assert sdk.calls == ["a"]


async def test_many_threads_at_once_are_served_one_by_one() -> None:
    sdk = RecordingThreadSdk()
    async with work_service(sdk, buffer=2).open() as queue, trio.open_nursery() as nursery:

        def caller(what: str) -> None:
            assert queue.from_thread.result(queue.from_thread.submit("work", what).job_id) == what

        for n in range(20):
            nursery.start_soon(in_thread, caller, str(n))
    assert sorted(sdk.calls, key=int) == [str(n) for n in range(20)]
    assert len(sdk.threads) == 1


async def test_a_thread_gets_the_errors_that_a_task_would_get() -> None:
    async with work_service(RecordingThreadSdk()).open() as queue:
        threads = queue.from_thread
        with pytest.raises(trio_jobs.UnknownKind):
            await in_thread(threads.submit, "nobody", "x")
        with pytest.raises(trio_jobs.InvalidPayload):
            await in_thread(threads.submit, "work", 7)
        with pytest.raises(trio_jobs.JobNotFound):
            await in_thread(threads.get, "nothing")
        with pytest.raises(trio_jobs.JobNotFound):
            await in_thread(threads.cancel, "nothing")


def arrival(part: object, name: str, monkeypatch: pytest.MonkeyPatch) -> trio.Event:
    """Set when a thread's call has come to the loop."""
    came, method = trio.Event(), getattr(part, name)

    async def noted(*args: Any, **options: Any) -> Any:
        came.set()
        return await method(*args, **options)

    monkeypatch.setattr(part, name, noted)
    return came


async def release_once_closing(runtime: Runtime, hold: Blocker) -> None:
    """Let the held call return when the queue accepts nothing any more: its end frees a slot."""
    while not runtime.status.closing:
        await trio.lowlevel.checkpoint()
    hold.release()


async def test_a_thread_that_waits_for_a_slot_or_a_result_gets_queue_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sdk, hold = RecordingThreadSdk(), Blocker()
    sdk.does("held", hold)
    told = []

    async def expect_closed(fn: Callable[..., Any], *args: Any) -> None:
        with pytest.raises(QueueClosed):
            await in_thread(fn, *args)
        told.append(fn.__name__)

    async with (
        trio.open_nursery() as nursery,
        work_service(sdk, buffer=1, drain_timeout=0, cancel_timeout=20).open() as queue,
    ):
        await queue.submit("work", "held")
        await hold.reached()
        waiting = await queue.submit("work", "in line")
        runtime = runtime_of(queue)
        came = [arrival(runtime.admission, "submit", monkeypatch), arrival(runtime.queries, "result", monkeypatch)]
        nursery.start_soon(expect_closed, queue.from_thread.submit, "work", "no place")
        nursery.start_soon(expect_closed, queue.from_thread.result, waiting.job_id)
        for event in came:
            await event.wait()
        await wait_all_tasks_blocked()
        nursery.start_soon(release_once_closing, runtime, hold)
    assert sorted(told) == ["result", "submit"]


def test_after_the_event_loop_has_ended_the_queue_is_closed() -> None:
    async def main() -> Queue:
        async with work_service(RecordingThreadSdk()).open() as queue:
            return queue

    queue = trio.run(main)
    with pytest.raises(QueueClosed, match="event loop"):
        queue.from_thread.get("any")


async def test_a_call_from_trio_s_own_thread_is_refused() -> None:
    async with work_service(RecordingThreadSdk()).open() as queue:
        for call in (lambda: queue.from_thread.submit("work", "a"), queue.from_thread.job_ids):
            with pytest.raises(UsageError, match="which it would block; use the method of the queue itself"):
                call()
        assert queue.job_ids() == []


async def test_a_trio_worker_thread_can_use_the_queue() -> None:
    async with work_service(RecordingThreadSdk()).open() as queue:
        receipt = await trio.to_thread.run_sync(queue.from_thread.submit, "work", "a")
        assert await queue.result(receipt.job_id) == "a"
