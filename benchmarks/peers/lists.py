"""trio-jobs with many jobs, of which pages are listed: the time of each page by its conditions."""

from __future__ import annotations

import gc
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import trio

import trio_jobs
from benchmarks.peers.common import answer
from trio_jobs import NewJob, State
from trio_jobs._engine.job_filter import JobFilter
from trio_jobs._runtime.queue import runtime_of

BATCH = 1000
TIMES = 20  #: how often each page is listed
ORDERS: tuple[Literal["oldest", "newest"], ...] = ("oldest", "newest")


def service(known: int) -> trio_jobs.Service:
    made = trio_jobs.Service(buffer=known, max_finished_jobs=2 * known, drain_timeout=0.0)

    @made.handler(idempotent=True, retry=trio_jobs.Retry(0))
    async def post(number: int) -> None:
        if number % 1000 == 1:
            raise OSError("no")

    @made.handler(idempotent=True)
    async def send(number: int) -> None: ...

    return made


def new(number: int) -> NewJob:
    labels = {"company": f"company {number % 50}", "document": f"document {number}"}
    return NewJob("post" if number % 2 else "send", number, key=f"2026-{number:07}", labels=labels)


def conditions(known: int) -> dict[str, dict[str, Any]]:
    """By name. Those of "nothing matches" have many jobs for each condition and none for both."""
    return {
        "no condition": {},
        "a kind": {"kind": "post"},
        "a state": {"state": State.COMPLETED},
        "several states": {"states": [State.PENDING, State.FAILED, State.IN_DOUBT]},
        "a prefix of one key in eleven": {"key_prefix": "2026-00" if known > 10_000 else "2026-00000"},
        "a prefix of one key": {"key_prefix": f"2026-{known // 2:07}"},
        "an error": {"error_type": "OSError"},
        "has not acted": {"may_have_acted": False},
        "a label of one job in fifty": {"labels": {"company": "company 7"}},
        "a label of one job": {"labels": {"document": f"document {known // 2}"}},
        "a submitter": {"by": "ada"},
        "nothing matches: state, kind": {"state": State.FAILED, "kind": "send"},
        "nothing matches: kind, submitter": {"kind": "send", "by": "ada"},
        "nothing matches: label, kind": {"labels": {"company": "company 7"}, "kind": "send"},
        "nothing matches: prefix, submitter, kind": {"key_prefix": "2026-", "by": "ada", "kind": "send"},
        "nothing matches: prefix": {"key_prefix": "2027"},
        "nothing matches: error": {"error_type": "TimeoutError"},
        "nothing matches: has acted": {"may_have_acted": True},
    }


class Times:
    """The seconds of some calls: on the clock, and of the processor."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.longest = 0.0

    def add(self, do: Callable[[], Any], times: int = TIMES) -> Any:
        result = None
        for _ in range(times):
            cpu, began = time.thread_time(), time.perf_counter()
            result = do()
            self.seconds.append(time.perf_counter() - began)
            self.longest = max(self.longest, time.thread_time() - cpu)
        return result

    def summary(self) -> dict[str, float]:
        ordered = sorted(self.seconds)
        return {
            "p50": ordered[len(ordered) // 2],
            "p99": ordered[min(len(ordered) * 99 // 100, len(ordered) - 1)],
            "longest": self.longest,
        }


async def pages(known: int, folder: str | None) -> dict[str, dict[str, float]]:
    with ExitStack() as stack:
        journal = None
        if folder is not None:
            journal = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder))) / "jobs.db"
        async with service(known).open(journal=journal) as queue:
            jobs: list[str] = []
            for start in range(0, known, BATCH):
                if start >= known * 19 // 20:
                    await queue.pause()
                batch = [new(number) for number in range(start, min(start + BATCH, known))]
                for by, part in (("ada", batch[1::2]), ("bob", batch[::2])):
                    jobs += [receipt.job_id for receipt in await queue.submit_many(part, by=by)]
            while queue.statistics().jobs[State.PENDING] > known // 20 + BATCH:
                await trio.sleep(0.01)
            gc.collect()
            gc.freeze()  # a collection of the benchmark's own objects is no part of a page
            return measured(queue, jobs)


def measured(queue: trio_jobs.Queue, jobs: list[str]) -> dict[str, dict[str, float]]:
    measured: dict[str, dict[str, float]] = {}
    records = runtime_of(queue).event_log.projection.jobs
    scan, wanted = Times(), JobFilter(by="nobody")
    scan.add(lambda: [record for record in records.values() if wanted.matches(record)], 5)
    measured["a look at each job"] = scan.summary()
    for name, some in conditions(len(jobs)).items():
        times = Times()
        for order in ORDERS:
            for place in (None, jobs[len(jobs) // 2], jobs[-1] if order == "newest" else jobs[0], jobs[-BATCH]):
                times.add(lambda: queue.list(after=place, order=order, **some))  # noqa: B023 - called at once
        measured[name] = times.summary()
    for name, group in (("count by state", "state"), ("count by a label of 50 values", "label:company")):
        times = Times()
        values: Counter[str] = Counter()
        label = group.partition(":")[2]
        steps = runtime_of(queue).queries.count_steps(JobFilter(), ("label" if label else "state", label), values)
        while times.add(lambda: next(steps, None), 1) is not None:  # noqa: B023 - called at once
            pass
        measured[f"a step of a {name}"] = times.summary()
    times = Times()
    for job_id in jobs[:: max(len(jobs) // 20, 1)]:
        times.add(lambda: queue.get(job_id[-8:]), 2)  # noqa: B023 - called at once
    measured["the end of an id"] = times.summary()
    return measured


if __name__ == "__main__":
    logging.disable()
    answer(pages=lambda **arguments: trio.run(lambda: pages(**arguments)))
