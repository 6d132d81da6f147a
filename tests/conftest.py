"""Settings for all tests: the same examples on every run, so that a red test is a change and not luck."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from trio.testing import MockClock

from support.rig import BOTH, HostKind, make_clock

settings.register_profile(
    "fixed", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# for planted bugs: that there is one is all that is asked
settings.register_profile("find", settings.get_profile("fixed"), phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("TRIO_JOBS_HYPOTHESIS", "fixed"))


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
    subprocess.run([*command, *names, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key
