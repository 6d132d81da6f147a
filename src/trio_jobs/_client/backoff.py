"""The wait before something is tried again: doubled with each failure in a row, and random, so that clients spread."""

from __future__ import annotations

import random
from typing import Final

__all__ = ["Backoff"]

SPREAD: Final = 0.5  #: a wait is a random part of its full length, at least this much


class Backoff:
    """The waits between attempts.

    Args:
        first: Seconds before the first further attempt; doubled for each later one.
        longest: The longest wait in seconds.
        chance: The source of the random part.
    """

    def __init__(self, first: float, longest: float, chance: random.Random) -> None:
        self._first = first
        self._longest = longest
        self._chance = chance
        self._failures = 0

    def next(self, least: float = 0.0) -> float:
        """Return how many seconds to wait after one more failure.

        Args:
            least: What the server asks for, in seconds; the wait is at least that, and at most a quarter more.
        """
        wait = min(self._first * 2.0 ** min(self._failures, 64), self._longest)
        self._failures += 1
        return max(wait * self._chance.uniform(SPREAD, 1.0), least * self._chance.uniform(1.0, 1.25))

    def reset(self) -> None:
        """Begin with the first wait again."""
        self._failures = 0
