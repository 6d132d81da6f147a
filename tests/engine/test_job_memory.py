"""How much memory a job takes that is kept, and what of it the garbage collector visits."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from trio_jobs._engine import events as ev
from trio_jobs._engine.handlers import Handler, encode_result
from trio_jobs._engine.job_block import SIZE, Block
from trio_jobs._engine.job_index import CHUNK
from trio_jobs._engine.jobs import JobRecord, Outcome, State
from trio_jobs._engine.projection import Projection
from trio_jobs._service import Service, parts_of

JOBS = 2000


def bytes_each(make: Callable[[int], Any]) -> float:
    """The memory of what `make` returns and keeps, for each call: the less of two times, since other threads, and
    coverage, may take some of this process meanwhile."""

    def taken(first: int) -> int:
        kept = [None] * JOBS
        tracemalloc.start()
        try:
            for number in range(JOBS):
                kept[number] = make(first + number)
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    make(0)
    return min(taken(1), taken(1 + JOBS)) / JOBS


untracked_dicts = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="since Python 3.14, the collector visits each dict, whatever it holds"
)


@pytest.mark.parametrize("length", [1, 100, 1500])
@pytest.mark.parametrize("what", ["payload", "result"])
def test_a_payload_and_a_result_take_the_memory_of_their_json(what: str, length: int) -> None:
    handler = service_handler()

    def encode(_: int) -> msgspec.Raw | None:
        return handler.encode("x" * length) if what == "payload" else encode_result("x" * length).body

    assert bytes_each(encode) < length + 100


def test_a_finished_job_takes_less_than_840_bytes_in_the_projection() -> None:
    projection = Projection()
    payload = service_handler().encode
    assert bytes_each(lambda number: finish(projection, number, payload("x"))) < 840


@untracked_dicts
def test_a_full_collection_visits_the_newest_finished_jobs_alone() -> None:
    projection, payload = Projection(), service_handler().encode("x")
    for number in range(4 * (SIZE + CHUNK)):
        finish(projection, number, payload)
    gc.collect()
    visited = sum(type(one) is JobRecord for tracked in gc.get_objects() for one in gc.get_referents(tracked))
    assert visited <= SIZE + CHUNK
    projection.forget([job for job, _ in zip(projection.jobs, range(10), strict=False)], 1e9)
    for number in range(2):
        finish(projection, number, payload)
    gc.collect()
    visited = sum(type(one) is JobRecord for tracked in gc.get_objects() for one in gc.get_referents(tracked))
    assert visited <= 2 * (SIZE + CHUNK), "and those beside a job that was removed"


@untracked_dicts
def test_young_objects_are_collected_before_many_finished_jobs_are_among_them() -> None:
    """Else a collection of young objects would visit all jobs that have finished since the last one."""
    projection, payload = Projection(), service_handler().encode("x")
    thresholds = gc.get_threshold()
    gc.set_threshold(0)  # so none begins by itself
    try:
        for number in range(10 * SIZE):
            finish(projection, number, payload)
        visited = sum(type(one) is JobRecord for tracked in gc.get_objects() for one in gc.get_referents(tracked))
    finally:
        gc.set_threshold(*thresholds)
    assert visited <= 4 * (SIZE + CHUNK)


def test_no_collection_begins_while_a_block_of_jobs_with_keys_is_indexed() -> None:
    """One begins when 700 objects (2,000 since Python 3.13) more were made than freed."""
    raw = msgspec.Raw(b"1")
    records = [JobRecord(f"{n}", "work", raw, 0.0, n, 0.0, n, State.PENDING, f"A-{n}") for n in range(SIZE)]
    gc.collect()
    before = gc.get_stats()[0]["collections"]
    block = Block(0, records)
    assert gc.get_stats()[0]["collections"] == before
    assert [*block.keys] == sorted(f"A-{n}" for n in range(SIZE))


def finish(projection: Projection, number: int, payload: msgspec.Raw) -> None:
    seq, at = projection.seq + 1, float(number)
    job = f"{seq:036x}"
    for event in (
        ev.Submitted(seq=seq, at=at, job=job, kind="work", payload=payload),
        ev.Started(seq=seq + 1, at=at + 0.1, job=job, attempt=1),
        ev.Completed(seq=seq + 2, at=at + 0.2, job=job, attempt=1, outcome=Outcome.COMPLETED),
    ):
        projection.apply(event, event.at)


def service_handler() -> Handler:
    service = Service()

    @service.handler
    def work(payload: str) -> None: ...

    return parts_of(service).handlers["work"]
