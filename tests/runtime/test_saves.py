"""`save=`: a job is completed when the SDK has saved its work, and not before."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.memory_ledger import MemoryLedger, Page, ledger_service
from support.rig import HostKind, until_state
from support.rig import open_jumping_queue as open_queue
from support.stores import FailingStore
from trio_jobs import Retry, State, events
from trio_jobs._runtime.queue import runtime_of
from trio_jobs.testing import Blocker, CrashableStore, drain

ONCE = {"retry": Retry(3, waits=[1])}
SAFE = {**ONCE, "idempotent": True}


class Full(Exception):
    """What a save raises."""


async def submit(queue: trio_jobs.Queue, *works: str) -> list[str]:
    return [(await queue.submit("book", what, key=what)).job_id for what in works]


async def states(queue: trio_jobs.Queue) -> dict[str, str]:
    return {job.key or "": str(job.state) for job in queue.list()}


async def read(queue: trio_jobs.Queue) -> list[events.Event]:
    found: list[events.Event] = []
    async for event in queue.events(after=0):
        found.append(event)
        if event.seq == queue.statistics().seq:
            break
    return found


async def test_p6_a_job_is_completed_when_its_work_is_saved(kind: HostKind, autojump_clock: MockClock) -> None:
    ledger = MemoryLedger()
    async with open_queue(ledger_service(ledger, kind, rules=ONCE)) as queue:
        (job,) = await submit(queue, "a")
        assert await queue.result(job) == "a in 1"
        assert ledger.file == ["a"]
        names = [type(event).__name__ for event in await read(queue) if not isinstance(event, events.SessionOpening)]
        assert names == ["SessionOpened", "Submitted", "Started", "Returned", "Saved", "Completed"]
    assert ledger.done == ["open 1", "a", "save", "close 1"]


async def test_one_save_completes_a_group_in_one_commit(kind: HostKind, autojump_clock: MockClock) -> None:
    ledger = MemoryLedger()
    async with open_queue(ledger_service(ledger, kind, rules=ONCE, save_after_jobs=3)) as queue:
        jobs = await submit(queue, *"abcdef")
        for job in jobs:
            await queue.result(job)
        saved = [event for event in await read(queue) if isinstance(event, events.Saved)]
        assert [event.jobs for event in saved] == [tuple(jobs[:3]), tuple(jobs[3:])]
        assert [event.session for event in saved] == [1, 1]
    assert ledger.saved == [["a", "b", "c"], ["d", "e", "f"]]


async def test_a_group_is_saved_when_its_first_return_is_save_after_seconds_ago(autojump_clock: MockClock) -> None:
    ledger = MemoryLedger(on_book={what: [2.0] for what in "abc"})
    service = ledger_service(ledger, "trio", rules=ONCE, save_after_jobs=20, save_after=5)
    async with open_queue(service) as queue:
        begin = trio.current_time()
        a, *_ = await submit(queue, "a", "b")
        await queue.result(a)
        assert trio.current_time() - begin == 7
        assert ledger.saved == [["a", "b"]]
        (c,) = await submit(queue, "c")
        await queue.result(c)
        assert trio.current_time() - begin == 14


async def test_a_group_whose_time_passes_during_a_call_is_saved_after_it(autojump_clock: MockClock) -> None:
    ledger = MemoryLedger(on_book={"b": [50.0]})
    service = ledger_service(ledger, "trio", rules=ONCE, save_after_jobs=20, save_after=5)
    async with open_queue(service) as queue:
        begin = trio.current_time()
        a, b = await submit(queue, "a", "b")
        await queue.result(a)
        assert trio.current_time() - begin == 50
        await queue.result(b)
        assert ledger.saved == [["a", "b"]]


@pytest.mark.parametrize("durable", [False, True])
async def test_a_drain_does_not_wait_for_save_after(durable: bool, tmp_path: Any, autojump_clock: MockClock) -> None:
    ledger = MemoryLedger()
    service = ledger_service(ledger, rules=ONCE, save_after_jobs=20, save_after=1000)
    async with open_queue(service, journal=tmp_path / "jobs.db" if durable else None) as queue:
        await submit(queue, "a", "b")
        while queue.statistics().jobs[State.SAVING] < 2:
            await trio.sleep(0.01)
        begin = trio.current_time()
        await queue.drain()
        assert trio.current_time() - begin < 1
        assert await states(queue) == {"a": "completed", "b": "completed"}


@pytest.mark.parametrize("durable", [False, True])
async def test_the_end_of_the_block_saves_what_has_returned(
    durable: bool, tmp_path: Any, autojump_clock: MockClock
) -> None:
    ledger = MemoryLedger()
    service = ledger_service(ledger, rules=ONCE, save_after_jobs=20, save_after=1000)
    async with open_queue(service, journal=tmp_path / "jobs.db" if durable else None) as queue:
        await submit(queue, "a", "b")
        while queue.statistics().jobs[State.SAVING] < 2:
            await trio.sleep(0.01)
    assert queue.report is not None
    assert queue.report.unfinished == ()
    assert ledger.file == ["a", "b"]
    assert ledger.done[-2:] == ["save", "close 1"]


async def test_a_cancelled_owner_still_saves_what_has_returned(kind: HostKind, autojump_clock: MockClock) -> None:
    ledger = MemoryLedger()
    service = ledger_service(ledger, kind, rules=ONCE, save_after_jobs=20, save_after=1000)
    with trio.CancelScope() as scope:
        async with open_queue(service) as queue:
            await submit(queue, "a", "b")
            while queue.statistics().jobs[State.SAVING] < 2:
                await trio.sleep(0.01)
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert ledger.file == ["a", "b"]
    assert queue.report is not None
    assert queue.report.jobs[State.COMPLETED] == 2


async def test_a_stop_that_cancels_the_running_attempt_does_not_save(autojump_clock: MockClock) -> None:
    ledger = MemoryLedger(on_book={"b": [1000.0]})
    service = ledger_service(ledger, "trio", rules=ONCE, save_after_jobs=20, save_after=1000)
    with trio.CancelScope() as scope:
        async with open_queue(service) as queue:
            await submit(queue, "a", "b")
            await trio.sleep(1)
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert ledger.file == []
    assert await states(queue) == {"a": "in_doubt", "b": "in_doubt"}
    assert {job.key: job.reason for job in queue.list()} == {"a": "session_discarded", "b": "stopped"}


async def test_a_stop_does_not_save_a_session_that_was_kept_although_its_attempt_was_cancelled(
    autojump_clock: MockClock,
) -> None:
    ledger = MemoryLedger(on_book={"b": [1000.0]})
    service = ledger_service(ledger, "trio", rules=ONCE, save_after_jobs=20, save_after=1000, renew_after_error=False)
    with trio.CancelScope() as scope:
        async with open_queue(service) as queue:
            _, b = await submit(queue, "a", "b")
            await until_state(queue, b, "processing")
            await queue.cancel(b)
            await until_state(queue, b, "in_doubt")
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert ledger.file == []


@pytest.mark.parametrize(
    "refused", [events.Saved, events.InDoubt, events.SessionClosed], ids=lambda type_: type_.__name__
)
async def test_p3_the_sdk_is_closed_although_the_store_refuses_what_the_stop_records(
    refused: type[events.Event], kind: HostKind, autojump_clock: MockClock
) -> None:
    """An event about work that is not saved, or about the session."""
    is_discarded = refused is events.InDoubt
    ledger = MemoryLedger(on_book={"b": [Full()]} if is_discarded else {})
    rules = {"on_doubt": "hold"} if is_discarded else ONCE
    service = ledger_service(ledger, kind, rules=rules, save_after_jobs=20, save_after=1000)
    with pytest.raises(trio_jobs.StoreError, match="the disk is gone"):
        async with open_queue(service, store=FailingStore(refused)) as queue:
            (a,) = await submit(queue, "a")
            await until_state(queue, a, "saving")
            if is_discarded:
                await submit(queue, "b")
                await trio.sleep_forever()
    assert queue.report is not None
    assert queue.report.sdk_closed
    assert ledger.done.count("open 1") == 1
    assert [what for what in ledger.done if what.startswith(("close", "discard"))] == [
        "discard 1 Full" if is_discarded else "close 1"
    ]


async def test_a_paused_queue_saves_what_has_returned(kind: HostKind, autojump_clock: MockClock) -> None:
    ledger = MemoryLedger()
    service = ledger_service(ledger, kind, rules=ONCE, save_after_jobs=20, save_after=5)
    async with open_queue(service) as queue:
        (a,) = await submit(queue, "a")
        await until_state(queue, a, "saving")
        await queue.pause("lunch")
        await submit(queue, "b")
        assert await queue.result(a) == "a in 1"
        assert await states(queue) == {"a": "completed", "b": "pending"}
        await queue.resume()
        await drain(queue)


async def test_a_session_is_saved_before_it_is_renewed(kind: HostKind, autojump_clock: MockClock) -> None:
    ledger = MemoryLedger()
    service = ledger_service(ledger, kind, rules=ONCE, save_after_jobs=20, save_after=1000, renew_after_jobs=2)
    async with open_queue(service) as queue:
        await submit(queue, *"abcde")
    assert ledger.file == [*"abcde"]
    assert ledger.saved == [["a", "b"], ["c", "d"], ["e"]]
    assert "discard" not in " ".join(ledger.done)


# a save that fails


async def test_a_save_that_raised_is_retried_in_a_new_session(kind: HostKind, autojump_clock: MockClock) -> None:
    ledger = MemoryLedger(on_save=[Full("no space")])
    async with open_queue(ledger_service(ledger, kind, rules=SAFE)) as queue:
        (a,) = await submit(queue, "a")
        assert await queue.result(a) == "a in 2"
        job = queue.get(a)
        assert job.retries_used == 1
        failed = [event for event in await read(queue) if isinstance(event, events.SaveFailed)]
        assert [(event.jobs, event.session, event.problem) for event in failed] == [((a,), 1, "Full: no space")]
    assert ledger.file == ["a"]
    assert ledger.done == ["open 1", "a", "save", "discard 1 Full", "open 2", "a", "save", "close 2"]


@pytest.mark.parametrize(("written", "calls"), [(0, 2), (1, 1)])
async def test_after_a_save_that_raised_verify_finds_in_a_new_session_what_is_durable(
    kind: HostKind, written: int, calls: int, autojump_clock: MockClock
) -> None:
    ledger = MemoryLedger(on_save=[(written, Full())])
    async with open_queue(ledger_service(ledger, kind, verifies=True, rules=ONCE)) as queue:
        (a,) = await submit(queue, "a")
        result = await queue.result(a)
        assert result == ("a in 1" if written else "a in 2"), "the result is that of the handler"
        assert queue.get(a).retries_used == (0 if written else 1)
    assert ledger.file == ["a"]
    assert ledger.done.count("a") == calls
    assert ledger.done[:5] == ["open 1", "a", "save", "discard 1 Full", "open 2"]


async def test_without_a_verify_a_save_that_raised_leaves_a_doubt_unless_retry_was_declared(
    kind: HostKind,
    autojump_clock: MockClock,
) -> None:
    for rules, state in ((ONCE, "completed"), ({"on_doubt": "hold"}, "in_doubt")):
        ledger = MemoryLedger(on_save=[Full()])
        async with open_queue(ledger_service(ledger, kind, rules=rules)) as queue:
            await submit(queue, "a")
            await drain(queue)
            assert await states(queue) == {"a": state}


async def test_the_jobs_of_a_failed_group_are_then_saved_one_by_one(autojump_clock: MockClock) -> None:
    """The third work cannot be saved, ever; no other job pays for it more than once."""
    ledger = MemoryLedger()

    def save(page: Page) -> None:
        if "c" in page.memory:
            ledger.done.append("save")
            raise Full
        page.save()

    service = ledger_service(ledger, verifies=True, rules={"retry": Retry(2, waits=[1])}, save=save, save_after_jobs=5)
    async with open_queue(service) as queue:
        await submit(queue, *"abcde")
        await drain(queue)
        assert await states(queue) == {**dict.fromkeys("abde", "completed"), "c": "failed"}
        retries = {job.key: job.retries_used for job in queue.list()}
        assert retries == {"a": 1, "b": 1, "c": 2, "d": 1, "e": 1}
        assert sorted(ledger.file) == [*"abde"]
        assert all(len(group) == 1 for group in ledger.saved)
        await submit(queue, *"fghij")
        await drain(queue)
        assert ledger.saved[-1] == [*"fghij"], "the jobs of the failed group are final"


async def test_a_session_that_another_attempt_has_spoilt_is_not_saved(
    kind: HostKind, autojump_clock: MockClock
) -> None:
    ledger = MemoryLedger(on_book={"c": [Full()]})
    service = ledger_service(ledger, kind, verifies=True, rules=ONCE, save_after_jobs=5, save_after=3)
    async with open_queue(service) as queue:
        await submit(queue, *"abc")
        await drain(queue)
        jobs = {job.key: job for job in queue.list()}
        assert {key: job.retries_used for key, job in jobs.items()} == {"a": 0, "b": 0, "c": 1}
        assert {key: str(job.state) for key, job in jobs.items()} == dict.fromkeys("abc", "completed")
        for key in "ab":
            full = queue.get(jobs[key].id)
            assert [str(attempt.outcome) for attempt in full.attempts or ()] == ["unsaved", "completed"]
    assert sorted(ledger.file) == [*"abc"]
    assert ledger.done[:7] == ["open 1", "a", "b", "c", "discard 1 Full", "open 2", "verify c in 2"]


@pytest.mark.parametrize(
    ("error", "saved"),
    [(trio_jobs.Fail(), True), (trio_jobs.Snooze(0), True), (Full(), False)],
    ids=["Fail", "Snooze", "Full"],
)
async def test_an_attempt_that_vouches_does_not_spoil_the_session(
    error: BaseException, saved: bool, kind: HostKind, autojump_clock: MockClock
) -> None:
    ledger = MemoryLedger(on_book={"b": [error]})
    service = ledger_service(ledger, kind, rules={"retry": Retry(0)}, save_after_jobs=5, save_after=3)
    async with open_queue(service) as queue:
        a, _ = await submit(queue, "a", "b")
        await until_state(queue, a, "completed" if saved else "in_doubt")
    assert ("discard 1 Full" in ledger.done) is not saved


@pytest.mark.parametrize("verifies", [False, True])
async def test_a_save_that_does_not_return_in_time_is_an_interruption(
    verifies: bool, autojump_clock: MockClock
) -> None:
    ledger = MemoryLedger(on_save=[1000.0])
    service = ledger_service(ledger, "trio", verifies=verifies, rules=ONCE, save_timeout=5)
    async with open_queue(service) as queue:
        (a,) = await submit(queue, "a")
        if verifies:
            assert await queue.result(a) == "a in 2"
        job = await until_state(queue, a, "completed" if verifies else "in_doubt")
        assert (job.retries_used, job.may_have_acted) == (0, not verifies)
        assert job.reason == ("saved" if verifies else "save_timed_out")
    assert ledger.done[:3] == ["open 1", "a", "discard 1 SessionDiscarded"]


async def test_a_save_that_hangs_on_a_thread_is_overdue_and_then_stuck(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    hang = Blocker()
    ledger = MemoryLedger(on_save=[hang])
    async with open_queue(ledger_service(ledger, rules=ONCE, save_timeout=5)) as queue:
        a, b = await submit(queue, "a", "b")
        await until_state(queue, a, "saving")  # virtual time passes once the save is blocked
        await trio.sleep(6)
        assert queue.health().problems == ("overdue",)
        await trio.sleep(5)
        assert queue.health().problems == ("stuck",)
        assert await states(queue) == {"a": "saving", "b": "pending"}
        stuck = [event for event in await read(queue) if isinstance(event, events.Stuck)]
        assert [event.culprit for event in stuck] == ["save"]
        hang.release()
        assert await queue.result(a) == "a in 1", "a late return is a return"
        await queue.result(b)
        assert queue.health().ok
    assert "the save of 1 jobs" in caplog.text
    assert ledger.file == ["a", "b"]


async def test_p1_a_stop_waits_for_the_limit_of_a_save_and_abandons_it(autojump_clock: MockClock) -> None:
    hang = Blocker()
    ledger = MemoryLedger(on_save=[hang])
    service = ledger_service(ledger, rules=ONCE, save_timeout=20, cancel_timeout=1, drain_timeout=2)
    begin = trio.current_time()
    async with open_queue(service) as queue:
        (a,) = await submit(queue, "a")
        await until_state(queue, a, "saving")  # virtual time passes once the save is blocked
    hang.release()
    assert queue.report is not None
    assert not queue.report.sdk_closed
    assert 20 <= trio.current_time() - begin <= 40
    assert (queue.get(a).state, queue.get(a).reason) == (State.IN_DOUBT, "save_timed_out")


async def test_p1_a_stop_waits_for_an_asynchronous_save_behind_a_shield(autojump_clock: MockClock) -> None:
    ledger = MemoryLedger()

    async def save(page: Page) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(20)
        ledger.done.append("saved late")
        page.save()

    service = ledger_service(
        ledger, "trio", rules=ONCE, save=save, save_after_jobs=20, save_after=1000, save_timeout=5, drain_timeout=0
    )
    async with open_queue(service) as queue:
        (a,) = await submit(queue, "a")
        await until_state(queue, a, "saving")
    assert ledger.done == ["open 1", "a", "saved late", "save", "close 1"]
    assert ledger.file == ["a"]
    assert queue.get(a).state is State.COMPLETED


async def test_what_save_returns_must_have_run(autojump_clock: MockClock) -> None:
    async def unawaited(page: Page) -> None:
        page.save()

    ledger = MemoryLedger()
    service = ledger_service(ledger, rules={"retry": Retry(0)}, save=lambda page: unawaited(page))
    async with open_queue(service) as queue:
        (a,) = await submit(queue, "a")
        job = await until_state(queue, a, "failed")
        assert job.error is not None
        assert job.error.type == "InvalidHandler"
    assert ledger.file == []


# what a saving job is


async def test_a_saving_job_holds_no_slot_is_not_resolved_or_retried_and_its_cancel_is_requested(
    kind: HostKind,
    autojump_clock: MockClock,
) -> None:
    ledger = MemoryLedger()
    service = ledger_service(ledger, kind, rules=ONCE, save_after_jobs=20, save_after=60, buffer=2)
    async with open_queue(service) as queue:
        a, b = await submit(queue, "a", "b")
        for job in (a, b):
            await until_state(queue, job, "saving")
        assert queue.statistics().free == 2
        known = await queue.submit("book", "a", key="a")
        assert (known.created, known.position, known.state) == (False, 0, State.SAVING)
        with pytest.raises(trio_jobs.InvalidState):
            await queue.retry(a)
        with pytest.raises(trio_jobs.InvalidState):
            await queue.resolve(a, "done")
        assert await queue.cancel(a) == "requested"
        assert await queue.cancel_many(state="saving", by="ann") == (b,)
        assert await queue.cancel_many(state="saving", by="ann") == ()
        assert await queue.result(a) == "a in 1"
        assert queue.get(a).cancel_requested


async def test_a_cancelled_saving_job_is_cancelled_if_it_proves_not_done(
    kind: HostKind, autojump_clock: MockClock
) -> None:
    hang = Blocker(then=Full())
    ledger = MemoryLedger(on_save=[hang])
    async with open_queue(ledger_service(ledger, kind, verifies=True, rules=ONCE)) as queue:
        (a,) = await submit(queue, "a")
        await until_state(queue, a, "saving")  # virtual time passes once the save is blocked
        assert await queue.cancel(a) == "requested"
        hang.release()
        with pytest.raises(trio_jobs.JobCancelled):
            await queue.result(a)
    assert ledger.file == []


async def test_the_deadline_does_not_end_a_saving_job(kind: HostKind, autojump_clock: MockClock) -> None:
    ledger = MemoryLedger()
    service = ledger_service(ledger, kind, rules=ONCE, save_after_jobs=20, save_after=60)
    async with open_queue(service) as queue:
        receipt = await queue.submit("book", "a", deadline_after=10)
        assert await queue.result(receipt.job_id) == "a in 1"
        assert queue.get(receipt.job_id).state is State.COMPLETED


async def test_strict_order_starts_the_next_job_when_the_first_is_saved(
    kind: HostKind, autojump_clock: MockClock
) -> None:
    ledger = MemoryLedger(on_save=[Full()])
    service = ledger_service(ledger, kind, verifies=True, rules=ONCE, strict_order=True)
    async with open_queue(service) as queue:
        await submit(queue, "a", "b")
        await drain(queue)
    assert [what for what in ledger.done if what in "ab"] == ["a", "a", "b"]
    assert ledger.file == ["a", "b"]


async def test_min_interval_lies_between_a_save_and_the_next_attempt_and_between_two_saves(
    autojump_clock: MockClock,
) -> None:
    times: list[tuple[float, str]] = []
    ledger = MemoryLedger()

    async def save(page: Page) -> None:
        times.append((trio.current_time(), "save"))
        await trio.sleep(1)
        page.save()

    service = ledger_service(ledger, "trio", save=save, min_interval=4, rules=ONCE)

    @service.handler(kind="timed", retry=Retry(0))
    async def timed(page: Page, what: str) -> None:
        times.append((trio.current_time(), what))
        await trio.sleep(2)

    async with open_queue(service) as queue:
        begin = trio.current_time()
        for what in "ab":
            await queue.submit("timed", what)
        await drain(queue)
    assert [(at - begin, what) for at, what in times] == [(0, "a"), (2, "save"), (7, "b"), (9, "save")]


async def test_estimates_contain_the_share_of_a_save(autojump_clock: MockClock) -> None:
    ledger = MemoryLedger(on_save=[8.0], on_book={"a": [2.0], "b": [2.0]})
    service = ledger_service(ledger, "trio", rules=ONCE, save_after_jobs=2)
    async with open_queue(service) as queue:
        await submit(queue, "a", "b")
        await drain(queue)
        assert queue.statistics().mean_run == 2
        assert runtime_of(queue).estimates.turn("book") == 2 + 8 / 2


# what a session holds


async def test_a_close_that_fails_after_a_save_names_no_job(
    kind: HostKind, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = MemoryLedger(on_close=[OSError("gone")])
    async with open_queue(ledger_service(ledger, kind, rules=ONCE)) as queue:
        await submit(queue, "a")
        await drain(queue)
    assert "closing SDK session 1 failed" in caplog.text
    assert "may be lost: 0" in caplog.text


async def test_without_a_save_the_first_discarded_session_with_completed_jobs_is_a_warning(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    ledger = MemoryLedger(on_book={"b": [Full()], "d": [Full()]})
    service = ledger_service(ledger, rules={"retry": Retry(0)}, save=None)
    async with open_queue(service) as queue:
        await submit(queue, *"abcd")
        await drain(queue)
    said = [record.getMessage() for record in caplog.records if "give the service save=" in record.getMessage()]
    assert len(said) == 1
    assert "in which 1 jobs were completed is closed with an exception: a. " in said[0]


async def test_with_a_save_that_keeps_its_session_after_errors_verify_counts_as_unknown_until_the_next_session(
    kind: HostKind, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = MemoryLedger(on_book={"a": [Full()]})
    service = ledger_service(ledger, kind, verifies=True, rules=ONCE, renew_after_error=False)
    async with open_queue(service) as queue:
        (a,) = await submit(queue, "a")
        await until_state(queue, a, "in_doubt")
        await drain(queue)
        assert queue.get(a).state is State.IN_DOUBT
    assert "counts as Unknown" in caplog.text
    assert ledger.file == []


# restarts


@pytest.mark.parametrize(
    ("rules", "verifies", "state"),
    [(SAFE, False, "completed"), (ONCE, False, "in_doubt"), (ONCE, True, "completed")],
)
async def test_work_that_was_not_saved_when_the_process_died(
    rules: Any, verifies: bool, state: str, tmp_path: Any, autojump_clock: MockClock
) -> None:
    disk = CrashableStore()
    ledger = MemoryLedger()
    service = ledger_service(ledger, verifies=verifies, rules=rules, save_after_jobs=20, save_after=60)
    with pytest.raises(trio_jobs.TrioJobsError):
        async with open_queue(service, store=disk.store()) as queue:
            (a,) = await submit(queue, "a")
            await until_state(queue, a, "saving")
            disk.crash()
            await submit(queue, "b")
    ledger.file.clear()
    async with open_queue(service, store=disk.store(), seed=2) as queue:
        job = await until_state(queue, a, state)
        assert job.retries_used == 0
        assert (job.attempts or ())[0].outcome is trio_jobs.Outcome.UNSAVED


# the declaration


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"save": Page.save}, "save= needs an SDK"),
        ({"save": 3, "sdk": MemoryLedger().session}, "save must be a plain function of the SDK, not 3"),
        ({"save": lambda: None, "sdk": MemoryLedger().session}, "save must be a plain function of the SDK: too many"),
        ({"save": Page.asave, "sdk": MemoryLedger().session}, "save must be .*, not an async function"),
        ({"save": 3, "async_sdk": MemoryLedger().async_session}, "save must be a function of the SDK, not 3"),
        ({"save_after_jobs": 1001}, "save_after_jobs must be at most 1000"),
        ({"save_after_jobs": 0}, "save_after_jobs must be a whole number"),
        ({"save_after": -1}, "save_after must be"),
        ({"save_timeout": 0}, "save_timeout must be"),
        ({"save_after_jobs": 2, "strict_order": True}, "strict_order needs save_after_jobs=1"),
    ],
)
def test_a_mistake_in_a_declaration_is_explained(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(trio_jobs.UsageError, match=message):
        trio_jobs.Service(**settings)
