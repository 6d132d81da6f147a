"""Rules of what is sent to whom: every field of every answer and event, with each kind of token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import trio
from msgspec import Struct

from support.server import OPERATOR, OWNER, WATCHER, Bench, Raw, bench, make_service, patient
from support.waiting import deadline
from trio_jobs import JobFailed, PermissionDenied, Queue, Token, connect
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._wire.codes import ErrorCode, Scope
from trio_jobs._wire.field_scopes import FIELD_SCOPES, structs_in
from trio_jobs._wire.methods import METHODS, NOTIFICATIONS
from trio_jobs._wire.schemas import WireJob
from trio_jobs._wire.scopes import SCOPES, includes

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
    gone = (await queue.submit("say", SECRET, key="A-2", by=SECRET)).job_id
    await queue.result(gone)
    await queue.forget(gone, by=SECRET, note=SECRET)  # first, since no event before it is kept
    failed = (await queue.submit("fail", SECRET, key="A-1", labels=labels, by=SECRET)).job_id
    with pytest.raises(JobFailed):
        await queue.result(failed)
    done = (await queue.submit("say", SECRET, labels=labels, by=SECRET)).job_id
    await queue.result(done)
    await queue.pause("for everybody", by=SECRET)
    cancelled = (await queue.submit("say", SECRET, labels=labels, by=SECRET)).job_id
    await queue.cancel(cancelled, by=SECRET)
    await written_by_operators(queue, cancelled)
    return [failed, done, cancelled]


async def written_by_operators(queue: Queue, cancelled: str) -> None:
    """What operators did: each of their commands, with a note that is the secret."""
    who: Any = {"by": SECRET, "note": SECRET}
    await queue.claim(cancelled, **who)
    await queue.release_claim(cancelled, **who)
    await queue.correct(cancelled, SECRET + " again", **who)
    await queue.reschedule(cancelled, delay=1000, **who)
    await queue.run_now(cancelled, **who)
    await queue.claim(cancelled, **who)
    await queue.cancel_many(ids=[cancelled], **who)
    await queue.retry(cancelled, **who, even_if_acted=True)
    await queue.cancel(cancelled, **who)
    await queue.resume(**who)
    with trio.move_on_after(0.01):
        await queue.drain(**who)
    await queue.undrain(**who)


def service() -> Any:
    made = make_service(drain_timeout=0.0)

    @made.handler
    async def say(text: str, job: Any) -> str:
        await job.step(text, trio.lowlevel.checkpoint)
        return text

    return made


async def everything(
    b: Bench, client: Raw, jobs: list[str], *, own: Sequence[str] | None = None
) -> list[tuple[type[Struct], dict[str, Any]]]:
    """Every answer that a query can have, and all events since the first that is kept. A bound token, which sees its
    `own` jobs alone, is refused what concerns the queue as a whole, and other jobs."""
    found = []
    after = runtime_of(b.queue).feed.oldest - 1
    asked: list[tuple[str, dict[str, Any]]] = [
        *[("jobs.get", {"job": job}) for job in jobs],
        *[(method, {"job": job}) for job in jobs for method in ("jobs.result", "jobs.history")],
        ("jobs.find", {"key": "A-1"}),
        ("jobs.list", {}),
        ("jobs.count", {"group": "state"}),
        ("queue.statistics", {}),
        ("server.hello", {}),
        ("jobs.subscribe", {"subscription": "s", "after": after, "epoch": b.queue.epoch}),
        ("jobs.subscribe", {"subscription": "t", "snapshot": True}),
    ]
    for name, row in METHODS.items():
        needs = any(field.required for field in msgspec.structs.fields(row.params))
        if row.scope == "watch" and not needs and name not in {"server.login", *(method for method, _ in asked)}:
            asked.append((name, {}))  # a query that was added since
    for method, params in asked:
        answer = await client.ask(method, **params)
        refused = answer.get("error") or {}
        if own is not None and refused.get("code") in (ErrorCode.PERMISSION_DENIED, ErrorCode.JOB_NOT_FOUND):
            continue
        assert "code" not in refused, (method, answer)
        found.append((METHODS[method].result, answer))
    last = b.queue.statistics().seq if own is None else max(b.queue.get(job).seq for job in own)
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
            written = {"by", "labels", "payload", "message", "traceback", "reason", "result", "step", "note"}
            assert written <= seen
        await client.stream.aclose()


BOUNDS: list[dict[str, Any]] = [{"kinds": ["say"]}, {"labels": {SECRET: SECRET}}]
BOUND = [
    Token(f"{scope}-{number}-" + "1" * 20, f"{scope}-{number}", scope, **bounds)
    for scope in SCOPES
    for number, bounds in enumerate(BOUNDS)
]


@pytest.mark.parametrize("token", BOUND, ids=lambda token: token.name)
async def test_a_bound_token_is_sent_the_fields_of_its_scope_and_no_job_outside(token: Token) -> None:
    async with bench(service(), metrics=False, limits=patient(messages=1000), tokens=[OWNER, *BOUND]) as b:
        jobs = await written_queue(b)
        other = (await b.queue.submit("double", 1, key="outside")).job_id
        await b.queue.result(other)
        client = await b.raw(token)
        seen: set[str] = set()
        own = jobs if token.labels else jobs[1:]
        found = await everything(b, client, [*jobs, other], own=own)
        for type_, sent in found:
            check_fields(sent, type_, token.scope, seen)
        text = msgspec.json.encode([sent for _, sent in found]).decode()
        assert other not in text
        assert "outside" not in text
        assert (jobs[0] in text) is bool(token.labels), "a job of another kind"
        assert jobs[1] in text
        if token.scope == "watch":
            assert SECRET not in text
            assert seen == set()
        else:
            assert {"by", "labels", "payload", "reason", "result", "step", "note"} <= seen
        await client.stream.aclose()


@pytest.mark.parametrize("show", [[], ["result"], ["payload"], ["payload", "result"]], ids=str)
async def test_a_ticket_is_sent_the_fields_of_watch_and_what_it_shows(show: list[Any]) -> None:
    allowed = {"result": {"result", "result_problem", "problem"}, "payload": {"payload", "earlier_payloads"}}
    async with bench(service(), metrics=False, limits=patient(messages=1000)) as b:
        jobs, after = await written_queue(b), runtime_of(b.queue).feed.oldest - 1
        for job in jobs:
            async with connect(b.server.url, token=OWNER.secret) as owner:
                ticket = await owner.create_ticket(job, show=show)
            client = await b.raw(Token(ticket, "ticket"))
            seen: set[str] = set()
            asked: list[tuple[str, dict[str, Any]]] = [
                ("server.hello", {}),
                ("jobs.get", {"job": job}),
                ("jobs.result", {"job": job}),
                ("jobs.subscribe", {"subscription": "s", "snapshot": True}),
                ("jobs.subscribe", {"subscription": "t", "after": after, "epoch": b.queue.epoch}),
            ]
            for method, params in asked:
                answer = await client.ask(method, **params)
                assert "code" not in (answer.get("error") or {}), (method, answer)
                written_in(answer, METHODS[method].result, seen)
            last, reached, pages = b.queue.get(job).seq, 0, 0
            with deadline("the events of the job and the snapshot"):
                while reached < last or not pages:
                    told = await client.next_notification()
                    reached = max(reached, told["params"].get("seq", 0) if told["method"] == "jobs.event" else 0)
                    pages += told["method"] == "jobs.snapshot"
                    written_in(told["params"], NOTIFICATIONS[told["method"]].params, seen)
            assert seen <= {name for one in show for name in allowed[one]}, (job, seen)
            await client.stream.aclose()


def written_in(sent: dict[str, Any], type_: type[Struct], seen: set[str]) -> None:
    """Add to `seen` the fields that need more than watch, at every depth."""
    check_fields(sent, type_, "control", seen)


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
