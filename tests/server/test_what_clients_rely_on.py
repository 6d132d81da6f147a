"""What a client may rely on, in one text: over the WebSocket, over HTTP with server-sent events, and in the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple, Protocol

import pytest
import trio
from test_sse import Events, connect

import trio_jobs
from support.http_client import Http
from support.server import OWNER, Bench, bench, make_service, patient
from support.waiting import deadline
from trio_jobs import KeyConflict, QueueClosed
from trio_jobs._lookup_errors import JobNotFound
from trio_jobs._runtime.queue import runtime_of


class Seen(NamedTuple):
    """An event."""

    seq: int
    job: str
    type: str


class Client(Protocol):
    """A client of any kind. Errors have one name everywhere."""

    async def submit(self, kind: str, payload: Any, key: str | None = None) -> tuple[str, bool]:
        """The job's id, and whether it was created. Raises `Refused`."""
        ...

    async def result(self, job: str) -> Any:
        """The state and the result of a job, when it is final."""
        ...

    async def cancel(self, job: str) -> str: ...

    async def find(self, key: str) -> str | None: ...

    def follow(self, after: int) -> AbstractAsyncContextManager[Callable[[], Any]]:
        """Yield a function that returns the next event behind that number."""
        ...


class Refused(Exception):
    """Args: the name of the error."""


class InProcess:
    def __init__(self, b: Bench) -> None:
        self._queue = b.queue

    async def submit(self, kind: str, payload: Any, key: str | None = None) -> tuple[str, bool]:
        try:
            receipt = await self._queue.submit(kind, payload, key=key)
        except KeyConflict:
            raise Refused("key_conflict") from None
        except QueueClosed:
            raise Refused("shutting_down") from None
        except trio_jobs.InvalidPayload:
            raise Refused("invalid") from None
        return receipt.job_id, receipt.created

    async def result(self, job: str) -> Any:
        try:
            return "completed", await self._queue.result(job)
        except trio_jobs.JobFailed:
            return "failed", None

    async def cancel(self, job: str) -> str:
        return str(await self._queue.cancel(job))

    async def find(self, key: str) -> str | None:
        try:
            return self._queue.find(None, key).id
        except JobNotFound:
            return None

    @asynccontextmanager
    async def follow(self, after: int) -> AsyncIterator[Callable[[], Any]]:
        stream = self._queue.events(after=after)

        async def following() -> Seen:
            event: Any = await anext(stream)
            return Seen(event.seq, getattr(event, "job", ""), type(event).__struct_config__.tag)

        yield following


class OverWebSocket:
    def __init__(self, b: Bench) -> None:
        self._b = b

    async def _ask(self, method: str, **params: Any) -> Any:
        client = await self._b.raw()
        answer = await client.ask(method, **params)
        client.reset()
        if isinstance(answer, dict) and "error" in answer and "code" in answer["error"]:
            names = {-32013: "key_conflict", -32012: "shutting_down", -32602: "invalid", -32004: "job_not_found"}
            raise Refused(names[answer["error"]["code"]])
        return answer

    async def submit(self, kind: str, payload: Any, key: str | None = None) -> tuple[str, bool]:
        answer = await self._ask("jobs.submit", kind=kind, payload=payload, key=key)
        return answer["job"], answer["created"]

    async def result(self, job: str) -> Any:
        answer = await self._ask("jobs.result", job=job, wait=30)
        return answer["state"], answer.get("result")

    async def cancel(self, job: str) -> str:
        return str((await self._ask("jobs.cancel", job=job))["answer"])

    async def find(self, key: str) -> str | None:
        try:
            return str((await self._ask("jobs.find", key=key))["id"])
        except Refused:
            return None

    @asynccontextmanager
    async def follow(self, after: int) -> AsyncIterator[Callable[[], Any]]:
        client = await self._b.raw()
        epoch = runtime_of(self._b.queue).event_log.store.epoch
        await client.ask("jobs.subscribe", subscription="s", after=after, epoch=epoch)

        async def following() -> Seen:
            while (message := await client.next_notification())["method"] != "jobs.event":
                pass
            event = message["params"]
            return Seen(event["seq"], event.get("job", ""), event["type"])

        yield following
        client.reset()


