"""The plan that follows from a seed: the service, the behaviour of the SDK for each job, the clients, and the faults.

Everything is drawn before the schedule starts or from a random stream of its own (`Plan.stream`), so that the draws of
one part do not change those of another.
"""

from __future__ import annotations

import random
from typing import Any, Final, Literal

import attrs

__all__ = [
    "CALL_KINDS",
    "KINDS",
    "OPERATED_FROM",
    "CallBehaviour",
    "CallKind",
    "ClockChange",
    "DiskHabits",
    "JobBehaviour",
    "KindRules",
    "Plan",
    "draw",
    "draw_with_kills",
]

CallKind = Literal[
    "return", "error", "late_error", "retry_after", "snooze", "fail", "cancel", "slow", "hang", "session_lost"
]
#: error: raised before the SDK acted; late_error: after it. slow: can be cancelled; hang: cannot.
CALL_KINDS: Final[tuple[CallKind, ...]] = (
    "return", "error", "late_error", "retry_after", "snooze", "fail", "cancel", "slow", "hang", "session_lost",
)  # fmt: skip
_WEIGHTS: Final = (50, 12, 7, 4, 4, 4, 2, 7, 5, 3)
#: What a save does wrong: it raises before, in the middle or after writing; it takes long, or longer than allowed
SAVE_FAULTS: Final = ("before", "half", "after", "slow", "hang")
SAVE_TIMEOUT: Final = 1.5
#: The session is lost, or nobody can tell
ALIVE_FAULTS: Final = ("dead", "dead", "dead", "raise", "hang")
CHECK_AFTER: Final = 0.3
_MISTAKES: Final = ("raise", "slow", "nonsense")

ATTEMPT_TIMEOUT: Final = 2.0
STUCK_AFTER: Final = 3.0
#: The first seed whose schedule has operators. Those below do not, so that their recorded effects stay comparable
OPERATED_FROM: Final = 2_000_000
WAITS: Final = (0.5, 1.0)


@attrs.frozen
class CallBehaviour:
    """What one call into the SDK does. Times are virtual seconds."""

    kind: CallKind
    before: float
    """Until it books."""
    after: float
    """From the booking to its end."""
    long: float
    """The duration of a `slow` or `hang`, which can exceed the attempt's limit."""


@attrs.frozen
class JobBehaviour:
    """What the calls of one job do, in order; the last one repeats."""

    calls: tuple[CallBehaviour, ...]

    def call(self, index: int) -> CallBehaviour:
        """The behaviour of a call, counted from 0."""
        return self.calls[min(index, len(self.calls) - 1)]


@attrs.frozen
class KindRules:
    """The registration of a handler."""

    idempotent: bool = False
    verifies: bool = False
    on_doubt: Literal["hold", "retry", "fail"] = "hold"
    timeout: float | None = ATTEMPT_TIMEOUT
    verify_delay: float = 0.0
    calls: bool = False
    """The handler is async and calls the SDK through its handle."""
    steps: bool = False
    """The call is a step."""
    max_retries: int = 2
    consents: bool = True
    """The handler declares `retry`: without a verify, an attempt that raised is repeated."""


#: The kinds that clients submit. The names are part of recorded effects, so a new name needs a new recording
KINDS: Final[dict[str, KindRules]] = {
    "plain": KindRules(),
    "asked": KindRules(verifies=True),
    "settled": KindRules(verifies=True, verify_delay=0.7),
    "once": KindRules(consents=False, max_retries=3),  # those of the default policy
    "safe": KindRules(idempotent=True),
    "pushy": KindRules(on_doubt="retry"),
    "dropped": KindRules(on_doubt="fail"),
    "talks": KindRules(verifies=True, calls=True),
    "steps": KindRules(verifies=True, calls=True, steps=True),
    "asked_dropped": KindRules(verifies=True, on_doubt="fail"),
    "asked_pushy": KindRules(verifies=True, on_doubt="retry"),
    "endless": KindRules(timeout=None, verifies=True),
}


