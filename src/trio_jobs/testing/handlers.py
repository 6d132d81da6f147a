"""Is a handler fit for what happens to it? Everything that can go wrong around one goes wrong, one thing at a time.

    report = await check_handler(service, post_invoice, [Invoice("A-1", 100)], effects=book.entries, reset=book.clear)

The handler is run once to see its calls into the SDK (and its checkpoints, if it is async). Then it is run anew for
each of these points and each fault: the call raises, before it is made or after; the process dies there, and another
one takes over what is in the journal; a person cancels; the call outlives its limit; the queue stops. When all has come
to rest, what the job says it came to is compared with what is really there, by `effects`.

What is looked for: a handler that raises, or outlives its limit, where nothing went wrong (`Fail`, `Cancel`, `Snooze`
and `RetryAfter` are its own to ask for); a job that says completed, and its work is there twice or not at all; one that
says failed or cancelled and vouches that nothing is left behind, and something is; a verify that is wrong. A job in
doubt is never wrong: it says that nobody knows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import attrs
import trio

from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import Done, Job, NotDone, Outcome, State
from trio_jobs._errors import TrioJobsError, UsageError
from trio_jobs._runtime.queue import Queue, runtime_of
from trio_jobs._service import Service
from trio_jobs.testing._virtual import Work
from trio_jobs.testing._watched import LAST, Plan, Point, Watch, watched
from trio_jobs.testing.crashable_store import CrashableStore
from trio_jobs.testing.kit import drain, find_handler, open_queue, virtual_clock
from trio_jobs.testing.report import CheckReport, Finding

__all__ = ["check_handler"]

#: Points of one handler at which things go wrong; the rest is said to be left out
MOST_POINTS: Final = 200
_LIMIT: Final = 60.0  #: seconds, where the handler has no limit of its own
_UNSEEN: Final = object()

_RULES: Final = {
    "clean": "run without a fault, it completes or asks for another end, and its result can be kept",
    "payload": "its payload comes back from JSON as it was",
    "raise": "when a call raises, its work is done once, or the job says that it may have acted",
    "die": "when the process dies, the next one finds its work done once, or says that nobody knows",
    "cancel": "a person may cancel it at any moment",
    "slow": "it may be late",
    "stop": "the queue may stop at any moment",
    "verify": "verify says Done only of what is there, and NotDone only where nothing is",
}


@attrs.frozen
class _Seen:
    """What a case came to. job: as it stood at the end, in the last process. there: what the world then held."""

    job: Job
    there: Any
    watch: Watch


class _Case:
    """One payload of one handler, run as often as there are faults."""

    def __init__(
        self,
        service: Service,
        handler: Handler,
        payload: Any,
        key: str | None,
        effects: Callable[[], Any] | None,
        reset: Callable[[], Any],
    ) -> None:
        self._service = service
        self._payload = payload
        self._key = key
        self._effects = effects
        self._reset = reset
        self.handler = handler
        self.limit = handler.attempt_timeout if handler.attempt_timeout != float("inf") else _LIMIT

    def look(self) -> Any:
        return _UNSEEN if self._effects is None else copy.deepcopy(self._effects())

    async def run(self, plan: Plan | None) -> _Seen:
        """The job's whole story, over as many processes as it takes."""
        self._reset()
        disk = CrashableStore()
        watch = Watch(plan, look=self.look)
        job = await self._process(disk, watch, submit=True)
        if job is None or watch.dead:
            later = Watch(look=self.look)
            job = await self._process(disk, later, submit=False)
            watch.verdicts += later.verdicts
        assert job is not None
        return _Seen(job, self.look(), watch)

    async def _process(self, disk: CrashableStore, watch: Watch, *, submit: bool) -> Job | None:
        """One process: it submits the job, or takes it over, and ends when all is at rest. None: it was ended before,
        as was planned."""
        handler = attrs.evolve(watched(self.handler, watch), attempt_timeout=self.limit, stuck_after=self.limit * 10)
        work = Work(trio.lowlevel.current_clock())
        job: Job | None = None

        with trio.CancelScope() as process:

            def die() -> None:
                disk.crash()
                work.token.run_sync_soon(process.cancel)

            watch.on_death, watch.on_stop = die, process.cancel
            opening = open_queue(
                self._service,
                store=disk.store(),
                work=work,
                handlers={handler.kind: handler},
                drain_timeout=0.0,
                cancel_timeout=self.limit * 100,
                close_timeout=self.limit * 100,
                watchdog=None,
            )
            try:
                async with opening as queue:
                    # there is one job; it may be under way before its submit returns
                    watch.on_cancel = lambda: _cancel(queue, queue.job_ids()[0])
                    if submit:
                        await queue.submit(handler.kind, self._payload, key=self._key)
                    await self._rest(queue)
                    job = queue.get(queue.job_ids()[0])
            except TrioJobsError:
                if not watch.dead:  # what the dead still say does not count
                    raise
        return job

    async def _rest(self, queue: Queue) -> None:
        """Until nothing more will happen by itself: also what is asked of verify later, and late calls."""
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
    """As `Queue.cancel`, without the wait until it is kept: a handler cannot wait for its own cancel."""
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
) -> CheckReport:
    """Run the handler with each payload through all that can happen to it; see the head of this module.

    payloads: at least one, the simplest first, since the first that shows a fault is told. effects: what is there,
    outside the process, as a value that can be compared: it is copied at once, and called from any thread, also while a
    session is open. Without it nobody can tell what was really done, and only what the handler says is checked. reset:
    puts that back to its beginning, before each run. key: the job's key. error: what a call raises by plan.

    In virtual time. The calls that are seen are those on the SDK that the handler is given. Where a process "dies", its
    session is still left in the ordinary way: an SDK that writes on being closed seems to survive more than it does.

    Raises `ConformanceError` with what was found, unless `raises` is False. Raises `UsageError` where time is real,
    where `effects` is different after two clean runs, or there is no payload.
    """
    virtual_clock()
    found = find_handler(service, handler)
    findings: list[Finding] = []
    checked = [_RULES["clean"], _RULES["payload"]]
    left_out: list[str] = []
    if effects is None:
        left_out.append("what was really done: there is no `effects` to look at")
    given = 0
    for payload in payloads:
        given += 1
        case = _Case(service, found, payload, key, effects, reset)
        shown = f"{found.kind}({payload!r:.200})"
        findings += _round_trip(found, payload, shown)
        reset()
        before = case.look()
        clean = await case.run(None)
        again = await case.run(None)
        if clean.there != again.there:
            raise UsageError(
                f"{shown}: two clean runs leave {clean.there!r:.200} and {again.there!r:.200}; does reset work?"
            )
        findings += _clean(clean, before, shown)
        if findings:
            break  # what is wrong without a fault would be told again with each of them
        seen_faults: set[str] = set()
        if len(clean.watch.points) > MOST_POINTS:
            left_out.append(f"{shown}: points after the first {MOST_POINTS}")
        for plan in _plans(found, clean.watch, case.limit, error):
            rule = _RULES[plan.fault]
            if rule not in checked:
                checked.append(rule)
            seen = await case.run(plan)
            for finding in _judge(seen, plan, before, clean.there, shown, found):
                if finding.rule not in seen_faults:  # the earliest point is told; the later ones say the same
                    seen_faults.add(finding.rule)
                    findings.append(finding)
        if found.verify is not None and _RULES["verify"] not in checked:
            checked.append(_RULES["verify"])
        if findings:
            break  # the simplest payload that shows it
    if not given:
        raise UsageError("check_handler needs at least one payload")
    report = CheckReport(f"handler {found.kind!r}", tuple(checked), tuple(findings), tuple(left_out))
    return report.check() if raises else report


