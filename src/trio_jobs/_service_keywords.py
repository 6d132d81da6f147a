"""The keywords of `Service` and its methods, and the words of other queues for them, for errors about unknown ones."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Final

import attrs

from trio_jobs._engine.handlers import make_handler
from trio_jobs._runtime.settings import Settings
from trio_jobs._validation import unknown_keyword

__all__ = [
    "HANDLER_KEYWORDS",
    "HANDLER_WORDS",
    "OPEN_KEYWORDS",
    "SERVICE_KEYWORDS",
    "SERVICE_WORDS",
    "SETTINGS",
    "check_handler_keywords",
    "check_service_keywords",
]

SETTINGS: Final = tuple(field.name for field in attrs.fields(Settings))
SERVICE_KEYWORDS: Final = ("sdk", "async_sdk", "executor", "locate", "memory_limit", "on_killed", *SETTINGS)
HANDLER_KEYWORDS: Final = tuple(
    name
    for name, parameter in inspect.signature(make_handler).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
)
OPEN_KEYWORDS: Final = ("journal", "allow_data_loss", "store", "clock", "seed")

# the words of other queues for the same settings
SERVICE_WORDS: Final = {
    "maxsize": "buffer",
    "capacity": "buffer",
    "size": "buffer",
    "unknown": "unhandled_jobs",
    "keys": "key_retention",
    "keep": "job_retention",
    "ttl": "job_retention",
    "interval": "min_interval",
    "throttle": "min_interval",
    "poison": "max_crashes",
    "fifo": "strict_order",
    "ordered": "strict_order",
}
HANDLER_WORDS: Final = {
    "name": "kind",
    "retries": "retry",
    "backoff": "retry",
    "settle": "verify_delay",
    "timeout": "attempt_timeout",
    "limit": "attempt_timeout",
    "type": "payload_type",
    "doubt": "on_doubt",
}


def check_service_keywords(unknown: Mapping[str, object]) -> None:
    """Raise `UsageError`, which names the nearest keyword, if `Service` was given one that it does not have."""
    others = {"Service.handler": HANDLER_KEYWORDS, "Service.open": OPEN_KEYWORDS}
    error = unknown_keyword("Service", unknown, SERVICE_KEYWORDS, SERVICE_WORDS, others)
    if error is not None:
        raise error


def check_handler_keywords(unknown: Mapping[str, object]) -> None:
    """As `check_service_keywords`, for `Service.handler`."""
    others = {"Service": SERVICE_KEYWORDS}
    error = unknown_keyword("Service.handler", unknown, HANDLER_KEYWORDS, HANDLER_WORDS, others)
    if error is not None:
        raise error
