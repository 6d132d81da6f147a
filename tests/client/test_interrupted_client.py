"""Ctrl-C while a server and a client are closed: however often it comes, the program ends."""

from __future__ import annotations

import pytest
import trio

import trio_jobs
from support.turns import InterruptTurns
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
            with trio.fail_after(3):
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
