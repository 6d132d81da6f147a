"""The job context of a handler that runs in the process of the SDK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast, final

import attrs
import msgspec

from trio_jobs._engine.progress import Progress
from trio_jobs._executors.process_messages import JobFacts
from trio_jobs._runtime.job_context import JobContext
from trio_jobs._sdk_call import NO_SDK

__all__ = ["JobInProcess", "ProcessJobContext"]


@attrs.define(eq=False)
class JobInProcess:
    """What a job context reads of its job, as the message of its call has it. It is its own attempt and record."""

    id: str
    kind: str
    key: str | None
    attempt_count: int
    run: int
    deadline_at: float | None
    steps: dict[str, msgspec.Raw | None]
    sdk: Any = NO_SDK
    """The SDK, while its handler runs in a service with `save=`."""
    should_end: bool = False
    """Set by another thread."""

    @property
    def record(self) -> JobInProcess:
        return self

    def bind_sdk(self, sdk: Any) -> Callable[[], None]:
        """See `RunningAttempt.bind_sdk`."""

        def unbind() -> None:
            self.sdk = NO_SDK

        self.sdk = sdk
        return unbind

    @classmethod
    def of(cls, facts: JobFacts) -> JobInProcess:
        steps: dict[str, msgspec.Raw | None] = {**facts.finished_steps, **dict.fromkeys(facts.open_steps)}
        job = cls(facts.id, facts.kind, facts.key, facts.attempt, facts.run, facts.deadline_at, steps)
        job.should_end = facts.cancel_requested
        return job


@final
class ProcessJobContext(JobContext):
    """A `JobContext` whose reports go to the queue through a pipe.

    Args:
        job: The job.
        link: Sends the reports. Its methods have the names of those of `Recorder`, and are no coroutine functions.
    """

    __slots__ = ()

    def __init__(self, job: JobInProcess, link: Any) -> None:
        super().__init__(cast("Any", job), link, cast("Any", None))

    def _wait(self, ask: Callable[..., Any], *args: Any) -> None:
        ask(self._running, *args)

    def _publish(self, report: Progress) -> None:
        cast("Any", self._recorder).progress(self._running, report)
