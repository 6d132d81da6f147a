"""Which events must be encoded before they are appended, to find a text that cannot be. Pure.

To encode each event for that would take some percent of the time of a job in memory. The texts of a caller are in few
fields, and these are empty in most events.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import msgspec

from trio_jobs._engine import events as ev
from trio_jobs._engine.error_info import describe
from trio_jobs._errors import UsageError

__all__ = ["NO_TEXTS", "TEXTS", "any_texts", "check_encodable", "check_texts"]

#: The most frequent events, and their fields with texts that may not have been encoded before; None: they have none
TEXTS: Final[dict[type[ev.Event], Callable[[Any], tuple[Any, ...]] | None]] = {
    ev.Submitted: attrgetter("key", "digest", "by", "labels"),
    ev.Started: None,
    ev.SdkEntered: None,
    ev.Completed: attrgetter("error", "problem", "by", "note"),
}
NO_TEXTS: Final = (None, None, None, None)  #: what these fields are in most events

_encode: Final = msgspec.json.Encoder().encode


def any_texts(event: Any) -> tuple[Any, ...]:
    """What `TEXTS` would have for the other events: they may have texts."""
    return ()


def check_texts(event: ev.Event) -> None:
    """Check that an event can be encoded, unless it has no texts. Raises: as `check_encodable`."""
    texts = TEXTS.get(type(event), any_texts)
    if texts is not None and texts(event) != NO_TEXTS:
        check_encodable(event)


def check_encodable(event: ev.Event) -> None:
    """Check that an event can be encoded.

    Raises:
        UsageError: It cannot.
    """
    try:
        _encode(event)
    except Exception as error:
        raise UsageError(f"the event {event.type!r} cannot be encoded: {describe(error)}") from error
