"""`NewJob`, the arguments of one job of a `submit_many`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, final

import attrs

__all__ = ["NewJob"]


@final
@attrs.define
class NewJob:
    """A job for `Queue.submit_many`. The fields correspond to the arguments of `Queue.submit`."""

    handler: str | Callable[..., Any]
    """The handler function, or its kind."""
    payload: Any
    """A value of the handler's payload type."""
    key: str | None = None
    """1 to 500 characters. A submit with the same key and payload returns the same job."""
    due_at: datetime | None = None
    """An aware datetime before which the job does not start."""
    delay: float | None = None
    """The same in seconds from now, at most 100 years."""
    deadline_at: datetime | None = None
    """An aware datetime at which the job expires."""
    deadline_after: float | None = None
    """The same in seconds from now."""
    labels: Mapping[str, str] | None = None
    """At most 8 names and values of 1 to 64 characters each, by which jobs are listed and counted."""
