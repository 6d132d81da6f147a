"""The engine against a plain model, command by command, in every order that Hypothesis generates.

The model is written from the text of the design: a class of counters for each job, and one function for each thing that
can happen. It has no events. After each command the model and the projection are compared; at the end the events are
decoded from their JSON and folded again.
"""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
import pytest
from engine_bench import BOUNDS, PAYLOAD
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_jobs._engine import decide
from trio_jobs._engine import events as ev
from trio_jobs._engine.decide import AttemptResult, VerifyAnswer
from trio_jobs._engine.job_keys import KeyEntry
from trio_jobs._engine.jobs import FINAL, Done, EndedBy, JobRecord, NotDone, Outcome, State, Unknown
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._engine.projection import Projection
from trio_jobs._engine.retry import Retry, Rules
from trio_jobs._engine.saving import Unsaved
from trio_jobs._errors import InvalidState, JobMayHaveActed
from trio_jobs._lookup_errors import JobNotFound
from trio_jobs._operator_errors import JobClaimed

S = State
WAITS = (1.0, 2.0, 4.0)
RULES = [
    Rules(Retry(retries, waits=WAITS), consents, idempotent, verifies, on_doubt, max_snoozes=2)
    for retries in (0, 2)
    for idempotent, verifies, consents in (
        (False, False, True),
        (False, False, False),
        (False, True, False),
        (True, False, False),
    )
    for on_doubt in ("hold", "retry", "fail")
]
WAITING = (S.SCHEDULED, S.PENDING, S.RETRYING)
BROKEN_OFF = (Outcome.STOPPED, Outcome.CRASHED)