@attrs.frozen
class DiskHabits:
    """The probabilities that the sync of a commit is slow, stalls for seconds, or fails."""

    slow: float
    stalls: float
    fails: float

    def sync_time(self, rng: random.Random) -> float:
        """Virtual seconds that the next sync takes."""
        draw = rng.random()
        if draw < self.stalls:
            return rng.choice((2.0, 7.0, 20.0))
        if draw < self.stalls + self.slow:
            return rng.choice((0.02, 0.1, 0.4))
        return rng.choice((0.0002, 0.001, 0.004))

    def fault(self, rng: random.Random) -> str:
        """The fault of the next commit, see `SimDisk`; "" for none."""
        if rng.random() >= self.fails:
            return ""
        return rng.choice(("lost", "lost", "kept", "kept", "full"))

    def reopen_failures(self, rng: random.Random) -> int:
        """How many reopenings after that commit fail; after three the store is broken."""
        return rng.choice((0, 0, 0, 0, 1, 2, 3))


#: A disk without faults, for the last life, in which every job must become final
CALM: Final = DiskHabits(slow=0.0, stalls=0.0, fails=0.0)


@attrs.frozen
class ClockChange:
    """A change of the machine's clocks."""

    after: float
    """Virtual seconds since the change before it."""
    seconds: float
    """How far the wall clock is set forward, or back if negative; or how long the machine is suspended."""
    suspends: bool


@attrs.frozen
class Plan:
    """The plan of one schedule."""

    seed: int
    memory: bool
    """The store is a `MemoryStore`, and the machine does not crash."""
    thread: bool
    """The SDK has a thread (a task in virtual time); otherwise it is asynchronous."""
    lives: int
    """How often the service is started."""
    crashes: tuple[int | None, ...]
    """For each life but the last the scheduler step at which the machine dies; None for an orderly stop."""
    life_seconds: tuple[float, ...]
    """The length of each life without a crash, in virtual seconds."""
    settings: dict[str, Any]
    """The settings of the service."""
    kinds: tuple[str, ...]
    """The kinds that clients submit."""
    ring: int
    """How many events the feed retains in memory."""
    clients: int
    followers: int
    operations: int
    """How many requests each client makes."""
    disk: DiskHabits
    open_failures: float
    """The probability that opening the SDK fails."""
    bad_verify: float
    """The probability that a verify raises, is slow or returns nonsense."""
    clock_changes: tuple[ClockChange, ...]
    """How the clocks of the machine change."""
    interrupts: bool
    """The service has an `interrupt`, and calls that hang do so until they are interrupted."""
    dates: float
    """The probability that a client gives a time as a date and not as seconds."""
    saves: int
    """How many jobs a save completes; 0: what the SDK has done is durable at once, and the service has no `save`."""
    save_faults: float
    """The probability that a save goes wrong."""
    alive_faults: float | None
    """The probability that `alive` says that a session is lost, raises or hangs; None if the service has no `alive`."""
    close_failures: float
    """The probability that closing the SDK fails."""
    operators: int
    """How many operators give commands while the clients run."""
    kills: bool = False
    """The SDK has a process, which is killed when a call exceeds its limit, and which dies by itself."""
    deaths: float = 0.0
    """The probability that the process dies during a call, an opening or a close."""
    slow_deaths: float = 0.0
    """The probability that a process that is killed does not end at once."""

    def stream(self, name: str) -> random.Random:
        """A random stream for one part of the schedule."""
        return random.Random(f"{self.seed}/{name}")

    def behaviour(self, number: int) -> JobBehaviour:
        """What the SDK does for the job with that payload."""
        rng = self.stream(f"fate {number}")
        kinds: tuple[CallKind, ...] = (*rng.choices(CALL_KINDS, _WEIGHTS, k=5), "return")
        return JobBehaviour(tuple(_draw_call(rng, kind) for kind in kinds))

    def save_fault(self, rng: random.Random) -> str:
        """What the next save does wrong, see `SAVE_FAULTS`; "" for nothing."""
        return rng.choice(SAVE_FAULTS) if rng.random() < self.save_faults else ""

    def alive_fault(self, rng: random.Random) -> str:
        """What the next `alive` does, see `ALIVE_FAULTS`; "" if it returns True."""
        return rng.choice(ALIVE_FAULTS) if rng.random() < (self.alive_faults or 0.0) else ""

    def mistake(self, rng: random.Random) -> str:
        """The mistake of a verify; "" if it answers correctly."""
        return rng.choice(_MISTAKES) if rng.random() < self.bad_verify else ""


def _draw_call(rng: random.Random, kind: CallKind) -> CallBehaviour:
    return CallBehaviour(
        kind=kind,
        before=rng.choice((0.0, 0.0, 0.001, 0.05, 0.3)),
        after=rng.choice((0.0, 0.0, 0.001, 0.05, 0.3)),
        long=rng.choice((1.0, 2.5, 4.0, 9.0)),
    )