def _plans(handler: Handler, watch: Watch, limit: float, error: Callable[[], Exception]) -> Iterator[Plan]:
    """What is to go wrong, the most ordinary first."""
    points = watch.points[:MOST_POINTS]
    for point in points:
        yield Plan("raise", point, error=error())
    for point in points:
        yield Plan("die", point)
    for point in points:
        yield Plan("cancel", point)
    if handler.is_async:
        for number in range(1, min(watch.checkpoints, MOST_POINTS) + 1):
            yield Plan("cancel", checkpoint=number)
    for point in points:
        yield Plan("slow", point, seconds=limit * 2)
    for point in points:
        yield Plan("stop", point)


def _round_trip(handler: Handler, payload: Any, shown: str) -> list[Finding]:
    back = handler.decode(handler.encode(payload))
    if back == payload:
        return []
    how = f"the handler's type says {handler.payload_type!r}"
    return [Finding(_RULES["payload"], f"{shown} comes back from JSON as {back!r:.200}", how)]


def _clean(seen: _Seen, before: Any, shown: str) -> Iterator[Finding]:
    job, rule = seen.job, _RULES["clean"]
    if job.result_problem is not None:
        yield Finding(rule, f"{shown} completes, but its result cannot be kept: {job.result_problem}", "a clean run")
    for attempt in job.attempts:  # the first one is told: what a verify or a later attempt made of it hides it
        if attempt.outcome is Outcome.ERROR:
            yield Finding(rule, f"{shown} raises {attempt.error}; the job ended {job.state}", "a clean run")
            return
        if attempt.outcome in (Outcome.TIMED_OUT, Outcome.INSIDE) or attempt.overdue:
            yield Finding(rule, f"{shown} outlives its limit; the job ended {job.state}", "a clean run")
            return
    if job.state is State.COMPLETED:
        return
    why = f"{job.reason}{f': {job.error}' if job.error is not None else ''}"
    if seen.there != before and not job.may_have_acted and job.state is not State.IN_DOUBT:
        yield Finding(
            rule,
            f"{shown} ends {job.state} ({why}), which vouches that nothing is left behind; but there is "
            f"{seen.there!r:.300}",
            "a clean run",
        )


