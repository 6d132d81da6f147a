"""All methods, asked by an independent client: Python's websockets, in a thread with an asyncio loop of its own."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
import websockets
from websockets import Origin, Subprotocol

from support.server import OWNER, WATCHER, bench, make_service
from support.waiting import DEADLINE
from trio_jobs import Retry, Service
from trio_jobs._server.tokens import Token


class Independent:
    """A client that shares no code with ours."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self._socket = socket
        self._next_id = 0
        self.notifications: list[dict[str, Any]] = []

    async def ask(self, method: str, **params: Any) -> Any:
        self._next_id += 1
        message = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params}
        await self._socket.send(json.dumps(message))
        while True:
            answer = await self._receive()
            if answer.get("id") == self._next_id:
                assert answer["jsonrpc"] == "2.0"
                return answer["result"] if "result" in answer else (answer["error"]["code"], answer["error"])
            self.notifications.append(answer)

    async def next_notification(self) -> dict[str, Any]:
        if not self.notifications:
            self.notifications.append(await self._receive())
        return self.notifications.pop(0)

    async def _receive(self) -> Any:
        return json.loads(await asyncio.wait_for(self._socket.recv(), DEADLINE))

    async def until(self, type_: str) -> list[dict[str, Any]]:
        """The events up to one of that type."""
        events = []
        while True:
            notification = await self.next_notification()
            if notification["method"] == "jobs.event":
                events.append(notification["params"])
                if notification["params"]["type"] == type_:
                    return events


async def with_client(url: str, talk: Callable[[Independent], Awaitable[None]], token: Token = OWNER) -> None:
    async def main() -> None:
        headers = {"Authorization": f"Bearer {token.secret}"}
        async with websockets.connect(
            url, subprotocols=[Subprotocol("trio-jobs.v1")], additional_headers=headers
        ) as socket:
            assert socket.subprotocol == "trio-jobs.v1"
            await asyncio.wait_for(talk(Independent(socket)), 10)

    await trio.to_thread.run_sync(asyncio.run, main())


async def test_hello_names_epoch_and_scope() -> None:
    async def talk(client: Independent) -> None:
        hello = await client.ask("server.hello", protocol="trio-jobs.v1")
        assert (hello["protocol"], hello["scope"], hello["name"]) == ("trio-jobs.v1", "control", "ann")
        assert hello["epoch"]
        assert hello["oldest"] <= hello["seq"]

    async with bench() as b:
        await with_client(b.server.url, talk)


async def test_a_job_is_submitted_followed_and_its_result_read() -> None:
    async def talk(client: Independent) -> None:
        await client.ask("jobs.subscribe", subscription="mine")
        receipt = await client.ask("jobs.submit", kind="double", payload=21, key="k1")
        assert receipt["created"]
        again = await client.ask("jobs.submit", kind="double", payload=21, key="k1")
        assert (again["created"], again["job"]) == (False, receipt["job"])
        result = await client.ask("jobs.result", job=receipt["job"], wait=30)
        assert (result["state"], result["final"], result["result"]) == ("completed", True, 42)
        events = await client.until("completed")
        assert [event["type"] for event in events] == ["submitted", "started", "completed"]
        assert [event["state"] for event in events] == ["pending", "processing", "completed"]
        assert {event["job"] for event in events} == {receipt["job"]}
        assert {event["subscription"] for event in events} == {"mine"}
        assert events[0]["by"] == "ann"
        assert events[0]["key"] == "k1"
        ended = await client.ask("jobs.unsubscribe", subscription="mine")
        assert ended["seq"] >= events[-1]["seq"]

    async with bench() as b:
        await with_client(b.server.url, talk)


async def test_a_job_is_submitted_with_seconds() -> None:
    async def talk(client: Independent) -> None:
        await client.ask("jobs.subscribe", subscription="mine")
        receipt = await client.ask("jobs.submit", kind="double", payload=1, delay=60, deadline_after=90)
        assert receipt["state"] == "scheduled"
        [event] = await client.until("scheduled")
        assert (event["delay"], event["deadline_after"]) == (60, 90)
        assert event["due_at"] == event["at"] + 60
        assert event["deadline_at"] == event["at"] + 90
        for times in ({"delay": 1, "due_at": 1.0}, {"deadline_after": 1, "deadline_at": 1.0}, {"delay": -1}):
            code, _ = await client.ask("jobs.submit", kind="double", payload=1, **times)
            assert code == -32602

    async with bench() as b:
        await with_client(b.server.url, talk)