@attrs.define
class Model:
    """A job as the design tells of it."""

    rules: Rules
    state: State
    due: float | None
    deadline: float | None
    key: str | None
    run: int = 1
    attempts: int = 0
    retries: int = 0
    snoozes: int = 0
    crashes: int = 0
    cancel: bool = False
    entered: bool = False  # the attempt that is under way
    left: bool = False  # what an attempt that is over may have left, as long as that is unknown
    inside: bool = False
    asked: bool = False
    cause: Outcome | None = None  # of the doubt
    retryable: bool = True
    broken_off: bool = False  # unsaved, but not since save raised
    result: msgspec.Raw | None = None  # of the handler, until it is saved
    open_steps: set[str] = attrs.Factory(set)
    done_steps: set[str] = attrs.Factory(set)
    permitted: bool = False  # a person lets this run repeat what an earlier one may have done
    not_done: bool = False  # verify has said so since the last attempt
    payloads: list[bytes] = attrs.Factory(lambda: [bytes(PAYLOAD)])
    claimed: tuple[str, float] | None = None

    # P12

    def may_repeat(self, *, by_person: bool) -> bool:
        rules = self.rules
        if not self.left or rules.verifies or rules.idempotent or rules.on_doubt == "retry":
            return True
        return not by_person and (rules.retries_unverified or self.permitted)

    def must_look(self) -> bool:
        """What raised is not repeated without a look, by verify or by a person."""
        return bool(self.open_steps) or self.rules.verifies or not self.rules.retries_unverified

    # what moves it

    def go(self, state: State, due: float | None = None) -> None:
        self.state, self.due = state, due
        if state is S.COMPLETED:
            self.claimed = None
        if state is not S.IN_DOUBT:
            self.cause, self.inside, self.asked, self.broken_off = None, False, False, False
            if not self.left and state is not S.SAVING:
                self.open_steps.clear()
        if state in FINAL:
            self.result = None

    def expired(self, now: float) -> bool:
        return self.deadline is not None and self.deadline <= now

    def complete(self) -> None:
        self.left = False
        self.go(S.COMPLETED)

    def try_again(self, now: float, retryable: bool, may_have_acted: bool, wait: float | None = None) -> None:
        """The retry policy; and no retry follows a cancel."""
        self.left = self.left or may_have_acted
        if self.cancel:
            self.go(S.FAILED if may_have_acted else S.CANCELLED)
        elif not retryable or self.retries >= self.rules.retry.max_retries or self.expired(now):
            self.go(S.FAILED)
        else:
            self.go(S.RETRYING, now + (WAITS[min(self.retries, 2)] if wait is None else wait))
            self.retries += 1

    def come_back(self) -> None:
        self.go(S.CANCELLED if self.cancel else S.PENDING)

    def doubt(
        self, now: float, cause: Outcome, *, retryable: bool = True, asked: bool = False, broken_off: bool = False
    ) -> None:
        self.left = True
        self.go(S.IN_DOUBT)
        self.cause, self.retryable, self.inside, self.asked = cause, retryable, False, asked
        self.broken_off = broken_off or cause in BROKEN_OFF
        if asked or not self.rules.verifies:
            self.enter_doubt(now)

    def enter_doubt(self, now: float) -> None:
        cause = self.cause
        if self.rules.on_doubt == "fail":
            self.go(S.FAILED)
        elif self.rules.on_doubt == "retry" and not self.cancel:
            if self.broken_off:
                self.go(S.PENDING)
            elif cause is Outcome.EXPIRED:
                self.go(S.FAILED)
            else:
                self.try_again(now, self.retryable, may_have_acted=True)

    # what work comes to that is not saved yet

    def unsaved(self, now: float, why: Unsaved, *, poison: bool = False) -> None:
        unknown = self.entered and not self.rules.idempotent
        self.crashes += poison
        if not why.interrupted:
            if unknown and self.must_look():
                self.doubt(now, Outcome.UNSAVED, retryable=why.retryable)
            else:
                self.try_again(now, why.retryable, may_have_acted=unknown)
        elif poison and self.crashes == 3:
            self.left = self.left or unknown
            self.go(S.FAILED)
        elif unknown:
            self.doubt(now, Outcome.UNSAVED, broken_off=True)
        elif not self.cancel and self.expired(now):
            self.go(S.FAILED)
        else:
            self.come_back()

    # what an attempt comes to

    def end(self, now: float, result: AttemptResult) -> None:
        unknown = result.entered and not self.rules.idempotent  # the right-hand column
        outcome, late = result.outcome, self.inside
        match outcome:
            case Outcome.COMPLETED:
                self.complete()
            case Outcome.FAIL:
                self.go(S.FAILED)
            case Outcome.CANCEL:
                self.go(S.CANCELLED)
            case Outcome.SNOOZE if self.cancel:
                self.go(S.CANCELLED)
            case Outcome.SNOOZE if self.snoozes == self.rules.max_snoozes or self.expired(now):
                self.go(S.FAILED)
            case Outcome.SNOOZE:
                self.snoozes += 1
                self.go(S.RETRYING if late else S.SCHEDULED, now + result.wait)
            case Outcome.RETRY_AFTER:
                self.try_again(now, True, may_have_acted=False, wait=result.wait)
            case Outcome.ERROR if unknown and self.must_look():
                self.doubt(now, outcome, retryable=result.retryable)
            case Outcome.ERROR:
                self.try_again(now, result.retryable, may_have_acted=unknown)
            case Outcome.CRASHED if self.crashes == 2:
                self.crashes += 1
                self.retries += 1
                self.left = self.left or unknown
                self.go(S.FAILED)
            case Outcome.CRASHED:
                self.crashes += 1
                self.retries += 1
                self.doubt(now, outcome) if unknown else self.come_back()
            case _ if unknown:
                self.doubt(now, outcome)
            case Outcome.TIMED_OUT:
                self.try_again(now, True, may_have_acted=False)
            case Outcome.EXPIRED:
                self.go(S.FAILED)
            case Outcome.CANCELLED:
                self.go(S.CANCELLED)
            case Outcome.STOPPED:
                self.come_back()
            case _:
                raise AssertionError(outcome)

    def verified(self, now: float, verdict: Any) -> None:
        if isinstance(verdict, Done):
            self.complete()
        elif isinstance(verdict, NotDone):
            self.left = False
            # the reason of the event keeps it; a job that expires then has another one
            self.not_done = self.not_done or self.cancel or not self.expired(now)
            if self.cancel:
                self.go(S.CANCELLED)
            elif self.expired(now):
                self.go(S.FAILED)
            elif self.broken_off:
                self.go(S.PENDING)
            else:
                self.try_again(now, self.retryable, may_have_acted=False)
        else:
            self.asked = True
            self.enter_doubt(now)


