"""A refused job of a submit of many is named: in the process, on the wire, and to a client."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import trio_jobs
from support.fake_server import FakeConnection, fake_server
from support.http_client import http_site
from support.server import OWNER, make_service, patient
from support.waiting import deadline
from trio_jobs import InvalidPayload, KeyConflict, NewJob, UnknownKind, UsageError
from trio_jobs._client.errors import as_exception
from trio_jobs._wire.jsonrpc import ErrorBody
from trio_jobs._wire.schemas import ErrorData

PAST = datetime.now(UTC) - timedelta(days=1)
GOOD = NewJob("double", 1)
#: A job that is refused, and the class of the error
FAULTS: dict[str, tuple[NewJob, type[UsageError]]] = {
    "kind": (NewJob("nobody", 1), UnknownKind),
    "type": (NewJob("double", "x"), InvalidPayload),
    "depth": (NewJob("double", json.loads("[" * 101 + "]" * 101)), InvalidPayload),
    "size": (NewJob("fail", "x" * 2**20), InvalidPayload),
    "key": (NewJob("double", 1, key="k" * 501), UsageError),
    "taken key": (NewJob("double", 2, key="taken"), KeyConflict),
    "key of another payload of the batch": (NewJob("double", 2, key="first"), KeyConflict),
    "deadline": (NewJob("double", 1, deadline_at=PAST), UsageError),
    "two times": (NewJob("double", 1, due_at=PAST, delay=1), UsageError),
    "labels": (NewJob("double", 1, labels={f"label {n}": "" for n in range(9)}), UsageError),
    "label": (NewJob("double", 1, labels={"a=b": "c"}), UsageError),
}


def on_wire(job: NewJob) -> dict[str, Any]:
    found = {name: getattr(job, name) for name in ("key", "delay", "labels")}
    found |= {"kind": job.handler, "payload": job.payload}
    found |= {name: at.timestamp() for name in ("due_at", "deadline_at") if (at := getattr(job, name)) is not None}
    return {name: value for name, value in found.items() if value is not None}


async def refusal(submit_many: Any, jobs: list[NewJob]) -> UsageError:
    with pytest.raises(UsageError) as raised:
        await submit_many(jobs)
    return raised.value


def facts(error: UsageError) -> tuple[object, ...]:
    return type(error), str(error), vars(error)


@settings(max_examples=20, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(sorted(FAULTS)), st.integers(0, 5)), min_size=5, max_size=9)
)
def test_the_refused_job_is_named_whatever_is_wrong_and_whatever_its_position(
    cases: list[tuple[int, str, int]],
) -> None:
    async def main() -> None:
        async with http_site(make_service(), limits=patient(messages=10**6, messages_per_second=1e6)) as (b, http):
            await b.queue.submit("double", 1, key="taken")
            async with trio_jobs.connect(b.server.url, token=OWNER.secret) as client:
                raw = await b.raw()
                for before, fault, after in cases:
                    bad, class_ = FAULTS[fault]
                    jobs = [NewJob("double", 1, key="first"), *[GOOD] * before, bad, *[GOOD] * after]
                    expected = await refusal(b.queue.submit_many, jobs)
                    assert (type(expected), expected.index) == (class_, before + 1)
                    assert str(expected).startswith(f"jobs[{before + 1}]: ")
                    got = await refusal(client.submit_many, jobs)
                    assert facts(got) == facts(expected)
                    sent = {"jobs": [*map(on_wire, jobs)]}
                    if fault == "size":  # too long for a message
                        continue
                    answer = await raw.ask("jobs.submit_many", **sent)
                    assert answer["error"]["data"]["index"] == before + 1
                    problem = (await http("POST", "/v1/bulk/submit", sent)).json
                    assert problem["index"] == before + 1
                raw.reset()
            assert (await b.queue.count()).total == 1, "nothing of a batch was accepted"

    trio.run(main)


@pytest.mark.parametrize(
    "wrong", [{"kind": 7}, {"kind": "double", "colour": 1}, {"kind": "double", "labels": {"": "x"}}]
)
async def test_a_job_that_cannot_be_decoded_is_named_by_its_index_too(wrong: dict[str, Any]) -> None:
    async with http_site(make_service()) as (b, http):
        jobs = [{"kind": "double", "payload": 1}, {"kind": "double", "payload": 1}, wrong]
        raw = await b.raw()
        answer = await raw.ask("jobs.submit_many", jobs=jobs)
        assert answer["error"]["data"] == {"index": 2}
        answer = await raw.ask("jobs.submit_many", jobs=jobs[:2], wait="x")
        assert "data" not in answer["error"]
        raw.reset()
        problem = (await http("POST", "/v1/bulk/submit", {"jobs": jobs})).json
        assert (problem["status"], problem["index"]) == (400, 2)


async def test_what_concerns_all_jobs_or_is_no_submit_of_many_has_no_index() -> None:
    async with (
        http_site(make_service(buffer=2)) as (b, _),
        trio_jobs.connect(b.server.url, token=OWNER.secret) as client,
    ):
        for queue in (b.queue, client):
            assert (await refusal(queue.submit_many, [GOOD] * 3)).index is None
            for kind, payload, class_ in (("double", "x", InvalidPayload), ("nobody", 1, UnknownKind)):
                with pytest.raises(class_) as raised:
                    await queue.submit(kind, payload)
                assert raised.value.index is None


@pytest.mark.parametrize(
    ("code", "data", "class_"),
    [
        (-32602, None, UsageError),
        (-32602, {"colour": 1}, UsageError),
        (-32602, {"problem": "of a later version"}, UsageError),
        (-32013, {"job": "a", "key": "k"}, KeyConflict),
    ],
)
async def test_a_server_that_sends_no_index_is_understood(
    code: int, data: dict[str, Any] | None, class_: type[UsageError]
) -> None:
    async def talk(connection: FakeConnection) -> None:
        await connection.hello()
        while True:
            request = await connection.receive()
            error = {"code": code, "message": "jobs[1]: no"} | ({} if data is None else {"data": data})
            await connection.send(id=request["id"], error=error)

    with deadline("the answer"):
        async with fake_server(talk) as url, trio_jobs.connect(url) as client:
            error = await refusal(client.submit_many, [GOOD, GOOD])
    assert (type(error), error.index) == (class_, None)


def test_the_index_of_an_error_that_is_of_no_job_is_passed_over() -> None:
    error = as_exception(ErrorBody(-32017, "the disk is full", ErrorData(index=1)))
    assert (type(error), str(error)) == (trio_jobs.StoreError, "the disk is full")
