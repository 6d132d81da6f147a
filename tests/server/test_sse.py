"""Server-sent events: the same events as over the WebSocket, with ids from which a client resumes without a gap."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from support.http_client import Http, Response, http_site, parse_head
from support.server import OWNER, WATCHER, Bench, Raw, make_service, patient
from support.waiting import DEADLINE, deadline
from trio_jobs import JobContext
from trio_jobs._runtime import feed
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._server.http_connection import UntilGone
from trio_jobs._server.named_tokens import NamedToken, write_tokens
from trio_jobs._server.server import serve
from trio_jobs._server.sse import SseStream
from trio_jobs._server.stream import GuardedStream
from trio_jobs._server.tokens import Token
from trio_jobs._wire.sse import read_id


@attrs.define
class Block:
    """A block of a stream, as a browser reads it."""

    id: str | None = None
    event: str = ""
    data: Any = None
    retry: int | None = None

    @property
    def seq(self) -> int:
        assert self.id is not None
        return int(self.id.rpartition("/")[2])


@attrs.define
class Events:
    """The client of a stream. It keeps the last id, as a browser does."""

    raw: Raw
    status: int
    headers: dict[str, str]
    buffer: bytes
    last_id: str = ""

    async def block(self) -> Block:
        """The next block. Raises EOFError."""
        while b"\n\n" not in self.buffer:
            self.buffer += await self.raw.read_some()
        text, _, self.buffer = self.buffer.partition(b"\n\n")
        block = Block()
        for line in text.decode().split("\n"):
            name, _, value = line.partition(": ")
            if name == "data":
                block.data = json.loads(value)
            elif name == "retry":
                block.retry = int(value)
            elif name == "id":
                block.id = self.last_id = value
            elif name == "event":
                block.event = value
        return block

    async def event(self, name: str = "jobs.event") -> Block:
        """The next block with this event; others are skipped."""
        while (block := await self.block()).event != name:
            assert block.event != "jobs.lagged"
        return block

    async def rest(self) -> list[Block]:
        """All blocks to the end of the stream."""
        blocks = []
        try:
            while True:
                blocks.append(await self.block())
        except EOFError:
            return blocks


async def connect(b: Bench, query: str = "", token: Any = OWNER, **headers: Any) -> Events:
    http = Http(await b.socket(), token)
    await http.raw.send(http.encode("GET", f"/v1/events{query}", **headers))
    data = b""
    while b"\r\n\r\n" not in data:
        data += await http.raw.read_some()
    head, _, rest = data.partition(b"\r\n\r\n")
    return Events(http.raw, *parse_head(head), rest)


@asynccontextmanager
async def site(**arguments: Any) -> AsyncIterator[Bench]:
    async with http_site(**arguments) as (b, _):
        yield b


async def run(b: Bench, count: int) -> list[str]:
    """Submit jobs, and return their ids when they are final."""
    jobs = [(await b.queue.submit("double", n)).job_id for n in range(count)]
    for job in jobs:
        await b.queue.result(job)
    return jobs


async def test_a_stream_has_the_headers_of_an_event_stream() -> None:
    async with site() as b:
        events = await connect(b)
        assert (events.status, events.headers["content-type"]) == (200, "text/event-stream")
        assert events.headers["cache-control"] == "no-store, no-transform"
        assert events.headers["x-accel-buffering"] == "no"
        first = await events.block()
        assert first.retry is not None
        assert 1000 <= first.retry <= 2000
        second = await events.block()
        assert (second.id, second.event) == (
            f"{runtime_of(b.queue).event_log.store.epoch}/{runtime_of(b.queue).feed.seq}",
            "",
        )


async def test_events_are_those_of_the_websocket_with_their_ids() -> None:
    async with site() as b:
        events = await connect(b)
        client = await b.raw()
        await client.ask("jobs.subscribe", subscription="s")
        [job] = await run(b, 1)
        seen: list[Any] = []
        while not seen or seen[-1]["type"] != "completed":
            block = await events.event()
            assert block.seq == block.data["seq"]
            seen.append(block.data)
        told: list[Any] = []
        while len(told) < len(seen):
            message = await client.next_notification()
            if message["method"] == "jobs.event":
                told.append({name: value for name, value in message["params"].items() if name != "subscription"})
        assert seen == told
        assert {event["job"] for event in seen} == {job}
        client.reset()


@pytest.mark.parametrize("by_header", [True, False], ids=["header", "query"])
async def test_a_client_that_connects_again_at_any_event_sees_each_event_once(by_header: bool) -> None:
    async with site(limits=patient(messages=10_000)) as b:
        await run(b, 4)
        last = runtime_of(b.queue).feed.seq
        epoch = runtime_of(b.queue).event_log.store.epoch
        for cut in range(last):
            events = await connect(b, f"?after={epoch}/0")
            seen = [(await events.event()).seq for _ in range(cut)]
            await events.raw.stream.aclose()
            after = events.last_id if cut else f"{epoch}/0"
            again = (
                await connect(b, "?after=x/1", Last_Event_ID=after)
                if by_header
                else await connect(b, f"?after={after}")
            )
            seen += [(await again.event()).seq for _ in range(last - cut)]
            assert seen == [*range(1, last + 1)]
            await again.raw.stream.aclose()


async def test_a_filter_that_lets_little_pass_moves_the_id_forward(network_clock: MockClock) -> None:
    async with site() as b:
        events = await connect(b, "?kinds=wait&states=failed")
        assert (await events.block()).retry
        assert (await events.block()).seq == runtime_of(b.queue).feed.seq
        await run(b, 3)
        begun = trio.current_time()
        block = await events.block()
        assert (block.event, block.data, block.seq) == ("", None, runtime_of(b.queue).feed.seq)
        assert trio.current_time() - begun == pytest.approx(15, abs=1)


async def test_the_snapshot_has_an_id_on_its_last_page_only() -> None:
    async with site(limits=patient(messages=10_000)) as b:
        await b.queue.pause()
        jobs = [(await b.queue.submit("double", 1, delay=1000)).job_id for _ in range(450)]
        at = runtime_of(b.queue).feed.seq
        events = await connect(b, "?snapshot=true")
        pages = [await events.event("jobs.snapshot")]
        assert events.last_id == ""
        while not pages[-1].data["last"]:
            pages.append(await events.event("jobs.snapshot"))
        assert [page.id is None for page in pages] == [True] * (len(pages) - 1) + [False]
        assert pages[-1].seq == at
        assert [job["id"] for page in pages for job in page.data["jobs"]] == jobs
        assert all("subscription" not in page.data for page in pages)
        await b.queue.cancel(jobs[0])
        assert (await events.event()).seq == at + 1


@pytest.mark.parametrize("id_", ["other/5", "{epoch}/999999"])
async def test_a_client_that_cannot_resume_gets_a_gap_and_a_snapshot(id_: str) -> None:
    async with site() as b:
        [job] = await run(b, 1)
        epoch = runtime_of(b.queue).event_log.store.epoch
        events = await connect(b, Last_Event_ID=id_.format(epoch=epoch))
        last = runtime_of(b.queue).feed.seq
        assert (await events.block()).retry
        gap = await events.block()
        assert (gap.event, gap.id, gap.data["to"]) == ("jobs.lagged", None, last)
        assert gap.data["from"] <= last
        page = await events.block()
        assert (page.event, page.data["jobs"][0]["id"], page.seq) == ("jobs.snapshot", job, last)


async def test_a_filter_of_a_stream_is_that_of_a_subscription() -> None:
    async with site() as b:
        jobs = await run(b, 2)
        epoch = runtime_of(b.queue).event_log.store.epoch
        events = await connect(b, f"?after={epoch}/0&jobs={jobs[1][-8:]}&states=completed")
        assert (await events.event()).data["job"] == jobs[1]
        many = await connect(b, f"?after={epoch}/0&jobs={jobs[0]}&jobs={jobs[1]}&states=completed")
        assert [(await many.event()).data["job"] for _ in range(2)] == jobs


async def test_a_watcher_is_not_sent_who_did_what() -> None:
    async with site() as b:
        watched, owned = await connect(b, token=WATCHER), await connect(b)
        await b.queue.submit("double", 1, by="ann", labels={"shop": "7"})
        assert (await owned.event()).data["labels"] == {"shop": "7"}
        seen = (await watched.event()).data
        assert "by" not in seen
        assert "labels" not in seen


async def test_progress_has_no_id(network_clock: MockClock) -> None:
    service = make_service()

    @service.handler
    async def measure(payload: int, job: JobContext) -> None:
        job.progress(1, 2, "half")
        await trio.sleep(1)

    async with site(service=service) as b:
        events = await connect(b)
        await b.queue.submit("measure", 1)
        block = await events.event("jobs.progress")
        assert (block.id, block.data["done"], block.data["message"]) == (None, 1, "half")


BAD = {
    "after without an epoch": "?after=5",
    "a malformed id": "?after=e/x",
    "an epoch of its own": "?epoch=e&after=e/5",
    "a subscription": "?subscription=s",
    "an unknown parameter": "?x=1",
    "an unknown state": "?states=lost",
    "an id with a line end": "?after=e/5%0A",
}


@pytest.mark.parametrize("name", BAD)
async def test_a_request_that_can_never_succeed_is_answered_with_a_problem(name: str) -> None:
    async with http_site() as (b, http):
        answer: Response = await http("GET", f"/v1/events{BAD[name]}")
        assert (answer.status, answer.problem) == (400, "invalid-params")
        assert (await Http(await b.socket(), None)("GET", "/v1/events")).status == 401
        assert b.server.subscriptions == 0


async def test_a_refusal_that_passes_is_a_stream_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_jobs._server.accounts.MAX_IN_FLIGHT", 1)
    async with site() as b:
        first = await connect(b)
        assert (await first.block()).retry
        refused = await connect(b)
        assert refused.status == 200
        assert [block.retry for block in await refused.rest()] == [15_000]
        assert b.server.subscriptions == 1
        await first.raw.stream.aclose()


async def test_a_client_that_disconnects_frees_its_place_at_once() -> None:
    async with site() as b:
        readers = runtime_of(b.queue).feed.readers
        for query in ("", "?kinds=double", "?jobs=01234567"):
            events = await connect(b, query)
            await events.block()
            await wait_all_tasks_blocked(0.02)
            assert b.server.subscriptions == 1
            await events.raw.stream.aclose()
            for _ in range(100):
                if b.server.subscriptions:
                    await wait_all_tasks_blocked(0.01)
            assert b.server.subscriptions == 0
            assert runtime_of(b.queue).feed.readers == readers


@pytest.fixture
def patient_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stops on a busy machine sends all that is available."""
    monkeypatch.setattr("trio_jobs._server.server.LAST_ANSWERS_TIMEOUT", DEADLINE)


