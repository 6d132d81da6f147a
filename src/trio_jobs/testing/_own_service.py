"""The service that `QueueMachine` drives where nobody gives it another."""

from __future__ import annotations

from typing import Any

import attrs

from trio_jobs._engine.jobs import Done, NotDone
from trio_jobs._engine.retry import Retry
from trio_jobs._service import Service
from trio_jobs.testing.fakes import FakeSdk, FakeSession

__all__ = ["OwnWork", "own_service"]


@attrs.frozen
class OwnWork:
    n: int


def own_service(sdk: FakeSdk) -> Service:
    """Three kinds of handlers before one fake SDK, which keeps what was done."""
    service = Service(async_sdk=sdk.async_session, buffer=3, max_waiting=4, watchdog=None)
    done: set[str] = set()

    async def look(session: FakeSession, job: Any) -> Done | NotDone:
        return Done() if job.id in done else NotDone()

    @service.handler(verify=look, attempt_timeout=60, retry=Retry(2))
    async def asked(session: FakeSession, payload: OwnWork, job: Any) -> int:
        await session.acall("prepare")
        done.add(job.id)
        await session.acall(f"do {job.id}")
        return payload.n

    @service.handler(attempt_timeout=60, retry=Retry(1))
    async def unasked(session: FakeSession, payload: OwnWork) -> int:
        await session.acall("do")
        return payload.n

    @service.handler(idempotent=True, attempt_timeout=60)
    async def twice(session: FakeSession, payload: OwnWork) -> int:
        await session.acall("do")
        return payload.n

    return service
