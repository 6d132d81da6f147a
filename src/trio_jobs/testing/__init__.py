"""Tools for testing services, handlers, SDK executors and stores.

No other package of trio-jobs imports this one. The state machines need Hypothesis (`pip install trio-jobs[testing]`)
and are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trio_jobs import Service as _Service  # noqa: F401 - and with it the public names of the classes
from trio_jobs.testing._pass_time import pass_time
from trio_jobs.testing.bad_handlers import BAD_HANDLERS, BadHandler, check_bad_handlers
from trio_jobs.testing.crashable_store import CrashableStore
from trio_jobs.testing.executor_check import check_executor
from trio_jobs.testing.fake_sdk import Blocker, FakeSdk, FakeSession, Slow
from trio_jobs.testing.handler_check import check_handler
from trio_jobs.testing.kit import AttemptReport, assert_submitted, drain, open_queue, perform
from trio_jobs.testing.report import CheckReport, ConformanceError, Finding
from trio_jobs.testing.store_check import check_store

if TYPE_CHECKING:
    from trio_jobs.testing.queue_machine import QueueMachine
    from trio_jobs.testing.stateful import Stuck, TrioStateMachine

__all__ = [
    "BAD_HANDLERS",
    "AttemptReport",
    "BadHandler",
    "Blocker",
    "CheckReport",
    "ConformanceError",
    "CrashableStore",
    "FakeSdk",
    "FakeSession",
    "Finding",
    "QueueMachine",
    "Slow",
    "Stuck",
    "TrioStateMachine",
    "assert_submitted",
    "check_bad_handlers",
    "check_executor",
    "check_handler",
    "check_store",
    "drain",
    "open_queue",
    "pass_time",
    "perform",
]

_NEED_HYPOTHESIS: Final = {
    "QueueMachine": "trio_jobs.testing.queue_machine",
    "Stuck": "trio_jobs.testing.stateful",
    "TrioStateMachine": "trio_jobs.testing.stateful",
}


def __getattr__(name: str) -> Any:
    """Import the state machines. Raises `ImportError` that says what to install if Hypothesis is missing."""
    if name not in _NEED_HYPOTHESIS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_NEED_HYPOTHESIS[name]), name)
