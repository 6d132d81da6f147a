"""Rules of what a token may do, by its scope."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from support.server import OPERATOR, OWNER, WATCHER, Bench, bench, patient
from trio_jobs import JobFailed, PermissionDenied, Token, connect
from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.methods import METHODS
from trio_jobs._wire.scopes import includes

CANDIDATES: tuple[Any, ...] = ("a" * 32, "done", 1, True, {"a": 1}, ["a" * 32], [{"kind": "double"}])


def params_of(method: str) -> dict[str, Any]:
    """A valid value for each required parameter."""
    return {
        field.encode_name: next(value for value in CANDIDATES if is_valid(value, field.type))
        for field in msgspec.structs.fields(METHODS[method].params)
        if field.required
    }


def is_valid(value: Any, type_: Any) -> bool:
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("token", [OWNER, OPERATOR, WATCHER], ids=lambda token: token.scope)
async def test_a_method_is_refused_exactly_if_the_scope_does_not_include_its_own(token: Token) -> None:
    async with bench(limits=patient(messages=10_000), metrics=False) as b:
        client = await b.raw(token)
        for name, row in METHODS.items():
            answer = await client.ask(name, **params_of(name))
            code = answer.get("error", {}).get("code")
            refused = code == ErrorCode.PERMISSION_DENIED
            assert refused != includes(token.scope, row.scope), name
            if refused:
                expected = f"{name} requires a token of scope {row.scope}; this one has {token.scope}"
                assert answer["error"]["message"] == expected
        await client.stream.aclose()


async def failed_job(b: Bench) -> str:
    job = (await b.queue.submit("fail", "no")).job_id
    with pytest.raises(JobFailed):
        await b.queue.result(job)
    return job


async def test_a_retry_of_what_may_have_acted_requires_control() -> None:
    """The method alone requires operate: its parameter has a check of its own, also for a job that has not acted."""
    async with bench(metrics=False) as b:
        job = await failed_job(b)
        seq = b.queue.get(job).seq
        async with connect(f"ws://127.0.0.1:{b.port}/ws", token=OPERATOR.secret) as client:
            expected = "jobs.retry with even_if_acted requires a token of scope control; this one has operate"
            with pytest.raises(PermissionDenied, match=re.escape(expected)):
                await client.retry(job, even_if_acted=True)
            assert b.queue.get(job).seq == seq
            await client.retry(job)
            assert b.queue.get(job).run == 2


async def test_an_operator_is_sent_what_an_owner_is_sent() -> None:
    async with bench(metrics=False) as b:
        job = await failed_job(b)
        answers = []
        for token in (OWNER, OPERATOR):
            client = await b.raw(token)
            answers.append([await client.ask("jobs.get", job=job), await client.ask("jobs.list", by="x")])
            await client.stream.aclose()
        assert answers[0] == answers[1]
        assert "traceback" in answers[1][0]["error"]
