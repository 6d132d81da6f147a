"""Rules of jobs.find, jobs.list and jobs.count on the wire, and of what a token of scope watch is not sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest

import trio_jobs
from support.server import OWNER, WATCHER, Bench, bench, make_service
from trio_jobs import AmbiguousJob, Client, InvalidCursor, JobNotFound, PermissionDenied, State, UsageError
from trio_jobs._wire.codes import ErrorCode

LABELS = {"company": "acme"}
ORDERS: tuple[Literal["oldest", "newest"], ...] = ("oldest", "newest")


@asynccontextmanager
async def filled() -> AsyncIterator[tuple[Bench, list[str]]]:
    """A paused queue with five jobs of Ada, with labels, and two others; the fourth has failed."""
    async with bench(make_service(drain_timeout=0.0), metrics=False) as b:
        jobs = [(await b.queue.submit("double", n, key=f"A-{n}", labels=LABELS, by="ada")).job_id for n in range(3)]
        jobs.append((await b.queue.submit("fail", "secret", key="A-3", labels=LABELS, by="ada")).job_id)
        with pytest.raises(trio_jobs.JobFailed):
            await b.queue.result(jobs[3])
        await b.queue.pause()
        jobs += [(await b.queue.submit("double", n, key=f"A-{n}", labels=LABELS, by="ada")).job_id for n in (4, 5)]
        jobs += [(await b.queue.submit("wait", n)).job_id for n in range(2)]
        yield b, jobs


@asynccontextmanager
async def connected(b: Bench, token: trio_jobs.Token) -> AsyncIterator[Client]:
    async with trio_jobs.connect(f"ws://127.0.0.1:{b.port}/ws", token=token.secret) as client:
        yield client


async def test_a_client_lists_finds_and_counts_as_the_queue_does() -> None:
    async with filled() as (b, jobs), connected(b, OWNER) as client:
        conditions: list[dict[str, Any]] = [
            {},
            {"state": "failed"},
            {"states": [State.PENDING, State.FAILED], "kind": "double"},
            {"key_prefix": "A-", "labels": LABELS, "by": "ada"},
            {"error_type": "ValueError", "may_have_acted": False},
            {"since": b.queue.get(jobs[4]).submitted_at},
            {"until": b.queue.get(jobs[4]).submitted_at},
        ]
        for some in conditions:
            for order in ORDERS:
                expected = [job.id for job in b.queue.list(order=order, **some)]
                assert expected, some
                found: list[trio_jobs.Job] = []
                page = await client.list(order=order, limit=2, **some)
                while page.next is not None:
                    found += page
                    page = await client.list(order=order, limit=2, after=page.next, **some)
                assert [job.id for job in [*found, *page]] == expected
            for group in (None, "state", "kind", "error_type", "label:company"):
                assert await client.count(group, **some) == await b.queue.count(group, **some)
        assert (await client.find("fail", "A-3")).id == jobs[3]
        assert (await client.find(None, "A-4")).payload == b"4"
        assert (await client.get(jobs[6][-8:])).id == jobs[6]
        assert await client.cancel(jobs[6][-8:]) == "cancelled"
        await client.retry(jobs[6][-8:])


async def test_errors_of_looking_up_are_those_of_the_queue() -> None:
    async with filled() as (b, jobs), connected(b, OWNER) as client:
        same = (await b.queue.submit("wait", 9, key="A-4")).job_id
        with pytest.raises(AmbiguousJob) as ambiguous:
            await client.find(None, "A-4")
        assert (ambiguous.value.given, ambiguous.value.job_ids) == ("A-4", (jobs[4], same))
        with pytest.raises(JobNotFound, match="no job with key 'B'") as missing:
            await client.find("double", "B")
        assert (missing.value.job_id, missing.value.key) == ("", "B")
        with pytest.raises(JobNotFound, match="'ffffffff' is known"):
            await client.get("ffffffff")
        cursor = (await client.list(limit=1)).next
        with pytest.raises(InvalidCursor) as refused:
            await client.list(after=cursor, order="newest")
        assert refused.value.cursor == cursor
        with pytest.raises(UsageError, match="jobs are counted by"):
            await client.count("by")
        with pytest.raises(UsageError, match="at most 8 labels, not 9"):
            await client.submit("double", 1, labels={f"n{n}": "v" for n in range(9)})
        raw = await b.raw()
        nine = {f"n{n}": "v" for n in range(9)}
        for method in ("jobs.list", "jobs.count", "jobs.submit"):
            answer = await raw.ask(method, labels=nine, **({"kind": "double"} if method == "jobs.submit" else {}))
            assert answer["error"]["code"] == ErrorCode.INVALID_PARAMS, method
        await raw.say_goodbye()


async def test_a_submit_over_the_wire_has_labels_and_the_name_of_its_token() -> None:
    async with filled() as (b, _), connected(b, OWNER) as client:
        job = await client.get((await client.submit("double", 1, labels={"b": "2", "a": "1"})).job_id)
        assert (job.labels, job.by) == ({"a": "1", "b": "2"}, "ann")
        assert b.queue.get(job.id).labels == job.labels


async def test_a_token_that_watches_is_sent_neither_submitters_nor_labels() -> None:
    """In no answer, no snapshot and no event, also where subscribers of both scopes get the same event."""
    async with filled() as (b, jobs):
        watcher, owner = await b.raw(WATCHER), await b.raw()
        for client, sees in ((watcher, False), (owner, True)):
            answers = [await client.ask("jobs.get", job=jobs[0]), await client.ask("jobs.find", key="A-0")]
            answers += (await client.ask("jobs.list", limit=3))["jobs"]
            await client.ask("jobs.subscribe", subscription="s", snapshot=True)
            answers += (await client.next_notification())["params"]["jobs"][:3]
            for job in answers:
                assert (job.get("by"), job.get("labels")) == (("ada", LABELS) if sees else (None, None))
            await client.next_notification()
        await b.queue.submit("double", 7, labels=LABELS, by="bob")
        await b.queue.resume(by="carl")
        for client, sees in ((watcher, False), (owner, True)):
            submitted = (await client.next_notification())["params"]
            resumed = (await client.next_notification())["params"]
            assert (submitted["type"], resumed["type"]) == ("submitted", "resumed")
            assert (submitted.get("by"), submitted.get("labels")) == (("bob", LABELS) if sees else (None, None))
            assert resumed.get("by") == ("carl" if sees else None)
            await client.stream.aclose()


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("jobs.list", {"by": "ada"}),
        ("jobs.list", {"labels": LABELS}),
        ("jobs.count", {"by": "ada"}),
        ("jobs.count", {"labels": LABELS}),
        ("jobs.count", {"group": "label:company"}),
    ],
    ids=str,
)
async def test_a_token_that_watches_cannot_ask_for_what_it_is_not_sent(method: str, params: dict[str, Any]) -> None:
    async with filled() as (b, _):
        watcher, owner = await b.raw(WATCHER), await b.raw()
        refused = await watcher.ask(method, **params)
        assert refused["error"]["code"] == ErrorCode.PERMISSION_DENIED
        assert "a token of scope operate; this one has watch" in refused["error"]["message"]
        assert "error" not in await owner.ask(method, **params)
        async with connected(b, WATCHER) as client:
            with pytest.raises(PermissionDenied):
                await client.list(by="ada")
            assert len(await client.list(key_prefix="A-", error_type="ValueError")) == 1
        await watcher.say_goodbye()
        await owner.say_goodbye()


async def test_one_followed_job_can_be_named_by_the_end_of_its_id() -> None:
    async with filled() as (b, jobs), connected(b, OWNER) as client:
        async with client.subscribe(jobs=[jobs[4][-8:]]) as subscription:
            await b.queue.cancel(jobs[5])
            await b.queue.cancel(jobs[4])
            event = await anext(subscription)
        assert isinstance(event, trio_jobs.events.Cancelled)
        assert event.job == jobs[4]
