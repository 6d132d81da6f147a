"""What happened in a schedule, in order: when (virtual seconds), who, what. It is what a failure prints, and its
digest is what says that the same seed has given the same history."""

from __future__ import annotations

from hashlib import blake2b

import attrs

__all__ = ["Moment", "Timeline", "Violation"]


@attrs.frozen
class Moment:
    """at: virtual seconds since the schedule began. who: `client 1`, `follower 2`, `disk`, `sdk`, `queue`, ..."""

    at: float
    who: str
    what: str

    def __str__(self) -> str:
        return f"{self.at:12.6f}  {self.who:<11} {self.what}"


@attrs.frozen
class Violation:
    """A promise that was broken. promise: `P1` to `P10`, or another word for the rule."""

    promise: str
    what: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.what}"


class Timeline:
    """All moments of one schedule, and what was found wrong with it."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []
        self.violations: list[Violation] = []

    def note(self, at: float, who: str, what: str) -> None:
        self.moments.append(Moment(at, who, what))

    def wrong(self, at: float, promise: str, what: str) -> None:
        """A promise is broken. The first hundred are kept: one is enough, and what follows from it is noise."""
        if len(self.violations) < 100:
            self.violations.append(Violation(promise, what))
            self.note(at, "!!", f"{promise}: {what}")

    def digest(self) -> str:
        """32 hex digits over every moment, bit by bit."""
        made = blake2b(digest_size=16)
        for moment in self.moments:
            made.update(f"{moment.at!r}|{moment.who}|{moment.what}\n".encode())
        return made.hexdigest()

    def __str__(self) -> str:
        return "\n".join(map(str, self.moments))
