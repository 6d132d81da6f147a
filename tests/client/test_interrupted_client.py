"""Ctrl-C while a server and a client are opened, used and closed: however often it comes, the program ends."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio_websocket

import trio_jobs
from support.lines import InterruptLines
from support.turns import InterruptTurns
from support.waiting import deadline
from trio_jobs import Service
from trio_jobs._client.reconnect import ReconnectingSession

service = Service(watchdog=None)


@service.handler
async def work(number: int) -> int:
    return number


async def program(end: list[int], instrument: InterruptTurns) -> None:
    async with (
        service.open() as queue,
        trio_jobs.serve(queue, port=0, tokens=None) as server,
        trio_jobs.connect(server.url) as client,
    ):
        await client.result((await client.submit("work", 1)).job_id)
        end.append(instrument.count)


def test_a_client_that_was_interrupted_while_it_closed_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    close = ReconnectingSession.aclose

    async def interrupted(session: ReconnectingSession) -> None:
        await close(session)
        raise KeyboardInterrupt

    async def main() -> None:
        async with service.open() as queue, trio_jobs.serve(queue, port=0, tokens=None) as server:
            monkeypatch.setattr(ReconnectingSession, "aclose", interrupted)
            with deadline("the end of the client"):
                async with trio_jobs.connect(server.url):
                    pass

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


def test_ctrl_c_twice_while_a_client_and_its_server_are_closed_ends_the_program() -> None:
    """The client waited for its own cancellation, and the server was behind a shield."""
    end: list[int] = []
    instrument = InterruptTurns(())
    trio.run(program, end, instrument, instruments=[instrument])
    first, last = end[0] - 2, instrument.count
    for turn in range(first, last + 1, 2):
        instrument = InterruptTurns((turn, turn + 2))
        try:
            trio.run(program, end, instrument, instruments=[instrument])
        except BaseException as error:
            interrupts = BaseExceptionGroup("", [error]).split(KeyboardInterrupt)
            assert interrupts[1] is None, turn
        assert instrument.count >= min(turn, first)


LINES = (str(Path(trio_jobs.__file__).parent), str(Path(trio_websocket.__file__).parent), contextlib.__file__)
RUNS = 30


class Program:
    """A queue, its server, a client and a subscription of it. The SDK counts its sessions."""

    def __init__(self, *, stops: bool) -> None:
        self.opened = self.closed = 0
        self.lines = InterruptLines(LINES)
        self.stops = stops
        """Ctrl-C ends the block."""
        self.first = 1
        """The first line to press Ctrl-C at."""
        self.service = Service(sdk=self.sdk, watchdog=None, seat_lock=None)
        self.service.handler(kind="work", idempotent=True)(self.work)

    @contextlib.contextmanager
    def sdk(self) -> Iterator[None]:
        self.opened += 1
        yield
        self.closed += 1

    def work(self, sdk: None, number: int) -> int:
        return number

    async def main(self) -> None:
        async with (
            self.service.open() as queue,
            trio_jobs.serve(queue, port=0, tokens=None) as server,
            trio_jobs.connect(server.url) as client,
            client.subscribe(),
        ):
            await client.result((await client.submit("work", 1)).job_id)
            if self.stops:
                self.first = self.lines.count
                signal.raise_signal(signal.SIGINT)

    def run(self, *at: int) -> BaseException | None:
        self.lines = InterruptLines(LINES, at)
        return self.lines.run(self.main)


@pytest.mark.parametrize("stops", [False, True], ids=["at any time", "while a stop is under way"])
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_between_any_two_lines_leaves_nothing_open(
    presses: int, stops: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A task of a server or a client that it ended left its socket open, or swallowed it and went on.

    A socket that is left open is a warning of Python's, and so an error of this test.
    """
    program = Program(stops=stops)
    program.run()
    last = program.lines.count
    for at in range(program.first, last + 1, (last - program.first) // RUNS + 1):
        error = program.run(*range(at, at + 100 * presses, 100))
        where = program.lines.pressed
        assert program.opened == program.closed, where
        if where or stops:
            assert error is not None, where
            assert BaseExceptionGroup("", [error]).split(KeyboardInterrupt)[1] is None, where
        del error
        gc.collect()
        assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [], where
