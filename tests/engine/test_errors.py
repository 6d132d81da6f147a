"""Rules of the exceptions: pickle and copy reproduce each of them with its message and its attributes."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import trio_jobs
from trio_jobs import testing

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "UnknownKind": ("post", ("a", "b")),
    "UnhandledJobs": ({"post": 2}, "kind 'post' is not registered"),
    "InvalidPayload": ("post", "Expected `int`"),
    "KeyConflict": ("post", "A-1", "job-1"),
    "JobNotFound": ("job-1",),
    "InvalidState": ("job-1", "failed", "it is final"),
    "QueueFull": (100, 3, 0.5),
    "JobFailed": ("job-1", "error", "OSError: no", True),
    "JobCancelled": ("job-1", "cancelled"),
    "JobInDoubt": ("job-1", "timed_out"),
    "ResultUnavailable": ("job-1", "it is too long"),
    "JournalInUse": ("jobs.db", 7, "2026-01-02"),
    "JournalDamaged": ("jobs.db", "a row is missing"),
    "Lagged": (3, 9),
    "Snooze": (5,),
    "RetryAfter": (5, "busy"),
}

ERRORS = [
    value
    for value in (getattr(trio_jobs, name) for name in trio_jobs.__all__)
    if inspect.isclass(value) and issubclass(value, BaseException)
]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize("class_", ERRORS)
def test_an_error_is_copied_with_its_message_and_attributes(
    class_: type[BaseException], duplicate: Callable[[Any], Any]
) -> None:
    error = class_(*ARGUMENTS.get(class_.__name__, ("what happened",)))
    error.add_note("seen on Monday")
    twin = duplicate(error)
    assert type(twin) is class_
    assert str(twin) == str(error) != ""
    assert vars(twin) == vars(error)


def test_an_error_of_a_users_own_class_is_copied() -> None:
    error = LedgerLocked("book.db")
    twin = pickle.loads(pickle.dumps(error))
    assert (str(twin), twin.path) == ("book.db is locked", "book.db")


class LedgerLocked(trio_jobs.RetryAfter):
    def __init__(self, path: str) -> None:
        super().__init__(5, f"{path} is locked")
        self.path = path


def test_a_conformance_error_is_copied_with_its_report() -> None:
    report = testing.CheckReport("a store", ("rule",), (testing.Finding("rule", "it broke"),))
    error = testing.ConformanceError(report)
    twin = pickle.loads(pickle.dumps(error))
    assert (str(twin), twin.report) == (str(error), report)
