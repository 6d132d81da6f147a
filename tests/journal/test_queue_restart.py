"""A queue with a journal after a restart: what was acknowledged is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import trio_jobs
from support.rig import everything_committed
from trio_jobs import Done, NotDone, Service, State, Unknown
from trio_jobs._runtime.queue import runtime_of


@attrs.frozen
class Order:
    n: int


class Book:
    """A book that survives a restart."""

    def __init__(self) -> None:
        self.entries: list[int] = []


def make_service(book: Book, **settings: Any) -> Service:
    service = Service(**settings)

    @service.handler
    def post(order: Order) -> int:
        book.entries.append(order.n)
        return order.n * 10

    return service


async def test_an_accepted_job_and_its_result_survive_a_restart(tmp_path: Path) -> None:
    book = Book()
    service = make_service(book)
    async with service.open(journal=tmp_path / "jobs.db") as queue:
        receipt = await queue.submit("post", Order(4), key="a")
        assert receipt.created
        assert receipt.position == 1
        assert receipt.state is State.PENDING
        assert await queue.result(receipt.job_id) == 40
    async with service.open(journal=tmp_path / "jobs.db") as queue:
        assert queue.get(receipt.job_id).state is State.COMPLETED
        assert await queue.result(receipt.job_id) == 40
        again = await queue.submit("post", Order(4), key="a")
        assert (again.created, again.job_id, again.state) == (False, receipt.job_id, State.COMPLETED)
    assert book.entries == [4]


async def test_waiting_jobs_keep_their_order_after_a_restart(tmp_path: Path) -> None:
    book = Book()
    service = make_service(book, buffer=10)
    async with service.open(journal=tmp_path / "jobs.db") as queue:
        await queue.pause()
        for n in range(10):
            await queue.submit("post", Order(n))
        later = await queue.submit("post", Order(99), delay=3600)
    assert queue.report is not None
    assert len(queue.report.unfinished) == 11
    assert book.entries == []
    async with make_service(book, buffer=3).open(journal=tmp_path / "jobs.db") as queue:
        assert queue.paused is not None
        await queue.resume()
        for job in queue.list(limit=10):
            await queue.result(job.id)
        assert queue.get(later.job_id).state is State.SCHEDULED
    assert book.entries == list(range(10))


async def test_a_journal_in_use_is_refused_with_its_process(tmp_path: Path) -> None:
    service = make_service(Book())
    async with service.open(journal=tmp_path / "jobs.db"):
        with pytest.raises(trio_jobs.JournalInUse, match="in use by process"):
            async with service.open(journal=tmp_path / "jobs.db"):
                raise AssertionError("not reached")


async def test_an_unregistered_kind_is_refused_or_held(tmp_path: Path) -> None:
    async with make_service(Book()).open(journal=tmp_path / "jobs.db") as queue:
        await queue.pause()
        first = await queue.submit("post", Order(1))
        await queue.submit("post", Order(2))
    other = Service()

    @other.handler(kind="else")
    def _else(order: Order) -> None:
        pass

    with pytest.raises(trio_jobs.UnhandledJobs, match="2 of kind 'post'") as caught:
        async with other.open(journal=tmp_path / "jobs.db"):
            raise AssertionError("not reached")
    assert caught.value.kinds == {"post": 2}
    other = Service(unhandled_jobs="hold")
    other.handler(kind="else")(_else)
    async with other.open(journal=tmp_path / "jobs.db") as queue:
        await queue.resume()
        assert queue.health().without_handler == 2
        await queue.cancel(first.job_id)
        assert queue.health().without_handler == 1
        receipt = await queue.submit(_else, Order(3))
        await queue.result(receipt.job_id)
        with pytest.raises(trio_jobs.UnknownKind):
            await queue.retry(first.job_id)


async def test_a_payload_that_no_longer_fits_is_refused(tmp_path: Path) -> None:
    async with make_service(Book()).open(journal=tmp_path / "jobs.db") as queue:
        await queue.pause()
        await queue.submit("post", Order(1))
    service = Service()

    @service.handler(kind="post")
    def post(order: list[str]) -> None:
        pass

    with pytest.raises(trio_jobs.UnhandledJobs, match="payload does not fit"):
        async with service.open(journal=tmp_path / "jobs.db"):
            raise AssertionError("not reached")


async def test_a_payload_that_no_longer_fits_can_be_held_and_is_counted_in_health(
    tmp_path: Path,
) -> None:
    async with make_service(Book()).open(journal=tmp_path / "jobs.db") as queue:
        await queue.pause()
        old = await queue.submit("post", Order(1))
    service = Service(unhandled_jobs="hold", buffer=2)

    @service.handler(kind="post")
    def post(order: list[str]) -> int:
        return len(order)

    async with service.open(journal=tmp_path / "jobs.db") as queue:
        await queue.resume()
        assert queue.health().without_handler == 1
        assert queue.statistics().free == 2, "a held job uses no slot"
        new = await queue.submit("post", ["a", "b"])
        assert new.position == 1, "a held job is not in the queue"
        assert await queue.result(new.job_id) == 2
        assert queue.get(old.job_id).state is State.PENDING
    async with make_service(book := Book()).open(journal=tmp_path / "jobs.db") as queue:
        assert queue.health().without_handler == 0
        assert await queue.result(old.job_id) == 10, "a program that can decode it runs it"
    assert book.entries == [1]


async def test_an_ordinary_restart_keeps_the_epoch(tmp_path: Path) -> None:
    service = make_service(Book())
    epochs = set()
    for n in range(3):
        async with service.open(journal=tmp_path / "jobs.db") as queue:
            epochs.add(queue.epoch)
            await queue.result((await queue.submit("post", Order(n))).job_id)
            assert queue.epoch in epochs
    assert len(epochs) == 1
    async with service.open(journal=tmp_path / "another.db") as queue:
        assert queue.epoch not in epochs


async def test_subscribers_resume_across_a_restart_without_a_gap(tmp_path: Path) -> None:
    service = make_service(Book())
    seen = []
    async with service.open(journal=tmp_path / "jobs.db") as queue:
        receipt = await queue.submit("post", Order(1))
        await queue.result(receipt.job_id)
        async for event in queue.events(after=0):
            seen.append(event.seq)
            if len(seen) == 3:
                break
    async with service.open(journal=tmp_path / "jobs.db") as queue:
        receipt = await queue.submit("post", Order(2))
        await queue.result(receipt.job_id)
        last = queue.statistics().seq
        async for event in queue.events(after=seen[-1]):
            seen.append(event.seq)
            if event.seq == last:
                break
    assert seen == list(range(1, last + 1))


async def test_pruning_deletes_jobs_from_the_journal(tmp_path: Path) -> None:
    service = make_service(Book(), max_finished_jobs=5, job_retention=0.0, buffer=1000)
    async with service.open(journal=tmp_path / "jobs.db") as queue:
        ids = [(await queue.submit("post", Order(n))).job_id for n in range(20)]
        await queue.result(ids[-1])
        while await runtime_of(queue).pruner.run_once():
            pass
        assert queue.list() == []
    async with service.open(journal=tmp_path / "jobs.db") as queue:
        assert queue.list() == []
        receipt = await queue.submit("post", Order(1))
        assert await queue.result(receipt.job_id) == 10


async def test_each_final_state_has_its_own_retention(tmp_path: Path) -> None:
    def make(**job_retention: float) -> Service:
        service = make_service(Book(), job_retention=job_retention)

        @service.handler
        async def fail(order: Order) -> None:
            raise trio_jobs.Fail("because")

        return service

    async def left(queue: trio_jobs.Queue) -> set[State]:
        while await runtime_of(queue).pruner.run_once():
            pass
        return {job.state for job in queue.list()}

    path = tmp_path / "jobs.db"
    async with make(completed=0.0, failed=3600.0, cancelled=3600.0).open(journal=path) as queue:
        done = await queue.submit("post", Order(1), key="done")
        failed = await queue.submit("fail", Order(2), key="failed")
        later = await queue.submit("post", Order(3), key="later", delay=3600)
        await queue.cancel(later.job_id)
        with pytest.raises(trio_jobs.JobFailed):
            await queue.result(failed.job_id)
        assert await left(queue) == {State.FAILED, State.CANCELLED}
    async with make(completed=0.0, failed=3600.0, cancelled=0.0).open(journal=path) as queue:
        assert {job.state for job in queue.list()} == {State.FAILED, State.CANCELLED}
        assert await left(queue) == {State.FAILED}
    async with make(completed=3600.0, failed=0.0, cancelled=3600.0).open(journal=path) as queue:
        assert {job.state for job in queue.list()} == {State.FAILED}
        assert await left(queue) == set()
    async with make().open(journal=path) as queue:
        assert queue.list() == []
        again = [await queue.submit("post", Order(1), key="done"), await queue.submit("fail", Order(2), key="failed")]
        assert [receipt.job_id for receipt in again] == [done.job_id, failed.job_id], "their keys are known"


async def pruned(queue: trio_jobs.Queue) -> None:
    while await runtime_of(queue).pruner.run_once():
        pass
    assert queue.list() == []


async def test_the_key_of_a_pruned_job_is_known_after_a_restart(tmp_path: Path) -> None:
    book = Book()
    service = make_service(book, job_retention=0.0)
    async with service.open(journal=tmp_path / "jobs.db") as queue:
        first = await queue.submit("post", Order(4), key="A-1 ключ")
        await queue.result(first.job_id)
        await pruned(queue)
    for _ in range(2):
        async with service.open(journal=tmp_path / "jobs.db") as queue:
            again = await queue.submit("post", Order(4), key="A-1 ключ")
            assert again == trio_jobs.Receipt(first.job_id, False, 0, State.COMPLETED)
            with pytest.raises(trio_jobs.KeyConflict):
                await queue.submit("post", Order(5), key="A-1 ключ")
            with pytest.raises(trio_jobs.JobNotFound):
                queue.get(first.job_id)
    assert book.entries == [4]
    assert b"A-1" not in (tmp_path / "jobs.db").read_bytes(), "only a hash of the key is kept"


async def test_a_key_tombstone_is_deleted_after_its_own_retention(tmp_path: Path) -> None:
    book = Book()
    async with make_service(book, job_retention=0.0, key_retention=0.0).open(journal=tmp_path / "jobs.db") as queue:
        first = await queue.submit("post", Order(4), key="a")
        await queue.result(first.job_id)
        await pruned(queue)
    async with make_service(book).open(journal=tmp_path / "jobs.db") as queue:
        again = await queue.submit("post", Order(4), key="a")
        assert again.created
        await queue.result(again.job_id)
    assert book.entries == [4, 4]


@pytest.mark.parametrize(("answer", "state"), [(Done("v"), State.COMPLETED), (NotDone(), State.COMPLETED)])
async def test_an_attempt_interrupted_by_a_crash_is_verified_first(tmp_path: Path, answer: Any, state: State) -> None:
    """The crash is a copy of the journal that was made while the attempt was running."""
    calls: list[str] = []
    inside, go_on = trio.Event(), trio.Event()

    def make() -> Service:
        service = Service(async_sdk=_no_sdk)

        def verify_answer() -> Any:
            calls.append("verify")
            return answer

        async def verify(sdk: object, job: trio_jobs.JobContext) -> Any:
            return verify_answer()

        @service.handler(verify=verify)
        async def post(sdk: object, order: Order) -> int:
            calls.append(f"post {order.n}")
            inside.set()
            await go_on.wait()
            return order.n

        return service

    async with make().open(journal=tmp_path / "jobs.db") as queue:
        first = await queue.submit("post", Order(1))
        second = await queue.submit("post", Order(2))
        await inside.wait()
        copy_journal(tmp_path / "jobs.db", tmp_path / "after.db")
        go_on.set()
        await queue.result(first.job_id)
        await queue.result(second.job_id)
    calls.clear()
    async with make().open(journal=tmp_path / "after.db") as queue:
        await queue.result(second.job_id)
        await queue.result(first.job_id)
        job = queue.get(first.job_id)
        assert job.state is state
        assert (job.attempts or ())[0].outcome is trio_jobs.Outcome.CRASHED
    assert calls[0] == "verify"
    assert calls.count("post 1") == (0 if isinstance(answer, Done) else 1)
    assert calls.count("post 2") == 1


async def test_a_doubt_that_verify_cannot_resolve_waits_for_a_person(tmp_path: Path) -> None:
    inside, go_on = trio.Event(), trio.Event()

    def make() -> Service:
        service = Service(async_sdk=_no_sdk)

        async def verify(sdk: object, job: trio_jobs.JobContext) -> Any:
            return Unknown()

        @service.handler(verify=verify)
        async def post(sdk: object, order: Order) -> int:
            inside.set()
            await go_on.wait()
            return order.n

        return service

    async with make().open(journal=tmp_path / "jobs.db") as queue:
        receipt = await queue.submit("post", Order(1))
        await inside.wait()
        copy_journal(tmp_path / "jobs.db", tmp_path / "after.db")
        go_on.set()
    async with make().open(journal=tmp_path / "after.db") as queue:
        other = await queue.submit("post", Order(2))
        assert await queue.result(other.job_id) == 2
        with pytest.raises(trio_jobs.JobInDoubt):
            await queue.result(receipt.job_id, in_doubt="raise")
        await queue.resolve(receipt.job_id, "done", result=7, by="eva")
        assert await queue.result(receipt.job_id) == 7


def make_stepping(
    calls: list[str], answer: NotDone | Unknown, *, stop_in: str, inside: trio.Event, go_on: trio.Event
) -> Service:
    """A handler of two steps that blocks in the step `stop_in`."""
    service = Service(async_sdk=_no_sdk)

    async def do(name: str) -> str:
        calls.append(name)
        if name == stop_in:
            inside.set()
            await go_on.wait()
        return f"{name} {len(calls)}"

    async def verify(sdk: object, job: trio_jobs.AsyncJobContext) -> NotDone | Unknown:
        calls.append(f"verify {job.open_step} after {job.steps}")
        return answer

    @service.handler(verify=verify)
    async def post(sdk: object, order: Order, job: trio_jobs.AsyncJobContext) -> list[str]:
        return [await job.step("create", do, "create"), await job.step("attach", do, "attach")]

    return service


async def crashed_in(
    step: str, calls: list[str], answer: NotDone | Unknown, folder: Path
) -> tuple[trio_jobs.Service, str]:
    """The service and a job whose step was running when the process died; `after.db` is the journal it left."""
    inside, go_on = trio.Event(), trio.Event()
    service = make_stepping(calls, answer, stop_in=step, inside=inside, go_on=go_on)
    async with service.open(journal=folder / "jobs.db") as queue:
        receipt = await queue.submit("post", Order(1))
        await inside.wait()
        copy_journal(folder / "jobs.db", folder / "after.db")
        go_on.set()
    calls.clear()
    return service, receipt.job_id


async def test_the_result_of_a_step_survives_a_crash_and_the_step_is_not_repeated(tmp_path: Path) -> None:
    calls: list[str] = []
    service, job_id = await crashed_in("attach", calls, NotDone(), tmp_path)
    async with service.open(journal=tmp_path / "after.db") as queue:
        assert await queue.result(job_id) == ["create 1", "attach 2"]
    assert calls == ["verify attach after {'create': 'create 1'}", "attach"]


async def test_a_step_interrupted_by_a_crash_is_in_doubt_and_named_to_verify(tmp_path: Path) -> None:
    calls: list[str] = []
    service, job_id = await crashed_in("create", calls, Unknown(), tmp_path)
    for _ in range(2):  # at each start, until the doubt is resolved
        async with service.open(journal=tmp_path / "after.db") as queue:
            with pytest.raises(trio_jobs.JobInDoubt):
                await queue.result(job_id, in_doubt="raise")
            job = queue.get(job_id)
            assert (job.state, job.open_step) == (State.IN_DOUBT, "create")
    assert calls[0] == "verify create after {}"
    assert "create" not in calls, "the step is not repeated"


async def test_a_job_that_kills_the_process_three_times_is_poison(tmp_path: Path) -> None:
    inside, go_on = trio.Event(), trio.Event()

    def make() -> Service:
        service = Service()

        @service.handler(idempotent=True)
        async def post(order: Order) -> int:
            if order.n == 1:
                inside.set()
                await go_on.wait()
            return order.n

        return service

    path = tmp_path / "0.db"
    for life in range(3):
        inside, go_on = trio.Event(), trio.Event()
        async with make().open(journal=path) as queue:
            if life == 0:
                bad = await queue.submit("post", Order(1))
                good = await queue.submit("post", Order(2))
            await inside.wait()
            path = tmp_path / f"{life + 1}.db"
            await everything_committed(queue)
            copy_journal(tmp_path / f"{life}.db", path)
            go_on.set()
    async with make().open(journal=path) as queue:
        assert await queue.result(good.job_id) == 2
        with pytest.raises(trio_jobs.JobFailed, match="poison"):
            await queue.result(bad.job_id)


def copy_journal(path: Path, to: Path) -> None:
    """Copy what a killed process would leave. (Closing the file releases SQLite's lock, which is not needed here.)"""
    for suffix in ("", "-wal", "-mark"):
        (to.parent / (to.name + suffix)).write_bytes((path.parent / (path.name + suffix)).read_bytes())


class _NoSdk:
    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *args: object) -> None:
        pass


def _no_sdk() -> Any:
    return _NoSdk()


async def test_known_keys_in_submit_many_return_their_jobs(tmp_path: Path) -> None:
    service = make_service(Book(), buffer=20)
    async with service.open(journal=tmp_path / "jobs.db") as queue:
        first = await queue.submit("post", Order(0), key="0")
        jobs = [trio_jobs.NewJob("post", Order(n), key=str(n)) for n in range(5)]
        receipts = await queue.submit_many([*jobs, jobs[1]])
        assert [receipt.created for receipt in receipts] == [False, True, True, True, True, False]
        assert receipts[0].job_id == first.job_id
        assert receipts[5].job_id == receipts[1].job_id
        assert [await queue.result(receipt.job_id) for receipt in receipts] == [0, 10, 20, 30, 40, 10]
        assert queue.statistics().free == 20
