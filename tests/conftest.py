"""Settings for all tests: the same examples on every run, so that a red test is a change and not luck; and no child
process outlives its test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from trio.testing import MockClock

from support import processes
from support.rig import BOTH, HostKind, make_clock

settings.register_profile(
    "fixed", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# for planted bugs: that there is one is all that is asked
settings.register_profile("find", settings.get_profile("fixed"), phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("TRIO_JOBS_HYPOTHESIS", "fixed"))


#: Seconds that one long check may take; the others have `timeout` of pyproject.toml
CAMPAIGN = 4 * 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("campaign") is not None and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(CAMPAIGN))


@pytest.fixture(autouse=True)
def children_end_with_their_test() -> Iterator[None]:
    """A fixture of a module has started its children before, and ends them itself."""
    before = processes.alive()
    yield
    processes.end_processes(keep=before)


@pytest.fixture(params=BOTH)
def kind(request: pytest.FixtureRequest) -> HostKind:
    """Both executors, one after the other."""
    return cast("HostKind", request.param)


@pytest.fixture
def clock(kind: HostKind) -> MockClock:
    """In the loop time jumps; with a thread it moves only when the test moves it."""
    return make_clock(kind)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Of localhost, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    processes.run([*command, *names, "-keyout", key, "-out", cert], check=True)
    return cert, key
