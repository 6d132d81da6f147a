"""Ten thousand jobs of random fates in virtual time, beside a model that is small enough to be obviously right.

Every job's fate is drawn from a seed before it is submitted: what each of its attempts does, and what people do about
it. The model says what must become of it from that alone. What depends on the moment at which it is reached (a cancel,
a deadline) is not predicted but judged: the model says what it may have come to.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any, Literal

import attrs
import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.recording_sdk import Wrong
from support.rig import open_queue
from trio_jobs import AsyncJobContext, Cancel, Fail, Job, NewJob, Queue, Retry, RetryAfter, Service, Snooze, State

JOBS = 10_000
MAX_RETRIES = 3

Act = Literal["return", "error", "retry_after", "snooze", "fail", "give up", "sleep"]
ACTS: tuple[Act, ...] = ("return", "error", "retry_after", "snooze", "fail", "give up", "sleep")
WEIGHTS = (60, 14, 5, 8, 3, 3, 7)
USES_RETRY = ("error", "retry_after")


@attrs.frozen
class Fate:
    """acts: what its attempts do, one after another. How it is submitted. cancel_after: when a person cancels it, in
    seconds from its submit."""

    acts: tuple[Act, ...]
    delay: float | None
    deadline_after: float | None
    cancel_after: float | None


@attrs.frozen
class Expected:
    """What the model says: the state if nobody interferes, and the attempts that lead to it."""

    state: State
    attempts: int
    retries: int
    snoozes: int


def draw(chance: random.Random) -> Fate:
    delay = chance.choice([None, None, None, chance.uniform(0, 500)])
    return Fate(
        acts=(*chance.choices(ACTS, WEIGHTS, k=6), "return"),
        delay=delay,
        deadline_after=chance.choice([None] * 4 + [(delay or 0) + chance.uniform(1, 300)]),
        cancel_after=chance.choice([None] * 4 + [chance.uniform(0, 100)]),
    )


def model(fate: Fate) -> Expected:
    """What becomes of it, if it is let alone."""
    retries = snoozes = 0
    for n, act in enumerate(fate.acts, 1):
        match act:
            case "return" | "sleep":
                return Expected(State.COMPLETED, n, retries, snoozes)
            case "fail":
                return Expected(State.FAILED, n, retries, snoozes)
            case "give up":
                return Expected(State.CANCELLED, n, retries, snoozes)
            case "snooze":
                snoozes += 1
            case _ if retries == MAX_RETRIES:
                return Expected(State.FAILED, n, retries, snoozes)
            case _:
                retries += 1
    raise AssertionError("the last act returns")


def judge(fate: Fate, job: Job, cancelled: str | None) -> None:
    """`cancelled`: what the person who cancelled it was told."""
    expected = model(fate)
    came_to = Expected(job.state, job.attempt_count, job.retries_used, job.snoozes)
    if came_to == expected and job.reason != "expired":
        return
    assert job.attempt_count <= expected.attempts, "nobody's interference makes more attempts"
    if cancelled in ("cancelled", "requested"):
        assert job.state is State.CANCELLED or (job.state is State.FAILED and job.reason == "expired")
    else:
        assert fate.deadline_after is not None, f"nobody interfered, and it came to {came_to} instead of {expected}"
        assert (job.state, job.reason) == (State.FAILED, "expired")
        assert job.deadline_at is not None
        assert job.changed_at >= job.deadline_at - timedelta(microseconds=1), "a date is rounded to microseconds"
        # a deadline may pass while the submit waits for a place: then it expires as soon as it is accepted
        assert (job.changed_at - max(job.deadline_at, job.submitted_at)).total_seconds() < 0.01


class Day:
    """The handler, which plays each job's fate and writes down who was there."""

    def __init__(self, fates: list[Fate]) -> None:
        self.fates = fates
        self.calls: Counter[int] = Counter()
        self.told: dict[int, str] = {}
        self.queue: Queue
        self.inside = 0
        self.service = Service(buffer=200, drain_timeout=1e6, max_finished_jobs=2 * JOBS)
        self.service.handler(kind="live", retry=Retry(MAX_RETRIES, first=1, factor=3, jitter=0.5))(self.live)

    async def live(self, n: int, job: AsyncJobContext) -> int:
        assert self.inside == 0, "P1"
        self.inside += 1
        acts = self.fates[n].acts
        act = acts[min(self.calls[n], len(acts) - 1)]
        self.calls[n] += 1
        try:
            assert job.attempt == self.calls[n]
            match act:
                case "sleep":
                    if n % 10 == 0:  # by somebody who sees it run
                        self.told[n] = await self.queue.cancel(job.id)
                    await trio.sleep(n % 32 / 4)
                case "error":
                    raise Wrong
                case "retry_after":
                    raise RetryAfter(n % 60)
                case "snooze":
                    raise Snooze(n % 90)
                case "fail":
                    raise Fail
                case "give up":
                    raise Cancel
            return n
        finally:
            self.inside -= 1