async def test_jobs_are_listed_in_pages_and_read() -> None:
    async def talk(client: Independent) -> None:
        ids = [(await client.ask("jobs.submit", kind="double", payload=i))["job"] for i in range(5)]
        await client.ask("jobs.result", job=ids[-1], wait=30)
        page = await client.ask("jobs.list", limit=3)
        assert ([job["id"] for job in page["jobs"]], page["more"]) == (ids[:3], True)
        page = await client.ask("jobs.list", after=ids[2], state="completed", kind="double")
        assert ([job["id"] for job in page["jobs"]], page["more"]) == (ids[3:], False)
        assert all("payload" not in job and "history" not in job for job in page["jobs"])
        job = await client.ask("jobs.get", job=ids[4])
        assert job["payload"] == 4
        assert [attempt["outcome"] for attempt in job["history"]] == ["completed"]

    async with bench() as b:
        await with_client(b.server.url, talk)


async def test_a_failed_job_that_is_asked_for_has_its_tracebacks_but_not_for_a_token_that_watches() -> None:
    service = Service()

    @service.handler(retry=Retry(max_retries=0))
    async def fail(why: str) -> None:
        raise ValueError(why)

    ids: list[str] = []

    async def talk(client: Independent) -> None:
        ids.append((await client.ask("jobs.submit", kind="fail", payload="no such account"))["job"])
        result = await client.ask("jobs.result", job=ids[0], wait=30)
        assert (result["state"], result["error"]["message"]) == ("failed", "no such account")
        assert "result" not in result
        assert "traceback" not in result["error"], "jobs.get and jobs.find alone send it"
        retried = await client.ask("jobs.retry", job=ids[0])
        assert retried["state"] == "pending"
        assert (await client.ask("jobs.result", job=ids[0], wait=30))["state"] == "failed"
        job = await client.ask("jobs.get", job=ids[0])
        assert len(job["history"]) == 2
        assert all("raise ValueError" in attempt["error"]["traceback"] for attempt in job["history"])
        assert "raise ValueError" in job["error"]["traceback"]

    async def look(client: Independent) -> None:
        job = await client.ask("jobs.get", job=ids[0])
        assert "payload" not in job
        assert "traceback" not in job["error"]
        assert all("traceback" not in attempt.get("error", {}) for attempt in job["history"])
        result = await client.ask("jobs.result", job=ids[0])
        assert result["error"]["type"] == "ValueError"
        assert "traceback" not in result["error"]
        [job] = (await client.ask("jobs.list"))["jobs"]
        assert "traceback" not in job["error"]

    async with bench(service) as b:
        await with_client(b.server.url, talk)
        await with_client(b.server.url, look, WATCHER)


async def test_the_queue_is_paused_resumed_and_drained() -> None:
    async def talk(client: Independent) -> None:
        await client.ask("queue.pause", reason="lunch")
        first = (await client.ask("jobs.submit", kind="double", payload=1))["job"]
        second = (await client.ask("jobs.submit", kind="double", payload=2))["job"]
        assert (await client.ask("jobs.cancel", job=second))["answer"] == "cancelled"
        waiting = await client.ask("jobs.result", job=first)
        assert (waiting["state"], waiting["final"]) == ("pending", False)
        statistics = await client.ask("queue.statistics")
        assert statistics["jobs"]["pending"] == 1
        assert statistics["connections"] == 1
        await client.ask("queue.resume")
        assert (await client.ask("jobs.result", job=first, wait=30))["result"] == 2
        await client.ask("queue.drain")
        code, _ = await client.ask("jobs.submit", kind="double", payload=3)
        assert code == -32012
        code, error = await client.ask("queue.resume")
        assert (code, "undrain" in error["message"]) == (-32602, True)
        assert (await client.ask("queue.statistics"))["problems"] == ["draining"]
        await client.ask("queue.undrain")
        last = (await client.ask("jobs.submit", kind="double", payload=3))["job"]
        assert (await client.ask("jobs.result", job=last, wait=30))["result"] == 6

    async def look(client: Independent) -> None:
        assert (await client.ask("queue.undrain"))[0] == -32014

    async with bench() as b:
        await with_client(b.server.url, talk)
        await with_client(b.server.url, look, WATCHER)


