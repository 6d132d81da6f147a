"""What a handler reports of its work while it runs."""

from __future__ import annotations

from typing import final

import attrs

__all__ = ["Progress"]


@final
@attrs.frozen
class Progress:
    """The progress that a handler reports. It is published, not recorded: it has no `seq`, and the newest one wins."""

    job_id: str
    """The id of the job."""
    done: float
    """The amount done, in the handler's own unit."""
    total: float | None
    """The amount to do, in the same unit; None if the handler does not know it."""
    message: str
    """At most 200 characters; empty without a message."""
