"""What many schedules did to the outside, kept in a file: the oracle of a refactoring.

A line for each seed, with the first 16 digits of its `Schedule.effects`. Another Python, Trio or msgspec may make
another history of the same seed, so the file names its own, and is compared with no other's.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

from sim.run import Schedule

__all__ = ["Recording", "surroundings"]

DIGITS: Final = 16


def surroundings() -> str:
    """What a history depends on beside its seed."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"python {python}, trio {version('trio')}, msgspec {version('msgspec')}"


class Recording:
    """of: the `surroundings` it was made in. effects: by seed."""

    def __init__(self, of: str, effects: dict[int, str]) -> None:
        self.of = of
        self.effects = effects

    @classmethod
    def begin(cls) -> Recording:
        return cls(surroundings(), {})

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Raises OSError, and ValueError for a file that is none."""
        head, *lines = path.read_text(encoding="ascii").splitlines()
        return cls(head.removeprefix("# "), {int(seed): effects for seed, effects in map(str.split, lines)})

    def write(self, path: Path) -> None:
        lines = [f"# {self.of}", *(f"{seed} {effects}" for seed, effects in sorted(self.effects.items()))]
        path.write_text("\n".join(lines) + "\n", encoding="ascii")

    def add(self, schedule: Schedule) -> None:
        self.effects[schedule.seed] = schedule.effects[:DIGITS]

    def differs(self, other: Recording) -> list[int]:
        """The seeds that both have, with other effects."""
        both = sorted(self.effects.keys() & other.effects.keys())
        return [seed for seed in both if self.effects[seed] != other.effects[seed]]