ENDINGS = st.one_of(
    st.just(AttemptResult(Outcome.COMPLETED, msgspec.Raw(b"7"))),
    st.sampled_from([Outcome.FAIL, Outcome.CANCEL, *BOUNDS]).map(lambda o: AttemptResult(o, ended_by=BOUNDS.get(o))),
    st.builds(AttemptResult, st.sampled_from([Outcome.SNOOZE, Outcome.RETRY_AFTER]), wait=st.sampled_from([0.0, 3.0])),
    st.builds(AttemptResult, st.just(Outcome.ERROR), retryable=st.booleans()),
)


@attrs.frozen
class Try:
    """An attempt and what follows it. ending: None where the process dies. save: what becomes of its work, if the
    service saves; None where the process dies. after: a person's word, None: verify's. anew: a person retries or
    corrects the job."""

    entered: bool
    between: list[str]
    result: AttemptResult | None
    saves: bool
    save: Unsaved | bool | None
    verdict: VerifyAnswer
    after: decide.Resolution | None
    anew: bool
    correct: bool


WHYS = st.one_of(
    st.builds(Unsaved, st.just("save_failed"), st.just(False), retryable=st.booleans()),
    st.sampled_from([Unsaved("session_discarded"), Unsaved("stopped"), Unsaved("save_timed_out")]),
)
DEADLINES = st.sampled_from([None, None, 4.0, 30.0])
JOBS = st.integers(0, 3)  # which of those that are known
VERDICTS = st.sampled_from(
    [
        VerifyAnswer(Done(7), msgspec.Raw(b"7")),
        VerifyAnswer(NotDone()),
        VerifyAnswer(Unknown()),
        VerifyAnswer(Unknown(), asked=False),  # the stop kept it from answering
    ]
)
TRIES = st.builds(
    Try,
    entered=st.booleans(),
    between=st.lists(st.sampled_from(["enter", "step", "stuck", "cancel", "time"]), max_size=2),
    result=ENDINGS | st.none(),
    saves=st.booleans(),
    save=WHYS | st.sampled_from([True, None]),
    verdict=VERDICTS,
    after=st.sampled_from([None, None, None, "done", "not_done", "not_done", "failed"]),
    anew=st.sampled_from([False, False, False, True]),
    correct=st.booleans(),
)