def notify_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the feed notify its readers of the next events, and then of none: nothing later is sent before the stop."""
    monkeypatch.setattr(feed, "SHARE", 1e-9)
    monkeypatch.setattr(feed, "LONGEST", 3600.0)


@pytest.mark.usefixtures("patient_stop")
async def test_a_stop_sends_each_stream_what_is_available_and_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also to streams that share one cursor, and behind a page of events that a filter does not match."""
    async with make_service().open() as queue:
        async with serve(queue, port=0, tokens=[OWNER], limits=patient()) as server:
            b = Bench(queue, server)
            waiting = (await queue.submit("wait", 0, delay=3600)).job_id
            queries = ["", "", "", f"?jobs={waiting}", "?kinds=wait"]
            streams = [await connect(b, query) for query in queries]
            for events in streams:
                await events.block()
                await events.block()
            await wait_all_tasks_blocked(0.01)
            notify_once(monkeypatch)
            jobs = await run(b, 100)
            await queue.cancel(waiting)
        for query, events in zip(queries, streams, strict=True):
            blocks = [block.data for block in await events.rest() if block.event == "jobs.event"]
            await events.raw.stream.aclose()
            ended = [event["job"] for event in blocks if event["type"] in ("completed", "cancelled")]
            assert ended == ([waiting] if query else [*jobs, waiting]), query


