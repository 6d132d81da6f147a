"""A day's invoices in one go: all of them or none."""

from __future__ import annotations

from itertools import count
from typing import Literal

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.recording_sdk import Book, cut_at, open_queue
from trio_jobs import NewJob, Queue, QueueClosed, Receipt, Service, State
from trio_jobs._engine.events import JobEvent, Submitted


def make_service(book: Book, **settings: object) -> Service:
    service = book.service(**settings)

    @service.handler
    async def work(book: Book, what: str) -> str:
        return await book.call(what, 1)

    return service


def jobs(*names: str) -> list[NewJob]:
    return [NewJob("work", name) for name in names]


async def fill(queue: Queue, n: int) -> None:
    """One job under way, `n` in the line."""
    await queue.submit("work", "busy")
    await wait_all_tasks_blocked()
    for i in range(n):
        await queue.submit("work", f"filler {i}")


async def test_all_are_accepted_in_the_order_of_the_batch(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book)) as queue:
        receipts = await queue.submit_many(jobs("a", "b", "c"))
        assert [r.created for r in receipts] == [True] * 3
        assert [r.position for r in receipts] == [1, 2, 3]
        assert [queue.get(r.job_id).payload for r in receipts] == [b'"a"', b'"b"', b'"c"']
    assert book.calls == ["a", "b", "c"]


async def test_an_empty_batch_is_accepted_and_changes_nothing(autojump_clock: MockClock) -> None:
    async with open_queue(make_service(Book())) as queue:
        before = queue.statistics().seq
        assert await queue.submit_many([]) == []
        assert queue.statistics().seq == before


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (NewJob("work", 1), trio_jobs.InvalidPayload),
        (NewJob("nobody", "x"), trio_jobs.UnknownKind),
        (NewJob("work", "x", key=""), trio_jobs.UsageError),
        (NewJob("work", "x", deadline_after=0), trio_jobs.UsageError),
        (NewJob("work", "x", key="taken"), trio_jobs.KeyConflict),
    ],
)
async def test_one_that_is_refused_refuses_them_all(
    bad: NewJob, error: type[Exception], autojump_clock: MockClock
) -> None:
    async with open_queue(make_service(Book())) as queue:
        await queue.submit("work", "before", key="taken")
        with pytest.raises(error):
            await queue.submit_many([*jobs("a"), bad, *jobs("b")])
        assert len(queue.list()) == 1
        assert queue.statistics().free == queue.statistics().capacity - 1


async def test_a_batch_waits_until_there_is_a_place_for_each(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book, buffer=3)) as queue:
        await fill(queue, 3)
        await queue.submit_many(jobs("a", "b", "c"))
        # busy ends at 1, the fillers at 2, 3: then the last of them has left the line, and all three places are free
        assert trio.current_time() == 3
        assert queue.statistics().free == 0
    assert book.calls[-3:] == ["a", "b", "c"]


async def test_a_batch_with_more_jobs_than_places_is_refused_at_once(autojump_clock: MockClock) -> None:
    async with open_queue(make_service(Book(), buffer=2)) as queue:
        with pytest.raises(trio_jobs.UsageError, match="3 jobs cannot have a slot each in a channel of 2"):
            await queue.submit_many(jobs("a", "b", "c"))
        assert queue.list() == []
        assert queue.statistics().free == 2


async def test_those_for_later_need_no_place(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book, buffer=2)) as queue:
        receipts = await queue.submit_many(
            [*[NewJob("work", f"in {n} s", delay=n) for n in (9, 10, 11)], *jobs("a", "b")]
        )
        assert [r.state for r in receipts] == ["scheduled"] * 3 + ["pending"] * 2
        for receipt in receipts:
            await queue.result(receipt.job_id)
    assert book.calls == ["a", "b", "in 9 s", "in 10 s", "in 11 s"]


async def test_those_for_later_count_against_what_may_wait(autojump_clock: MockClock) -> None:
    async with open_queue(make_service(Book(), max_waiting=2)) as queue:
        with pytest.raises(trio_jobs.QueueFull):
            await queue.submit_many([NewJob("work", str(n), delay=9) for n in range(3)])
        assert queue.list() == []
        await queue.submit_many([NewJob("work", str(n), delay=9) for n in range(2)])


