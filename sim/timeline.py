"""The timeline of a schedule, which a failure prints. Its digest shows that the same seed gave the same history."""

from __future__ import annotations

from hashlib import blake2b

import attrs

__all__ = ["Moment", "Timeline", "Violation"]


@attrs.frozen
class Moment:
    """One line of the timeline."""

    at: float
    """Virtual seconds since the start of the schedule."""
    who: str
    """`client 1`, `follower 2`, `disk`, `sdk`, `queue` and others."""
    what: str
    """What happened."""

    def __str__(self) -> str:
        return f"{self.at:12.6f}  {self.who:<11} {self.what}"


@attrs.frozen
class Violation:
    """A broken promise."""

    promise: str
    """`P1` to `P10`, or a word for another rule."""
    what: str
    """What happened."""

    def __str__(self) -> str:
        return f"{self.promise}: {self.what}"


class Timeline:
    """All moments and violations of one schedule."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []
        self.violations: list[Violation] = []

    def note(self, at: float, who: str, what: str) -> None:
        self.moments.append(Moment(at, who, what))

    def report(self, at: float, promise: str, what: str) -> None:
        """Record a violation. Only the first hundred are recorded, since the later ones follow from them."""
        if len(self.violations) < 100:
            self.violations.append(Violation(promise, what))
            self.note(at, "!!", f"{promise}: {what}")

    def digest(self) -> str:
        """A digest of every moment: 32 hex digits."""
        digest = blake2b(digest_size=16)
        for moment in self.moments:
            digest.update(f"{moment.at!r}|{moment.who}|{moment.what}\n".encode())
        return digest.hexdigest()

    def __str__(self) -> str:
        return "\n".join(map(str, self.moments))
