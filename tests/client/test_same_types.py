"""A client gets the types and the values of the queue, without what the wire withholds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
import trio

import trio_jobs
from trio_jobs import Job, Queue, Service, State, Token, events

CONTROL = Token("control-" + "0" * 20, "ann", "control")
WATCH = Token("watch-" + "0" * 20, "wes", "watch")
NOT_SENT = {"steps", "open_step", "result", "earlier_payloads"}  # earlier payloads only where there are some
FOR_OPERATORS = {"payload", "by", "labels", "claimed_by", "reason", "result_problem"}
#: What is sent instead of a value that is not sent; None for the others
EMPTY: dict[str, Any] = {"labels": {}, "reason": ""}


@asynccontextmanager
async def served(token: Token, journal: Path | None = None) -> AsyncIterator[tuple[Queue, trio_jobs.Client]]:
    service = Service(drain_timeout=0.01)

    @service.handler(retry=trio_jobs.Retry(1, waits=[0.01]))
    async def book(number: int, job: trio_jobs.AsyncJobContext) -> int:
        async def one() -> int:
            return 1

        await job.step("one", one)
        if number == 0:
            raise ValueError("zero")
        return number * 2

    @service.handler
    async def wait(number: int, job: trio_jobs.AsyncJobContext) -> None:
        job.progress(1, 2, "half")
        await trio.sleep_forever()

    async with (
        service.open(journal=journal) as queue,
        trio_jobs.serve(queue, port=0, tokens=[CONTROL, WATCH]) as server,
        trio_jobs.connect(server.url, token=token.secret) as client,
    ):
        yield queue, client


async def some_jobs(queue: Queue) -> list[str]:
    """Completed, failed after a retry, running and scheduled."""
    done = await queue.submit("book", 21, key="k", deadline_after=3600, by="ben")
    failed = await queue.submit("book", 0)
    await queue.result(done.job_id)
    with pytest.raises(trio_jobs.JobFailed):
        await queue.result(failed.job_id)
    running = await queue.submit("wait", 1)
    scheduled = await queue.submit("book", 2, delay=3600.25)
    cancelled = await queue.submit("book", 3, delay=3600)
    await queue.cancel(cancelled.job_id, by="ben", note="a duplicate")
    while queue.get(running.job_id).state is not State.PROCESSING:
        await trio.testing.wait_all_tasks_blocked()
    return [receipt.job_id for receipt in (done, failed, running, scheduled, cancelled)]


def without_tracebacks(job: Job, *, messages: bool = True) -> Job:
    def stripped(error: trio_jobs.ErrorInfo | None) -> trio_jobs.ErrorInfo | None:
        if error is None:
            return None
        return msgspec.structs.replace(error, traceback=None, message=error.message if messages else "")

    attempts = tuple(attrs.evolve(attempt, error=stripped(attempt.error)) for attempt in job.attempts or ())
    return attrs.evolve(job, error=stripped(job.error), attempts=attempts)


def differing(one: Job, other: Job) -> set[str]:
    return {field.name for field in attrs.fields(Job) if getattr(one, field.name) != getattr(other, field.name)}


def withheld(job: Job, names: set[str]) -> Job:
    changes: dict[str, Any] = {name: EMPTY.get(name) for name in names}
    return attrs.evolve(job, **changes)


async def test_a_client_that_controls_gets_the_job_of_the_queue_field_by_field() -> None:
    async with served(CONTROL) as (queue, client):
        for job_id in await some_jobs(queue):
            expected = withheld(queue.get(job_id), NOT_SENT)
            got = await client.get(job_id)
            assert type(got) is Job
            assert differing(got, expected) == set()
            assert got == expected
            assert got.attempt_count == len(got.attempts or ())
        failed = queue.list(state=State.FAILED)[0]
        assert "Traceback" in str(failed.error and failed.error.traceback)


async def test_a_client_that_watches_gets_it_without_payload_and_tracebacks() -> None:
    async with served(WATCH) as (queue, client):
        for job_id in await some_jobs(queue):
            job = without_tracebacks(queue.get(job_id), messages=False)
            actions = tuple(attrs.evolve(action, by=None, note=None) for action in job.actions)
            expected = withheld(attrs.evolve(job, actions=actions), NOT_SENT | FOR_OPERATORS)
            assert await client.get(job_id) == expected


async def test_a_list_has_neither_payloads_nor_attempts() -> None:
    async with served(CONTROL) as (queue, client):
        await some_jobs(queue)
        hidden = NOT_SENT | {"payload", "attempts"}
        expected = [withheld(without_tracebacks(job), hidden) for job in queue.list()]
        assert await client.list() == expected
        async with client.subscribe(snapshot=True) as subscription:
            snapshot = await anext(subscription)
        assert isinstance(snapshot, trio_jobs.Snapshot)
        assert list(snapshot.jobs) == expected


def without_withheld(event: events.Event) -> events.Event:
    hidden = {"payload": msgspec.UNSET, "result": msgspec.UNSET, "digest": None}
    changes: dict[str, Any] = {name: value for name, value in hidden.items() if name in event.__struct_fields__}
    error: trio_jobs.ErrorInfo | None = getattr(event, "error", None)
    if error is not None:
        changes["error"] = msgspec.structs.replace(error, traceback=None)
    return msgspec.structs.replace(event, **changes)


async def read_until(source: AsyncIterator[object], last: int) -> Sequence[events.Event]:
    found: list[events.Event] = []
    while not found or found[-1].seq < last:
        update = await anext(source)
        if isinstance(update, events.Event):
            found.append(update)
    return found


async def test_both_sides_yield_the_same_events_with_the_kind_and_the_state_of_their_job() -> None:
    async with served(CONTROL) as (queue, client):
        await some_jobs(queue)
        await queue.pause("lunch", by="ben")
        last = queue.statistics().seq
        here = await read_until(queue.events(after=0), last)
        async with client.subscribe(after=0) as subscription:
            there = await read_until(subscription, last)
    assert there == [without_withheld(event) for event in here]
    assert [type(event) for event in there] == [type(event) for event in here]
    assert {type(event).__name__ for event in here} >= {"Submitted", "Scheduled", "StepFinished", "Failed", "Paused"}
    for event in here:
        if isinstance(event, events.JobEvent):
            assert event.kind in ("book", "wait")
            assert isinstance(event, events.StepFinished) == (event.state is None)
    completed = next(event for event in there if isinstance(event, events.Completed))
    assert completed.occurred_at.tzinfo is not None
    assert completed.state is State.COMPLETED


async def test_progress_is_the_progress_of_the_queue() -> None:
    async with served(CONTROL) as (queue, client), client.subscribe() as subscription:
        receipt = await queue.submit("wait", 1)
        update = await anext(subscription)
        while not isinstance(update, trio_jobs.Progress):
            update = await anext(subscription)
        assert update == trio_jobs.Progress(receipt.job_id, 1, 2, "half")


async def test_statistics_and_health_are_those_of_the_queue() -> None:
    async with served(WATCH) as (queue, client):
        await some_jobs(queue)
        got = await client.statistics()
        assert attrs.evolve(got, connections=None, subscriptions=None, refusals=None) == queue.statistics()
        assert (got.connections, got.subscriptions) == (1, 0)
        assert set((got.refusals or {}).values()) == {0}
        health = await client.health()
        assert health == queue.health()


async def test_a_backup_and_the_server_s_greeting_are_public_types(tmp_path: Path) -> None:
    async with served(CONTROL, tmp_path / "jobs.db") as (queue, client):
        backup = await client.backup("monday")
        assert backup == trio_jobs.Backup(
            str(tmp_path / "jobs.db.backup-monday"), backup.seq, backup.events, Path(backup.path).stat().st_size
        )
        info = await client.hello()
        assert info == trio_jobs.ServerInfo("trio-jobs.v1", queue.epoch, info.seq, 1, "control", "ann")
