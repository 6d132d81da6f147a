"""A log handler that raises within a connection, where libraries log too, does not end the server."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from support.server import bench, handshake
from support.waiting import deadline


class Exiting(logging.Handler):
    """Calls sys.exit for each record."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
        raise SystemExit(3)


@contextmanager
def attached(handler: logging.Handler, name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = True


@pytest.mark.parametrize("name", ["trio-websocket", "trio_jobs.server"])
async def test_a_log_handler_that_exits_within_a_connection_does_not_end_the_server(name: str) -> None:
    handler = Exiting()
    async with bench() as b:
        with attached(handler, name):
            for is_whole in (True, False):
                client = await b.socket()
                async with client.stream:
                    await client.send(handshake() if is_whole else handshake()[:-2])
                    if is_whole:
                        with contextlib.suppress(EOFError, trio.BrokenResourceError):
                            await client.read_head()
            with deadline("the call of the handler"):
                while not handler.count:
                    await trio.lowlevel.checkpoint()
        client = await b.raw()
        job = await client.ask("jobs.submit", kind="double", payload=3)
        assert (await client.ask("jobs.result", job=job["job"], wait=30))["result"] == 6
        await client.say_goodbye()
        await client.stream.aclose()
