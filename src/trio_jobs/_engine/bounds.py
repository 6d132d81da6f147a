"""The jobs that a client may know about: a token can be bound to kinds and to labels. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

__all__ = ["UNBOUND", "Bounds"]


def _kinds(kinds: Iterable[str] | None) -> frozenset[str] | None:
    return None if kinds is None else frozenset(kinds)


def _labels(labels: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(dict(labels).items()))


@attrs.frozen
class Bounds:
    """Which jobs a client may know about: those that match all conditions that are given."""

    kinds: frozenset[str] | None = attrs.field(default=None, converter=_kinds)
    """Jobs of these kinds; None for all."""
    labels: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_labels)
    """Jobs that have all of these labels, as pairs of name and value; empty for all."""

    jobs: frozenset[str] | None = attrs.field(default=None, converter=_kinds)
    """The jobs with these ids; None for all."""

    def __bool__(self) -> bool:
        """Whether there is a condition."""
        return self.kinds is not None or bool(self.labels) or self.jobs is not None

    def __str__(self) -> str:
        parts = [] if self.kinds is None else [f"kinds {', '.join(sorted(self.kinds))}"]
        parts += [] if self.jobs is None else [f"job {job}" for job in sorted(self.jobs)]
        parts += [f"label {name}={value}" for name, value in self.labels]
        return " and ".join(parts) or "all jobs"

    def include(self, kind: str, labels: Mapping[str, str] | None, job: str = "") -> bool:
        """Whether a job of this kind, with these labels and this id, is one of them. A new job has no id yet."""
        if self.jobs is not None and job not in self.jobs:
            return False
        if self.kinds is not None and kind not in self.kinds:
            return False
        return not self.labels or (labels is not None and all(labels.get(name) == value for name, value in self.labels))


UNBOUND: Final = Bounds()
"""All jobs."""