async def test_an_in_doubt_job_is_resolved() -> None:
    @asynccontextmanager
    async def open_sdk() -> AsyncIterator[str]:
        yield "sdk"

    service = Service(async_sdk=open_sdk)

    @service.handler(attempt_timeout=0.02, on_doubt="hold")
    async def hang(sdk: str, name: str) -> None:
        await trio.sleep_forever()

    async def talk(client: Independent) -> None:
        await client.ask("jobs.subscribe", subscription="s", states=["in_doubt"])
        job = (await client.ask("jobs.submit", kind="hang", payload="x"))["job"]
        assert (await client.ask("jobs.result", job=job, wait=30, in_doubt="answer"))["state"] == "in_doubt"
        code, error = await client.ask("jobs.cancel", job=job)
        assert (code, error["data"]["state"]) == (-32009, "in_doubt")
        assert (await client.until("in_doubt"))[-1]["job"] == job
        result = {"no": 123456789012345678901234567890}
        assert (await client.ask("jobs.resolve", job=job, resolution="done", result=result))["state"] == "completed"
        assert (await client.ask("jobs.result", job=job))["result"] == result

    async with bench(service) as b:
        await with_client(b.server.url, talk)


async def test_p12_a_retry_of_what_may_have_acted_is_refused_unless_the_client_insists() -> None:
    service = Service()

    @service.handler(retry=Retry(0))
    def book(name: str) -> None:
        raise OSError("the answer is lost")

    async def talk(client: Independent) -> None:
        job = (await client.ask("jobs.submit", kind="book", payload="x"))["job"]
        assert (await client.ask("jobs.result", job=job, wait=30))["state"] == "failed"
        code, error = await client.ask("jobs.retry", job=job)
        assert (code, error["data"]) == (-32019, {"job": job, "state": "failed"})
        assert error["message"].startswith(f"job {job} is failed: it may have done its work")
        await client.ask("jobs.subscribe", subscription="s", jobs=[job])
        assert (await client.ask("jobs.retry", job=job, even_if_acted=True))["job"] == job
        assert (await client.until("retried"))[-1]["even_if_acted"] is True

    async def watch(client: Independent) -> None:
        code, _ = await client.ask("jobs.retry", job="any", even_if_acted=True)
        assert code == -32014

    async with bench(service) as b:
        await with_client(b.server.url, talk)
        await with_client(b.server.url, watch, WATCHER)


async def test_each_error_has_its_code() -> None:
    async def talk(client: Independent) -> None:
        assert (await client.ask("jobs.get", job="none"))[0] == -32004
        assert (await client.ask("jobs.nothing"))[0] == -32601
        assert (await client.ask("jobs.get"))[0] == -32602
        assert (await client.ask("jobs.submit", kind="double", payload="text"))[0] == -32602
        assert (await client.ask("jobs.submit", kind="unknown", payload=1))[0] == -32602
        await client.ask("jobs.submit", kind="double", payload=1, key="k")
        assert (await client.ask("jobs.submit", kind="double", payload=2, key="k"))[0] == -32013
        done = (await client.ask("jobs.submit", kind="double", payload=3))["job"]
        await client.ask("jobs.result", job=done, wait=30)
        assert (await client.ask("jobs.retry", job=done))[0] == -32009
        assert (await client.ask("jobs.subscribe", subscription="s", after=1, epoch="other"))[0] == -32010
        epoch = (await client.ask("server.hello"))["epoch"]
        assert (await client.ask("jobs.subscribe", subscription="s", after=10**9, epoch=epoch))[0] == -32010
        assert (await client.ask("jobs.subscribe", subscription="s", after=1))[0] == -32602
        await client.ask("jobs.subscribe", subscription="s")
        assert (await client.ask("jobs.subscribe", subscription="s"))[0] == -32602
        assert (await client.ask("jobs.unsubscribe", subscription="t"))[0] == -32602

    async with bench() as b:
        await with_client(b.server.url, talk)


