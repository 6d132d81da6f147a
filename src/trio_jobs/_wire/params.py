"""What the parameters of all methods share."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from trio_jobs._validation import MAX_WAIT

__all__ = ["Kind", "Note", "Params", "Seconds", "Time", "Wait"]

Kind = Annotated[str, Meta(min_length=1, max_length=200, description="A handler's name.")]
Wait = Annotated[float, Meta(ge=0, le=30, description="Seconds to wait at most; 0 answers at once.")]
Time = Annotated[float, Meta(ge=0, le=253402300799, description="Seconds since the epoch, UTC.")]
Seconds = Annotated[float, Meta(ge=0, le=MAX_WAIT, description="Seconds from the arrival of the request.")]

Note = Annotated[str, Meta(max_length=1000, description="Why, in the words of an operator.")] | None


class Params(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Parameters are passed by name. An unknown name is an error."""
