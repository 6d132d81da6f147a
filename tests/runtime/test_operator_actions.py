"""What operators do is recorded: who, when and why, on the job and in its events."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.rig import NO_RETRY, busy_queue, ended, make_rig, open_queue, until_state
from trio_jobs import Job, MemoryStore, Queue, SqliteStore, UsageError, events
from trio_jobs._engine.operator_actions import MAX_ACTIONS

Said = tuple[str, str | None, str | None, str]


def said(job: Job) -> list[Said]:
    return [(action.action, action.by, action.note, action.detail) for action in job.actions]


async def failing(queue: Queue, payload: str = "x") -> str:
    receipt = await queue.submit("work", payload)
    await ended(queue, receipt.job_id)
    return receipt.job_id


async def test_cancel_retry_and_resolve_are_kept_on_the_job_with_who_when_and_why(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", on_doubt="hold")
    rig.sdk.script("call", OSError("half done"))
    async with rig.open() as queue:
        job_id = (await queue.submit("work", "x", key="K")).job_id
        await until_state(queue, job_id, "in_doubt")
        assert queue.get(job_id).actions == ()
        await queue.resolve(job_id, "failed", by="Ada", note="the bank says no")
        rig.sdk.script("call", OSError("again"))
        await queue.retry(job_id, by="Bob", note="the bank says yes")
        await until_state(queue, job_id, "in_doubt")
        await queue.resolve(job_id, "not_done", by="Ada")
        job = await ended(queue, job_id)
        later = (await queue.submit("work", "y", delay=60)).job_id
        await queue.cancel(later, by="Cyd", note="a duplicate")
        assert said(queue.get(later)) == [("cancel", "Cyd", "a duplicate", "")]
    assert said(job) == [
        ("resolve", "Ada", "the bank says no", "failed"),
        ("retry", "Bob", "the bank says yes", ""),
        ("resolve", "Ada", None, "not_done"),
    ]
    assert [action.seq for action in job.actions] == sorted(action.seq for action in job.actions)
    assert all(datetime(2000, 1, 1, tzinfo=UTC) < action.at for action in job.actions)
    assert job.actions[0].job is None, "the job that has it is the job"


async def test_the_cancel_of_a_running_attempt_is_one_action(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", on_doubt="hold")
    async with busy_queue(rig) as (queue, hold, first):
        await queue.cancel(first, by="Ada", note="wrong customer")
        hold.release()
        await trio.sleep(1)
        assert said(queue.get(first)) == [("cancel", "Ada", "wrong customer", "requested")]


async def test_a_doubt_that_is_resolved_as_not_done_after_a_cancel_is_one_action(autojump_clock: MockClock) -> None:
    """The job is then cancelled; that follows from the resolution, and nobody did it a second time."""
    rig = make_rig("trio", on_doubt="hold")
    async with busy_queue(rig) as (queue, _hold, first):
        await queue.cancel(first, by="Ada")
        await until_state(queue, first, "in_doubt")
        await queue.resolve(first, "not_done", by="Bob", note="no voucher")
        assert queue.get(first).state == "cancelled"
        assert said(queue.get(first)) == [
            ("cancel", "Ada", None, "requested"),
            ("resolve", "Bob", "no voucher", "not_done"),
        ]


async def test_the_newest_actions_of_a_job_are_kept_with_it_and_the_last_one_is_listed(
    autojump_clock: MockClock,
) -> None:
    rig = make_rig("trio", retry=NO_RETRY)
    async with rig.open() as queue:
        rig.sdk.script("call", *[OSError(str(n)) for n in range(MAX_ACTIONS + 6)])
        job_id = await failing(queue)
        for n in range(MAX_ACTIONS + 5):
            await queue.retry(job_id, even_if_acted=True, note=f"try {n}")
            await ended(queue, job_id)
        notes = [action.note for action in queue.get(job_id).actions]
        assert notes == [f"try {n}" for n in range(5, MAX_ACTIONS + 5)]
        assert {action.detail for action in queue.get(job_id).actions} == {"even_if_acted"}
        [listed] = queue.list()
        assert [action.note for action in listed.actions] == notes, "in the process a list has whole jobs"
        assert queue.backend.get(job_id, brief=True).actions == queue.get(job_id).actions[-1:]


async def test_bulk_operations_record_the_note_on_each_job(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=NO_RETRY)
    async with rig.open() as queue:
        rig.sdk.script("call", OSError("a"), OSError("b"))
        jobs = [await failing(queue) for _ in range(2)]
        await queue.pause()
        await queue.retry_many(by="Ada", even_if_acted=True, note="after the outage")
        await queue.cancel_many(by="Bob", note="not needed")
        for job_id in jobs:
            assert [(action, note) for action, _, note, _ in said(queue.get(job_id))] == [
                ("retry", "after the outage"),
                ("cancel", "not needed"),
            ]


@pytest.mark.parametrize("note", [7, b"x", "x" * 1001, "\ud800"])
async def test_a_note_that_cannot_be_kept_is_refused_and_nothing_is_done(note: str, autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=NO_RETRY)
    async with rig.open() as queue:
        await queue.pause()
        job_id = (await queue.submit("work", "x")).job_id
        seq = queue.statistics().seq
        for act in (
            queue.cancel(job_id, note=note),
            queue.resume(note=note),
            queue.drain(note=note),
            queue.undrain(note=note),
            queue.cancel_many(note=note),
        ):
            with pytest.raises(UsageError, match="a note is a text of 1 to 1000 characters"):
                await act
        assert queue.statistics().seq == seq


async def test_an_empty_note_is_none(autojump_clock: MockClock) -> None:
    async with make_rig("trio").open() as queue:
        job_id = (await queue.submit("work", "x", delay=60)).job_id
        await queue.cancel(job_id, note="")
        assert said(queue.get(job_id)) == [("cancel", None, None, "")]


async def test_pausing_resuming_and_draining_are_events_with_who_and_why(autojump_clock: MockClock) -> None:
    async with make_rig("trio").open() as queue:
        await queue.pause("month end", by="Ada")
        await queue.resume(by="Bob", note="the books are closed")
        await queue.drain(by="Cyd", note="a new server")
        await queue.drain(by="Dan")
        await queue.undrain(by="Eve", note="not yet")
        await queue.undrain(by="Eve")
        stream = queue.events(after=0)
    kinds = (events.Paused, events.Resumed, events.DrainStarted, events.DrainEnded)
    seen = [event.to_dict() async for event in stream if isinstance(event, kinds)]
    assert [{name: value for name, value in event.items() if name not in ("seq", "at")} for event in seen] == [
        {"type": "paused", "reason": "month end", "by": "Ada"},
        {"type": "resumed", "by": "Bob", "note": "the books are closed"},
        {"type": "drain_started", "by": "Cyd", "note": "a new server"},
        {"type": "drain_ended", "by": "Eve", "note": "not yet"},
    ]


async def test_the_drain_of_a_stop_is_no_action_of_an_operator(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with open_queue(make_rig("trio").service, store=store) as queue:
        await queue.submit("work", "x")
    seen = [event.type for event in await store.events(0, 100)]
    assert "completed" in seen
    assert "drain_started" not in seen


async def test_every_later_event_of_a_job_has_its_kind_and_its_key(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with rig.open() as queue:
        await queue.submit("work", "x", key="K-1")
        await queue.submit("work", "y")
        stream = queue.events(after=0)
    seen = [(e.job, e.kind, e.key) async for e in stream if isinstance(e, events.JobEvent)]
    assert len(seen) == 6
    assert {kind for _, kind, _ in seen} == {"work"}
    by_job = {job: {key for one, _, key in seen if one == job} for job, _, _ in seen}
    assert list(by_job.values()) == [{"K-1"}, {None}]


async def test_the_journal_stores_the_key_once(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.db")
    service = trio_jobs.Service()

    @service.handler
    async def work(what: str) -> None: ...

    async with service.open(store=store) as queue:
        await queue.result((await queue.submit(work, "x", key="K-1")).job_id)
        stored = await store.events(0, 100)
        assert [event.key for event in stored if isinstance(event, events.JobEvent)] == ["K-1", None, None]


async def test_actions_survive_a_restart(tmp_path: Path) -> None:
    service = trio_jobs.Service()

    @service.handler
    async def work(what: str) -> None: ...

    journal = tmp_path / "jobs.db"
    async with service.open(journal=journal) as queue:
        job_id = (await queue.submit(work, "x", delay=3600)).job_id
        await queue.cancel(job_id, by="Ada", note="a duplicate")
        before = queue.get(job_id)
    async with service.open(journal=journal) as queue:
        assert queue.get(job_id) == before
        assert said(before) == [("cancel", "Ada", "a duplicate", "")]