async def cancel_later(queue: Queue, n: int, job_id: str, after: float, told: dict[int, str]) -> None:
    await trio.sleep(after)
    told[n] = await queue.cancel(job_id)


async def somebody_who_pauses(queue: Queue, chance: random.Random) -> None:
    while True:
        await trio.sleep(chance.uniform(1, 100))
        await queue.pause()
        await trio.sleep(chance.uniform(0, 5))
        await queue.resume()


async def submit_all(queue: Queue, fates: list[Fate], chance: random.Random, told: dict[int, str]) -> dict[int, str]:
    """By ones and in batches, with a rest now and then; and cancel what is to be cancelled, at its time."""
    ids: dict[int, str] = {}
    left = list(range(len(fates)))
    async with trio.open_nursery() as nursery:
        while left:
            batch, left = left[: (size := chance.choice([1, 1, 1, 20]))], left[size:]
            new = [NewJob("live", n, None, None, fates[n].delay, None, fates[n].deadline_after) for n in batch]
            for n, receipt in zip(batch, await queue.submit_many(new), strict=True):
                ids[n] = receipt.job_id
                if (after := fates[n].cancel_after) is not None:
                    nursery.start_soon(cancel_later, queue, n, receipt.job_id, after, told)
            if chance.random() < 0.05:
                await trio.sleep(chance.uniform(0, 10))
    return ids


@pytest.mark.parametrize("seed", [1, 2])
async def test_each_of_ten_thousand_random_jobs_ends_as_the_model_predicts(
    seed: int, autojump_clock: MockClock
) -> None:
    chance = random.Random(seed)
    fates = [draw(chance) for _ in range(JOBS)]
    day = Day(fates)
    told = day.told
    async with open_queue(day.service) as queue, trio.open_nursery() as nursery:
        day.queue = queue
        nursery.start_soon(somebody_who_pauses, queue, chance)
        ids = await submit_all(queue, fates, chance, told)
        for job_id in ids.values():
            await ended(queue, job_id)
        nursery.cancel_scope.cancel()
    assert queue.report is not None
    assert queue.report.unfinished == (), "P5: each has one end"
    assert len(ids) == JOBS
    for n, job_id in ids.items():
        job = queue.get(job_id)
        judge(fates[n], job, told.get(n))
        assert job.attempt_count == day.calls[n], "the history tells of each call, and of no other"
    statistics: Any = queue.statistics()
    assert statistics.free == statistics.capacity, "P9: every place is free again"
    seen = Counter(str(queue.get(job_id).state) for job_id in ids.values())
    seen.update(told.values())
    seen.update(queue.get(job_id).reason for job_id in ids.values())
    all_sorts = ("completed", "failed", "cancelled", "requested", "too_late", "expired", "error", "retry_after")
    assert all(seen[sort] for sort in all_sorts), f"a day of all sorts: {seen}"


async def ended(queue: Queue, job_id: str) -> None:
    with suppress(trio_jobs.JobFailed, trio_jobs.JobCancelled):
        await queue.result(job_id)