async def test_queue_full_has_the_size_of_the_queue_on_the_wire() -> None:
    async def talk(client: Independent) -> None:
        await client.ask("queue.pause")
        codes = [await client.ask("jobs.submit", kind="double", payload=i) for i in range(8)]
        code, error = codes[-1]
        assert code == -32011
        assert error["data"]["capacity"] == 3
        assert error["data"]["retry_after"] >= 0.1
        await client.ask("queue.resume")

    async with bench(make_service(buffer=3)) as b:
        await with_client(b.server.url, talk)


async def test_a_watch_token_reads_and_changes_nothing() -> None:
    async def talk(client: Independent) -> None:
        assert (await client.ask("server.hello"))["scope"] == "watch"
        await client.ask("jobs.list")
        await client.ask("queue.statistics")
        await client.ask("jobs.subscribe", subscription="s", snapshot=True)
        changes: dict[str, dict[str, Any]] = {
            "jobs.submit": {"kind": "double", "payload": 1},
            "jobs.cancel": {"job": "a"},
            "jobs.retry": {"job": "a"},
            "jobs.resolve": {"job": "a", "resolution": "failed"},
            "queue.pause": {},
            "queue.resume": {},
            "queue.drain": {},
        }
        for method, params in changes.items():
            assert (await client.ask(method, **params))[0] == -32014

    async with bench() as b:
        before = b.queue.statistics().seq
        await with_client(b.server.url, talk, WATCHER)
        assert b.queue.statistics().seq == before


async def test_a_snapshot_comes_in_pages_and_the_stream_continues_behind_it() -> None:
    async def talk(client: Independent) -> None:
        answer = await client.ask("jobs.subscribe", subscription="s", snapshot=True, kinds=["double"])
        pages: list[dict[str, Any]] = []
        while not pages or not pages[-1]["last"]:
            notification = await client.next_notification()
            assert notification["method"] == "jobs.snapshot"
            pages.append(notification["params"])
        assert [len(page["jobs"]) for page in pages] == [200] * 6
        assert pages[0]["seq"] == answer["seq"]
        notification = await client.next_notification()
        assert (notification["method"], notification["params"]["seq"]) == ("jobs.position", answer["seq"])
        job = (await client.ask("jobs.submit", kind="double", payload=1))["job"]
        assert {event["job"] for event in await client.until("completed")} == {job}

    async with bench(make_service(buffer=1200)) as b:
        for i in range(1200):
            await b.queue.submit("double", i)
        await b.queue.result(b.queue.list(limit=1000)[-1].id)
        while b.queue.statistics().jobs["completed"] < 1200:  # type: ignore[index]
            await trio.sleep(0.01)
        await with_client(b.server.url, talk)


async def test_progress_is_sent_without_a_seq() -> None:
    service = Service()

    @service.handler
    async def step(number: int, job: Any) -> None:
        job.progress(1, 4, "a quarter")
        await trio.sleep(0.3)

    async def talk(client: Independent) -> None:
        await client.ask("jobs.subscribe", subscription="s")
        job = (await client.ask("jobs.submit", kind="step", payload=1))["job"]
        while (notification := await client.next_notification())["method"] != "jobs.progress":
            pass
        assert notification["params"] == {
            "subscription": "s",
            "job": job,
            "done": 1.0,
            "total": 4.0,
            "message": "a quarter",
        }

    async with bench(service) as b:
        await with_client(b.server.url, talk)


async def test_a_browser_s_way_of_authorising_works_from_a_listed_origin() -> None:
    bearer = "bearer." + base64.urlsafe_b64encode(OWNER.secret.encode()).decode().rstrip("=")
    subprotocols = [Subprotocol("trio-jobs.v1"), Subprotocol(bearer)]

    async def main(url: str) -> None:
        async with websockets.connect(url, subprotocols=subprotocols, origin=Origin("https://ok.example")) as socket:
            assert socket.subprotocol == "trio-jobs.v1"
            assert (await Independent(socket).ask("server.hello"))["name"] == "ann"

    async with bench(origins=["https://ok.example"]) as b:
        await trio.to_thread.run_sync(asyncio.run, main(b.server.url))
