"""Ctrl-C between any two lines of the entry and the exit of a context manager of ours."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator

import pytest
import trio

from support.lines import InterruptLines
from trio_jobs._concurrency import ProtectedNursery, protected_manager

LINES = (contextlib.__file__, __file__)


def test_ctrl_c_interrupts_the_entry_and_the_exit_at_checkpoints_alone() -> None:
    steps: list[str] = []

    @protected_manager
    async def manager(value: int) -> AsyncIterator[int]:
        steps.append("begin")
        await trio.lowlevel.cancel_shielded_checkpoint()
        steps.append("entered")
        try:
            yield value
        finally:
            await trio.lowlevel.cancel_shielded_checkpoint()
            steps.append("exited")

    async def main() -> None:
        made = manager(1)
        async with made as value:
            assert value == 1

    complete = InterruptLines(LINES)
    assert complete.run(main) is None
    for at in range(1, complete.count + 1):
        steps.clear()
        lines = InterruptLines(LINES, {at})
        lines.run(main)
        assert lines.pressed
        assert steps in ([], ["begin", "entered", "exited"]), lines.pressed


def test_the_error_of_the_block_passes_through_and_can_be_suppressed() -> None:
    @protected_manager
    async def manager() -> AsyncIterator[None]:
        with contextlib.suppress(LookupError):
            yield

    async def main() -> None:
        async with manager():
            raise KeyError
        async with manager():
            raise ValueError

    assert isinstance(InterruptLines(()).run(main), ValueError)


def test_ctrl_c_interrupts_no_task_that_a_library_starts() -> None:
    steps: list[str] = []

    async def task(name: str) -> None:
        steps.append(name)
        signal.raise_signal(signal.SIGINT)
        steps.append("the next line")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            ProtectedNursery(nursery).start_soon(task, "begun")
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as raised:
        trio.run(main)
    assert raised.value.split(KeyboardInterrupt)[1] is None
    assert steps == ["begun", "the next line"]
