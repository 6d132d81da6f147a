"""A file with the effects of many schedules, to verify that a refactoring changes no behaviour.

The file has a line for each seed, with the first 16 digits of `Schedule.effects`. The same seed can give another
history with another version of Python, Trio or msgspec, so the first line names the versions; only equal versions are
compared.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

from sim.run import Schedule

__all__ = ["Recording", "environment"]

DIGITS: Final = 16


def environment() -> str:
    """The versions that a history depends on, besides its seed."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"python {python}, trio {version('trio')}, msgspec {version('msgspec')}"


class Recording:
    """The effects of many schedules."""

    def __init__(self, made_with: str, effects: dict[int, str]) -> None:
        self.made_with = made_with
        """The `environment` of the recording."""
        self.effects = effects
        """The effects by seed."""

    @classmethod
    def begin(cls) -> Recording:
        """Start an empty recording in this environment."""
        return cls(environment(), {})

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Read a file. Raises OSError, and ValueError if the file is no recording."""
        head, *lines = path.read_text(encoding="ascii").splitlines()
        return cls(head.removeprefix("# "), {int(seed): effects for seed, effects in map(str.split, lines)})

    def write(self, path: Path) -> None:
        """Write the file. Raises OSError."""
        lines = [f"# {self.made_with}", *(f"{seed} {effects}" for seed, effects in sorted(self.effects.items()))]
        path.write_text("\n".join(lines) + "\n", encoding="ascii")

    def add(self, schedule: Schedule) -> None:
        """Add the effects of one schedule."""
        self.effects[schedule.seed] = schedule.effects[:DIGITS]

    def differs(self, other: Recording) -> list[int]:
        """The seeds that both recordings have, with different effects."""
        both = sorted(self.effects.keys() & other.effects.keys())
        return [seed for seed in both if self.effects[seed] != other.effects[seed]]
