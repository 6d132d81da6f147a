"""What stands outside and survives a crash of ours: the SDK's own book, and who has been told what.

The SDK is written twice, for a thread of its own and for Trio, over the same book. It looks at everything that comes
in: one call at a time, only into an open session, nothing that was not on the disk before, nothing blindly again.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs

from sim.effects import Effects
from sim.plan import KINDS, Act, Plan
from sim.timeline import Timeline

__all__ = ["Call", "Told", "World"]


@attrs.define(eq=False)
class Call:
    """life: in which it began. what: "call", "verify", "open" or "close". number: the payload. ended: None while it is
    inside. how: "returned", "raised", "cancelled", "died"; of a verify what it answered."""

    life: int
    session: int
    what: str
    job: str
    kind: str
    attempt: int
    began: float
    act: Act | None = None
    ended: float | None = None
    how: str = ""
    booked: bool = False


@attrs.define(eq=False)
class Told:
    """What people were told, and what they asked for.

    accepted: by job, (kind, number, key). created: jobs that somebody was told are new. keys: the job of (kind, key).
    broken_off: payloads whose submit was cancelled, and came out of it as that. results: by job, what `result` came to.
    cancel_asked: by job, when somebody began to ask for its cancel; cancels: the answers. resolved: by job, what a
    person said. seen: a job as it was shown, (job, seq, state, attempts). events: by seq, as a follower got it.
    """

    accepted: dict[str, tuple[str, int, str | None]] = attrs.Factory(dict)
    broken_off: set[int] = attrs.Factory(set)
    created: set[str] = attrs.Factory(set)
    keys: dict[tuple[str, str], str] = attrs.Factory(dict)
    results: dict[str, str] = attrs.Factory(dict)
    cancel_asked: dict[str, list[float]] = attrs.Factory(dict)
    cancels: dict[str, list[str]] = attrs.Factory(dict)
    resolved: dict[str, list[str]] = attrs.Factory(dict)
    seen: list[tuple[str, int, str, int]] = attrs.Factory(list)
    events: dict[int, bytes] = attrs.Factory(dict)


class World:
    """clock: virtual seconds. kept: is this start of an attempt on the disk?"""

    def __init__(self, plan: Plan, timeline: Timeline, clock: Callable[[], float]) -> None:
        self.plan = plan
        self.timeline = timeline
        self.clock = clock
        self.effects = Effects(clock)
        self.calls: list[Call] = []
        self.booked: dict[str, list[float]] = {}
        self.made: dict[str, int] = {}
        self.inside: list[Call] = []
        # jobs of which verify has to tell what the last call did; in which attempt it was asked and could not, or 0
        self.unasked: dict[str, int] = {}
        self.told = Told()
        self.numbers: dict[str, int] = {}
        self.kept: Callable[[str, int], bool] = lambda job, attempt: True
        self.open_sessions: list[int] = []
        self.sessions: list[tuple[int, int, str]] = []
        self.chance = plan.stream("sdk")
        self._session = 0
        self._last_end = 0.0
        self._last_life = 0

    def note(self, who: str, what: str) -> None:
        self.timeline.note(self.clock(), who, what)

    def wrong(self, promise: str, what: str) -> None:
        self.timeline.wrong(self.clock(), promise, what)

    def name(self, job: str) -> str:
        """As the timeline calls it: by its payload, once that is known."""
        number = self.numbers.get(job)
        return f"job {number}" if number is not None else f"job {job[-6:]}"

    def power_off(self, life: int) -> None:
        """The machine has died: what was inside is broken off wherever it was."""
        for call in self.inside:
            call.ended, call.how = self.clock(), "died"
            self._remember(call)
        self.inside.clear()
        for session in self.open_sessions:
            self.sessions.append((life, session, "died"))
        self.open_sessions.clear()

    # sessions

    def new_session(self, life: int) -> int:
        self._session += 1
        self._look_inside("an opening")
        self._enter(Call(life, self._session, "open", "", "", 0, self.clock()))
        if self.open_sessions:
            self.wrong("P1", f"session {self._session} is opened beside session {self.open_sessions}")
        return self._session

    def opened(self, session: int, life: int) -> None:
        self._leave_door(session)
        self.open_sessions.append(session)
        self.sessions.append((life, session, "opened"))
        self.note("sdk", f"session {session} is open")

    def not_opened(self, session: int) -> None:
        self._leave_door(session)
        self.note("sdk", f"session {session} cannot be opened")

    def closing(self, session: int, life: int) -> None:
        self._look_inside("a close")
        if session not in self.open_sessions:
            self.wrong("P3", f"session {session} is closed, which is not open")
        self._enter(Call(life, session, "close", "", "", 0, self.clock()))

    def closed(self, session: int, life: int) -> None:
        self._leave_door(session)
        if session in self.open_sessions:
            self.open_sessions.remove(session)
        self.sessions.append((life, session, "closed"))
        self.note("sdk", f"session {session} is closed")

    def _leave_door(self, session: int) -> None:
        for call in [call for call in self.inside if call.session == session and call.what in ("open", "close")]:
            self.leave(call, "done")

    # calls

    def enter_call(self, life: int, session: int, job: str, kind: str, attempt: int, number: int) -> Call:
        made = self.made.get(job, 0)
        self.made[job] = made + 1
        act = self.plan.fate(number).act(made)
        call = Call(life, session, "call", job, kind, attempt, self.clock(), act)
        self._check_entry(call, f"call of {self.name(job)}")
        asked_in = self.unasked.get(job, attempt)
        if asked_in != attempt:
            self.wrong("P6", f"{self.name(job)} is called again, and verify was not asked what the call before it did")
        self.note("sdk", f"call {made + 1} of {self.name(job)} ({kind}, attempt {attempt}): {act.kind}")
        if not KINDS[kind].idempotent and not self.kept(job, attempt):
            self.wrong("P6", f"attempt {attempt} of {self.name(job)} is in the SDK before its start is on the disk")
        self._enter(call)
        return call

    def enter_verify(self, life: int, session: int, job: str, kind: str, attempt: int) -> Call:
        call = Call(life, session, "verify", job, kind, attempt, self.clock())
        self._check_entry(call, f"verify of {self.name(job)}")
        self._enter(call)
        return call

    def book(self, call: Call) -> None:
        call.booked = True
        self.effects.call("books", call.session, call.job)
        books = self.booked.setdefault(call.job, [])
        books.append(self.clock())
        self.note("sdk", f"books {self.name(call.job)}")
        if len(books) > 1 and KINDS[call.kind].verifies and KINDS[call.kind].on_doubt != "retry":
            self.wrong("P6", f"{self.name(call.job)} is booked {len(books)} times, although verify tells the truth")

    def leave(self, call: Call, how: str) -> None:
        if call in self.inside:
            self.inside.remove(call)
            call.ended, call.how = self.clock(), how
            self.effects.call("leaves", call.session, call.what, call.job, how)
            self._remember(call)
            if call.what in ("call", "verify"):
                self._last_end, self._last_life = call.ended, call.life
            if call.job:
                self.note("sdk", f"{call.what} of {self.name(call.job)}: {how}")

    def _remember(self, call: Call) -> None:
        """Has verify to be asked before the next call? Not where the handler vouches that nothing is half done."""
        rules = KINDS.get(call.kind)
        if call.what == "verify":
            if call.how in ("Done", "NotDone"):
                self.unasked.pop(call.job, None)
            elif call.job in self.unasked:
                self.unasked[call.job] = call.attempt  # it could not tell: that is an answer for one attempt
        elif call.what == "call" and rules is not None and rules.verifies and not rules.idempotent:
            assert call.act is not None
            if call.how == "raised" and call.act.kind in ("fail", "cancel", "snooze", "retry_after"):
                self.unasked.pop(call.job, None)
            else:
                self.unasked[call.job] = 0

    def _enter(self, call: Call) -> None:
        self.effects.call("enters", call.life, call.session, call.what, call.job, call.kind, call.attempt)
        self.calls.append(call)
        self.inside.append(call)

    def _check_entry(self, call: Call, what: str) -> None:
        self._look_inside(f"a {what}")
        if call.session not in self.open_sessions:
            self.wrong("P1", f"a {what} comes into session {call.session}, which is not open")
        rested = self.clock() - self._last_end
        if rested < self.plan.settings["min_interval"] - 1e-6 and self._last_life == call.life:
            self.wrong("rest", f"a {what} comes {rested:.6f} s after the one before")

    def _look_inside(self, what: str) -> None:
        for other in self.inside:
            self.wrong("P1", f"{what} enters while a {other.what} of session {other.session} is inside")


def luck(chance: random.Random, share: float) -> bool:
    """True that often; without a draw for never."""
    return share > 0 and chance.random() < share
