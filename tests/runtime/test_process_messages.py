"""The order in which the messages of the process of an SDK arrive, and a process that does not end.

The test plays the process, so each order that can be is certain.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from support.scripted_process import CALL, ScriptedProcess, scripted_process
from trio_jobs import ErrorInfo, SdkCallError, SdkCallStuck, UsageError
from trio_jobs._engine.openings import Opening
from trio_jobs._executors import process_child
from trio_jobs._executors import process_messages as pm
from trio_jobs._executors.process import ProcessExecutor
from trio_jobs._executors.process_child import END_WAIT, STACK_WAIT, SdkProcess
from trio_jobs._executors.process_pipes import Pipe, read_some
from trio_jobs._interruption import Interruption

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the process executor does not work on Windows yet")


def report(number: int) -> pm.CallReported:
    return pm.CallReported(number)


def interrupted(number: int, *, was_inside: bool = True) -> pm.InterruptDone:
    return pm.InterruptDone(number, was_inside, None)


async def interrupt(scripted: ScriptedProcess, nursery: trio.Nursery, number: int) -> list[Interruption]:
    """Interrupt a call. Returns a list that has what came of it, as soon as that is reported."""
    done: list[Interruption] = []

    async def interrupt() -> None:
        done.append(await scripted.executor.interrupt(number, print))

    nursery.start_soon(interrupt)
    await wait_all_tasks_blocked()
    return done


async def check_next_calls(scripted: ScriptedProcess, first: int) -> None:
    """The calls from this number on are answered, each by its own answer."""
    for number in range(first, first + 3):
        await scripted.call()
        await scripted.send(report(number))
        assert len(scripted.reports) == number
        assert not scripted.executor.inside


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "little") + body


@given(st.lists(st.recursive(st.binary(), lambda bodies: bodies.map(frame))), st.lists(st.integers(1, 20)))
@example([frame(b"a frame in a frame")], [4])
def test_frames_are_the_same_in_whatever_pieces_they_are_read(bodies: list[bytes], sizes: list[int]) -> None:
    data = b"".join(map(frame, bodies))
    frames = pm.FrameReader()
    read: list[bytes] = []
    for size in sizes:
        read += frames.feed(data[:size])
        data = data[size:]
    assert read + frames.feed(data) == bodies


async def test_an_interruption_that_is_reported_during_the_next_call_disturbs_neither(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One task at a time reads from the process: that of the interruption, until it is reported."""
    async with trio.open_nursery() as nursery:
        with scripted_process(monkeypatch, nursery) as scripted:
            await scripted.open()
            await scripted.call()
            done = await interrupt(scripted, nursery, 1)
            await scripted.send(report(1))
            assert len(scripted.reports) == 1
            await scripted.call()
            await scripted.send(interrupted(1))
            assert done == [Interruption(True)]
            await scripted.send(report(2))
            assert len(scripted.reports) == 2
            await check_next_calls(scripted, 3)


async def test_an_interruption_that_is_reported_between_two_calls_is_read(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trio.open_nursery() as nursery:
        with scripted_process(monkeypatch, nursery) as scripted:
            await scripted.open()
            await scripted.call()
            done = await interrupt(scripted, nursery, 1)
            await scripted.send(report(1))
            await scripted.send(interrupted(1))
            assert done == [Interruption(True)]
            await check_next_calls(scripted, 2)


class BeforeStep(trio.abc.Instrument):
    """Calls a function once, before the next step of a call."""

    def __init__(self, fn: Callable[[], object]) -> None:
        self._fn: Callable[[], object] | None = fn

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        fn = self._fn
        if fn is not None and task.name == CALL:
            self._fn = None
            fn()

    @property
    def has_called(self) -> bool:
        return self._fn is None


async def test_an_interruption_sent_after_the_answer_has_come_is_read_when_it_is_reported(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its call is about to be resumed, and reads the answer. So it reads nothing that comes later."""
    async with trio.open_nursery() as nursery:
        with scripted_process(monkeypatch, nursery) as scripted:
            await scripted.open()
            await scripted.call()
            before = BeforeStep(partial(scripted.process.interrupt, 1))
            trio.lowlevel.add_instrument(before)
            await scripted.send(report(1))
            trio.lowlevel.remove_instrument(before)
            assert before.has_called
            assert len(scripted.reports) == 1
            await scripted.send(interrupted(1, was_inside=False))
            assert scripted.process.interrupt_done.is_set()
            await check_next_calls(scripted, 2)


@pytest.mark.parametrize("order", [("report", "interruption"), ("interruption", "report")], ids=" ".join)
async def test_an_answer_and_an_interruption_that_arrive_in_one_piece_are_both_read(
    order: tuple[str, ...], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = {"report": report(1), "interruption": interrupted(1)}
    async with trio.open_nursery() as nursery:
        with scripted_process(monkeypatch, nursery) as scripted:
            await scripted.open()
            await scripted.call()
            done = await interrupt(scripted, nursery, 1)
            await scripted.send(*(messages[name] for name in order))
            assert done == [Interruption(True)]
            assert len(scripted.reports) == 1
            await check_next_calls(scripted, 2)


@pytest.mark.parametrize(
    ("last_words", "error", "said"),
    [
        (pm.Ready("no such module"), UsageError, "the process of the SDK cannot start: no such module"),
        (pm.SessionOpened(pm.WasRaised(ErrorInfo("Busy", "no licence left"), ["sdk:Busy"])), SdkCallError, "Busy"),
        (pm.SessionOpened(None), SdkCallError, "SdkProcessDied"),
    ],
    ids=["not ready", "not opened", "opened"],
)
async def test_what_a_process_says_before_it_ends_is_heard(
    last_words: Any, error: type[Exception], said: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end and its message are noticed in one step of the event loop, the end first."""
    has_raised = trio.Event()

    async def open_session(executor: ProcessExecutor) -> None:
        with pytest.raises(error, match=said):
            await executor.open(Opening("start", 1, False))
        has_raised.set()

    is_slow = False

    async def read(pipe: Pipe) -> bytes:
        await trio.lowlevel.wait_readable(pipe.own)
        if is_slow:
            await trio.sleep_forever()
        return await read_some(pipe)

    monkeypatch.setattr(process_child, "read_some", read)
    async with trio.open_nursery() as nursery:
        with scripted_process(monkeypatch, nursery) as scripted:
            nursery.start_soon(open_session, scripted.executor)
            await wait_all_tasks_blocked()
            if not isinstance(last_words, pm.Ready):
                await scripted.send(pm.Ready(None))
            is_slow = True
            scripted.write(last_words)
            scripted.kill()
            await has_raised.wait()


async def test_a_process_that_does_not_end_is_looked_at_again_after_some_seconds_only(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Openings may follow each other without a wait of their own, and the event loop would stand still."""
    async with trio.open_nursery() as nursery:
        with scripted_process(monkeypatch, nursery) as scripted:
            await scripted.open()
            with monkeypatch.context() as patch:
                patch.setattr(SdkProcess, "_kill_group", lambda process: None)
                await scripted.call()
                scripted.executor.kill()
                await trio.sleep(STACK_WAIT + END_WAIT)
                await wait_all_tasks_blocked()
                assert len(scripted.reports) == 1
                assert scripted.executor.inside
                for _ in range(2):
                    began = trio.current_time()
                    with pytest.raises(SdkCallStuck):
                        await scripted.executor.open(Opening("killed", 2, True))
                    assert trio.current_time() - began == pytest.approx(STACK_WAIT + END_WAIT)