class OverHttp:
    def __init__(self, b: Bench) -> None:
        self._b = b

    async def _ask(self, method: str, path: str, json: Any = ...) -> Any:
        http = Http(await self._b.socket(), OWNER)
        answer = await http(method, path, json)
        http.raw.reset()
        if answer.status >= 400:
            name = answer.problem.replace("-", "_")
            raise Refused("invalid" if name == "invalid_payload" else name)
        return answer

    async def submit(self, kind: str, payload: Any, key: str | None = None) -> tuple[str, bool]:
        answer = await self._ask("POST", f"/v1/kinds/{kind}/jobs" + (f"?key={key}" if key else ""), payload)
        return answer.json["id"], answer.headers["trio-jobs-created"] == "true"

    async def result(self, job: str) -> Any:
        found = (await self._ask("GET", f"/v1/jobs/{job}?wait=30")).json
        return found["state"], found.get("result")

    async def cancel(self, job: str) -> str:
        return str((await self._ask("POST", f"/v1/jobs/{job}/cancel")).json["answer"])

    async def find(self, key: str) -> str | None:
        jobs = (await self._ask("GET", f"/v1/jobs?key={key}")).json["jobs"]
        return jobs[0]["id"] if jobs else None

    @asynccontextmanager
    async def follow(self, after: int) -> AsyncIterator[Callable[[], Any]]:
        epoch = runtime_of(self._b.queue).event_log.store.epoch
        events: Events = await connect(self._b, f"?after={epoch}/{after}")

        async def following() -> Seen:
            event = (await events.event()).data
            return Seen(event["seq"], event.get("job", ""), event["type"])

        yield following
        events.raw.reset()


@pytest.fixture(params=[InProcess, OverWebSocket, OverHttp], ids=["in the process", "WebSocket", "HTTP and SSE"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Client, Bench]]:
    async with bench(make_service(), limits=patient(messages=10_000)) as b:
        made: Client = request.param(b)
        yield made, b
        b.reset_clients()


Pair = tuple[Client, Bench]


async def test_a_job_is_accepted_done_and_found(client: Pair) -> None:
    one, _ = client
    job, created = await one.submit("double", 21, "A-1")
    assert created
    assert await one.result(job) == ("completed", 42)
    assert await one.find("A-1") == job
    assert await one.find("A-2") is None


async def test_the_same_key_and_payload_are_the_same_job(client: Pair) -> None:
    one, b = client
    job, _ = await one.submit("double", 21, "A-1")
    assert await one.submit("double", 21, "A-1") == (job, False)
    with pytest.raises(Refused, match="key_conflict"):
        await one.submit("double", 22, "A-1")
    assert (await b.queue.count()).total == 1


async def test_what_is_refused_leaves_nothing(client: Pair) -> None:
    one, b = client
    with pytest.raises(Refused, match="invalid"):
        await one.submit("double", "x")
    b.queue.close_to_submits()
    with pytest.raises(Refused, match="shutting_down"):
        await one.submit("double", 1)
    assert (await b.queue.count()).total == 0


async def test_a_job_that_failed_says_so(client: Pair) -> None:
    one, _ = client
    job, _ = await one.submit("fail", "no")
    assert await one.result(job) == ("failed", None)


async def test_a_pending_job_is_cancelled_and_a_final_one_is_not(client: Pair) -> None:
    one, b = client
    await b.queue.pause()
    job, _ = await one.submit("double", 1)
    assert await one.cancel(job) == "cancelled"
    assert await one.cancel(job) == "cancelled"
    done, _ = await one.submit("double", 1)
    await b.queue.resume()
    await one.result(done)
    assert await one.cancel(done) == "too_late"


async def test_a_follower_sees_each_event_in_order_once_from_wherever_it_begins(client: Pair) -> None:
    one, b = client
    first = runtime_of(b.queue).feed.seq
    jobs = [(await one.submit("double", n))[0] for n in range(5)]
    for job in jobs:
        await one.result(job)
    last = runtime_of(b.queue).feed.seq
    with deadline("the events"):
        for after in (first, first + 1, last - 1):
            async with one.follow(after) as following:
                seen = [await following() for _ in range(last - after)]
            assert [event.seq for event in seen] == [*range(after + 1, last + 1)]
        async with one.follow(first) as following:
            seen = [await following() for _ in range(last - first)]
    assert [event.job for event in seen if event.type == "completed"] == jobs


async def test_a_follower_that_waits_sees_what_happens(client: Pair) -> None:
    one, b = client
    async with one.follow(runtime_of(b.queue).feed.seq) as following, trio.open_nursery() as nursery:
        nursery.start_soon(one.submit, "double", 1)
        types: list[str] = []
        with deadline("the end of the job"):
            while not types or types[-1] != "completed":
                types.append((await following()).type)
    assert types == ["submitted", "started", "completed"]
