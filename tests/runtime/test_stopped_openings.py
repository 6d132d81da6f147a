"""P3: a stop while the SDK is being opened finishes the opening and closes the session, or says that it could not."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from support.rig import IN_PROCESS, HostKind, make_rig
from trio_jobs import Retry, SdkCallStuck
from trio_jobs.testing import Blocker, Slow


@pytest.mark.parametrize("kind", ["trio", *IN_PROCESS], indirect=True)
async def test_p3_a_cancelled_open_waits_for_the_opening_and_closes_the_session(
    kind: HostKind,
    autojump_clock: MockClock,
) -> None:
    rig = make_rig(kind)
    rig.sdk.script("open", Slow(8, "open"))
    with trio.move_on_after(1) as scope:
        async with rig.open_jumping():
            raise AssertionError("the block must not begin")
    assert scope.cancelled_caught
    assert trio.current_time() == 8
    assert [step.operation for step in rig.sdk.steps] == ["open", "close"]
    rig.sdk.check()


async def test_p3_a_cancelled_open_does_not_wait_for_the_next_try(kind: HostKind, autojump_clock: MockClock) -> None:
    rig = make_rig(kind, settings={"open_retry": Retry(5, waits=[50]), "open_timeout": 1000})
    rig.sdk.script("open", OSError("not yet"))
    with trio.move_on_after(1) as scope:
        async with rig.open_jumping():
            raise AssertionError("the block must not begin")
    assert scope.cancelled_caught
    assert trio.current_time() == 1
    assert rig.sdk.count("open") == 1


@pytest.mark.parametrize("kind", ["thread", *IN_PROCESS], indirect=True)
async def test_p3_a_cancelled_open_waits_for_another_thread(kind: HostKind, clock: MockClock) -> None:
    rig = make_rig(kind)
    hold = Blocker("open")
    rig.sdk.script("open", hold)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _cancel() -> None:
                await hold.reached()
                scope.cancel()
                trio.lowlevel.current_trio_token().run_sync_soon(hold.release)

            async with rig.open():
                raise AssertionError("the block must not begin")
    assert scope.cancelled_caught
    assert [step.operation for step in rig.sdk.steps] == ["open", "close"]
    rig.sdk.check()


async def test_p3_an_opening_that_does_not_return_within_close_timeout_raises_sdk_call_stuck(
    autojump_clock: MockClock,
) -> None:
    rig = make_rig("trio", settings={"close_timeout": 7})

    async def never() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)

    rig.sdk.script("open", never)
    raised: list[SdkCallStuck] = []
    with trio.move_on_after(1):
        try:
            async with rig.open():
                raise AssertionError("the block must not begin")
        except SdkCallStuck as error:
            raised.append(error)
    assert [str(error) for error in raised] == ["a stop: the opening of the SDK did not return within 7 s"]
    assert trio.current_time() == 100, "Trio cannot leave a task that shields itself"
