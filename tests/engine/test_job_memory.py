"""How much memory a job takes that is kept."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from trio_jobs._engine import events as ev
from trio_jobs._engine.handlers import Handler, encode_result
from trio_jobs._engine.jobs import Outcome
from trio_jobs._engine.projection import Projection
from trio_jobs._service import Service, parts_of

JOBS = 2000


def bytes_each(make: Callable[[int], Any]) -> float:
    """The memory of what `make` returns and keeps, for each call."""
    kept = [None] * JOBS
    make(0)
    tracemalloc.start()
    try:
        for number in range(JOBS):
            kept[number] = make(number)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return taken / JOBS


@pytest.mark.parametrize("length", [1, 100, 1500])
@pytest.mark.parametrize("what", ["payload", "result"])
def test_a_payload_and_a_result_take_the_memory_of_their_json(what: str, length: int) -> None:
    handler = service_handler()

    def encode(_: int) -> msgspec.Raw | None:
        return handler.encode("x" * length) if what == "payload" else encode_result("x" * length).body

    assert bytes_each(encode) < length + 100


def test_a_finished_job_takes_less_than_880_bytes_in_the_projection() -> None:
    handler, projection = service_handler(), Projection()

    def finish(number: int) -> None:
        seq = projection.seq + 1
        job, at = f"{seq:036x}", float(number)
        payload = handler.encode("x")
        for event in (
            ev.Submitted(seq=seq, at=at, job=job, kind="work", payload=payload),
            ev.Started(seq=seq + 1, at=at + 0.1, job=job, attempt=1),
            ev.Completed(seq=seq + 2, at=at + 0.2, job=job, attempt=1, outcome=Outcome.COMPLETED),
        ):
            projection.apply(event, event.at)

    assert bytes_each(finish) < 880


def service_handler() -> Handler:
    service = Service()

    @service.handler
    def work(payload: str) -> None: ...

    return parts_of(service).handlers["work"]
