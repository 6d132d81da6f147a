"""Faults that `QueueMachine` found in the queue, each as the shortest test that shows it."""

from __future__ import annotations

from trio.testing import MockClock

from trio_jobs import Done, NotDone, Service, State
from trio_jobs.testing import Blocker, CrashableStore, FakeSdk, FakeSession, open_queue


async def test_p9_a_job_in_doubt_releases_its_slot_when_a_person_resolves_it(autojump_clock: MockClock) -> None:
    """The queue is paused, so the job waits in the channel to be verified."""
    sdk, storage = FakeSdk(), CrashableStore()
    service = Service(async_sdk=sdk.async_session, buffer=2)

    async def verify(session: FakeSession, job: object) -> Done | NotDone:
        return NotDone()

    @service.handler(kind="post", verify=verify)
    async def post(session: FakeSession, n: int) -> None:
        await session.acall("post")

    blocker = Blocker()
    sdk.script("call", blocker)
    async with open_queue(service, store=storage.store(), cancel_timeout=0.0, drain_timeout=0.0) as queue:
        receipt = await queue.submit("post", 1)
        await blocker.reached_in_trio()
        await queue.pause()
    async with open_queue(service, store=storage.store()) as queue:
        assert queue.get(receipt.job_id).state is State.IN_DOUBT
        assert queue.statistics().free == 1, "the job waits to be verified"
        await queue.resolve(receipt.job_id, "done")
        assert queue.statistics().free == 2
        assert queue.get(receipt.job_id).state is State.COMPLETED