@pytest.mark.usefixtures("patient_stop")
async def test_a_stop_while_events_are_being_sent_leaves_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop cancels the task that sends, in the step in which it has read the events and not sent them yet."""
    stopping = trio.Event()
    run_stream = SseStream.run

    async def run_until_cancelled(self: SseStream, until_gone: Any, headers: Any, stream: GuardedStream) -> None:
        async def until_stopping(wait: Callable[[], Awaitable[object]]) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await stopping.wait()
                self.on_news(cast("Any", None), False)
                nursery.cancel_scope.cancel()

        await run_stream(self, cast("UntilGone", until_stopping), headers, stream)

    monkeypatch.setattr(SseStream, "run", run_until_cancelled)
    async with site() as b:
        events = await connect(b)
        first = (await events.block(), await events.block())[1].seq
        await wait_all_tasks_blocked(0.01)
        notify_once(monkeypatch)
        await run(b, 100)
        last = runtime_of(b.queue).feed.seq
        stopping.set()
        seen = [block.seq for block in await events.rest() if block.event == "jobs.event"]
        assert seen == [*range(first + 1, last + 1)]


@pytest.mark.usefixtures("patient_stop")
async def test_a_stream_resumes_over_a_restart(tmp_path: Path) -> None:
    seen: list[int] = []
    last_id = ""
    for life in range(3):
        async with make_service().open(journal=tmp_path / "jobs.db") as queue:
            async with serve(queue, port=0, tokens=[OWNER], limits=patient()) as server:
                b = Bench(queue, server)
                events = await connect(b, **({"Last_Event_ID": last_id} if life else {}))
                await run(b, 5)
            seen += [block.seq for block in await events.rest() if block.event == "jobs.event"]
            last_id = events.last_id
            await events.raw.stream.aclose()
    assert seen == [*range(seen[0], seen[-1] + 1)]
    assert len(seen) >= 45


async def test_idle_streams_with_the_same_filter_share_one_cursor_and_its_bytes() -> None:
    async with site(limits=patient(messages=10_000)) as b:
        readers = runtime_of(b.queue).feed.readers
        streams = [await connect(b) for _ in range(20)]
        client = await b.raw()
        await client.ask("jobs.subscribe", subscription="s")
        await wait_all_tasks_blocked(0.05)
        assert runtime_of(b.queue).feed.readers == readers + 2
        [job] = await run(b, 1)
        for stream in streams:
            assert (await stream.event()).data["job"] == job
        client.reset()


async def test_a_client_that_reads_nothing_is_disconnected_and_delays_nobody(network_clock: MockClock) -> None:
    async with site(limits=patient(write_timeout=0.2, messages=10_000)) as b:
        slow, fast = await connect(b), await connect(b)
        await fast.block()
        with deadline("the slow one is disconnected"):
            while b.server.refusals["slow"] == 0:
                await run(b, 50)
                while (await fast.event()).seq < runtime_of(b.queue).feed.seq:
                    pass
                network_clock.jump(0.05)  # what is sent to the fast one, it has read
        slow.raw.reset()


async def test_a_head_request_for_events_ends_at_once() -> None:
    async with http_site() as (_, http):
        answer = await http("HEAD", "/v1/events")
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")


@given(st.text(max_size=30))
def test_any_text_is_an_id_or_is_not(text: str) -> None:
    found = read_id(text)
    assert found is None or text == f"{found[0]}/{text.rpartition('/')[2]}"


async def test_the_stream_of_a_removed_token_ends(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    ada = Token.random("ada", "operate")
    write_tokens(path, [NamedToken(ada.name, ada.scope, hashlib.sha256(ada.secret.encode()).hexdigest())])
    async with site(tokens=[OWNER], token_file=path, metrics=False) as b:
        mine, others = await connect(b, token=ada), await connect(b)
        await mine.block()
        write_tokens(path, [])
        with deadline("the stream of the removed token ends"):  # the blocks that keep a stream alive go on
            rest = await mine.rest()
        assert [block for block in rest if block.event] == []
        assert b.server.subscriptions == 1
        await b.queue.submit("double", 1)
        assert (await others.event()).data["type"] == "submitted"
        assert (await connect(b, token=ada)).status == 401
