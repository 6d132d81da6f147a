"""Rules of what is sent to whom: every field of every answer and event, with each kind of token."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from msgspec import Struct

from support.server import OPERATOR, OWNER, WATCHER, Bench, Raw, bench, make_service, patient
from support.waiting import deadline
from trio_jobs import JobFailed, PermissionDenied, Token, connect
from trio_jobs._wire.codes import Scope
from trio_jobs._wire.field_scopes import FIELD_SCOPES, structs_in
from trio_jobs._wire.methods import METHODS, NOTIFICATIONS
from trio_jobs._wire.schemas import WireJob
from trio_jobs._wire.scopes import includes

SECRET = "s3cret"
TOKENS = pytest.mark.parametrize("token", [OWNER, OPERATOR, WATCHER], ids=lambda token: token.scope)


def check_fields(sent: dict[str, Any], type_: type[Struct], scope: Scope, seen: set[str]) -> None:
    """Assert that no field needs a higher scope; add to `seen` those that need more than watch."""
    for field in msgspec.structs.fields(type_):
        if field.encode_name not in sent:
            continue
        value, least = sent[field.encode_name], FIELD_SCOPES[type_][field.name]
        assert includes(scope, least) or value in ("", None), f"{type_.__name__}.{field.name} is sent to {scope}"
        if least != "watch" and value not in ("", None):
            seen.add(field.name)
        inner = next((found for found in structs_in(field.type) if found in FIELD_SCOPES), None)
        if inner is not None:
            for one in value if isinstance(value, list) else [value]:
                if one is not None:
                    check_fields(one, inner, scope, seen)


async def written_queue(b: Bench) -> list[str]:
    """Jobs in which everything that people and handlers can write is the secret."""
    labels, queue = {SECRET: SECRET}, b.queue
    failed = (await queue.submit("fail", SECRET, key="A-1", labels=labels, by=SECRET)).job_id
    with pytest.raises(JobFailed):
        await queue.result(failed)
    done = (await queue.submit("say", SECRET, labels=labels, by=SECRET)).job_id
    await queue.result(done)
    await queue.pause("for everybody", by=SECRET)
    cancelled = (await queue.submit("say", SECRET, labels=labels, by=SECRET)).job_id
    await queue.cancel(cancelled, by=SECRET)
    return [failed, done, cancelled]


def service() -> Any:
    made = make_service(drain_timeout=0.0)

    @made.handler
    async def say(text: str, job: Any) -> str:
        await job.step(text, trio.lowlevel.checkpoint)
        return text

    return made


async def everything(b: Bench, client: Raw, jobs: list[str]) -> list[tuple[type[Struct], dict[str, Any]]]:
    """Every answer that a query can have, and all events since the first."""
    found = []
    asked: list[tuple[str, dict[str, Any]]] = [
        *[("jobs.get", {"job": job}) for job in jobs],
        *[(method, {"job": job}) for job in jobs for method in ("jobs.result", "jobs.history")],
        ("jobs.find", {"key": "A-1"}),
        ("jobs.list", {}),
        ("jobs.count", {"group": "state"}),
        ("queue.statistics", {}),
        ("server.hello", {}),
        ("jobs.subscribe", {"subscription": "s", "after": 0, "epoch": b.queue.epoch}),
        ("jobs.subscribe", {"subscription": "t", "snapshot": True}),
    ]
    for name, row in METHODS.items():
        needs = any(field.required for field in msgspec.structs.fields(row.params))
        if row.scope == "watch" and not needs and name not in {"server.login", *(method for method, _ in asked)}:
            asked.append((name, {}))  # a query that was added since
    for method, params in asked:
        answer = await client.ask(method, **params)
        assert "code" not in answer.get("error", {}), (method, answer)
        found.append((METHODS[method].result, answer))
    last = b.queue.statistics().seq
    with deadline("all events and the snapshot"):
        seen, pages = 0, 0
        while seen < last or not pages:
            told = await client.next_notification()
            if told["method"] == "jobs.event":
                seen = max(seen, told["params"]["seq"])
            pages += told["method"] == "jobs.snapshot"
            found.append((NOTIFICATIONS[told["method"]].params, told["params"]))
    return found


@TOKENS
async def test_a_token_is_sent_the_fields_of_its_scope_alone(token: Token) -> None:
    async with bench(service(), metrics=False, limits=patient(messages=1000)) as b:
        jobs = await written_queue(b)
        client = await b.raw(token)
        seen: set[str] = set()
        found = await everything(b, client, jobs)
        for type_, sent in found:
            check_fields(sent, type_, token.scope, seen)
        text = msgspec.json.encode([sent for _, sent in found]).decode()
        if token is WATCHER:
            assert SECRET not in text
            assert seen == set()
        else:
            assert {"by", "labels", "payload", "message", "traceback", "reason", "result", "step"} <= seen
        await client.stream.aclose()


@TOKENS
async def test_a_traceback_is_sent_with_a_job_that_is_asked_for_alone_and_to_no_token_that_watches(
    token: Token,
) -> None:
    async with bench(service(), metrics=False, limits=patient(messages=1000)) as b:
        jobs = await written_queue(b)
        client = await b.raw(token)
        for type_, sent in await everything(b, client, jobs):
            text = msgspec.json.encode(sent).decode()
            has_failed = type_ is WireJob and sent["id"] == jobs[0]
            assert ("raise ValueError" in text) is (has_failed and token is not WATCHER), sent
            assert ("traceback" in text) is (has_failed and token is not WATCHER), sent
        await client.stream.aclose()


@TOKENS
async def test_progress_is_sent_without_its_message_to_a_token_that_watches(token: Token) -> None:
    made, seen = make_service(), trio.Event()

    @made.handler
    async def report(text: str, job: Any) -> None:
        job.progress(1, 4, text)
        await seen.wait()

    async with bench(made, metrics=False) as b:
        client = await b.raw(token)
        await client.ask("jobs.subscribe", subscription="s")
        await b.queue.submit("report", SECRET)
        with deadline("the progress"):
            while (told := await client.next_notification())["method"] != "jobs.progress":
                pass
        seen.set()
        assert (told["params"]["done"], told["params"]["total"]) == (1.0, 4.0)
        assert told["params"]["message"] == ("" if token is WATCHER else SECRET)
        await client.stream.aclose()


async def test_a_client_that_watches_is_refused_a_result_and_told_an_error_by_its_class() -> None:
    async with bench(service(), metrics=False) as b:
        failed, done, _ = await written_queue(b)
        async with connect(b.server.url, token=WATCHER.secret) as client:
            with pytest.raises(PermissionDenied, match="its result requires a token of scope operate"):
                await client.result(done)
            with pytest.raises(JobFailed) as error:
                await client.result(failed)
            assert "ValueError" in str(error.value)
            assert SECRET not in str(error.value)
