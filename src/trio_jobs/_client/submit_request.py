"""The request of a submit, with what is left of its wait, and of its other seconds, each time that it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
import trio

from trio_jobs._client.outbox import Request
from trio_jobs._engine.handlers import encode_payload
from trio_jobs._errors import UsageError
from trio_jobs._validation import MAX_KEY, check_date, check_labels, check_seconds, check_text, check_wait
from trio_jobs._wire.commands import Submit

__all__ = ["SubmitRequest"]

SOON: Final = 0.001  #: seconds; with a deadline that passed while it waited, a submit is accepted and its job expires
EARLY: Final = 1.0  #: seconds by which an answer may come before the wait is over, by the clock of the server


class SubmitRequest:
    """A submit, possibly over several requests. The arguments are those of `Client.submit`.

    Raises:
        InvalidPayload: The payload is too large, or has no JSON.
        UsageError: The key, a time or a label is not valid.
    """

    def __init__(
        self,
        kind: str,
        payload: Any,
        key: str | None,
        due_at: datetime | None,
        delay: float | None,
        deadline_at: datetime | None,
        deadline_after: float | None,
        wait: float | None,
        labels: Mapping[str, str] | None,
        correct: bool = False,
    ) -> None:
        body = encode_payload(kind, payload)
        self._submit = Submit(
            kind,
            body,
            None if key is None else check_text("a key", key, MAX_KEY),
            _date(due_at, delay),
            _date(deadline_at, deadline_after),
            delay=None if delay is None else check_wait("delay", delay),
            deadline_after=None if deadline_after is None else check_wait("deadline_after", deadline_after),
            labels=check_labels(labels),
            correct=correct,
        )
        self._began = trio.current_time()
        self._ends_at = float("inf") if wait is None else self._began + check_seconds("wait", wait)
        self._answer_at = 0.0  # when the wait of the last request ends

    def make(self) -> Request:
        """The next request. One that does not wait any more is brief."""
        waits = self._ends_at > trio.current_time()
        return Request("jobs.submit", self._params, "submit" if waits else "brief", until=self._ends_at)

    def _params(self, longest: float) -> Submit:
        now = trio.current_time()
        left = min(max(self._ends_at - now, 0.0), longest)
        self._answer_at = now + left
        submit = msgspec.structs.replace(self._submit, wait=left)
        passed = now - self._began
        if passed > SOON and (submit.delay or submit.deadline_after):  # they count from the call on
            submit = msgspec.structs.replace(
                submit, delay=_left(submit.delay, passed), deadline_after=_left(submit.deadline_after, passed)
            )
        return submit

    @property
    def waits_again(self) -> bool:
        """Whether to send another request after the server has answered that the queue is full.

        An answer before the end of the wait means that the queue is full of jobs for later, which is not waited for.
        """
        now = trio.current_time()
        return now < self._ends_at and now >= self._answer_at - EARLY


def _left(seconds: float | None, passed: float) -> float | None:
    return max(seconds - passed, SOON) if seconds else seconds


def _date(at: datetime | None, after: float | None) -> float | None:
    """The aware datetime in seconds since the epoch. The seconds are not converted, since this clock may be wrong."""
    if at is not None and after is not None:
        raise UsageError("give a time or a number of seconds, not both")
    return None if at is None else check_date("a time", at)