def _judge(seen: _Seen, plan: Plan, before: Any, clean: Any, shown: str, handler: Handler) -> Iterator[Finding]:
    job, there = seen.job, seen.there
    rule = _RULES[plan.fault]
    what = _told(plan)
    if there is not _UNSEEN:
        for answer, there_then in seen.watch.verdicts:
            if isinstance(answer, Done) and there_then == before and before != clean:
                yield Finding(
                    _RULES["verify"], f"{shown}: {what}, then verify said Done, but nothing was there", str(plan)
                )
            elif isinstance(answer, NotDone) and there_then != before:
                yield Finding(
                    _RULES["verify"],
                    f"{shown}: {what}, then verify said NotDone, but there was {there_then!r:.300}",
                    str(plan),
                )
    if job.state is State.COMPLETED and there != clean:
        yield Finding(
            rule,
            f"{shown}: {what}; the job ended completed, and there is {there!r:.300}, where a clean run leaves "
            f"{clean!r:.300}{_hint(handler)}",
            str(plan),
        )
    elif job.state in (State.FAILED, State.CANCELLED) and not job.may_have_acted and there != before:
        yield Finding(
            rule,
            f"{shown}: {what}; the job ended {job.state}, which vouches that nothing is left behind, but there is "
            f"{there!r:.300}{_hint(handler)}",
            str(plan),
        )
    elif not job.is_final and job.state is not State.IN_DOUBT:
        yield Finding(rule, f"{shown}: {what}; the job never ended, it is {job.state} ({job.reason})", str(plan))


def _told(plan: Plan) -> str:
    at: Point | None = plan.at
    where = f"at its checkpoint {plan.checkpoint}" if at is None else _where(at)
    match plan.fault:
        case "raise":
            return f"{where} {type(plan.error).__name__} was raised"
        case "die":
            return f"{where} the process died"
        case "cancel":
            return f"{where} a person cancelled it"
        case "slow":
            return f"{where} {plan.seconds:g} s went by, which is more than its limit"
        case _:
            return f"{where} the queue stopped"


def _where(point: Point) -> str:
    if point.name == LAST:
        return "when it had done all"
    return (
        f"when it {'was about to call' if point.side == 'before' else 'had called'} {point.name} (call {point.number})"
    )


def _hint(handler: Handler) -> str:
    if handler.verify is None and not handler.rules.idempotent:
        return "; it has no verify, so nobody could be asked what the first attempt had done"
    if handler.rules.idempotent:
        return "; it says that it is idempotent"
    return ""
