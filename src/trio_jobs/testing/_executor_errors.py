"""What the fake SDK raises in a check of an executor, also in another process."""

from __future__ import annotations

__all__ = ["PlannedError", "UnusualError"]


class PlannedError(Exception):
    """What the fake SDK raises in a check."""


class UnusualError(BaseException):
    """Neither an `Exception` nor one that Python raises."""
