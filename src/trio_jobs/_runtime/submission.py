"""Submissions: the arguments of a submit, checked and encoded, and the first event of the job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from trio_jobs._engine import decide
from trio_jobs._engine import events as ev
from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.job_id import CHANCE_BITS, uuid7
from trio_jobs._engine.new_job import NewJob
from trio_jobs._engine.payload_digest import digest, same_digest
from trio_jobs._errors import UnknownKind, UsageError
from trio_jobs._ports import Clock
from trio_jobs._validation import MAX_KEY, check_date, check_each, check_labels, check_text, check_wait, plain_text

__all__ = ["Submission", "SubmissionFactory"]

UNNOTICED: Final = 0.001  #: seconds that a submit takes without a wait


class Moment(msgspec.Struct, frozen=True, gc=False):
    """A time that was given as a date, or as seconds from the call."""

    at: float | None = None
    """The date: UTC, in seconds since 1970; None for seconds."""
    seconds: float = 0.0
    """The seconds."""
    since: float = 0.0
    """The time of the call, on the clock of elapsed seconds."""

    def left(self, elapsed: float) -> float | None:
        """What is left of the seconds, 0 or more; None for a date."""
        if self.at is not None:
            return None
        passed = elapsed - self.since
        # a submit that did not wait keeps the number that was given
        return self.seconds if passed < UNNOTICED else max(self.seconds - passed, 0.0)


class Submission(msgspec.Struct, frozen=True, gc=False):
    """A checked submit."""

    handler: Handler
    """The handler of the job."""
    body: msgspec.Raw
    """The encoded payload."""
    key: str | None
    """The key; None without one."""
    digest: str | None
    """The digest of the payload; None without a key."""
    due: Moment | None
    """When the job is due; None for at once."""
    deadline: Moment | None
    """When the job expires; None if it does not."""
    labels: dict[str, str] | None = None
    """The labels; None without any."""

    def has_digest(self, stored: str | None) -> bool:
        """Whether this is the stored digest of the same payload."""
        return same_digest(stored, self.digest, self.body)


class SubmissionFactory:
    """Makes submissions and their first events.

    Args:
        handlers: The handlers by kind.
        clock: The clock.
        random_bits: Returns an int with that many random bits.
    """

    def __init__(self, handlers: Mapping[str, Handler], clock: Clock, random_bits: Callable[[int], int]) -> None:
        self._handlers = handlers
        # a handler is found by its kind and by its function, which may be an object without a hash
        self._by_name: dict[object, Handler] = {}
        self._without_hash: list[Handler] = []
        for handler in handlers.values():
            self._by_name[handler.kind] = handler
            try:
                self._by_name[handler.fn] = handler
            except TypeError:
                self._without_hash.append(handler)
        self._clock = clock
        self._random_bits = random_bits

    def handler(self, name: str | Callable[..., Any]) -> Handler:
        """Return the handler for a kind or a function.

        Raises:
            UnknownKind: It is not registered.
        """
        try:
            found = self._by_name.get(name)
        except TypeError:  # it has no hash
            found = next((handler for handler in self._without_hash if handler.fn is name), None)
        if found is None:
            kind = plain_text(name) if isinstance(name, str) else getattr(name, "__name__", repr(name))
            raise UnknownKind(kind, tuple(sorted(self._handlers)))
        return found

    def of_all(self, jobs: Sequence[NewJob]) -> list[Submission]:
        """As `make`, for several jobs. An error names the job."""
        return check_each(self.of, jobs)

    def of(self, job: NewJob) -> Submission:
        """As `make`, for a job whose arguments are together."""
        return self.make(
            job.handler, job.payload, job.key, job.due_at, job.delay, job.deadline_at, job.deadline_after, job.labels
        )

    def make(
        self,
        handler_name: str | Callable[..., Any],
        payload: Any,
        key: str | None = None,
        due_at: datetime | None = None,
        delay: float | None = None,
        deadline_at: datetime | None = None,
        deadline_after: float | None = None,
        given_labels: Mapping[str, str] | None = None,
    ) -> Submission:
        """Check and encode the arguments of a submit, without the state of the queue. They are those of `Queue.submit`.

        Raises:
            UnknownKind: The handler is not registered.
            InvalidPayload: The payload does not fit the handler's type.
            UsageError: Another argument is not valid.
        """
        handler = self.handler(handler_name)
        body, value = handler.accept(payload)
        payload_digest = labels = None
        if key is not None:
            key = check_text("a key", key, MAX_KEY)
            payload_digest = digest(value, body)
        if given_labels is not None:
            labels = check_labels(given_labels)
        if due_at is None and delay is None and deadline_at is None and deadline_after is None:
            return Submission(handler, body, key, payload_digest, None, None, labels)
        now, elapsed = self._clock.now(), self._clock.elapsed()
        due = _moment("due_at", due_at, "delay", delay, elapsed)
        deadline = _moment("deadline_at", deadline_at, "deadline_after", deadline_after, elapsed)
        wait = 0.0 if due is None else max(_seconds(due, now), 0.0)
        if deadline is not None and _seconds(deadline, now) <= wait:
            raise UsageError("the deadline must be in the future, and after the time at which the job is due")
        return Submission(handler, body, key, payload_digest, due if wait > 0 else None, deadline, labels)

    def event(self, submission: Submission, by: str | None, seq: int, now: float | None = None) -> ev.Submitted:
        """Make the first event of the job.

        Args:
            submission: The submission.
            by: The name of the submitter.
            seq: The number of the event.
            now: The time of the event (UTC); None for the time of the clock.
        """
        if now is None:
            now = self._clock.now()
        due, deadline = submission.due, submission.deadline
        job_id = uuid7(now, self._random_bits(CHANCE_BITS))
        if due is None and deadline is None:  # as `decide.submit`, which has nothing to decide then
            return ev.Submitted(
                seq=seq, at=now, job=job_id, kind=submission.handler.kind, payload=submission.body, key=submission.key,
                digest=submission.digest, by=by, labels=submission.labels,
            )  # fmt: skip
        elapsed = self._clock.elapsed()
        return decide.submit(
            job_id,
            submission.handler.kind,
            submission.body,
            now,
            seq,
            submission.key,
            submission.digest,
            due_at=None if due is None else due.at,
            deadline_at=None if deadline is None else deadline.at,
            by=by,
            delay=None if due is None else due.left(elapsed),
            deadline_after=None if deadline is None else deadline.left(elapsed),
            labels=submission.labels,
        )

    def events(self, submissions: Sequence[Submission], by: str | None, next_seq: int) -> list[ev.Submitted]:
        """Make the first events of these jobs, numbered from `next_seq`, all with the same time."""
        now = self._clock.now()
        return [self.event(submission, by, next_seq + i, now) for i, submission in enumerate(submissions)]


def _moment(at_name: str, at: datetime | None, after_name: str, after: float | None, elapsed: float) -> Moment | None:
    if at is not None and after is not None:
        raise UsageError(f"give {at_name} or {after_name}, not both")
    if after is not None:
        return Moment(None, check_wait(after_name, after), elapsed)
    if at is None:
        return None
    return Moment(check_date(at_name, at))


def _seconds(moment: Moment, now: float) -> float:
    """The seconds from now, below 0 for a date in the past."""
    return moment.seconds if moment.at is None else moment.at - now
