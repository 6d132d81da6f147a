"""Payloads on their way through a queue, a journal and a server."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import attrs
import msgspec
import pytest
from trio.testing import MockClock

import trio_jobs
from support.hostile_errors import Word
from support.rig import ended, last, open_queue
from trio_jobs import InvalidPayload, KeyConflict, MemoryStore, Retry, Service
from trio_jobs._engine import events as ev
from trio_jobs.testing import FakeSdk, FakeSession


@attrs.frozen
class Order:
    number: str
    total: Decimal = Decimal(0)
    tags: set[str] = attrs.field(factory=set)


def make_service(seen: list[Any] | None = None) -> Service:
    service = Service()

    @service.handler
    async def order(payload: Order) -> str:
        if seen is not None:
            seen.append(payload)
        return payload.number

    @service.handler
    async def anything(payload: Any) -> Any:
        return payload

    return service


TAGS = [f"tag {n}" for n in range(20)]


async def test_the_same_payload_is_the_same_job_however_it_is_spelled(autojump_clock: MockClock) -> None:
    async with open_queue(make_service()) as queue:
        first = await queue.submit("order", Order("A", Decimal("1.50"), set(TAGS)), key="A")
        for spelled in (
            {"number": "A", "total": "1.5", "tags": TAGS[::-1]},
            {"number": "A", "total": 1.5, "tags": TAGS + TAGS},
            msgspec.Raw(msgspec.json.encode({"tags": TAGS, "total": "1.500", "number": "A"})),
        ):
            again = await queue.submit("order", spelled, key="A")
            assert (again.job_id, again.created) == (first.job_id, False)
        with pytest.raises(KeyConflict):
            await queue.submit("order", Order("A", Decimal("1.51"), set(TAGS)), key="A")
        many = await queue.submit_many(
            [trio_jobs.NewJob("order", Order("B"), key="B"), trio_jobs.NewJob("order", {"number": "B"}, key="B")]
        )
        assert len({receipt.job_id for receipt in many}) == 1


class EarlierStore(MemoryStore):
    """Keeps submits with the digest of their payload that the version before digests had a prefix has made."""

    def append(self, events: Sequence[ev.Event]) -> None:
        super().append(
            [
                msgspec.structs.replace(event, digest=OLD_DIGEST) if isinstance(event, ev.Submitted) else event
                for event in events
            ]
        )


OLD_DIGEST = "2a40c3bd9ec8ad5e399a64311a46dbcd"  # of {"a": 100.0, "b": 1}


async def test_a_key_of_an_earlier_version_is_compared_by_its_rule(autojump_clock: MockClock) -> None:
    store = EarlierStore()
    async with open_queue(make_service(), store=store) as queue:
        await queue.submit("anything", {"b": 1, "a": 100.0}, key="A")
    async with open_queue(make_service(), store=store, seed=2) as queue:
        assert not (await queue.submit("anything", {"a": 100.0, "b": 1}, key="A")).created
        with pytest.raises(KeyConflict):
            await queue.submit("anything", {"a": 100, "b": 1}, key="A")


@pytest.mark.parametrize("payload", [math.nan, {"a": math.inf}, {"tags": {"a"}}], ids=str)
async def test_a_payload_that_would_change_leaves_no_job(payload: Any, autojump_clock: MockClock) -> None:
    async with open_queue(make_service()) as queue:
        with pytest.raises(InvalidPayload):
            await queue.submit("anything", payload, key="A")
        with pytest.raises(InvalidPayload):
            await queue.submit_many([trio_jobs.NewJob("anything", 1), trio_jobs.NewJob("anything", payload)])
        assert queue.list() == []


@pytest.mark.parametrize("result", [math.nan, [1.5, -math.inf]])
async def test_a_result_without_json_is_not_kept(result: Any, autojump_clock: MockClock) -> None:
    service = Service()

    @service.handler
    async def work(number: int) -> Any:
        return result

    async with open_queue(service) as queue:
        receipt = await queue.submit("work", 1)
        with pytest.raises(trio_jobs.ResultUnavailable, match="has no JSON"):
            await queue.result(receipt.job_id)


async def test_a_client_submits_what_the_queue_accepts() -> None:
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed; trio-jobs does not depend on it")

    class Model(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        number: str
        total: Decimal = Decimal(0)

    seen: list[Any] = []
    service = make_service(seen)
    async with service.open() as queue, trio_jobs.serve(queue, port=0, tokens=None) as server:
        async with trio_jobs.connect(server.url) as client:
            digits = "1.10000000000000000000000000001"
            payloads = [
                Order("A", Decimal(1)),
                Model(number="A", total=Decimal(1)),
                {"number": "A", "total": 1},
                {"number": Word("A")},
                msgspec.Raw(f'{{"number": "A", "total": {digits}}}'.encode()),
            ]
            for n, payload in enumerate(payloads):
                receipt = await client.submit("order", payload, key=Word(f"key {n}"))
                assert await client.result(receipt.job_id) == "A"
            assert seen[-1].total == Decimal(digits)
            assert bytes(queue.list()[-1].payload or b"") == f'{{"number":"A","total":{digits}}}'.encode()
            again = await client.submit("order", Model(number="A", total=Decimal("1.0")), key="key 0")
            assert not again.created
            for bad in (math.nan, {"a": object()}, (n for n in [1])):
                with pytest.raises(InvalidPayload, match="payload for 'anything' refused"):
                    await client.submit("anything", bad)
            with pytest.raises(trio_jobs.UsageError, match="unknown field `vat`"):
                await client.submit("order", {"number": "A", "vat": 1})
            with pytest.raises(trio_jobs.UsageError, match="a key is a text of 1 to 500 characters"):
                await client.submit("anything", 1, key="half \ud83d")
            assert (await client.submit("anything")).created, "null is the payload by default"
            assert client.reconnects == 0


async def test_an_attempt_whose_payload_cannot_be_decoded_has_not_entered_the_sdk() -> None:
    """It is checked when it is submitted, but what a class checks itself may change until the attempt."""
    account_is_open = True

    @attrs.frozen
    class Entry:
        account: str

        def __attrs_post_init__(self) -> None:
            if not account_is_open:
                raise ValueError("the account is closed")

    sdk = FakeSdk()
    service = Service(sdk=sdk.session)

    @service.handler(retry=Retry(0), payload_type=Entry)
    def book(session: FakeSession, entry: Any) -> None:
        session.call(entry.account)

    async with open_queue(service) as queue:
        await queue.pause("until the account is closed")
        receipt = await queue.submit(book, Entry("A-1"))
        account_is_open = False
        await queue.resume()
        job = await ended(queue, receipt.job_id)
    assert last(job).error is not None
    assert not last(job).entered
    assert not job.may_have_acted
    assert sdk.calls() == []
    assert sdk.thrown == []
