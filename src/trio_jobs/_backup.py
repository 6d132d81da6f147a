"""What a backup returns."""

from __future__ import annotations

from typing import final

import attrs

__all__ = ["Backup"]


@final
@attrs.frozen
class Backup:
    """A copy of a journal."""

    path: str
    """The file of the copy."""

    seq: int
    """`seq` of the last event in the copy."""

    events: int
    """How many events the copy has."""

    size: int
    """The size of the file, in bytes."""
