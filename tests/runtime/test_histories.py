"""The history of a job by run, and the list of what operators did."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.rig import NO_RETRY, ended, make_rig, open_queue
from support.stores import SlowStore
from trio_jobs import JobNotFound, MemoryStore, Queue, SqliteStore, UsageError, events
from trio_jobs._engine.activity import MAX_ACTIVITY, SLACK, Activity
from trio_jobs._engine.operator_actions import ActionRecord
from trio_jobs._engine.projection import Projection
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._stores.sqlite import job_events


def types(run: trio_jobs.JobRun) -> list[str]:
    return [event.type for event in run.events]


@pytest.mark.parametrize("journal", [False, True])
async def test_a_history_has_the_events_of_each_run(
    journal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_events, "WINDOW", 3)  # the events of a job are in several of them
    service = trio_jobs.Service(job_retention=3600)
    fails = True

    @service.handler(on_doubt="hold")
    async def work(what: str) -> str:
        if fails:
            raise trio_jobs.Fail("no such account")
        return what

    async with service.open(journal=tmp_path / "jobs.db" if journal else None) as queue:
        job_id = (await queue.submit(work, "x", key="A-1")).job_id
        for n in range(5):  # between the events of the job
            await queue.submit(work, f"other {n}")
        await ended(queue, job_id)
        fails = False
        await queue.retry(job_id, by="Ada", note="opened it")
        await ended(queue, job_id)
        history = await queue.history(job_id[-8:])
        assert history.job_id == job_id
        assert history.complete
        assert [run.number for run in history.runs] == [1, 2]
        assert types(history.runs[0]) == ["submitted", "started", "failed"]
        assert types(history.runs[1]) == ["retried", "started", "completed"]
        assert [event.seq for event in history.events] == sorted(event.seq for event in history.events)
        assert {(event.kind, event.key) for event in history.events if isinstance(event, events.JobEvent)} == {
            ("work", "A-1")
        }
        begin = history.runs[1].events[0]
        assert isinstance(begin, events.RunRestarted)
        assert (begin.by, begin.note) == ("Ada", "opened it")
        assert history.to_dict()["runs"][1]["run"] == 2
        assert await trio.to_thread.run_sync(queue.from_thread.history, job_id) == history
        with pytest.raises(JobNotFound):
            await queue.history("00000000")


async def test_a_history_has_committed_events_alone(autojump_clock: MockClock) -> None:
    store = SlowStore(events.Cancelled)
    async with open_queue(make_rig("trio").service, store=store) as queue:
        job_id = (await queue.submit("work", "x", delay=60)).job_id
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: queue.cancel(job_id, by="Ada"))
            await trio.testing.wait_all_tasks_blocked()
            assert types((await queue.history(job_id)).runs[0]) == ["scheduled"]
            assert queue.activity() == ()
            store.keep()
        assert types((await queue.history(job_id)).runs[0]) == ["scheduled", "cancelled"]
        assert [action.action for action in queue.activity()] == ["cancel"]


async def test_a_run_that_is_not_committed_is_in_no_history(autojump_clock: MockClock) -> None:
    store = SlowStore(events.RunRestarted)
    store.keep()
    async with open_queue(make_rig("trio").service, store=store) as queue:
        job_id = (await queue.submit("work", "x", delay=60)).job_id
        await queue.cancel(job_id)
        store.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.retry, job_id)
            await trio.testing.wait_all_tasks_blocked()
            assert [run.number for run in (await queue.history(job_id)).runs] == [1]
            store.keep()
        assert [run.number for run in (await queue.history(job_id)).runs] == [1, 2]


async def test_a_history_says_that_its_beginning_is_not_kept(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=NO_RETRY)
    store = MemoryStore(stream=4, reopens=False)
    async with rig.open(store=store) as queue:
        rig.sdk.script("call", OSError("a"), OSError("b"))
        job_id = (await queue.submit("work", "x")).job_id
        await ended(queue, job_id)
        await queue.retry(job_id, even_if_acted=True)
        await ended(queue, job_id)
        history = await queue.history(job_id)
    assert not history.complete
    assert [(run.number, types(run)) for run in history.runs] == [(2, ["started", "failed"])]


async def test_a_job_that_is_pruned_during_the_read_has_no_history(autojump_clock: MockClock) -> None:
    class Slow(MemoryStore):
        async def job_events(self, job: str, first: int, last: int) -> list[events.Event]:
            await trio.sleep(7200)
            return []

    service = trio_jobs.Service(job_retention=60)

    @service.handler
    async def work(what: str) -> None: ...

    async with open_queue(service, store=Slow()) as queue:
        job_id = (await queue.submit(work, "x")).job_id
        await ended(queue, job_id)
        with pytest.raises(JobNotFound):
            await queue.history(job_id)


async def acted(queue: Queue) -> None:
    first = (await queue.submit("work", "x", delay=60, key="A-1")).job_id
    second = (await queue.submit("work", "y", delay=60)).job_id
    await queue.cancel(first, by="Ada", note="a duplicate")
    await queue.pause("month end", by="Bob")
    await queue.cancel(second, by="Ada")
    await queue.resume(by="Bob", note="done")


async def test_the_activity_lists_what_operators_did_to_jobs_and_to_the_queue(autojump_clock: MockClock) -> None:
    async with make_rig("trio").open() as queue:
        await acted(queue)
        jobs = [job.id for job in queue.list()]
        shown = [(one.action, one.by, one.note, one.job, one.kind, one.key) for one in queue.activity()]
        assert shown == [
            ("resume", "Bob", "done", None, None, None),
            ("cancel", "Ada", None, jobs[1], "work", None),
            ("pause", "Bob", "month end", None, None, None),
            ("cancel", "Ada", "a duplicate", jobs[0], "work", "A-1"),
        ]
        everything = queue.activity()
        assert queue.activity(limit=2) == everything[:2]
        assert queue.activity(before=everything[1].seq) == everything[2:]
        assert queue.activity(by="Ada") == (everything[1], everything[3])
        assert queue.activity(by="Ada", limit=1, before=everything[1].seq) == everything[3:]
        assert queue.activity(before=0) == ()
        assert everything[0].to_dict().keys() == {"action", "seq", "at", "by", "note"}
        for wrong in ({"limit": 0}, {"limit": 1001}, {"before": -1}, {"before": 1.5}, {"by": ""}):
            with pytest.raises(UsageError):
                queue.activity(**wrong)


@pytest.mark.parametrize("journal", [False, True])
async def test_the_activity_outlives_the_jobs_and_a_restart(journal: bool, tmp_path: Path) -> None:
    """What is pruned with the events around it, such as a pause, too."""
    memory = MemoryStore()

    def store() -> MemoryStore | SqliteStore:
        return SqliteStore(tmp_path / "jobs.db") if journal else memory

    service = trio_jobs.Service(max_finished_jobs=1)

    @service.handler
    async def work(what: str) -> None: ...

    async with service.open(store=store()) as queue:
        await acted(queue)
        before = queue.activity()
        assert await runtime_of(queue).pruner.run_once()
        assert len(queue.list()) == 1
        assert queue.activity() == before
        later = (await queue.submit("work", "z", delay=60)).job_id
        await queue.cancel(later, by="Cyd")
        before = queue.activity()
    for _ in range(2):
        async with service.open(store=store()) as queue:
            assert queue.activity() == before
            assert [one.action for one in before] == ["cancel", "resume", "cancel", "pause", "cancel"]


async def test_a_list_of_another_version_is_no_reason_not_to_start(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    store.keep_activity('[{"action":"invented","seq":1,"at":1.0}]')
    async with trio_jobs.Service().open(store=store) as queue:
        assert queue.activity() == ()
    assert "what operators did before the last prune cannot be read" in caplog.text


async def test_the_activity_survives_a_restart(tmp_path: Path) -> None:
    service = trio_jobs.Service()

    @service.handler
    async def work(what: str) -> None: ...

    async with service.open(journal=tmp_path / "jobs.db") as queue:
        await acted(queue)
        before = [one for one in queue.activity() if one.job is not None]
    async with service.open(journal=tmp_path / "jobs.db") as queue:
        after = queue.activity()
        assert [one for one in after if one.job is not None] == before


def test_what_was_done_to_a_job_whose_submit_is_rejected_has_not_happened() -> None:
    projection = Projection()
    payload = msgspec.Raw(b"1")
    projection.apply(events.Paused(seq=1, at=1.0, by="Ada"))
    projection.apply(events.Scheduled(seq=2, at=1.0, job="j", kind="work", payload=payload, due_at=9.0))
    projection.apply(events.Cancelled(seq=3, at=1.0, job="j", by="Bob", action="cancel"))
    assert [one.action for one in projection.activity.page(None, 3)] == ["cancel", "pause"]
    projection.retract("j")
    assert [one.action for one in projection.activity.page(None, 3)] == ["pause"]


def test_the_activity_keeps_the_newest_actions() -> None:
    activity = Activity()
    for seq in range(1, MAX_ACTIVITY + SLACK + 1):
        activity.add(ActionRecord("pause", seq, 1.0))
    kept = [record.seq for record in activity.page(None, 10**9)]
    assert len(kept) == MAX_ACTIVITY
    assert kept[0] == MAX_ACTIVITY + SLACK
    assert next(record.seq for record in activity.page(None, 1500)) == 1500, "later events are not committed yet"


async def test_a_store_in_a_file_has_the_events_of_a_job_from_before_the_oldest(tmp_path: Path) -> None:
    """A prune of other jobs raises `oldest`, and takes nothing from the history of a job that is kept."""
    store = SqliteStore(tmp_path / "jobs.db")
    service = trio_jobs.Service(max_finished_jobs=1000)

    @service.handler
    async def work(what: str) -> None: ...

    async with service.open(store=store) as queue:
        kept = (await queue.submit(work, "x", delay=3600)).job_id
        other = (await queue.submit(work, "y")).job_id
        await queue.result(other)
        log = runtime_of(queue).event_log
        record = log.projection.jobs[other]
        span = {other: (record.submitted_seq, record.last_seq)}
        log.projection.forget(span, 0.0)
        await store.prune(span)
        assert store.oldest > log.projection.jobs[kept].submitted_seq
        assert (await queue.history(kept)).complete
