"""P8 over the wire and over restarts: clients are cut anywhere, the server is stopped and killed, the stream is one."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs
import pytest
import serving_child
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import trio_jobs
from support.processes import Process
from support.proxy import Proxy
from support.waiting import deadline
from trio_jobs import State
from trio_jobs._client import reconnect
from trio_jobs._engine import events as ev
from trio_jobs._engine.transitions import STATE_AFTER

SECRET = "owner-" + "0" * 20
FILTERS: list[dict[str, Any]] = [{}, {"kinds": ["double"]}, {"states": [State.COMPLETED, State.FAILED]}]


@attrs.frozen
class Life:
    """Of the server: it ends when the followers have seen so many more events; by SIGKILL, or told to stop."""

    events: int
    killed: bool


class Child:
    """The server's process; it always ends with the block."""

    def __init__(self, journal: Path, life: str) -> None:
        command = [sys.executable, serving_child.__file__, str(journal), SECRET, life]
        self._process = Process(command, stdin=None, forked=True)

    async def says(self) -> int:
        return int(await trio.to_thread.run_sync(self._process.out.line))

    async def end(self, killed: bool) -> None:
        if killed:
            self._process.kill()
        else:
            self._process.write("stop\n")
        with trio.CancelScope(shield=True):
            done = await trio.to_thread.run_sync(self._process.finish)
        assert killed or done.returncode == 0, done.stderr


class Follower:
    """A client behind a proxy that cuts it after each of `cuts` bytes."""

    def __init__(self, filters: dict[str, Any], cuts: list[int]) -> None:
        self.proxy = Proxy()
        self.got: list[tuple[int, str]] = []
        self._filters = filters
        self._cuts = iter(cuts)
        self._news = trio.Event()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.proxy.run)
            async with (
                trio_jobs.connect(self.proxy.url, token=SECRET) as client,
                client.subscribe(after=0, **self._filters) as subscription,
            ):
                while True:
                    if self.proxy.budget == float("inf"):
                        self.proxy.budget = next(self._cuts, float("inf"))
                    update = await anext(subscription)
                    assert isinstance(update, ev.Event), update
                    self.got.append((update.seq, update.type))
                    self._news.set()

    async def has(self, count: int) -> None:
        while len(self.got) < count:
            await self._more()

    async def has_passed(self, seq: int) -> None:
        while not self.got or self.got[-1][0] < seq:
            await self._more()

    async def _more(self) -> None:
        self._news = trio.Event()
        await self._news.wait()


async def follow_through(journal: Path, lives: list[Life], cuts: list[int]) -> None:
    followers = [Follower(filters, cuts[i :: len(FILTERS)]) for i, filters in enumerate(FILTERS)]
    async with trio.open_nursery() as nursery:
        for number, life in enumerate([*lives, None]):
            child = Child(journal, "end" if life is None else str(number))
            try:
                port = await child.says()
                for follower in followers:
                    follower.proxy.target = port
                    if number == 0:
                        nursery.start_soon(follower.run)
                with deadline("the followers see the events of this life"):
                    if life is None:
                        last = await child.says()
                        for follower in followers:
                            await follower.has_passed(last)
                    else:
                        for follower in followers:
                            await follower.has(len(follower.got) + life.events)
            finally:
                await child.end(killed=life is not None and life.killed)
        nursery.cancel_scope.cancel()
    expected = await journalled(journal, last)
    assert [follower.got for follower in followers] == expected


async def journalled(journal: Path, last: int) -> list[list[tuple[int, str]]]:
    """What each of FILTERS should have let through, as the journal tells it now that the server is gone."""
    expected: list[list[tuple[int, str]]] = [[] for _ in FILTERS]
    async with serving_child.service.open(journal=journal) as queue:
        stream = queue.events(after=0)
        while stream.seq < last:
            event = await anext(stream)
            told = (event.seq, str(event.__struct_config__.tag))
            expected[0].append(told)
            if isinstance(event, ev.JobEvent):
                if queue.get(event.job).kind == "double":
                    expected[1].append(told)
                if STATE_AFTER.get(type(event)) in FILTERS[2]["states"]:
                    expected[2].append(told)
    return expected


lives = st.lists(st.builds(Life, st.integers(1, 300), st.booleans()), min_size=1, max_size=3)
cuts = st.lists(st.integers(50, 100_000), max_size=20)


def run(lives: list[Life], cuts: list[int]) -> None:
    first_wait, reconnect.FIRST_WAIT = reconnect.FIRST_WAIT, 0.001
    try:
        with tempfile.TemporaryDirectory() as folder:
            trio.run(follow_through, Path(folder) / "jobs.db", lives, cuts)
    finally:
        reconnect.FIRST_WAIT = first_wait


@settings(max_examples=3)
@given(lives, cuts)
def test_p8_streams_joined_over_cuts_and_kills_of_the_server_equal_the_journal(
    lives: list[Life], cuts: list[int]
) -> None:
    run(lives, cuts)


def test_p8_thousands_of_events_over_a_kill_a_stop_and_cuts_are_one_stream() -> None:
    run([Life(1000, True), Life(500, False)], [2_000 * n for n in range(1, 60)])


@pytest.mark.campaign
@settings(max_examples=60)
@given(lives, cuts)
def test_p8_streams_over_many_lives_of_the_server_equal_the_journal(lives: list[Life], cuts: list[int]) -> None:
    run(lives, cuts)
