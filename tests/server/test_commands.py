"""Correct, verify, reschedule, claim, pause until and the operations for many jobs, from a client."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

import trio_jobs
from support.http_client import http_site
from support.waiting import deadline
from trio_jobs import (
    Client,
    Done,
    Fail,
    InvalidPayload,
    InvalidState,
    JobChanged,
    JobClaimed,
    JobMayHaveActed,
    JobNotFound,
    KeyConflict,
    NewJob,
    NotDone,
    PermissionDenied,
    Queue,
    QueueFull,
    Service,
    State,
    Unknown,
    UsageError,
)

ADA = trio_jobs.Token(secret="a" * 32, scope="control", name="ada")
BOB = trio_jobs.Token(secret="b" * 32, scope="operate", name="bob")
EVE = trio_jobs.Token(secret="e" * 32, scope="watch", name="eve")


class Ledger:
    """Books vouchers by key. `lost` loses the answer of the next booking behind the voucher, or before it."""

    def __init__(self) -> None:
        self.vouchers: dict[str, list[Any]] = {}
        self.lost: list[bool] = []
        self.answers: list[Any] = []

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Ledger]:
        yield self


def service(ledger: Ledger) -> Service:
    made = Service(async_sdk=ledger.session, buffer=5)

    async def verify(ledger: Ledger, job: trio_jobs.AsyncJobContext) -> Any:
        if ledger.answers:
            return ledger.answers.pop(0)
        return Done("found") if ledger.vouchers.get(job.key or "") else NotDone()

    @made.handler(verify=verify, on_doubt="fail", retry=trio_jobs.Retry(0))
    async def post(ledger: Ledger, payload: dict[str, Any], job: trio_jobs.AsyncJobContext) -> str:
        if payload.get("tax_id") == "wrong":
            raise Fail("the tax id is wrong")
        if ledger.lost:
            if ledger.lost.pop(0):
                ledger.vouchers.setdefault(job.key or "", []).append(payload)
            raise OSError("the answer is lost")
        ledger.vouchers.setdefault(job.key or "", []).append(payload)
        return "booked"

    return made


@asynccontextmanager
async def served(*tokens: trio_jobs.Token) -> AsyncIterator[tuple[Queue, Ledger, list[Client]]]:
    ledger = Ledger()
    async with service(ledger).open() as queue, trio_jobs.serve(queue, port=0, tokens=(ADA, BOB, EVE)) as server:
        async with trio.open_nursery() as nursery:
            clients: list[Client] = []
            done = trio.Event()

            async def connect(token: trio_jobs.Token) -> None:
                async with trio_jobs.connect(server.url, token=token.secret) as client:
                    clients.append(client)
                    await done.wait()

            for token in tokens:
                nursery.start_soon(connect, token)
                with deadline("a client"):
                    while len(clients) < tokens.index(token) + 1:
                        await trio.sleep(0.001)
            yield queue, ledger, clients
            done.set()


async def ended(client: Client, job_id: str) -> trio_jobs.Job:
    with deadline("the end of a job"):
        with contextlib.suppress(trio_jobs.JobFailed):
            await client.result(job_id)
        return await client.get(job_id)


async def test_a_kind_says_whether_its_handler_has_a_verify() -> None:
    made = service(Ledger())

    @made.handler(idempotent=True)
    async def mail(ledger: Ledger, address: str) -> None: ...

    async with http_site(made) as (_, http):
        kinds = (await http("GET", "/v1/kinds")).json["kinds"]
    assert {each["kind"]: each["verify"] for each in kinds} == {"mail": False, "post": True}


async def test_a_corrected_invoice_is_submitted_under_its_number() -> None:
    async with served(BOB) as (_, ledger, (client,)):
        first = await client.submit("post", {"tax_id": "wrong"}, key="A-1")
        await ended(client, first.job_id)
        with pytest.raises(KeyConflict, match="submit it with correct=True"):
            await client.submit("post", {"tax_id": "X-7"}, key="A-1")
        again = await client.submit("post", {"tax_id": "X-7"}, key="A-1", correct=True)
        assert (again.job_id, again.created) == (first.job_id, False)
        job = await ended(client, first.job_id)
        assert (job.state, job.run, job.payload) == (State.COMPLETED, 2, b'{"tax_id":"X-7"}')
        assert job.earlier_payloads == {1: b'{"tax_id":"wrong"}'}
        assert ledger.vouchers == {"A-1": [{"tax_id": "X-7"}]}


async def test_of_two_people_who_correct_a_job_the_second_one_is_told_so() -> None:
    async with served(ADA, BOB) as (_, ledger, (ada, bob)):
        receipt = await ada.submit("post", {"tax_id": "wrong"}, key="A-1")
        seen = (await ended(bob, receipt.job_id)).seq
        await ada.correct(receipt.job_id, {"tax_id": "X-7"}, if_seq=seen, note="new tax id")
        await ended(ada, receipt.job_id)
        with pytest.raises(JobChanged) as caught:
            await bob.correct(receipt.job_id, {"tax_id": "Y-8"}, if_seq=seen)
        assert caught.value.if_seq == seen
        with pytest.raises(InvalidState, match="another key"):
            await bob.correct(receipt.job_id, {"tax_id": "Y-8"})
        with pytest.raises((InvalidPayload, UsageError)):
            await bob.submit("post", "no object", key="A-2")
        action = (await ada.get(receipt.job_id)).actions[-1]
        assert (action.action, action.by, action.note) == ("correct", "ada", "new tax id")
        assert ledger.vouchers == {"A-1": [{"tax_id": "X-7"}]}


async def test_verify_decides_whether_a_failed_job_can_be_corrected() -> None:
    async with served(BOB) as (_, ledger, (client,)):
        ledger.lost, ledger.answers = [True, False], [Unknown(), Unknown()]
        booked, not_booked = [(await client.submit("post", {"n": n}, key=f"A-{n}")).job_id for n in (1, 2)]
        for job_id in (booked, not_booked):
            assert (await ended(client, job_id)).may_have_acted
            with pytest.raises(JobMayHaveActed, match="verify it"):
                await client.correct(job_id, {"n": 3})
        assert await client.verify(booked) == "done"
        assert (await client.get(booked)).state is State.COMPLETED
        assert await client.verify(not_booked) == "not_done"
        await client.correct(not_booked, {"n": 3})
        assert (await ended(client, not_booked)).state is State.COMPLETED
        assert ledger.vouchers == {"A-1": [{"n": 1}], "A-2": [{"n": 3}]}


async def test_a_waiting_job_is_moved() -> None:
    async with served(BOB) as (_, _, (client,)):
        receipt = await client.submit("post", {}, key="A-1", delay=3600)
        due = datetime.now(UTC) + timedelta(hours=5)
        await client.reschedule(receipt.job_id, due_at=due)
        moved = (await client.get(receipt.job_id)).due_at
        assert moved is not None
        assert abs(moved - due) < timedelta(seconds=1)
        with pytest.raises(UsageError, match="use run_now"):
            await client.reschedule(receipt.job_id, due_at=datetime.now(UTC) - timedelta(seconds=5))
        with pytest.raises(JobChanged):
            await client.run_now(receipt.job_id, if_seq=1)
        await client.run_now(receipt.job_id)
        assert (await ended(client, receipt.job_id)).state is State.COMPLETED


async def test_a_claim_names_the_person_of_the_token() -> None:
    async with served(ADA, BOB, EVE) as (_, _, (ada, bob, eve)):
        receipt = await ada.submit("post", {"tax_id": "wrong"}, key="A-1")
        await ended(ada, receipt.job_id)
        await ada.claim(receipt.job_id, note="calling the customer")
        with pytest.raises(JobClaimed, match="ada has claimed it") as caught:
            await bob.claim(receipt.job_id)
        assert caught.value.claimed_by == "ada"
        job = await bob.get(receipt.job_id)
        assert job.claimed_by == "ada"
        assert job.claimed_until == caught.value.until
        assert (await eve.get(receipt.job_id)).claimed_by is None, "names are for operators"
        await bob.claim(receipt.job_id, take_over=True)
        await bob.release_claim(receipt.job_id)
        assert (await ada.get(receipt.job_id)).claimed_by is None


async def test_a_pause_with_an_end() -> None:
    async with served(BOB) as (queue, _, (client,)):
        until = datetime.now(UTC) + timedelta(hours=1)
        await client.pause("lunch", until=until)
        assert queue.paused_until is not None
        assert abs(queue.paused_until - until) < timedelta(seconds=1)
        with pytest.raises(UsageError, match="in the past"):
            await client.pause("lunch", until=datetime.now(UTC) - timedelta(seconds=1))
        await client.resume()


async def test_many_jobs_are_submitted_as_one() -> None:
    async with served(BOB) as (queue, ledger, (client,)):
        jobs = [NewJob("post", {"n": n}, key=f"A-{n}", labels={"company": "acme"}) for n in range(5)]
        receipts = await client.submit_many(jobs)
        assert [receipt.created for receipt in receipts] == [True] * 5
        assert [receipt.created for receipt in await client.submit_many(jobs)] == [False] * 5
        for receipt in receipts:
            await ended(client, receipt.job_id)
        assert len(ledger.vouchers) == 5
        with pytest.raises(UsageError):
            await client.submit_many([NewJob("post", {"n": n}) for n in range(6)])
        await client.pause()
        await client.submit_many([NewJob("post", {"n": n}) for n in range(3)])
        with pytest.raises(QueueFull):
            await client.submit_many([NewJob("post", {"n": n}) for n in range(3)])
        assert queue.statistics().jobs[State.PENDING] == 3, "none of the three is accepted"
        await client.resume()


async def test_a_dry_run_says_what_a_bulk_operation_would_do() -> None:
    async with served(ADA, BOB, EVE) as (_, ledger, (ada, bob, eve)):
        ledger.lost, ledger.answers = [True], [Unknown()]
        acted = (await ada.submit("post", {}, key="A-1")).job_id
        await ended(ada, acted)
        wrong = [(await ada.submit("post", {"tax_id": "wrong", "n": n}, key=f"B-{n}")).job_id for n in range(3)]
        for job_id in wrong:
            await ended(ada, job_id)
        would = await bob.retry_many(dry_run=True)
        assert (would.retried, would.refused) == ((acted, *wrong), ())
        assert would.may_have_acted == would.verified_first == (acted,)
        assert (await ada.get(acted)).run == 1, "nothing was done"
        assert (await bob.retry_many(ids=[wrong[0]], note="again")).retried == (wrong[0],)
        await ended(ada, wrong[0])
        assert (await bob.retry_many(key_prefix="A-")).retried == (acted,)
        assert (await ended(ada, acted)).state is State.COMPLETED
        assert ledger.vouchers == {"A-1": [{}]}, "verify has found the voucher"
        waiting = [(await ada.submit("post", {}, key=f"C-{n}", delay=100)).job_id for n in range(2)]
        assert await bob.cancel_many(dry_run=True, key_prefix="C-") == tuple(waiting)
        assert await bob.cancel_many(key_prefix="C-") == tuple(waiting)
        assert (await ada.get(waiting[0])).state is State.CANCELLED
        with pytest.raises(PermissionDenied):
            await bob.retry_many(even_if_acted=True)
        with pytest.raises(PermissionDenied):
            await eve.retry_many(dry_run=True)
        with pytest.raises(JobNotFound):
            await bob.cancel_many(ids=["0" * 36])
        with pytest.raises(UsageError, match="whole ids"):
            await bob.cancel_many(ids=[acted[-8:]])
