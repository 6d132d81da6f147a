"""What a person may do to jobs and to the queue: cancel, retry, resolve, pause."""

from __future__ import annotations

from heapq import nsmallest
from typing import Any, Final

import msgspec
import trio

from trio_jobs._engine import decide
from trio_jobs._engine import events as ev
from trio_jobs._engine.handlers import encode_result
from trio_jobs._engine.jobs import CancelAnswer, EndedBy, JobRecord, State, escape
from trio_jobs._errors import InvalidState, UnknownKind, UsageError
from trio_jobs._runtime.core import MAX_PAGE, Core, read_state
from trio_jobs._validation import check_by, check_number, check_seconds

__all__ = ["Steering"]

MAX_REASON: Final = 500

_CANCELLABLE: Final = (State.SCHEDULED, State.PENDING, State.RETRYING, State.PROCESSING)
_RETRIABLE: Final = (State.FAILED, State.CANCELLED)


class Steering(Core):
    """Steer."""

    async def cancel(self, job_id: str, *, by: str | None = None) -> CancelAnswer:
        """Cancel a job: "cancelled" if it is now (or was), "requested" if an attempt is under way and is told to end,
        "too_late" if it has ended otherwise.

        Raises `JobNotFound`, and `InvalidState` for a job in doubt: only `resolve` can settle that. Cancelled: it is
        done all the same.
        """
        check_by(by)
        answer = self._cancel(self._committed(job_id), by)
        await self._kept()
        return answer

    @trio.lowlevel.enable_ki_protection
    def _cancel(self, record: JobRecord, by: str | None) -> CancelAnswer:
        answer, events = decide.cancel(record, by, self._clock.now(), self._event_log.next_seq)
        if events:
            self._event_log.append(events)
        if answer == "requested":
            current = self._consumer.current
            if current is not None and current.record is record:
                current.cancel(EndedBy.CANCEL)
        elif events:
            self._channel.remove(record)
        return answer

    async def retry(self, job_id: str, *, by: str | None = None) -> None:
        """Begin a new run of a failed or cancelled job, with a new retry budget; it joins those that are due.

        Raises `JobNotFound`, `InvalidState`, `QueueClosed`, `UnknownKind` where its handler is not there any more.
        Cancelled: it is done all the same.
        """
        check_by(by)
        self._refuse_if_closing()
        self._retry(self._committed(job_id), by)
        await self._kept()

    @trio.lowlevel.enable_ki_protection
    def _retry(self, record: JobRecord, by: str | None) -> None:
        if record.kind not in self._handlers:
            raise UnknownKind(record.kind, tuple(sorted(self._handlers)))
        current = self._consumer.current
        if current is not None and current.record is record:
            raise InvalidState(record.id, record.state, "its call is still inside the SDK; wait for it to return")
        self._event_log.append(decide.retry(record, by, self._clock.now(), self._event_log.next_seq))
        self._scheduler.requeue(record)
        if record.deadline_at is not None:
            self._scheduler.watch_deadline(record)

    async def resolve(
        self, job_id: str, resolution: decide.Resolution, *, result: Any = None, by: str | None = None
    ) -> None:
        """Say what a job in doubt came to: "done" (with its result), "not_done" (do it anew), or "failed".

        Raises `JobNotFound`, `InvalidState`, `UsageError`. Cancelled: it is done all the same.
        """
        check_by(by)
        if resolution not in ("done", "not_done", "failed"):
            raise UsageError(f"a doubt is resolved as 'done', 'not_done' or 'failed', not {resolution!r}")
        body, problem = encode_result(result)
        if problem is not None:
            raise UsageError(f"the result cannot be kept: {problem}")
        self._resolve(self._committed(job_id), resolution, body, by)
        await self._kept()

    @trio.lowlevel.enable_ki_protection
    def _resolve(
        self, record: JobRecord, resolution: decide.Resolution, result: msgspec.Raw | None, by: str | None
    ) -> None:
        events = decide.resolve(record, resolution, by, self._clock.now(), self._event_log.next_seq, result)
        self._channel.remove(record)  # where it may stand to be verified; that would hold its place while paused
        self._event_log.append(events)

    async def pause(self, reason: str = "", *, by: str | None = None) -> None:
        """Let no attempt begin; the one under way ends, submits go on until the line is full, deadlines run on.

        Pausing again changes nothing. Cancelled: it is done all the same.
        """
        check_by(by)
        if self._projection.paused is None:
            reason = escape(reason)[:MAX_REASON]
            self._event_log.append(
                (ev.Paused(seq=self._event_log.next_seq, at=self._clock.now(), reason=reason, by=by),)
            )
        await self._kept()

    async def resume(self, *, by: str | None = None) -> None:
        """Let attempts begin again. Cancelled: it is done all the same."""
        check_by(by)
        if self._projection.paused is not None:
            self._event_log.append((ev.Resumed(seq=self._event_log.next_seq, at=self._clock.now(), by=by),))
            self._sessions.changed()
        await self._kept()

    @property
    def paused(self) -> str | None:
        """Why it is paused, in the words of who paused it; None while it is not."""
        return None if self._projection.paused is None else self._projection.paused.reason

    async def cancel_many(
        self,
        *,
        state: State | str | None = None,
        kind: str | None = None,
        error_type: str | None = None,
        older_than: float | None = None,
        limit: int = MAX_PAGE,
        by: str | None = None,
    ) -> tuple[str, ...]:
        """Cancel what fits all of these; give the ids of those that are cancelled, or told to end now.

        state: by default every state that can be cancelled. error_type: the name of the last error's class. older_than:
        seconds since its submit. limit: 1 to 1,000, the oldest first; call again for more.
        """
        check_by(by)
        chosen = self._choose(_CANCELLABLE, state, kind, error_type, older_than, limit)
        for record in chosen:
            self._cancel(record, by)
        await self._kept()
        return tuple(record.id for record in chosen)

    async def retry_many(
        self,
        *,
        state: State | str | None = None,
        kind: str | None = None,
        error_type: str | None = None,
        older_than: float | None = None,
        limit: int = MAX_PAGE,
        by: str | None = None,
    ) -> tuple[str, ...]:
        """Begin a new run of what fits all of these; give their ids. Arguments as in `cancel_many`, state: by default
        failed and cancelled. Raises `QueueClosed`."""
        check_by(by)
        self._refuse_if_closing()
        chosen = self._choose(_RETRIABLE, state, kind, error_type, older_than, limit)
        for record in chosen:
            self._retry(record, by)
        await self._kept()
        return tuple(record.id for record in chosen)

    def _choose(
        self,
        possible: tuple[State, ...],
        state: State | str | None,
        kind: str | None,
        error_type: str | None,
        older_than: float | None,
        limit: int,
    ) -> list[JobRecord]:
        if check_number("limit", limit) > MAX_PAGE:
            raise UsageError(f"limit must be at most {MAX_PAGE}, not {limit}")
        states = possible if state is None else tuple({read_state(state)}.intersection(possible))
        before = None if older_than is None else self._clock.now() - check_seconds("older_than", older_than)
        fits = (
            record
            for state in states
            for record in self._projection.by_state[state].values()
            if not self._is_on_its_way(record)
            and self._event_log.committed_view(record) is not None
            and (possible is not _RETRIABLE or record.kind in self._handlers)
            and (kind is None or record.kind == kind)
            and (error_type is None or (record.error is not None and record.error.type == error_type))
            and (before is None or record.submitted_at <= before)
        )
        return nsmallest(limit, fits, key=lambda record: record.submitted_seq)

    def _is_on_its_way(self, record: JobRecord) -> bool:
        """Has it been told to end, or is its call still inside? Then it has to end first."""
        current = self._consumer.current
        if current is None or current.record is not record:
            return False
        return record.cancel_requested or record.state is not State.PROCESSING
