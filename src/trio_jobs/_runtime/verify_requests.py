"""Requests of operators that verify is called for a job, from the request to the answer.

The consumer makes the call, since it is a call into the SDK like any other. A request for a job that has failed or was
cancelled takes a slot of the channel as a job in doubt does; the job itself stays as it is until verify has answered.
"""

from __future__ import annotations

import trio

from trio_jobs._engine.jobs import Done, JobRecord, NotDone, Verdict
from trio_jobs._engine.operator_events import VerifyWord
from trio_jobs._errors import InvalidState, QueueClosed
from trio_jobs._runtime.job_channel import JobChannel

__all__ = ["VerifyRequest", "VerifyRequests", "word_of"]


class VerifyRequest:
    """One request, which several callers may await."""

    def __init__(self, by: str | None, note: str | None) -> None:
        self.by = by
        self.note = note
        self._answer: VerifyWord | Exception | None = None
        self._answered = trio.Event()

    def answer(self, answer: VerifyWord | Exception) -> None:
        """Answer the callers with a word, or with an error."""
        self._answer = answer
        self._answered.set()

    async def wait(self) -> VerifyWord:
        """Return the answer.

        Raises:
            InvalidState: The job changed before verify was called.
            QueueClosed: The queue stopped before that.

        Cancelled:
            Verify is called nevertheless.
        """
        await self._answered.wait()
        assert self._answer is not None
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class VerifyRequests:
    """The requests that are not answered, one for each job at most."""

    def __init__(self, channel: JobChannel) -> None:
        self._channel = channel
        self._by_job: dict[str, VerifyRequest] = {}

    def get(self, record: JobRecord) -> VerifyRequest | None:
        """Return the request for a job; None without one."""
        return self._by_job.get(record.id) if self._by_job else None

    def add(self, record: JobRecord, by: str | None, note: str | None) -> VerifyRequest:
        """Return a new request for a job that has none."""
        request = self._by_job[record.id] = VerifyRequest(by, note)
        return request

    def answer(self, record: JobRecord, answer: VerifyWord | Exception) -> None:
        """Verify has answered, or cannot be called. Has no effect without a request."""
        request = self._by_job.pop(record.id, None)
        if request is not None:
            request.answer(answer)

    def drop(self, record: JobRecord) -> None:
        """Somebody decides otherwise about the job: verify is not called, and the job leaves the channel."""
        if self.get(record) is not None:
            self._channel.remove(record)
            why = "it was changed before verify was called; look at it again"
            self.answer(record, InvalidState(record.id, record.state, why))

    def close(self) -> None:
        """The queue has stopped."""
        requests, self._by_job = self._by_job, {}
        for request in requests.values():
            request.answer(QueueClosed("the queue has stopped before verify has answered"))


def word_of(verdict: Verdict) -> VerifyWord:
    """Return the answer of verify as a word."""
    if isinstance(verdict, Done):
        return "done"
    return "not_done" if isinstance(verdict, NotDone) else "unknown"