def _draw_clock_changes(rng: random.Random) -> tuple[ClockChange, ...]:
    changes = []
    for _ in range(rng.choice((1, 2, 4))):
        suspends = rng.random() < 0.4
        # not round, so that the wall clock never shows the same time twice
        seconds = rng.choice((0.4, 3.0, 30.0, 300.0)) * rng.uniform(0.5, 1.0)
        if not suspends and rng.random() < 0.5:
            seconds = -seconds
        changes.append(ClockChange(rng.expovariate(1 / 4), seconds, suspends))
    return tuple(changes)


def draw_with_kills(seed: int) -> Plan:
    """Draw the plan of a seed whose SDK has a process. The rest of it is that of `draw`."""
    rng = random.Random(f"{seed}/kills")
    return attrs.evolve(
        draw(seed),
        thread=True,
        interrupts=False,
        kills=True,
        deaths=rng.choice((0.0, 0.1, 0.3)),
        slow_deaths=rng.choice((0.0, 0.0, 0.5)),
        bad_verify=rng.choice((0.0, 0.3)),
        save_faults=rng.choice((0.2, 0.5)),
    )


def draw(seed: int) -> Plan:
    """Draw the plan of a seed."""
    rng = random.Random(f"{seed}/plan")
    memory = rng.random() < 0.12
    lives = rng.choice((2, 2, 3, 4))
    crashes: list[int | None] = []
    for _ in range(lives - 1):
        crash = not memory and rng.random() < 0.8
        crashes.append(1 + int(rng.expovariate(1 / 150)) if crash else None)
    settings: dict[str, Any] = {
        "buffer": rng.choice((1, 2, 3, 8)),
        "strict_order": rng.random() < 0.15,
        "min_interval": rng.choice((0.0, 0.0, 0.0, 0.05)),
        "renew_after_jobs": rng.choice((None, None, None, 2)),
        "renew_after_idle": rng.choice((None, None, None, 1.5)),
        "commit_timeout": 6.0,
        "drain_timeout": rng.choice((0.0, 1.0, 30.0)),
        "cancel_timeout": rng.choice((0.0, 0.5, 5.0)),
        "close_timeout": 3.0,
        "open_timeout": 20.0,
        "job_retention": rng.choice((7 * 86400.0,) * 4 + (5.0,)),
        "watchdog": None,
    }
    faults = rng.random() < 0.35
    saving = random.Random(f"{seed}/saves")
    saves, save_faults = saving.choice((0, 0, 0, 1, 3, 20)), saving.choice((0.0, 0.2, 0.5))
    if saves:
        saves = 1 if settings["strict_order"] else saves
        settings |= {"save_after_jobs": saves, "save_after": 0.5, "save_timeout": SAVE_TIMEOUT}
    asking = random.Random(f"{seed}/alive")
    alive_faults = asking.choice((None, None, None, None, 0.0, 0.3))
    if alive_faults is not None:
        settings["check_after"] = CHECK_AFTER
    return Plan(
        seed=seed,
        memory=memory,
        thread=rng.random() < 0.6,
        lives=lives,
        crashes=tuple(crashes),
        life_seconds=tuple(rng.choice((0.5, 3.0, 10.0, 70.0)) for _ in range(lives)),
        settings=settings,
        kinds=tuple(rng.sample(list(KINDS), rng.choice((1, 3, 6)))),
        ring=rng.choice((4, 16, 4096)),
        clients=rng.choice((1, 2, 3)),
        followers=rng.choice((1, 1, 2)),
        operations=rng.choice((2, 4, 6)),
        disk=DiskHabits(
            slow=rng.choice((0.0, 0.1, 0.4)),
            stalls=0.03 if faults else 0.0,
            fails=rng.choice((0.05, 0.2)) if faults else 0.0,
        ),
        open_failures=rng.choice((0.0, 0.0, 0.1)),
        bad_verify=rng.choice((0.0, 0.1)),
        clock_changes=_draw_clock_changes(rng) if rng.random() < 0.4 else (),
        interrupts=random.Random(f"{seed}/interrupts").random() < 0.3,
        dates=rng.choice((0.0, 0.5)),
        saves=saves,
        save_faults=save_faults,
        alive_faults=alive_faults,
        close_failures=random.Random(f"{seed}/closes").choice((0.0, 0.0, 0.0, 0.3)),
        operators=random.Random(f"{seed}/operators").choice((1, 1, 2)) if seed >= OPERATED_FROM else 0,
    )
