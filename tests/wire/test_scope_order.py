"""Rules of the scopes: which method needs which, and what includes what."""

from __future__ import annotations

import pytest

from trio_jobs._wire.codes import Scope
from trio_jobs._wire.methods import METHODS
from trio_jobs._wire.scopes import SCOPES, includes


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_includes_itself_and_those_before_it(scope: Scope) -> None:
    assert [least for least in SCOPES if includes(scope, least)] == [*SCOPES[: SCOPES.index(scope) + 1]]


def test_the_scopes_are_watch_operate_and_control() -> None:
    assert SCOPES == ("watch", "operate", "control")


def test_what_affects_everybody_requires_control() -> None:
    """What changes one job, and a pause, requires operate."""
    assert {name for name, row in METHODS.items() if row.scope == "control"} >= {
        "queue.drain",
        "queue.undrain",
        "queue.backup",
    }
    assert {name for name, row in METHODS.items() if row.scope == "operate"} >= {
        "jobs.submit",
        "jobs.cancel",
        "jobs.retry",
        "jobs.resolve",
        "queue.pause",
        "queue.resume",
    }
