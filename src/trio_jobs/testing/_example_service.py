"""The service that `QueueMachine` tests if a subclass does not override `make_service`."""

from __future__ import annotations

from typing import Any

import attrs

from trio_jobs._engine.jobs import Done, NotDone
from trio_jobs._engine.retry import Retry
from trio_jobs._service import Service
from trio_jobs.testing.fake_sdk import FakeSdk, FakeSession

__all__ = ["ExamplePayload", "example_service"]


@attrs.frozen
class ExamplePayload:
    n: int


def example_service(sdk: FakeSdk, **settings: Any) -> Service:
    """Three handlers of one fake SDK: with a verify, without one, and idempotent.

    Args:
        sdk: The SDK.
        settings: Further settings of the service.
    """
    service = Service(async_sdk=sdk.async_session, buffer=3, max_waiting=4, watchdog=None, **settings)
    done: set[str] = set()

    async def verify(session: FakeSession, job: Any) -> Done | NotDone:
        return Done() if job.id in done else NotDone()

    @service.handler(verify=verify, attempt_timeout=60, retry=Retry(2))
    async def verified(session: FakeSession, payload: ExamplePayload, job: Any) -> int:
        await session.acall("prepare")
        done.add(job.id)
        await session.acall(f"do {job.id}")
        return payload.n

    @service.handler(attempt_timeout=60, retry=Retry(1))
    async def unverified(session: FakeSession, payload: ExamplePayload) -> int:
        await session.acall("do")
        return payload.n

    @service.handler(idempotent=True, attempt_timeout=60)
    async def idempotent(session: FakeSession, payload: ExamplePayload) -> int:
        await session.acall("do")
        return payload.n

    return service
