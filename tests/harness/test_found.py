"""What the machine has found in our own queue; each stays here as the shortest story that shows it."""

from __future__ import annotations

from trio.testing import MockClock

from trio_jobs import Done, NotDone, Service, State
from trio_jobs.testing import Blocker, CrashableStore, FakeSdk, FakeSession, open_queue


async def test_p9_a_doubt_that_a_person_settles_gives_its_place_in_the_line_back(autojump_clock: MockClock) -> None:
    """It stood there to be verified, as the queue was paused; settled by hand, it stood there for nothing."""
    sdk, disk = FakeSdk(), CrashableStore()
    service = Service(async_sdk=sdk.async_session, buffer=2)

    async def verify(session: FakeSession, job: object) -> Done | NotDone:
        return NotDone()

    @service.handler(kind="post", verify=verify)
    async def post(session: FakeSession, n: int) -> None:
        await session.acall("post")

    hold = Blocker()
    sdk.script("call", hold)
    async with open_queue(service, store=disk.store(), cancel_timeout=0.0, drain_timeout=0.0) as queue:
        receipt = await queue.submit("post", 1)
        await hold.reached_in_trio()
        await queue.pause()
    async with open_queue(service, store=disk.store()) as queue:
        assert queue.get(receipt.job_id).state is State.IN_DOUBT
        assert queue.statistics().free == 1, "it waits to be verified"
        await queue.resolve(receipt.job_id, "done")
        assert queue.statistics().free == 2
        assert queue.get(receipt.job_id).state is State.COMPLETED