async def test_one_that_became_due_while_the_batch_waited_is_done_nevertheless(autojump_clock: MockClock) -> None:
    book = Book()
    async with open_queue(make_service(book, buffer=1)) as queue:
        await fill(queue, 1)
        receipts = await queue.submit_many([NewJob("work", "soon", delay=0.25), *jobs("a")])
        assert [r.state for r in receipts] == ["pending", "pending"]
    assert sorted(book.calls[2:]) == ["a", "soon"]


async def test_of_jobs_with_one_key_the_first_is_accepted_and_the_others_get_its_receipt(
    autojump_clock: MockClock,
) -> None:
    book = Book()
    async with open_queue(make_service(book)) as queue:
        known = await queue.submit("work", "known", key="k")
        new = [NewJob("work", "known", key="k"), NewJob("work", "a", key="a"), NewJob("work", "a", key="a")]
        first, second, third = await queue.submit_many(new)
        assert (first.job_id, first.created) == (known.job_id, False)
        assert second.created
        assert third.job_id == second.job_id
        assert len(queue.list()) == 2
    assert book.calls == ["known", "a"]


async def test_one_key_with_two_payloads_in_a_batch_is_refused(autojump_clock: MockClock) -> None:
    async with open_queue(make_service(Book())) as queue:
        with pytest.raises(trio_jobs.KeyConflict):
            await queue.submit_many([NewJob("work", "a", key="k"), NewJob("work", "b", key="k")])
        assert queue.list() == []


