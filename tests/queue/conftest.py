"""Both hosts, each under the clock that suits it."""

from __future__ import annotations

from typing import cast

import pytest
from queue_rig import BOTH, HostKind, make_clock
from trio.testing import MockClock


@pytest.fixture(params=BOTH)
def kind(request: pytest.FixtureRequest) -> HostKind:
    return cast("HostKind", request.param)


@pytest.fixture
def clock(kind: HostKind) -> MockClock:
    """In the loop time jumps; with a thread it stands still until the test moves it."""
    return make_clock(kind)
