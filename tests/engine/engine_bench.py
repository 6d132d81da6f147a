"""Shared by the tests of the engine: a projection that a test drives command by command, with a clock of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from trio_jobs._engine import decide
from trio_jobs._engine import events as ev
from trio_jobs._engine.decide import AttemptResult, VerifyAnswer
from trio_jobs._engine.jobs import EndedBy, ErrorInfo, JobRecord, NotDone, Outcome, State
from trio_jobs._engine.projection import Projection
from trio_jobs._engine.retry import Retry, Rules
from trio_jobs._engine.saving import Unsaved

PAYLOAD = msgspec.Raw(b'{"folio":"A-1"}')
BOOM = ErrorInfo("RuntimeError", "boom")
PLAIN = Rules(retry=Retry(3, waits=[1, 2, 4]))

#: What kind of end it is, with what the consumer would say of it beside that.
BOUNDS = {
    Outcome.TIMED_OUT: EndedBy.ATTEMPT_TIMEOUT,
    Outcome.EXPIRED: EndedBy.DEADLINE,
    Outcome.CANCELLED: EndedBy.CANCEL,
    Outcome.STOPPED: EndedBy.STOP,
}


class Bench:
    """One job in a head. Each method decides, applies what was decided, and gives the names of the events."""

    def __init__(self, rules: Rules = PLAIN, *, now: float = 1000.0, **submit: Any) -> None:
        self.rules = rules
        self.now = now
        self.chance = 0.0
        self.projection = Projection()
        self.events: list[ev.Event] = []
        self.take([decide.submit("job", "kind", PAYLOAD, now, 1, **submit)])

    @property
    def job(self) -> JobRecord:
        return self.projection.jobs["job"]

    @property
    def seq(self) -> int:
        return self.projection.seq + 1

    def take(self, events: Iterable[ev.Event]) -> list[str]:
        taken = list(events)
        for event in taken:
            self.projection.apply(event)
        self.events.extend(taken)
        return names(taken)

    def due(self) -> list[str]:
        return self.take(decide.due(self.job, self.now, self.seq))

    def start(self, *, entered: bool = False) -> list[str]:
        if self.job.state in (State.SCHEDULED, State.RETRYING):
            self.due()
        return self.take(decide.start(self.job, entered, self.rules, self.now, self.seq))

    def enter(self) -> list[str]:
        return self.take(decide.enter(self.job, self.now, self.seq))

    def start_step(self, step: str) -> list[str]:
        return self.take(decide.start_step(self.job, step, self.now, self.seq))

    def finish_step(self, step: str, result: msgspec.Raw = PAYLOAD) -> list[str]:
        return self.take(decide.finish_step(self.job, step, result, self.now, self.seq))

    def overdue(self, limit: EndedBy = EndedBy.ATTEMPT_TIMEOUT) -> list[str]:
        return self.take(decide.overdue(self.job, limit, self.now, self.seq))

    def stuck(self, limit: EndedBy = EndedBy.ATTEMPT_TIMEOUT) -> list[str]:
        return self.take(decide.stuck(self.job, limit, self.now, self.seq))

    def end(self, result: AttemptResult) -> list[str]:
        return self.take(decide.end(self.job, result, self.rules, self.now, self.chance, self.seq))

    def returned(self, result: AttemptResult | None = None) -> list[str]:
        if result is None:
            result = AttemptResult(
                Outcome.COMPLETED, msgspec.Raw(b"7"), entered=self.job.attempts[-1].entered, late=False
            )
        return self.take(decide.returned(self.job, result, self.now, self.seq))

    def saved(self) -> list[str]:
        return self.take(decide.saved([self.job], 1, self.now, self.seq))

    def unsaved(self, why: Unsaved) -> list[str]:
        return self.take(decide.unsaved(self.job, why, self.rules, self.now, self.chance, self.seq))

    def crash(self, *, alone: bool = False) -> list[str]:
        return self.take(decide.crashed(self.job, self.rules, self.now, self.chance, self.seq, alone=alone))

    def begin_verify(self) -> list[str]:
        return self.take(decide.begin_verify(self.job, self.rules, self.now, self.seq))

    def abandon_verify(self) -> list[str]:
        return self.take(decide.abandon_verify(self.job, self.now, self.seq))

    def verified(self, answer: VerifyAnswer) -> list[str]:
        return self.take(decide.verified(self.job, answer, self.rules, self.now, self.chance, self.seq))

    def cancel(self, by: str | None = "ana") -> str:
        answer, events = decide.cancel(self.job, by, self.now, self.seq)
        self.take(events)
        return answer

    def retry(self, by: str | None = "ana", *, even_if_acted: bool = False) -> list[str]:
        return self.take(decide.retry(self.job, self.rules, by, self.now, self.seq, even_if_acted=even_if_acted))

    def resolve(self, resolution: decide.Resolution, result: msgspec.Raw | None = None) -> list[str]:
        return self.take(decide.resolve(self.job, resolution, "ana", self.now, self.seq, result))

    def correct(self, payload: bytes = b'"new"', **more: Any) -> list[str]:
        raw = msgspec.Raw(payload)
        return self.take(decide.correct(self.job, raw, "new digest", self.rules, self.now, self.seq, by="ana", **more))

    def answered(self, answer: VerifyAnswer) -> list[str]:
        return self.take(decide.answered(self.job, answer, "ana", self.now, self.seq))

    def ask_again(self) -> list[str]:
        return self.take(decide.ask_again(self.job, "ana", self.now, self.seq))

    def reschedule(self, **when: Any) -> list[str]:
        return self.take(decide.reschedule(self.job, self.now, self.seq, by="ana", **when))

    def run_now(self) -> list[str]:
        return self.take(decide.run_now(self.job, "ana", self.now, self.seq))

    def claim(self, by: str = "ana", *, take_over: bool = False) -> list[str]:
        until = self.now + 900.0
        return self.take(decide.claim(self.job, by, until, self.now, self.seq, take_over=take_over))

    def release(self, by: str = "ana", *, take_over: bool = False) -> list[str]:
        return self.take(decide.release(self.job, by, self.now, self.seq, take_over=take_over))

    def expire(self) -> list[str]:
        return self.take(decide.expire(self.job, self.now, self.seq))

    def attempt(self, result: AttemptResult, verdict: VerifyAnswer | None = None) -> list[str]:
        """A whole attempt, from its start to this end, and the answer of verify, if there is one."""
        self.start(entered=result.entered)
        recorded = self.end(result)
        return recorded if verdict is None else [*recorded, *self.verified(verdict)]


def names(events: Iterable[ev.Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def error(*, entered: bool = False, retryable: bool = True, late: bool = False) -> AttemptResult:
    return AttemptResult(Outcome.ERROR, error=BOOM, retryable=retryable, entered=entered, late=late)


def ended(outcome: Outcome, *, entered: bool = False, **more: Any) -> AttemptResult:
    return AttemptResult(outcome, ended_by=BOUNDS.get(outcome), entered=entered, **more)


def in_state(state: State, rules: Rules = PLAIN, **submit: Any) -> Bench:
    """A bench whose job came into `state` by commands alone."""
    if state is State.SCHEDULED:
        return Bench(rules, due_at=2000.0, **submit)
    bench = Bench(rules, **submit)
    if state is State.PENDING:
        return bench
    bench.start(entered=True)
    match state:
        case State.SAVING:
            bench.returned()
        case State.RETRYING:
            bench.end(error())
        case State.IN_DOUBT:
            bench.end(ended(Outcome.TIMED_OUT, entered=True))
        case State.COMPLETED:
            bench.end(AttemptResult(Outcome.COMPLETED, msgspec.Raw(b"7")))
        case State.FAILED:
            bench.end(AttemptResult(Outcome.FAIL, error=BOOM))
        case State.CANCELLED:
            bench.end(ended(Outcome.CANCELLED))
    assert bench.job.state is state
    return bench


def snapshot(record: JobRecord) -> dict[str, Any]:
    """All that a record holds, as it is now."""
    return {
        **msgspec.structs.asdict(record),
        "attempts": [msgspec.structs.asdict(attempt) for attempt in record.attempts],
    }


NOT_DONE = VerifyAnswer(NotDone())
