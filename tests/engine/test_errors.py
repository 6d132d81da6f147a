"""Rules of the exceptions: pickle and copy reproduce each of them with its message and its attributes."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

import trio_jobs
from trio_jobs import testing

#: A value for each annotation of an argument
VALUES: dict[str, Any] = {
    "str": "x", "str | None": "x", "int": 3, "int | None": 3, "float": 0.5, "float | None": 0.5, "bool": True,
    "str | int | None": 5, "tuple[str, ...]": ("a", "b"), "dict[str, int]": {"post": 2},
    "datetime": datetime(2026, 11, 29, tzinfo=UTC),
}  # fmt: skip


def made(class_: type[BaseException]) -> BaseException:
    if class_.__init__ in (trio_jobs.TrioJobsError.__init__, Exception.__init__):
        return class_("what happened")
    parameters = [*inspect.signature(class_.__init__).parameters.values()][1:]
    return class_(*(VALUES[parameter.annotation] for parameter in parameters))


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
    error = made(class_)
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
