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

__all__ = ["NO_TEXTS", "TEXTS", "WITHOUT_TEXT", "check_encodable"]

#: The most frequent events without a field that a user can set
WITHOUT_TEXT: Final = frozenset({ev.Started, ev.SdkEntered})
#: Others that are frequent, and their fields with texts that may not have been encoded before
TEXTS: Final[dict[type[ev.Event], Callable[[Any], tuple[Any, ...]]]] = {
    ev.Submitted: attrgetter("key", "digest", "by", "labels"),
    ev.Completed: attrgetter("error", "problem", "by", "note"),
}
NO_TEXTS: Final = (None, None, None, None)  #: what these fields are in most events

_encode: Final = msgspec.json.Encoder().encode


def check_encodable(event: ev.Event) -> None:
    """Check that an event can be encoded.

    Raises:
        UsageError: It cannot.
    """
    try:
        _encode(event)
    except Exception as error:
        raise UsageError(f"the event {event.type!r} cannot be encoded: {describe(error)}") from error
