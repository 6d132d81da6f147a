"""What survives a crash of the machine: the bookings and calls of the SDK, and what clients received.

The SDK exists twice, for a thread and for Trio, with the same bookings. Each call is checked when it enters: one call
at a time, only in an open session, only after the start of its attempt is on the disk, and never repeated blindly.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import attrs

from sim.clock import SimClock
from sim.effects import Effects
from sim.plan import KINDS, CallBehaviour, Plan
from sim.timeline import Timeline

__all__ = ["Call", "ClientRecord", "Observer"]


@attrs.define(eq=False)
class Call:
    """One operation of the SDK. Times are virtual seconds."""

    life: int
    """The life of the service in which it began."""
    session: int
    what: str
    """"call", "verify", "save", "alive", "open" or "close"."""
    job: str
    kind: str
    attempt: int
    began: float
    behaviour: CallBehaviour | None = None
    """Of a call."""
    ended: float | None = None
    """None while it is inside."""
    how: str = ""
    """"returned", "raised", "cancelled", "killed" or "died"; the answer of a verify; what was wrong with an `alive` or
    a close; "done" of an open or close."""
    booked: bool = False


@attrs.define(eq=False)
class ClientRecord:
    """What clients requested and received."""

    accepted: dict[str, tuple[str, int, str | None]] = attrs.Factory(dict)
    """The kind, payload and key of each accepted job."""
    cancelled_submits: set[int] = attrs.Factory(set)
    """The payloads whose submit raised Cancelled."""
    created: set[str] = attrs.Factory(set)
    """The jobs returned with `created`."""
    keys: dict[tuple[str, str], str] = attrs.Factory(dict)
    """The job of each (kind, key)."""
    results: dict[str, str] = attrs.Factory(dict)
    """What `result` returned or raised, by job."""
    cancel_requests: dict[str, list[float]] = attrs.Factory(dict)
    """When clients called `cancel`, by job."""
    cancels: dict[str, list[str]] = attrs.Factory(dict)
    """What `cancel` returned, by job."""
    resolved: dict[str, list[str]] = attrs.Factory(dict)
    """How `resolve` was called, by job."""
    forgotten: Counter[str] = attrs.Factory(Counter)
    """How often operators requested that a job be forgotten, and were not refused."""
    snapshots: list[tuple[str, int, str, int]] = attrs.Factory(list)
    """What `get` returned: job, seq, state and number of attempts."""
    events: dict[int, bytes] = attrs.Factory(dict)
    """The events that followers received, by seq."""


class Observer:
    """Records what happens outside the machine and reports violations.

    Args:
        plan: The plan of the schedule.
        timeline: Receives all notes and violations.
        clock: Returns virtual seconds.
    """

    def __init__(self, plan: Plan, timeline: Timeline, clock: Callable[[], float]) -> None:
        self.plan = plan
        self.timeline = timeline
        self.clock = clock
        self.effects = Effects(clock)
        self.machine_clock = SimClock()
        self.calls: list[Call] = []
        self.booked: dict[str, list[float]] = {}
        """When the bookings of each job became durable: what is in the file of the SDK."""
        self.memory: dict[int, list[Call]] = {}
        """The calls whose bookings are in the memory of a session only."""
        self.call_counts: dict[str, int] = {}
        self.inside: list[Call] = []
        # jobs whose last call must be verified before the next one: the attempt of an inconclusive verify, or 0
        self.unverified: dict[str, int] = {}
        self.clients = ClientRecord()
        self.numbers: dict[str, int] = {}
        self.is_start_on_disk: Callable[[str, int], bool] = lambda job, attempt: True
        self.open_sessions: list[int] = []
        # sessions in which something has gone wrong: they may hold half of some work, and must not be called again
        self.dirty_sessions: set[int] = set()
        self.dead_sessions: set[int] = set()
        """Sessions whose process has ended."""
        self.stuck_processes: dict[int, float | None] = {}
        """When a process that had not ended when it was killed did end, by its session; None if it has not."""
        self.deaths = plan.stream("deaths")
        self.seats: list[tuple[float, bool]] = [(-1.0, True)]
        """Times at which it changed whether the last session was closed well."""
        self._seat_before = True
        self.rng = plan.stream("sdk")
        self._session = 0
        self._last_end = 0.0  # elapsed seconds
        self._last_life = 0
        self._used = 0.0  # elapsed seconds: when the session was opened, or a call ended in it
        self._last_save = 0.0  # elapsed seconds
        self._last_save_life = 0

    def note(self, who: str, what: str) -> None:
        self.timeline.note(self.clock(), who, what)

    def report(self, promise: str, what: str) -> None:
        self.timeline.report(self.clock(), promise, what)

    def name(self, job: str) -> str:
        """The name of the job in the timeline: its payload if known, otherwise the end of its id."""
        number = self.numbers.get(job)
        return f"job {number}" if number is not None else f"job {job[-6:]}"

    def power_off(self, life: int) -> None:
        """End all calls and sessions, since the machine has died."""
        for call in self.inside:
            call.ended, call.how = self.clock(), "died"
            self._update_unverified(call)
        self.inside.clear()
        self.stuck_processes.clear()
        self.memory.clear()
        self.open_sessions.clear()

    # sessions

    def new_session(self, life: int) -> int:
        self._session += 1
        self._check_nothing_inside("an open")
        self._enter(Call(life, self._session, "open", "", "", 0, self.clock()))
        self._seat_before = self.seats[-1][1]
        self.seats.append((self.clock(), False))
        if self.open_sessions:
            self.report("P1", f"session {self._session} is opened while session {self.open_sessions} is open")
        return self._session

    def opened(self, session: int, life: int) -> None:
        self._leave_session_call(session)
        self.open_sessions.append(session)
        self._used = self.machine_clock.elapsed()
        self.note("sdk", f"session {session} is open")

    def not_opened(self, session: int) -> None:
        self._leave_session_call(session)
        self.seats.append((self.clock(), self._seat_before))
        self.note("sdk", f"session {session} cannot be opened")

    def closing(self, session: int, life: int) -> None:
        self._check_nothing_inside("a close")
        if session not in self.open_sessions:
            self.report("P3", f"session {session} is closed but was not open")
        self._enter(Call(life, session, "close", "", "", 0, self.clock()))

    def closed(self, session: int, life: int, *, failed: bool) -> None:
        self._leave_session_call(session, "raised" if failed else "done")
        for call in self.memory.pop(session, ()):
            self.note("sdk", f"loses the booking of {self.name(call.job)}")
        if session in self.open_sessions:
            self.open_sessions.remove(session)
        self.seats.append((self.clock(), not failed))
        self.note("sdk", f"session {session} is closed{', and says that it could not' if failed else ''}")

    def _leave_session_call(self, session: int, how: str = "done") -> None:
        for call in [call for call in self.inside if call.session == session and call.what in ("open", "close")]:
            self.leave(call, how)

    # processes

    def time_to_die(self) -> float:
        """Virtual seconds until a process that is killed has ended."""
        if not happens(self.deaths, self.plan.slow_deaths):
            return 0.2
        return self.deaths.choice((1.0, 4.0, 9.0))

    def dies_within(self) -> float | None:
        """Virtual seconds after which the process dies, if what has begun is not over then; None if it does not."""
        if not happens(self.deaths, self.plan.deaths):
            return None
        return self.deaths.choice((0.0, 0.0, 0.001, 0.004, 0.05, 0.3))

    def idle_deaths(self) -> tuple[float, ...]:
        """Virtual seconds after an opening at which the process dies, if nothing is inside."""
        return (self.deaths.choice((0.1, 1.0, 5.0)),) if happens(self.deaths, self.plan.deaths) else ()

    def process_ended(self, session: int, how: str) -> None:
        """The process of a session has ended: what was inside has ended with it, and its memory is lost."""
        self.dead_sessions.add(session)
        if session in self.stuck_processes:
            self.stuck_processes[session] = self.clock()
        for call in [call for call in self.inside if call.session == session]:
            self.leave(call, how)
        for call in self.memory.pop(session, ()):
            self.note("sdk", f"loses the booking of {self.name(call.job)}")
        if session in self.open_sessions:
            self.open_sessions.remove(session)
        self.note("sdk", f"the process of session {session} {'was ' if how == 'killed' else ''}{how}")

    # calls

    def enter_call(self, life: int, session: int, job: str, kind: str, attempt: int, number: int) -> Call:
        earlier = self.call_counts.get(job, 0)
        self.call_counts[job] = earlier + 1
        behaviour = self.plan.behaviour(number).call(earlier)
        call = Call(life, session, "call", job, kind, attempt, self.clock(), behaviour)
        self._check_entry(call, f"call of {self.name(job)}")
        self._check_asked(f"call of {self.name(job)}")
        if self.unverified.get(job, attempt) != attempt:
            self.report("P6", f"{self.name(job)} is called again before a verify of the call before")
        self.note("sdk", f"call {earlier + 1} of {self.name(job)} ({kind}, attempt {attempt}): {behaviour.kind}")
        if not self.is_start_on_disk(job, attempt):  # the first hundred attempts of a life wait, also idempotent ones
            self.report("P6", f"attempt {attempt} of {self.name(job)} is in the SDK before its start is on the disk")
        self._enter(call)
        return call

    def enter_verify(self, life: int, session: int, job: str, kind: str, attempt: int) -> Call:
        call = Call(life, session, "verify", job, kind, attempt, self.clock())
        self._check_entry(call, f"verify of {self.name(job)}")
        self._enter(call)
        return call

    def enter_alive(self, life: int, session: int) -> Call:
        call = Call(life, session, "alive", "", "", 0, self.clock())
        self._check_entry(call, "question whether the session works")
        self._enter(call)
        return call

    def enter_save(self, life: int, session: int) -> Call:
        call = Call(life, session, "save", "", "", 0, self.clock())
        self._check_entry(call, "save")
        self.note("sdk", f"a save of session {session} begins")
        self._enter(call)
        return call

    def write(self, session: int, *, half: bool = False) -> None:
        """A save makes bookings durable: all of the session, or the first half of them."""
        memory = self.memory.get(session, [])
        count = len(memory) // 2 if half else len(memory)
        for call in memory[:count]:
            self._book(call)
        del memory[:count]

    def finds(self, job: str, session: int) -> bool:
        """Whether a query in this session finds a booking of the job: in the file, or in the memory of the session."""
        return bool(self.booked.get(job)) or any(call.job == job for call in self.memory.get(session, ()))

    def book(self, call: Call) -> None:
        if self.plan.saves:
            self.note("sdk", f"books {self.name(call.job)} in memory")
            self.memory.setdefault(call.session, []).append(call)
        else:
            self._book(call)

    def _book(self, call: Call) -> None:
        call.booked = True
        self.effects.call("books", call.session, call.job)
        bookings = self.booked.setdefault(call.job, [])
        bookings.append(self.clock())
        self.note("sdk", f"books {self.name(call.job)}")
        if len(bookings) > 1 and KINDS[call.kind].verifies and KINDS[call.kind].on_doubt != "retry":
            self.report("P6", f"{self.name(call.job)} is booked {len(bookings)} times although its verify is correct")

    def leave(self, call: Call, how: str) -> None:
        if call in self.inside:
            self.inside.remove(call)
            call.ended, call.how = self.clock(), how
            self.effects.call("leaves", call.session, call.what, call.job, how)
            self._update_unverified(call)
            went_wrong = call.what in ("call", "save") and how in ("raised", "cancelled", "killed", "died")
            if went_wrong and not (call.what == "call" and self._vouches(call, how)):
                self.dirty_sessions.add(call.session)
            if call.what == "alive" and how != "returned":
                self.dirty_sessions.add(call.session)
            if call.what == "save":
                self._last_save, self._last_save_life = self.machine_clock.elapsed(), call.life
            if call.what in ("call", "verify", "save", "alive"):
                self._last_end, self._last_life = self.machine_clock.elapsed(), call.life
                self._used = self._last_end
            if call.job or call.what in ("save", "alive"):
                what = f" of {self.name(call.job)}" if call.job else ""
                self.note("sdk", f"{call.what}{what}: {how}")

    def _update_unverified(self, call: Call) -> None:
        """Record whether the next call needs a verify first. A directive says that it does not."""
        rules = KINDS.get(call.kind)
        if call.what == "verify":
            if call.how in ("Done", "NotDone"):
                self.unverified.pop(call.job, None)
            elif call.job in self.unverified:
                self.unverified[call.job] = call.attempt  # an inconclusive verify permits one attempt
        elif call.what == "call" and rules is not None and rules.verifies and not rules.idempotent:
            if self._vouches(call, call.how):
                self.unverified.pop(call.job, None)
            else:
                self.unverified[call.job] = 0

    @staticmethod
    def _vouches(call: Call, how: str) -> bool:
        """Whether the call raised a directive, which says that nothing is half done."""
        assert call.behaviour is not None
        return how == "raised" and call.behaviour.kind in ("fail", "cancel", "snooze", "retry_after")

    def _enter(self, call: Call) -> None:
        self.effects.call("enters", call.life, call.session, call.what, call.job, call.kind, call.attempt)
        self.calls.append(call)
        self.inside.append(call)

    def _check_entry(self, call: Call, what: str) -> None:
        self._check_nothing_inside(f"a {what}")
        if call.session not in self.open_sessions:
            self.report("P1", f"a {what} enters session {call.session}, which is not open")
        if call.session in self.dirty_sessions:
            self.report("P6", f"a {what} enters session {call.session}, in which something has gone wrong")
        # a save follows its own attempt at once
        before, life = self._last_end, self._last_life
        if call.what == "save":
            before, life = self._last_save, self._last_save_life
        interval = self.machine_clock.elapsed() - before
        if interval < self.plan.settings["min_interval"] - 1e-6 and life == call.life:
            self.report("interval", f"a {what} enters {interval:.6f} s after the call before it ended")

    def _check_asked(self, what: str) -> None:
        """`alive` is asked before a job if nothing has happened in the session for some time."""
        plan = self.plan
        disk_waits = plan.disk.stalls or plan.disk.fails  # between the question and the call, the start is committed
        if plan.alive_faults is None or disk_waits or not self.machine_clock.is_steady:
            return
        idle = self.machine_clock.elapsed() - self._used
        if idle > max(plan.settings["check_after"], 1.0) + 2.0:
            self.report("alive", f"a {what} enters a session that was idle for {idle:.3f} s and was not asked")

    def _check_nothing_inside(self, what: str) -> None:
        for other in self.inside:
            self.report("P1", f"{what} enters while a {other.what} of session {other.session} is inside")


def happens(rng: random.Random, share: float) -> bool:
    """Return true with that probability. A share of 0 takes no random number."""
    return share > 0 and rng.random() < share
