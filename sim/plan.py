"""What a seed means: the service, the fate of each job, the people, the disk's and the machine's misfortunes.

Everything is drawn before the schedule begins or from a stream of its own (`Plan.stream`), so that what one part does
with its chance does not change another's.
"""

from __future__ import annotations

import random
from typing import Any, Final, Literal

import attrs

__all__ = ["ACTS", "KINDS", "Act", "ActKind", "DiskHabits", "Fate", "KindRules", "Plan", "draw"]

ActKind = Literal[
    "return", "error", "late_error", "retry_after", "snooze", "fail", "cancel", "slow", "hang", "session_lost"
]
#: error: before it did anything. late_error: after. slow: can be cancelled. hang: cannot be broken off.
ACTS: Final[tuple[ActKind, ...]] = (
    "return", "error", "late_error", "retry_after", "snooze", "fail", "cancel", "slow", "hang", "session_lost",
)  # fmt: skip
_WEIGHTS: Final = (50, 12, 7, 4, 4, 4, 2, 7, 5, 3)
_MISTAKES: Final = ("raise", "slow", "nonsense")

ATTEMPT_TIMEOUT: Final = 2.0
STUCK_AFTER: Final = 3.0
WAITS: Final = (0.5, 1.0)


@attrs.frozen
class Act:
    """What one call does. before: seconds until it books, after: from there to its end. long: seconds of a `slow` or
    `hang`, which may be more than an attempt may take."""

    kind: ActKind
    before: float
    after: float
    long: float


@attrs.frozen
class Fate:
    """acts: what the calls of a job do, one after another; the last one repeats."""

    acts: tuple[Act, ...]

    def act(self, call: int) -> Act:
        """call: from 0."""
        return self.acts[min(call, len(self.acts) - 1)]


@attrs.frozen
class KindRules:
    """A handler as it is registered. calls: it is async and makes calls of its own.
    steps: with a step around it."""

    idempotent: bool = False
    verifies: bool = False
    on_doubt: Literal["hold", "retry", "fail"] = "hold"
    timeout: float | None = ATTEMPT_TIMEOUT
    verify_delay: float = 0.0
    calls: bool = False
    steps: bool = False
    max_retries: int = 2


KINDS: Final[dict[str, KindRules]] = {
    "plain": KindRules(),
    "asked": KindRules(verifies=True),
    "settled": KindRules(verifies=True, verify_delay=0.7),
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
    """How often a sync is slow, hangs for seconds, or fails. Chances of one commit."""

    slow: float
    stalls: float
    fails: float

    def sync_time(self, chance: random.Random) -> float:
        """Seconds."""
        luck = chance.random()
        if luck < self.stalls:
            return chance.choice((2.0, 7.0, 20.0))
        if luck < self.stalls + self.slow:
            return chance.choice((0.02, 0.1, 0.4))
        return chance.choice((0.0002, 0.001, 0.004))

    def fault(self, chance: random.Random) -> str:
        if chance.random() >= self.fails:
            return ""
        return chance.choice(("lost", "lost", "kept", "kept", "full"))

    def reopen_failures(self, chance: random.Random) -> int:
        """How many reopenings after that commit fail: three are too many for the store."""
        return chance.choice((0, 0, 0, 0, 1, 2, 3))


#: Good days, for the last life: everything has to come to its end then
CALM: Final = DiskHabits(slow=0.0, stalls=0.0, fails=0.0)


@attrs.frozen
class Plan:
    """One schedule.

    memory: jobs live in a `MemoryStore`, and there are no crashes. thread: the SDK is one for a thread of its own (run
    in the loop, in virtual time), else an asynchronous one. lives: how often the service is started. crashes: for each
    life but the last the scheduler step at which the machine dies, None for an orderly stop. kinds: what clients
    submit. ring: events that the feed keeps at hand. operations: what each client does before it leaves.
    """

    seed: int
    memory: bool
    thread: bool
    lives: int
    crashes: tuple[int | None, ...]
    life_seconds: tuple[float, ...]
    settings: dict[str, Any]
    kinds: tuple[str, ...]
    ring: int
    clients: int
    followers: int
    operations: int
    disk: DiskHabits
    open_failures: float
    bad_verify: float

    def stream(self, name: str) -> random.Random:
        """A stream of chance of its own."""
        return random.Random(f"{self.seed}/{name}")

    def fate(self, number: int) -> Fate:
        """Of the job with that payload."""
        chance = self.stream(f"fate {number}")
        kinds: tuple[ActKind, ...] = (*chance.choices(ACTS, _WEIGHTS, k=5), "return")
        return Fate(tuple(_act(chance, kind) for kind in kinds))

    def mistake(self, chance: random.Random) -> str:
        """What a verify does instead of telling the truth; "" if it tells it."""
        return chance.choice(_MISTAKES) if chance.random() < self.bad_verify else ""


def _act(chance: random.Random, kind: ActKind) -> Act:
    return Act(
        kind=kind,
        before=chance.choice((0.0, 0.0, 0.001, 0.05, 0.3)),
        after=chance.choice((0.0, 0.0, 0.001, 0.05, 0.3)),
        long=chance.choice((1.0, 2.5, 4.0, 9.0)),
    )


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    chance = random.Random(f"{seed}/plan")
    memory = chance.random() < 0.12
    lives = chance.choice((2, 2, 3, 4))
    crashes: list[int | None] = []
    for _ in range(lives - 1):
        crash = not memory and chance.random() < 0.8
        crashes.append(1 + int(chance.expovariate(1 / 150)) if crash else None)
    settings: dict[str, Any] = {
        "buffer": chance.choice((1, 2, 3, 8)),
        "strict_order": chance.random() < 0.15,
        "min_interval": chance.choice((0.0, 0.0, 0.0, 0.05)),
        "renew_after_jobs": chance.choice((None, None, None, 2)),
        "renew_after_idle": chance.choice((None, None, None, 1.5)),
        "commit_timeout": 6.0,
        "drain_timeout": chance.choice((0.0, 1.0, 30.0)),
        "cancel_timeout": chance.choice((0.0, 0.5, 5.0)),
        "close_timeout": 3.0,
        "open_timeout": 20.0,
        "job_retention": chance.choice((7 * 86400.0,) * 4 + (5.0,)),
        "watchdog": None,
    }
    faults = chance.random() < 0.35
    return Plan(
        seed=seed,
        memory=memory,
        thread=chance.random() < 0.6,
        lives=lives,
        crashes=tuple(crashes),
        life_seconds=tuple(chance.choice((0.5, 3.0, 10.0, 70.0)) for _ in range(lives)),
        settings=settings,
        kinds=tuple(chance.sample(list(KINDS), chance.choice((1, 3, 6)))),
        ring=chance.choice((4, 16, 4096)),
        clients=chance.choice((1, 2, 3)),
        followers=chance.choice((1, 1, 2)),
        operations=chance.choice((2, 4, 6)),
        disk=DiskHabits(
            slow=chance.choice((0.0, 0.1, 0.4)),
            stalls=0.03 if faults else 0.0,
            fails=chance.choice((0.05, 0.2)) if faults else 0.0,
        ),
        open_failures=chance.choice((0.0, 0.0, 0.1)),
        bad_verify=chance.choice((0.0, 0.1)),
    )
