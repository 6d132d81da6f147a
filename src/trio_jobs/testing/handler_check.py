"""Check a handler by fault injection: one run for each call into the SDK and each fault.

    report = await check_handler(service, post_invoice, [Invoice("A-1", 100)], effects=book.entries, reset=book.clear)

The handler runs once without a fault, to record its calls into the SDK (and its checkpoints, if it is async). Then it
runs once for each of these call sites and each fault: the call raises, before or after the SDK is called; the process
dies, and another one continues with the journal; the job is cancelled; the call exceeds its limit; the queue stops.
When nothing more happens, the state of the job is compared with what `effects` returns.

Findings are: a handler that raises or exceeds its limit without a fault (the directives `Fail`, `Cancel`, `Snooze` and
`RetryAfter` are allowed); a job that is completed though its work is there twice or not at all; a job that is failed or
cancelled, claims that nothing is left behind, and left something behind; a job that is completed although its work is
gone with its session; a verify that answers wrongly, or finds the work of another job. A job in doubt is never a
finding, since it claims nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import attrs
import trio

from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import Done, Job, NotDone, Outcome, State
from trio_jobs._errors import InvalidPayload, TrioJobsError, UsageError
from trio_jobs._runtime.queue import Queue, runtime_of
from trio_jobs._service import Service
from trio_jobs.testing._durable_work import ADVICE, as_if_interrupted, has_lost_work, is_asked, without_work
from trio_jobs.testing._fault_plans import MAX_CALL_SITES, plans
from trio_jobs.testing._fault_words import NO_CALLS, error_words, fault_sentence, hint, verdict_problem
from trio_jobs.testing._instrumented import HANDLER_RETURN, CallRecorder, FaultPlan, instrument
from trio_jobs.testing._quiet_log import quiet_log
from trio_jobs.testing._virtual_time import ThreadActivity
from trio_jobs.testing.crashable_store import CrashableStore
from trio_jobs.testing.kit import drain, find_handler, open_queue, virtual_clock
from trio_jobs.testing.report import CheckReport, Finding

__all__ = ["check_handler"]

_LIMIT: Final = 60.0  #: seconds, if the handler has no limit
_UNKNOWN: Final = object()  # the effects, if they cannot be read

_RULES: Final = {
    "clean": "without a fault the handler completes or raises a directive, and its result can be recorded",
    "durable": "when the handler has returned, verify finds its work in a new session",
    "payload": "the payload is the same after a round trip through JSON",
    "raise": "when a call raises, the work is done once, or the job is marked `may_have_acted`",
    "die": "when the process dies, the work is done once, or the job is in doubt",
    "cancel": "when the job is cancelled, the work is done once or not, or the job is marked `may_have_acted`",
    "slow": "when a call exceeds the limit, the work is done once, or the job is marked `may_have_acted`",
    "stop": "when the queue stops, the work is done once or not, or the job is marked `may_have_acted`",
    "verify": "verify returns Done only if the work is there, and NotDone only if nothing of it is there",
    "foreign": "verify does not return Done because of the work of another job",
}


@attrs.frozen
class _Run:
    """The result of one run."""

    job: Job  # at the end of the last process
    effects: Any
    recorder: CallRecorder


class _Case:
    """One payload of one handler, which runs once for each fault."""

    def __init__(
        self,
        service: Service,
        handler: Handler,
        payload: Any,
        key: str | None,
        effects: Callable[[], Any] | None,
        reset: Callable[[], Any],
        seed: int = 0,
    ) -> None:
        self._seed = seed  # of the ids of jobs
        self._service = service
        self.payload = payload
        self._key = key
        self._effects = effects
        self._reset = reset
        self._storage: CrashableStore | None = None  # of the last run
        self.verify_problem: str | None = None  # why verify has not answered about a run without a fault
        self.handler = handler
        self.limit = handler.attempt_timeout if handler.attempt_timeout != float("inf") else _LIMIT

    def read_effects(self) -> Any:
        return _UNKNOWN if self._effects is None else copy.deepcopy(self._effects())

    async def loses_work(self, clean: _Run) -> bool:
        """After a run without a fault: whether verify does not find the work of it in a new session."""
        assert self._storage is not None
        recorder = CallRecorder(read_effects=self.read_effects)
        storage = as_if_interrupted(self._storage)
        await self._run_process(storage, recorder, submit=False, handler=without_work(self.handler))
        if recorder.verdicts:
            self.verify_problem = verdict_problem(recorder.verdicts[0][0])
        return has_lost_work(clean.job, recorder.verdicts)

    async def claims_work_of(self, other: _Case, clean: _Run) -> bool:
        """After a run without a fault: whether verify returns Done where only the work of `other` is there."""
        assert self._storage is not None
        storage = as_if_interrupted(self._storage)
        there = await other.run(None)
        if there.effects == clean.effects and there.effects is not _UNKNOWN:
            return False  # the work of both is the same
        recorder = CallRecorder(read_effects=self.read_effects)
        await self._run_process(storage, recorder, submit=False, handler=without_work(self.handler))
        return bool(recorder.verdicts) and isinstance(recorder.verdicts[0][0], Done)

    async def run(self, plan: FaultPlan | None) -> _Run:
        """Run the job until nothing more happens, in a second process if the first one ends by plan."""
        self._reset()
        self._storage = storage = CrashableStore()
        recorder = CallRecorder(plan, read_effects=self.read_effects)
        job = await self._run_process(storage, recorder, submit=True)
        if job is None or recorder.dead:
            second = CallRecorder(read_effects=self.read_effects)
            job = await self._run_process(storage, second, submit=False)
            recorder.verdicts += second.verdicts
        assert job is not None
        return _Run(job, self.read_effects(), recorder)

    async def _run_process(
        self, storage: CrashableStore, recorder: CallRecorder, *, submit: bool, handler: Handler | None = None
    ) -> Job | None:
        """Run one process, which submits or restores the job. Returns the job; None if the process ended by plan."""
        handler = attrs.evolve(
            instrument(handler or self.handler, recorder), attempt_timeout=self.limit, stuck_after=self.limit * 10
        )
        activity = ThreadActivity(trio.lowlevel.current_clock())
        job: Job | None = None

        with trio.CancelScope() as process:

            def die() -> None:
                storage.crash()
                activity.token.run_sync_soon(process.cancel)

            recorder.on_death, recorder.on_stop = die, process.cancel
            opening = open_queue(
                self._service,
                store=storage.store(),
                activity=activity,
                handlers={handler.kind: handler},
                seed=self._seed,
                drain_timeout=0.0,
                cancel_timeout=self.limit * 100,
                close_timeout=self.limit * 100,
                watchdog=None,
            )
            try:
                async with opening as queue:
                    # there is one job; its attempt may run before the submit returns
                    recorder.on_cancel = lambda: _cancel(queue, queue.job_ids()[0])
                    if submit:
                        await queue.submit(handler.kind, self.payload, key=self._key)
                    await self._wait_until_idle(queue)
                    job = queue.get(queue.job_ids()[0])
            except TrioJobsError:
                if not recorder.dead:  # errors of a dead process do not count
                    raise
        return job

    async def _wait_until_idle(self, queue: Queue) -> None:
        """Wait until nothing more will happen, including delayed verifies and late calls."""
        handler = self.handler
        longest = handler.verify_delay + handler.verify_timeout + self.limit * 20
        for _ in range(20):
            await drain(queue)
            seq = queue.statistics().seq
            if not queue.statistics().jobs[State.IN_DOUBT]:
                return
            await trio.sleep(longest)
            if queue.statistics().seq == seq:
                return


def _cancel(queue: Queue, job_id: str) -> None:
    """As `Queue.cancel` without waiting for the commit: a handler cannot wait for its own cancellation."""
    runtime_of(queue).operations.cancel_now(job_id, by="check_handler")


async def check_handler(
    service: Service,
    handler: str | Callable[..., Any],
    payloads: Iterable[Any],
    *,
    effects: Callable[[], Any] | None = None,
    reset: Callable[[], Any] = lambda: None,
    key: str | None = "check",
    error: Callable[[], Exception] = lambda: ConnectionResetError("planned by check_handler"),
    raises: bool = True,
    log: bool = False,
) -> CheckReport:
    """Check a handler by fault injection: run it with each payload, once for each call into the SDK and each fault.

    It runs in virtual time, on a thread if the SDK is not asynchronous. Only calls through the SDK object that the
    handler receives are recorded, by a proxy. Code in C and COM does not accept the proxy as an argument; for such an
    SDK the session must be a Python class with a method for each operation. When a process "dies", its session is still
    closed normally, so an SDK that writes when it is closed seems to lose less than it would.

    Args:
        service: The service that the handler belongs to.
        handler: Its kind or function.
        payloads: At least one, the simplest first: the check stops at the first payload with findings. With further
            ones, of different work, verify must not find the work of the first one for them.
        effects: Returns what the handler did outside the process, as a value that can be compared. The value is copied
            immediately. Called from any thread, also while a session is open. Without it only the handler's own claims
            are checked.
        reset: Undoes all effects; called before each run.
        key: The key of the job.
        error: Returns the exception that a call raises by plan.
        raises: Raise if there are findings. Otherwise the report has them.
        log: Let the log records of trio-jobs reach the handlers of `logging`. Otherwise a finding has those of its run.

    Returns:
        The report.

    Raises:
        ConformanceError: There are findings, and `raises` is true.
        UsageError: Time is real; or there is no payload; or `effects` differs after two runs without a fault.

    Cancelled:
        The queue of the current run is closed.
    """
    virtual_clock()
    found = find_handler(service, handler)
    with quiet_log(log) as lines:
        report = await _check(service, found, payloads, effects, reset, key, error, lines)
    return report.check() if raises else report


async def _check(
    service: Service,
    found: Handler,
    payloads: Iterable[Any],
    effects: Callable[[], Any] | None,
    reset: Callable[[], Any],
    key: str | None,
    error: Callable[[], Exception],
    lines: list[str],
) -> CheckReport:
    findings: list[Finding] = []
    checked = [_RULES["clean"], _RULES["payload"], *([_RULES["durable"]] if is_asked(found) else [])]
    left_out: list[str] = []
    if effects is None:
        left_out.append("what the handler did: `effects` is missing")
    given = 0
    first: _Case | None = None
    for payload in payloads:
        given += 1
        case = _Case(service, found, payload, key, effects, reset)
        shown = f"{found.kind}({payload!r:.200})"
        try:
            findings += _round_trip(found, payload, shown)
        except InvalidPayload as refusal:
            findings.append(Finding(_RULES["payload"], f"{shown} is refused when it is submitted: {refusal.why}"))
            continue
        reset()
        before = case.read_effects()
        clean = await case.run(None)
        loses_work = is_asked(found) and await case.loses_work(clean)
        again = await case.run(None)
        if clean.effects != again.effects:
            raise UsageError(
                f"{shown}: two runs without a fault leave {clean.effects!r:.200} and {again.effects!r:.200}; "
                "does reset work?"
            )
        findings += _clean(clean, before, shown)
        if loses_work and (clean.effects is _UNKNOWN or clean.effects == before):  # else verify does not see the work
            what = "completes, and verify, asked in a new session, returns NotDone"
            findings.append(Finding(_RULES["durable"], f"{shown} {what}: {ADVICE}", "run it without a fault"))
        if case.verify_problem is not None:
            what = f"after a run without a fault, verify {case.verify_problem}"
            findings.append(Finding(_RULES["verify"], f"{shown}: {what}", "run it without a fault"))
        if is_asked(found) and not findings:
            if first is None:
                first = _Case(service, found, payload, f"{key}, another job", effects, reset, seed=1)
            elif await case.claims_work_of(first, again):
                what = f"verify returns Done after {found.kind}({first.payload!r:.200}) was processed and this was not"
                how = "run it without a fault; if both payloads are the same work, give payloads of different work"
                findings.append(Finding(_RULES["foreign"], f"{shown}: {what}", how))
        if findings:
            break  # each fault would report the same findings again
        broken_rules: set[str] = set()
        if found.takes_sdk and all(site.name == HANDLER_RETURN for site in clean.recorder.call_sites):
            left_out.append(f"{shown}: {NO_CALLS}")
        if len(clean.recorder.call_sites) > MAX_CALL_SITES:
            left_out.append(f"{shown}: call sites after the first {MAX_CALL_SITES}")
        for plan in plans(found, clean.recorder, case.limit, error):
            rule = _RULES[plan.fault]
            if rule not in checked:
                checked.append(rule)
            lines.clear()
            run = await case.run(plan)
            for finding in _compare(run, plan, before, clean.effects, shown, found):
                if finding.rule not in broken_rules:  # later call sites break it in the same way
                    broken_rules.add(finding.rule)
                    findings.append(attrs.evolve(finding, log=() if plan.fault in ("die", "stop") else tuple(lines)))
        if found.verify is not None and _RULES["verify"] not in checked:
            checked.append(_RULES["verify"])
        if findings:
            break  # with the simplest payload that shows them
    if not given:
        raise UsageError("check_handler needs at least one payload")
    if is_asked(found):
        if given > 1:
            checked.append(_RULES["foreign"])
        else:
            why = "the check stops at the first payload with findings" if findings else "give a second payload"
            left_out.append(f"whether verify finds the work of another job: {why}")
    return CheckReport(f"handler {found.kind!r}", tuple(checked), tuple(findings), tuple(left_out))


def _round_trip(handler: Handler, payload: Any, shown: str) -> list[Finding]:
    back = handler.decode(handler.encode(payload))
    if back == payload:
        return []
    how = f"the payload type is {handler.payload_type!r}"
    return [Finding(_RULES["payload"], f"{shown} becomes {back!r:.200} by a round trip through JSON", how)]


def _clean(run: _Run, before: Any, shown: str) -> Iterator[Finding]:
    job, rule, how = run.job, _RULES["clean"], "run it without a fault"
    if job.result_problem is not None:
        yield Finding(rule, f"{shown} completes, but its result cannot be recorded: {job.result_problem}", how)
    for attempt in job.attempts or ():  # the first failure is reported, since a verify or later attempt may hide it
        if attempt.outcome is Outcome.ERROR:
            what, advice = error_words(attempt.error)
            yield Finding(rule, f"{shown} raises {what}; the job ends {job.state}", how + advice)
            return
        if attempt.outcome in (Outcome.TIMED_OUT, Outcome.INSIDE) or attempt.overdue:
            yield Finding(rule, f"{shown} exceeds its limit; the job ends {job.state}", how)
            return
    if job.state is State.COMPLETED:
        return
    why = f"{job.reason}{f': {job.error}' if job.error is not None else ''}"
    if run.effects != before and not job.may_have_acted and job.state is not State.IN_DOUBT:
        yield Finding(
            rule,
            f"{shown} ends {job.state} ({why}), which claims that nothing is left behind, but leaves "
            f"{run.effects!r:.300}",
            how,
        )


def _compare(run: _Run, plan: FaultPlan, before: Any, clean: Any, shown: str, handler: Handler) -> Iterator[Finding]:
    job, effects = run.job, run.effects
    rule, how = _RULES[plan.fault], f"inject the fault '{plan}'"
    what = fault_sentence(plan)
    if effects is not _UNKNOWN:
        for verdict, effects_then in run.recorder.verdicts:
            if isinstance(verdict, Done) and effects_then == before and before != clean:
                yield Finding(
                    _RULES["verify"], f"{shown}: {what}; verify returned Done although nothing was there", how
                )
            elif isinstance(verdict, NotDone) and effects_then != before:
                yield Finding(
                    _RULES["verify"],
                    f"{shown}: {what}; verify returned NotDone although there was {effects_then!r:.300}",
                    how,
                )
    if job.state is State.COMPLETED and effects != clean:
        yield Finding(
            rule,
            f"{shown}: {what}; the job completed and left {effects!r:.300}, but a run without a fault leaves "
            f"{clean!r:.300}{hint(handler, job, run.recorder.verdicts)}",
            how,
        )
    elif job.state in (State.FAILED, State.CANCELLED) and not job.may_have_acted and effects != before:
        yield Finding(
            rule,
            f"{shown}: {what}; the job ended {job.state}, which claims that nothing is left behind, but left "
            f"{effects!r:.300}{hint(handler, job, run.recorder.verdicts)}",
            how,
        )
    elif not job.is_final and job.state is not State.IN_DOUBT:
        yield Finding(rule, f"{shown}: {what}; the job never became final, it is {job.state} ({job.reason})", how)
