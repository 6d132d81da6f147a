"""A job that is forgotten leaves nothing behind but its id, its key's tombstone and who has forgotten it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.rig import busy_queue, ended, make_rig, open_queue, until_state
from support.server import OWNER, bench, make_service
from trio_jobs import InvalidState, JobNotFound, Lagged, MemoryStore, Queue, SqliteStore, StoreError, events
from trio_jobs._cli.arguments import parser
from trio_jobs._cli.commands import COMMANDS
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._runtime.queue import runtime_of

SECRET = "Jane Roe, 4111-1111"


def plain_service() -> trio_jobs.Service:
    service = trio_jobs.Service()

    @service.handler(on_doubt="hold")
    async def work(what: str) -> str:
        return what

    return service


async def done(queue: Queue, payload: str = SECRET, key: str | None = "K-1") -> str:
    job_id = (await queue.submit("work", payload, key=key)).job_id
    await ended(queue, job_id)
    return job_id


async def test_a_forgotten_job_is_gone_and_its_key_stays_known() -> None:
    async with plain_service().open() as queue:
        job_id = await done(queue)
        other = await done(queue, "x", None)
        await queue.forget(job_id[-8:], by="Ada", note="she asked for it")
        with pytest.raises(JobNotFound):
            queue.get(job_id)
        with pytest.raises(JobNotFound):
            await queue.history(job_id)
        assert [job.id for job in queue.list()] == [other]
        again = await queue.submit("work", SECRET, key="K-1")
        assert (again.job_id, again.created) == (job_id, False)
        with pytest.raises(JobNotFound):
            await queue.forget(job_id)
        assert SECRET not in repr(queue.list())


async def test_only_a_final_job_can_be_forgotten(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", on_doubt="hold")
    async with busy_queue(rig) as (queue, _hold, first):
        waiting = (await queue.submit("work", "x")).job_id
        for job_id in (first, waiting):
            with pytest.raises(InvalidState, match="only a completed, failed or cancelled job can be forgotten"):
                await queue.forget(job_id)
        await queue.cancel(first)
        await until_state(queue, first, "in_doubt")
        with pytest.raises(InvalidState):
            await queue.forget(first)
        await queue.resolve(first, "failed")
        await queue.forget(first)


async def test_a_reader_before_the_last_event_gets_a_gap_once_and_one_behind_it_none() -> None:
    async with plain_service().open() as queue:
        job_id = await done(queue)
        last = queue.get(job_id).seq
        before, behind = queue.events(after=0), queue.events(after=last)
        await queue.forget(job_id, by="Ada")
        await done(queue, "x", None)
        with pytest.raises(Lagged):
            await anext(before)
        for stream in (before, behind):
            seen = [await anext(stream) for _ in range(3)]
            assert {getattr(event, "job", None) for event in seen}.isdisjoint({job_id})
            forgotten = [event for event in seen if isinstance(event, events.Forgotten)]
            assert [(event.jobs, event.by) for event in forgotten] == [((job_id,), "Ada")]


async def test_nothing_of_a_forgotten_job_is_in_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with plain_service().open(journal=path) as queue:
        job_id = await done(queue)
        kept = await done(queue, "kept", "K-2")
        await queue.forget(job_id, by="Ada")
    assert SECRET.encode() not in path.read_bytes()
    async with plain_service().open(journal=path) as queue:
        assert [job.id for job in queue.list()] == [kept]
        assert (await queue.submit("work", SECRET, key="K-1")).job_id == job_id
        assert [(one.action, one.by, one.job) for one in queue.activity()] == [("forget", "Ada", job_id)]


class Refusing(MemoryStore):
    """Cannot remove anything while `fails`."""

    fails = True

    async def forget(self, jobs: Mapping[str, tuple[int, int]], keys: Sequence[KeyTombstone]) -> None:
        if self.fails:
            raise StoreError("the disk is full")
        await super().forget(jobs, keys)


async def test_a_restart_removes_what_a_crash_has_left_of_a_forgotten_job() -> None:
    store = Refusing()
    async with plain_service().open(store=store) as queue:
        job_id = await done(queue)
        with pytest.raises(StoreError):
            await queue.forget(job_id)
        with pytest.raises(JobNotFound):
            queue.get(job_id)
    store.fails = False
    async with plain_service().open(store=store) as queue:
        with pytest.raises(JobNotFound):
            queue.get(job_id)
        assert (await queue.submit("work", SECRET, key="K-1")).created is False
        assert runtime_of(queue).event_log.projection.forgotten == {}
    async with plain_service().open(store=store) as queue:
        assert queue.list() == []


async def test_nothing_is_pruned_before_the_forgotten_jobs_are_removed(autojump_clock: MockClock) -> None:
    """A prune could remove the event by which the job is forgotten, and leave the events of the job."""
    store = Refusing()
    service = trio_jobs.Service(job_retention=100)

    @service.handler(on_doubt="hold")
    async def work(what: str) -> str:
        return what

    async with open_queue(service, store=store) as queue:
        job_id = await done(queue)
        with pytest.raises(StoreError):
            await queue.forget(job_id)
        other = await done(queue, "x", None)
        await trio.sleep(1000)
        assert [job.id for job in queue.list()] == [other], "it is old, and waits"
        store.fails = False
        await trio.sleep(100)
        assert queue.list() == []
        assert runtime_of(queue).event_log.projection.forgotten == {}


async def test_the_activity_keeps_who_did_what_without_key_and_note() -> None:
    async with plain_service().open() as queue:
        job_id = (await queue.submit("work", "x", key="K-1", delay=60)).job_id
        await queue.cancel(job_id, by="Ada", note="Jane Roe called")
        await queue.forget(job_id, by="Bob", note="law")
        shown = [(one.action, one.by, one.note, one.key, one.job) for one in queue.activity()]
        assert shown == [("forget", "Bob", "law", None, job_id), ("cancel", "Ada", None, None, job_id)]


async def test_notes_about_a_forgotten_job_do_not_come_back_with_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with plain_service().open(journal=path) as queue:
        other = await done(queue, "other", "K-2")
        job_id = (await queue.submit("work", "x", key="K-1", delay=60)).job_id
        await queue.cancel(job_id, by="Ada", note="Jane Roe called")
        runtime = runtime_of(queue)
        runtime.activity.keep()
        span = {other: (queue.get(other).seq - 2, queue.get(other).seq)}
        runtime.event_log.projection.forget(span, 0.0)
        await runtime.event_log.store.prune(span)  # the notes are written with it
        await queue.forget(job_id, by="Bob")
    assert b"Jane Roe called" not in path.read_bytes()
    async with plain_service().open(journal=path) as queue:
        shown = [(one.action, one.by, one.note, one.key) for one in queue.activity()]
        assert shown == [("forget", "Bob", None, None), ("cancel", "Ada", None, None)]


async def test_a_store_in_a_file_forgets_too(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.db")
    async with plain_service().open(store=store) as queue:
        job_id = await done(queue)
        last = queue.get(job_id).seq
        await queue.forget(job_id)
        assert store.oldest == last + 1
        assert queue.backend.events.oldest == last + 1


async def test_the_command_forgets_and_a_follower_is_told_of_the_gap(capsys: pytest.CaptureFixture[str]) -> None:
    async with (
        bench(make_service(drain_timeout=0.0), metrics=False) as b,
        trio_jobs.connect(f"ws://127.0.0.1:{b.port}/ws", token=OWNER.secret) as client,
    ):
        job_id = (await client.submit("double", 21, key="A-1")).job_id
        await client.result(job_id)
        seq = b.queue.get(job_id).seq
        code = await COMMANDS["forget"](client, parser().parse_args(["forget", "--key", "A-1", "--note", "law"]))
        assert (code, capsys.readouterr().out) == (0, "forgotten: its data is removed, its key stays known\n")
        with pytest.raises(JobNotFound):
            await client.get(job_id)
        async with client.subscribe(after=seq - 1, epoch=b.queue.epoch) as subscription:
            assert isinstance(await anext(subscription), trio_jobs.Gap)
        [action] = b.queue.activity()
        assert (action.action, action.by, action.note) == ("forget", OWNER.name, "law")