async def test_a_key_that_comes_in_while_the_batch_waits_frees_the_place_that_was_held_for_it(
    autojump_clock: MockClock,
) -> None:
    book = Book()
    async with open_queue(make_service(book, buffer=2)) as queue:
        await fill(queue, 2)
        answers: list[Receipt] = []

        async def batch() -> None:
            answers.extend(await queue.submit_many([NewJob("work", "a", key="a"), *jobs("b")]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.submit, "work", "rival")
            await wait_all_tasks_blocked()
            nursery.start_soon(batch)
            await wait_all_tasks_blocked()
            scheduled = await queue.submit("work", "a", key="a", delay=100)
        assert [(r.job_id == scheduled.job_id, r.created) for r in answers] == [(True, False), (False, True)]
        await trio.sleep(50)
        assert queue.statistics().free == 2


async def test_two_batches_that_each_need_the_whole_line_do_not_wait_for_each_other(
    autojump_clock: MockClock,
) -> None:
    book = Book()
    async with open_queue(make_service(book, buffer=4)) as queue:
        await fill(queue, 4)
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(queue.submit_many, jobs(*[f"{name}{n}" for n in range(4)]))
        assert len(queue.list()) == 5 + 12
    batches = [call[0] for call in book.calls[5:]]
    assert ["".join(batches[i : i + 4]) for i in (0, 4, 8)] == [name * 4 for name in dict.fromkeys(batches)]


async def test_single_submits_go_on_beside_a_batch_that_waits(autojump_clock: MockClock) -> None:
    async with open_queue(make_service(Book(), buffer=2)) as queue:
        await fill(queue, 2)
        async with trio.open_nursery() as nursery:
            for n in range(5):
                nursery.start_soon(queue.submit, "work", str(n))
                nursery.start_soon(queue.submit_many, jobs(f"{n}a", f"{n}b"))
        assert len(queue.list()) == 3 + 15


async def test_a_batch_is_one_change_to_those_who_follow(autojump_clock: MockClock) -> None:
    """Its events follow each other without another between, whoever submits at the same time."""
    book = Book()
    async with open_queue(make_service(book, buffer=10)) as queue:
        events = queue.events(after=0)
        async with trio.open_nursery() as nursery:
            for n in range(5):
                nursery.start_soon(queue.submit, "work", f"single {n}")
                nursery.start_soon(queue.submit_many, jobs(*[f"{n}.{i}" for i in range(6)]))
    submitted = [(e.seq, bytes(e.payload).decode()[1:-1]) async for e in events if isinstance(e, Submitted)]
    for n in range(5):
        seqs = [seq for seq, payload in submitted if payload.startswith(f"{n}.")]
        assert seqs == list(range(seqs[0], seqs[0] + 6))


@pytest.mark.parametrize("when", ["asleep", "waking"])
async def test_a_batch_cancelled_at_any_checkpoint_is_accepted_whole_or_not_at_all(
    when: Literal["asleep", "waking"], autojump_clock: MockClock
) -> None:
    cuts = 0
    for n in count(1):
        book = Book()
        async with open_queue(make_service(book, buffer=3)) as queue:
            await fill(queue, 3)
            receipts, cut = await cut_at(n, when, lambda: queue.submit_many(jobs("a", "b", "c")))
            accepted = len(queue.list()) - 4
            assert accepted == (0 if receipts is None else 3)
            cuts += receipts is None
            await trio.sleep(20)
            assert queue.statistics().free == 3, "every place that was held is given back"
        assert len(book.calls) == 4 + accepted
        if not cut:
            break
    assert cuts >= 3, "at least once in the wait for each place"


async def test_a_cancelled_batch_lets_those_behind_it_go_on(autojump_clock: MockClock) -> None:
    async with open_queue(make_service(Book(), buffer=2)) as queue:
        await fill(queue, 2)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(queue.submit_many, jobs("a", "b"))
                await trio.sleep(1.5)  # by now it holds one place
                scope.cancel()
        await queue.submit_many(jobs("c", "d"))
        assert [bytes(job.payload) for job in queue.list()[-2:]] == [b'"c"', b'"d"']


async def test_batches_that_wait_are_told_when_the_queue_closes(autojump_clock: MockClock) -> None:
    """The one that waits for places, the one that waits behind it, and single submits: all of them, at once."""
    told = []

    async def batch(queue: Queue) -> None:
        with pytest.raises(QueueClosed):
            await queue.submit_many(jobs("a", "b"))
        told.append(trio.current_time())

    async def single(queue: Queue) -> None:
        with pytest.raises(QueueClosed):
            await queue.submit("work", "c")
        told.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        async with open_queue(make_service(Book(), buffer=2, drain_timeout=10)) as queue:
            await queue.pause()
            await queue.submit_many(jobs("x", "y"))
            for _ in range(2):
                nursery.start_soon(batch, queue)
                nursery.start_soon(single, queue)
            await wait_all_tasks_blocked()
        assert queue.statistics().free == 0
    assert told == [0, 0, 0, 0]


async def test_jobs_that_come_back_get_no_place_that_is_not_there_when_the_queue_closes(
    autojump_clock: MockClock,
) -> None:
    """While submits and a job that is due wait for one place, the submits are sent away: their places do not exist."""
    book = Book()
    service = make_service(book, buffer=1)

    @service.handler
    async def snoozes(book: Book, what: str) -> str:
        if book.calls.count(what) == 0:
            await book.call(what)
            raise trio_jobs.Snooze(0.5)
        return await book.call(what)

    async with trio.open_nursery() as nursery:
        async with open_queue(service) as queue:
            back = await queue.submit(snoozes, "back")
            await wait_all_tasks_blocked()
            await fill(queue, 1)

            async def refused() -> None:
                with pytest.raises(QueueClosed):
                    await queue.submit("work", "never")

            await trio.sleep(0.75)
            assert queue.statistics().waiting_jobs == 1
            for _ in range(3):
                nursery.start_soon(refused)
            await wait_all_tasks_blocked()
        assert queue.get(back.job_id).state is State.COMPLETED
        assert queue.statistics().free == 1
    assert book.calls == ["back", "busy", "filler 0", "back"]


async def test_a_batch_says_who_asked(autojump_clock: MockClock) -> None:
    async with open_queue(make_service(Book())) as queue:
        events = queue.events()
        receipts = await queue.submit_many(jobs("a", "b"), by="Ada")
        assert [queue.get(r.job_id).by for r in receipts] == ["Ada", "Ada"]
        first = await anext(events)
        assert isinstance(first, JobEvent)
        assert first.job == receipts[0].job_id