class EngineAgainstModel(RuleBasedStateMachine):
    @initialize(first=st.lists(st.tuples(st.sampled_from(RULES), DEADLINES), min_size=2, max_size=3))
    def begin(self, first: list[tuple[Rules, float | None]]) -> None:
        self.projection = Projection()
        self.now = 1000.0
        self.log: list[bytes] = []
        self.models: dict[str, Model] = {}
        self.pruned: set[str] = set()
        self.pruned_keys: list[str] = []
        self.keys: dict[str, str] = {}
        self.order: dict[State, list[str]] = {state: [] for state in State}
        self.ended: dict[tuple[str, int], State] = {}
        for rules, deadline_in in first:
            self.submit(rules, None, None, deadline_in)

    @property
    def seq(self) -> int:
        return self.projection.seq + 1

    def take(self, events: Any) -> int:
        for event in events:
            record = self.projection.jobs.get(event.job)
            before = record.state if record is not None else None
            run = record.run if record is not None else 1
            self.projection.apply(event)
            self.log.append(msgspec.json.encode(event))
            after = self.projection.jobs[event.job].state
            if before is not after:
                if before is not None:
                    self.order[before].remove(event.job)
                self.order[after].append(event.job)
                if after in FINAL:
                    found_done = before is S.FAILED and after is S.COMPLETED  # by verify, which a person requested
                    assert found_done or (event.job, run) not in self.ended, "P5: one end for each run"
                    self.ended[event.job, run] = after
        return len(events)

    def known(self, which: int) -> tuple[JobRecord, Model] | None:
        jobs = list(self.projection.jobs)
        if not jobs:
            return None
        job = jobs[which % len(jobs)]
        return self.projection.get(job), self.models[job]

    @precondition(lambda self: len(self.models) - len(self.pruned) < 4)  # few jobs that live much
    @rule(
        rules=st.sampled_from(RULES),
        key=st.none() | st.sampled_from("abc"),
        due_in=st.sampled_from([None, None, 0.0, 5.0]),
        deadline_in=DEADLINES,
    )
    def submit(self, rules: Rules, key: str | None, due_in: float | None, deadline_in: float | None) -> None:
        known: KeyEntry | KeyTombstone | None = None
        if key is not None:
            known = self.projection.keys.find("kind", key) or self.projection.tombstones.find("kind", key)
        assert (known.job if known is not None else None) == (self.keys.get(key) if key is not None else None)
        if known is not None:
            return
        job = f"job {len(self.models)}"
        due = None if due_in is None else self.now + due_in
        deadline = None if deadline_in is None else self.now + deadline_in
        event = decide.submit(
            job, "kind", PAYLOAD, self.now, self.seq, key=key, digest="d", due_at=due, deadline_at=deadline
        )
        self.take([event])
        later = due is not None and due > self.now
        self.models[job] = Model(rules, S.SCHEDULED if later else S.PENDING, due if later else None, deadline, key)
        if key is not None:
            self.keys[key] = job

    @rule(seconds=st.sampled_from([1.0, 5.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(job=JOBS)
    def due(self, job: int) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        came = self.take(decide.due(record, self.now, self.seq))
        assert came == (model.state in (S.SCHEDULED, S.RETRYING))
        if came:
            model.state = S.PENDING  # due stays: it orders those that wait for a place

    @rule(job=JOBS, entered=st.booleans())
    def start(self, job: int, entered: bool) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        self.take(decide.start(record, entered, model.rules, self.now, self.seq))
        if model.state is S.PENDING:
            if model.expired(self.now):
                model.go(S.FAILED)
            elif not model.may_repeat(by_person=False):
                model.doubt(self.now, Outcome.INSIDE, broken_off=True)
            else:
                assert not model.cancel, "no attempt follows a requested cancel"
                model.state, model.due, model.result = S.PROCESSING, None, None
                model.not_done = False
                model.attempts += 1
                model.entered = entered

    @rule(job=JOBS)
    def enter(self, job: int) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        entered = self.take(decide.enter(record, self.now, self.seq))
        assert entered == (model.state is S.PROCESSING and not model.entered)
        if model.state is S.PROCESSING:
            model.entered = True

    @rule(job=JOBS, step=st.sampled_from(["draft", "book"]))
    def step(self, job: int, step: str) -> None:
        """Begin it; or end it, if it has started."""
        if (found := self.known(job)) is None:
            return
        record, model = found
        if step in model.open_steps:
            done = self.take(decide.finish_step(record, step, PAYLOAD, self.now, self.seq))
            assert done == (model.state is S.PROCESSING or model.inside)
            if done:
                model.open_steps.discard(step)
                model.done_steps.add(step)
        elif step not in model.done_steps:
            started = self.take(decide.start_step(record, step, self.now, self.seq))
            assert started == (model.state is S.PROCESSING)
            if started:
                model.open_steps.add(step)
                model.entered = True

    @rule(job=JOBS, limit=st.sampled_from(EndedBy))
    def overdue(self, job: int, limit: EndedBy) -> None:
        if (found := self.known(job)) is not None:
            recorded = self.take(decide.overdue(found[0], limit, self.now, self.seq))
            assert recorded in (0, found[1].state is S.PROCESSING)

    @rule(job=JOBS, limit=st.sampled_from(EndedBy))
    def stuck(self, job: int, limit: EndedBy) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        recorded = self.take(decide.stuck(record, limit, self.now, self.seq))
        assert recorded == (model.state is S.PROCESSING)
        if recorded:
            model.state, model.inside, model.cause, model.retryable = S.IN_DOUBT, True, Outcome.INSIDE, True

    @rule(job=JOBS, result=ENDINGS)
    def end(self, job: int, result: AttemptResult) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        under_way = model.state is S.PROCESSING or model.inside
        result = msgspec.structs.replace(result, entered=model.entered, late=model.inside)
        if result.outcome is Outcome.CANCELLED and under_way and not model.cancel:
            return  # there is a person's request behind it, always
        recorded = self.take(decide.end(record, result, model.rules, self.now, 0.0, self.seq))
        assert (recorded > 0) == under_way, "P5: what comes after a job was settled is not the job's"
        if under_way:
            model.end(self.now, result)

    @rule(job=JOBS, tries=st.lists(TRIES, min_size=1, max_size=5))
    def life(self, job: int, tries: list[Try]) -> None:
        """Several attempts, with what may happen in them and after: by single rules a job would seldom get so far."""
        for one in tries:
            self.due(job)
            self.start(job, one.entered)
            for what in one.between:
                match what:
                    case "enter":
                        self.enter(job)
                    case "step":
                        self.step(job, "book")
                    case "stuck":
                        self.overdue(job, EndedBy.DEADLINE)
                        self.stuck(job, EndedBy.DEADLINE)
                    case "cancel":
                        self.cancel(job)
                    case "time":
                        self.time_passes(5.0)
            if one.result is None:
                self.crash(job, alone=False)
            elif one.saves and one.result.outcome is Outcome.COMPLETED:
                self.returned(job)
                if "cancel" in one.between:
                    self.cancel(job)
                if one.save is None:
                    self.crash(job, alone=True)
                elif isinstance(one.save, Unsaved):
                    self.unsaved(job, one.save)
                else:
                    self.saved([job])
            else:
                self.end(job, one.result)
            if one.after is None:
                self.verify(job, one.verdict)
            else:
                self.resolve(job, one.after)
            if one.anew:
                if one.correct:
                    self.verify_now(job, one.verdict)
                    self.correct(job, b"4", None)
                else:
                    self.retry(job, even_if_acted=one.entered)

    @rule(job=JOBS)
    def returned(self, job: int) -> None:
        """The end of an attempt in a service that saves."""
        if (found := self.known(job)) is None:
            return
        record, model = found
        under_way = model.state is S.PROCESSING or model.inside
        result = AttemptResult(Outcome.COMPLETED, msgspec.Raw(b"8"), entered=model.entered, late=model.inside)
        assert self.take(decide.returned(record, result, self.now, self.seq)) == under_way
        if under_way:
            model.go(S.SAVING)
            model.result = msgspec.Raw(b"8")

    @rule(jobs=st.lists(JOBS, max_size=3, unique=True))
    def saved(self, jobs: list[int]) -> None:
        """P6: all jobs of the group are completed in one append; the queue's own event comes first."""
        known = {found[0].id: found for job in jobs if (found := self.known(job)) is not None}
        saving = [job for job, (_, model) in known.items() if model.state is S.SAVING]
        events = decide.saved([record for record, _ in known.values()], 1, self.now, self.seq)
        if not saving:
            assert events == ()
            return
        first, *others = events
        assert isinstance(first, ev.Saved)
        assert first.jobs == tuple(saving)
        self.projection.apply(first)
        self.log.append(msgspec.json.encode(first))
        assert self.take(others) == len(saving)
        for job in saving:
            known[job][1].complete()
            assert known[job][0].result == msgspec.Raw(b"8")

    @rule(job=JOBS, why=WHYS)
    def unsaved(self, job: int, why: Unsaved) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        recorded = self.take(decide.unsaved(record, why, model.rules, self.now, 0.0, self.seq))
        assert (recorded > 0) == (model.state is S.SAVING)
        if recorded:
            model.unsaved(self.now, why)

    @rule(job=JOBS, alone=st.booleans())
    def crash(self, job: int, alone: bool) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        if model.state is S.SAVING:
            self.take(decide.crashed(record, model.rules, self.now, 0.0, self.seq, alone=alone))
            model.unsaved(self.now, Unsaved("crashed"), poison=alone)
            return
        if not (model.state is S.PROCESSING or model.inside):
            return
        self.take(decide.crashed(record, model.rules, self.now, 0.0, self.seq))
        model.end(self.now, AttemptResult(Outcome.CRASHED, entered=model.entered))

    @rule(job=JOBS, answer=VERDICTS)
    def verify(self, job: int, answer: VerifyAnswer) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        recorded = self.take(decide.verified(record, answer, model.rules, self.now, 0.0, self.seq))
        in_doubt = model.state is S.IN_DOUBT and not model.inside and answer.asked
        assert (recorded > 0) == in_doubt
        if in_doubt:
            model.verified(self.now, answer.verdict)

    @rule(job=JOBS)
    def cancel(self, job: int) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        if model.state is S.IN_DOUBT:
            with pytest.raises(InvalidState):
                decide.cancel(record, "ana", self.now, self.seq)
            return
        answer, events = decide.cancel(record, "ana", self.now, self.seq)
        self.take(events)
        if model.state in WAITING:
            model.go(S.CANCELLED)
        elif model.state in (S.PROCESSING, S.SAVING):
            model.cancel = True
            assert answer == "requested"
            return
        assert answer == ("cancelled" if model.state is S.CANCELLED else "too_late")

    @rule(job=JOBS, rules=st.sampled_from(RULES))
    def declare(self, job: int, rules: Rules) -> None:
        """The next process declares the handler differently."""
        if (found := self.known(job)) is not None:
            found[1].rules = rules

    @rule(job=JOBS, even_if_acted=st.booleans())
    def retry(self, job: int, even_if_acted: bool) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        refusal = None
        if model.state not in (S.FAILED, S.CANCELLED):
            refusal = InvalidState
        elif not even_if_acted and not model.may_repeat(by_person=True):
            refusal = JobMayHaveActed
        if refusal is not None:
            with pytest.raises(refusal) as caught:
                decide.retry(record, model.rules, "ana", self.now, self.seq, even_if_acted=even_if_acted)
            assert type(caught.value) is refusal
            return
        self.take(decide.retry(record, model.rules, "ana", self.now, self.seq, even_if_acted=even_if_acted))
        self.new_run(model)
        model.permitted = even_if_acted and model.left
        if model.left and model.rules.verifies and not model.rules.idempotent:
            model.doubt(self.now, Outcome.INSIDE, broken_off=True)
        if model.expired(self.now):
            model.deadline = None

    def new_run(self, model: Model) -> None:
        model.state = S.PENDING
        model.run += 1
        model.retries = model.snoozes = model.crashes = 0
        model.cancel = False

    @rule(job=JOBS, payload=st.sampled_from([b"1", b"2", b"3"]), deadline_in=DEADLINES)
    def correct(self, job: int, payload: bytes, deadline_in: float | None) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        digest = None if model.key is None else f"digest of {payload.decode()}"
        refusal = None
        if model.state not in (S.FAILED, S.CANCELLED):
            refusal = InvalidState
        elif model.left or (model.done_steps and not model.not_done):
            refusal = JobMayHaveActed
        deadline = None if deadline_in is None else self.now + deadline_in

        def decided() -> Any:
            raw = msgspec.Raw(payload)
            return decide.correct(record, raw, digest, model.rules, self.now, self.seq, deadline_at=deadline, by="ana")

        if refusal is not None:
            with pytest.raises(refusal) as caught:
                decided()
            assert type(caught.value) is refusal
            return
        self.take(decided())
        self.new_run(model)
        model.permitted = False
        model.payloads.append(payload)
        model.done_steps.clear()
        assert not model.open_steps
        if deadline is not None or model.expired(self.now):
            model.deadline = deadline
        if model.key is not None:
            assert self.projection.keys["kind", model.key].digest == digest

    @rule(job=JOBS, answer=VERDICTS)
    def verify_now(self, job: int, answer: VerifyAnswer) -> None:
        """Verify is called for a failed or cancelled job, on request of a person."""
        if (found := self.known(job)) is None:
            return
        record, model = found
        recorded = self.take(decide.answered(record, answer, "ana", self.now, self.seq))
        assert recorded == (model.state in (S.FAILED, S.CANCELLED) and answer.asked)
        if not recorded:
            return
        if isinstance(answer.verdict, NotDone):
            model.left, model.not_done = False, True
            model.open_steps.clear()
        elif isinstance(answer.verdict, Done):
            if model.state is S.FAILED:
                model.complete()
            else:
                model.left = True

    @rule(job=JOBS)
    def ask_again(self, job: int) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        if model.state is not S.IN_DOUBT:
            return
        if model.inside:
            with pytest.raises(InvalidState):
                decide.ask_again(record, "ana", self.now, self.seq)
            return
        self.take(decide.ask_again(record, "ana", self.now, self.seq))
        model.asked = False

    @rule(job=JOBS, due_in=st.sampled_from([1.0, 20.0]), in_seconds=st.booleans())
    def reschedule(self, job: int, due_in: float, in_seconds: bool) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        when: Any = {"delay": due_in} if in_seconds else {"due_at": self.now + due_in}
        if model.state not in WAITING:
            with pytest.raises(InvalidState):
                decide.reschedule(record, self.now, self.seq, **when)
            return
        self.take(decide.reschedule(record, self.now, self.seq, **when))
        assert (record.due_wait and record.due_wait.seconds) == (due_in if in_seconds else None)
        model.go(S.SCHEDULED, self.now + due_in)

    @rule(job=JOBS)
    def run_now(self, job: int) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        if model.state not in WAITING:
            with pytest.raises(InvalidState):
                decide.run_now(record, "ana", self.now, self.seq)
            return
        recorded = self.take(decide.run_now(record, "ana", self.now, self.seq))
        assert recorded == (model.state is not S.PENDING)
        if recorded:
            model.state, model.due = S.PENDING, self.now

    @rule(job=JOBS, by=st.sampled_from(["ana", "bob"]), ends=st.booleans(), take_over=st.booleans())
    def claim(self, job: int, by: str, ends: bool, take_over: bool) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        if model.state is S.COMPLETED and not ends:
            with pytest.raises(InvalidState):
                decide.claim(record, by, self.now + 10.0, self.now, self.seq)
            return
        held = model.claimed is not None and model.claimed[1] > self.now

        def decided() -> Any:
            if ends:
                return decide.release(record, by, self.now, self.seq, take_over=take_over)
            return decide.claim(record, by, self.now + 10.0, self.now, self.seq, take_over=take_over)

        if held and not take_over and model.claimed is not None and model.claimed[0] != by:
            with pytest.raises(JobClaimed):
                decided()
            return
        assert self.take(decided()) == (held or not ends)
        if held or not ends:
            model.claimed = None if ends else (by, self.now + 10.0)

    @rule(job=JOBS, resolution=st.sampled_from(["done", "not_done", "failed"]))
    def resolve(self, job: int, resolution: decide.Resolution) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        if model.state is not S.IN_DOUBT or (model.inside and resolution == "not_done"):
            with pytest.raises(InvalidState):
                decide.resolve(record, resolution, "ana", self.now, self.seq)
            return
        self.take(decide.resolve(record, resolution, "ana", self.now, self.seq, msgspec.Raw(b"7")))
        if resolution == "done":
            model.complete()
        else:
            # a person knows; but not what a call that is inside will do yet
            model.left = model.inside and (model.left or model.entered)
            expired = model.expired(self.now) and not model.cancel
            model.go(S.FAILED) if resolution == "failed" or expired else model.come_back()

    @rule(job=JOBS)
    def expire(self, job: int) -> None:
        if (found := self.known(job)) is None:
            return
        record, model = found
        over = self.take(decide.expire(record, self.now, self.seq))
        assert over == (model.expired(self.now) and model.state in WAITING)
        if over:
            model.go(S.FAILED)

    @rule(
        age=st.sampled_from([10.0, 1e9, 1e9]), keep=st.integers(0, 5), limit=st.integers(1, 3), keys=st.integers(0, 2)
    )
    def prune(self, age: float, keep: int, limit: int, keys: int) -> None:
        old: list[str] = []
        for state in (S.COMPLETED, S.FAILED, S.CANCELLED):
            over = [job for job in self.models if job not in self.pruned and self.models[job].state is state]
            over.sort(key=lambda job: self.projection.jobs[job].moved_seq)
            excess = len(over) - keep
            old += [
                job
                for i, job in enumerate(over)
                if i < excess or self.projection.jobs[job].changed_at <= self.now - age
            ]
        chosen = self.projection.prunable(
            lambda record: self.now - record.changed_at, dict.fromkeys(FINAL, age), dict.fromkeys(FINAL, keep), limit
        )
        assert chosen == old[:limit]
        tombstones = self.projection.forget(chosen, self.now)
        assert [key.job for key in tombstones] == [job for job in chosen if self.models[job].key is not None]
        for job in chosen:
            self.pruned.add(job)
            with pytest.raises(JobNotFound):
                self.projection.get(job)
            self.order[self.models[job].state].remove(job)
            if (key := self.models[job].key) is not None:
                self.pruned_keys.append(key)
        excess = max(len(self.pruned_keys) - keys, 0)
        stale = self.projection.tombstones.take_stale(-1.0, keys, 1000)
        assert [key.job for key in stale] == [self.keys.pop(key) for key in self.pruned_keys[:excess]]
        self.pruned_keys = self.pruned_keys[excess:]

    @invariant()
    def the_engine_knows_what_the_model_knows(self) -> None:
        assert set(self.projection.jobs) == set(self.models) - self.pruned
        for job, record in self.projection.jobs.items():
            model = self.models[job]
            assert {
                "state": record.state, "run": record.run, "retries": record.retries_used, "snoozes": record.snoozes,
                "crashes": record.crashes, "cancel": record.cancel_requested, "left": record.may_have_acted,
                "due": record.due_at, "deadline": record.deadline_at, "numbers": [a.number for a in record.attempts],
                "doubt": record.doubt and (record.doubt.outcome, record.doubt.inside, record.doubt.asked),
                "open": {name for name, result in record.steps.items() if result is None},
                "done": {name for name, result in record.steps.items() if result is not None},
                "unsaved": record.unsaved and record.unsaved.result, "not_done": record.not_done,
                "payloads": [*(bytes(payload) for _, payload in record.earlier), bytes(record.payload)],
                "claimed": record.claim and (record.claim.by, record.claim.until),
                "broken_off": record.doubt and (record.doubt.interrupted or record.doubt.outcome in BROKEN_OFF),
            } == {
                "state": model.state, "run": model.run, "retries": model.retries, "snoozes": model.snoozes,
                "crashes": model.crashes, "cancel": model.cancel, "left": model.left,
                "due": model.due, "deadline": model.deadline, "numbers": list(range(1, model.attempts + 1)),
                "doubt": (model.cause, model.inside, model.asked) if model.state is S.IN_DOUBT else None,
                "open": model.open_steps, "done": model.done_steps, "unsaved": model.result,
                "not_done": model.not_done, "payloads": model.payloads[-11:], "claimed": model.claimed,
                "broken_off": model.broken_off if model.state is S.IN_DOUBT else None,
            }, job  # fmt: skip

    @invariant()
    def every_index_agrees_with_the_jobs(self) -> None:
        projection = self.projection
        for state in State:
            assert [record.id for record in projection.by_state[state]] == self.order[state]
            assert all(projection.jobs[record.id] is record for record in projection.by_state[state])
        assert [*projection.by_submit] == [*projection.jobs.values()]
        assert projection.count(*State) == len(projection.jobs)
        kept = {key: entry.job for (_, key), entry in projection.keys.items()}
        lost = {
            key: found.job for key in self.pruned_keys if (found := projection.tombstones.find("kind", key)) is not None
        }
        assert kept | lost == self.keys
        assert len(kept) + len(lost) == len(projection.keys) + len(projection.tombstones) == len(self.keys)

    @invariant()
    def every_run_that_is_over_has_one_end_and_no_other_run_has_one(self) -> None:
        for job, record in self.projection.jobs.items():
            assert self.ended.get((job, record.run)) is (record.state if record.state in FINAL else None)
            earlier = [self.ended[job, run] for run in range(1, record.run)]
            assert S.COMPLETED not in earlier, "nothing leaves completed"

    @invariant()
    def only_an_attempt_that_is_under_way_is_open(self) -> None:
        for record in self.projection.jobs.values():
            running = tuple(attempt for attempt in record.attempts if attempt.outcome is None)
            assert running == (record.attempts[-1:] if record.state is S.PROCESSING else ())
            assert record.result is None or record.state is S.COMPLETED

    def teardown(self) -> None:
        if not hasattr(self, "projection"):
            return
        decoder = msgspec.json.Decoder(ev.AnyEvent)
        again = Projection()
        for body in self.log:
            event = decoder.decode(body)
            assert msgspec.json.encode(event) == body
            again.apply(event)
        assert again.seq == self.projection.seq
        assert {job: record for job, record in again.jobs.items() if job not in self.pruned} == self.projection.jobs
        for state in State:
            assert [record for record in again.by_state[state] if record.id not in self.pruned] == [
                *self.projection.by_state[state]
            ]


TestEngineAgainstModel = EngineAgainstModel.TestCase
TestEngineAgainstModel.settings = settings(max_examples=300, stateful_step_count=60)
