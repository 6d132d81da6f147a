"""What a queue tells of its jobs and of itself."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec
import trio

from trio_jobs._engine.jobs import FINAL, Job, JobRecord, State, to_datetime, view
from trio_jobs._errors import JobCancelled, JobFailed, JobInDoubt, QueueClosed, ResultUnavailable, UsageError
from trio_jobs._runtime.core import MAX_PAGE, Core, read_state
from trio_jobs._runtime.event_stream import EventStream, Filter
from trio_jobs._runtime.job_context import Progress
from trio_jobs._runtime.report import Health, Statistics
from trio_jobs._validation import check_number

__all__ = ["Looking"]

MAX_ENDS: Final = 1000  #: pages of which is kept where they ended


class Looking(Core):
    """Look."""

    def get(self, job_id: str) -> Job:
        """The job as it stands. Raises `JobNotFound`."""
        return view(self._event_log.committed_job(job_id))

    def list(
        self,
        *,
        state: State | str | None = None,
        kind: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """Jobs in the order in which they were submitted (with `state`: in which they came into it).

        after: a job's id; those behind it. limit: 1 to 1,000. One page goes on where the last one ended, with the id of
        its last job, also if that has left the state or was pruned meanwhile; of the last 1,000 pages this is known.
        With another job, which is not in that state, the list goes on behind its submit. Raises `JobNotFound` for an
        `after` that is not known.
        """
        if check_number("limit", limit) > MAX_PAGE:
            raise UsageError(f"limit must be at most {MAX_PAGE}, not {limit}")
        return self._page(state, kind, after, limit)[0]

    def _page(
        self, state: State | str | None, kind: str | None, after: str | None, limit: int
    ) -> tuple[builtins.list[Job], bool]:
        """A page of jobs, and whether there is one more behind it."""
        event_log = self._event_log
        source: Iterable[JobRecord]
        if state is None:
            source = (
                seen
                for record in self._projection.jobs.values()
                if (seen := event_log.committed_view(record)) is not None
            )
        else:
            state = read_state(state)
            source = event_log.in_state(state)
        begin = 0 if after is None else self._place_of(after, state)
        page: builtins.list[Job] = []
        more, end = False, begin
        for record in source:
            place = record.submitted_seq if state is None else record.state_seq
            if place <= begin or not (kind is None or record.kind == kind):
                continue
            if len(page) == limit:
                more = True
                break
            page.append(view(record))
            end = place
        if page:
            self._ends.pop((page[-1].id, state), None)
            self._ends[page[-1].id, state] = end
            if len(self._ends) > MAX_ENDS:
                del self._ends[next(iter(self._ends))]
        return page, more

    def _place_of(self, job_id: str, state: State | None) -> int:
        """Behind which place a list goes on: the place's number is that of the event by which a job came to it.

        A job that is not in the state any more does not tell when it came into it; only its page's memory does. Without
        that it is the submit, so that some jobs may be listed again, but none is left out.
        """
        place = self._ends.get((job_id, state))
        if place is None:
            record = self._event_log.committed_job(job_id)
            place = record.state_seq if record.state is state else record.submitted_seq
        return place

    def job_ids(self) -> builtins.list[str]:
        """The ids of all known jobs, in the order of their submit."""
        see = self._event_log.committed_view
        return [job_id for job_id, record in self._projection.jobs.items() if see(record) is not None]

    async def result(self, job_id: str, *, in_doubt: Literal["wait", "raise"] = "wait") -> Any:
        """What the job's handler returned, once it has.

        Waits through retries, and through doubt unless told to raise `JobInDoubt`. Raises `JobFailed`, `JobCancelled`,
        `ResultUnavailable`, `JobNotFound` (also if it is pruned meanwhile), `QueueClosed` if the queue stops before.

        Cancelled: the job goes on.
        """
        await trio.lowlevel.checkpoint()
        while True:
            record = self._event_log.committed_job(job_id)
            if record.state in FINAL:
                return self._result(record)
            if record.state is State.IN_DOUBT and in_doubt == "raise":
                raise JobInDoubt(job_id, record.reason)
            if self.report is not None:
                raise QueueClosed(f"the queue has stopped; job {job_id} is {record.state}")
            await self._waiters.setdefault(job_id, trio.Event()).wait()

    def _result(self, record: JobRecord) -> Any:
        if record.state is State.FAILED:
            error = str(record.error) if record.error is not None else ""
            raise JobFailed(record.id, record.reason, error, record.may_have_acted)
        if record.state is State.CANCELLED:
            raise JobCancelled(record.id, record.reason)
        if record.result is None:
            raise ResultUnavailable(record.id, record.result_problem or "it was settled without one")
        handler = self._handlers.get(record.kind)
        decode = msgspec.json.decode if handler is None else handler.decode_result
        try:
            return decode(record.result)
        except msgspec.ValidationError:  # it returned something else than it is annotated with
            return msgspec.json.decode(record.result)

    def events(
        self,
        *,
        after: int | None = None,
        jobs: Iterable[str] | None = None,
        kinds: Iterable[str] | None = None,
        states: Iterable[State | str] | None = None,
    ) -> EventStream:
        """The stream of committed events, in order, without a gap: `async for event in queue.events()`.

        after: begin behind this `seq`; None for from now on. jobs, kinds, states: only events of these jobs, of jobs of
        these kinds, that lead to these states; all that is given must fit. The stream ends when the queue has stopped.
        See `EventStream`.
        """
        wanted = Filter(jobs, kinds, None if states is None else frozenset(read_state(state) for state in states))
        return EventStream(self._feed, self._event_log.committed_seq if after is None else after, wanted)

    @property
    def epoch(self) -> str:
        """Names this history: numbers of events mean something only together with it."""
        return self._event_log.store.epoch

    def statistics(self) -> Statistics:
        channel = self._channel.statistics()
        return Statistics(
            jobs={state: self._event_log.count(state) for state in State},
            capacity=channel.capacity,
            free=channel.free,
            waiting_callers=channel.waiting,
            waiting_jobs=self._scheduler.waiting,
            session=self._executor.session,
            sdk_busy=self._executor.inside,
            seq=self._event_log.committed_seq,
            mean_run=self._mean_run,
        )

    def health(self) -> Health:
        problems = []
        current = self._consumer.current
        if current is not None and self._overrun_monitor.stuck is current:
            problems.append("stuck")
        elif current is not None and self._overrun_monitor.overdue is current:
            problems.append("overdue")
        if not self._executor.is_open:
            problems.append("opening_sdk")
        store = self._event_log.store.trouble
        if store is not None:
            problems.append("store")
        if self._closing:
            problems.append("stopping")
        held = self._consumer.holding
        if held is not None and held.state in (State.PENDING, State.PROCESSING):
            held = None  # it is its turn
        return Health(
            ok=not problems,
            problems=tuple(problems),
            in_doubt=self._event_log.count(State.IN_DOUBT),
            held_by=None if held is None else held.id,
            held_since=None if held is None else to_datetime(held.changed_at),
            without_handler=len(self._held),
            store=store,
        )

    def progress(self, job_id: str) -> Progress | None:
        """The newest word of the job's attempt about how far it is; None if there is none, or it has ended."""
        if self._told is None:
            return None
        running, progress = self._told
        return progress if progress.job_id == job_id and running is self._consumer.current else None
