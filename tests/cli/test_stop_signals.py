"""Signals that mean "stop" are heeded in every phase of `serve`, and the SDK is closed (P3)."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from support.processes import Process
from trio_jobs._cli.signals import handle_signals

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM and SIGHUP are POSIX")

SHOP = """
import contextlib, pathlib, time, trio_jobs

@contextlib.contextmanager
def ledger():
    print("opening", flush=True)
    deadline = time.monotonic() + 60
    while pathlib.Path("slow").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    if pathlib.Path("broken").exists():
        raise ConnectionError("not yet")
    try:
        yield None
    finally:
        pathlib.Path("closed").touch()

service = trio_jobs.Service(sdk=ledger, open_timeout=300, open_retry=trio_jobs.Retry(9, waits=[200]))
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def serve(folder: Path) -> Process:
    command = [sys.executable, "-m", "trio_jobs._cli", "serve", "shop:service", "--journal", "jobs.db"]
    return Process([*command, "--port", "0", "--no-token"], cwd=folder, forked=True)


def test_sigterm_between_two_tries_to_open_the_sdk_ends_serve(shop: Path) -> None:
    (shop / "broken").touch()
    with serve(shop) as process:
        process.err.line_with("opening the SDK failed")
        process.send_signal(signal.SIGTERM)
        done = process.finish()
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_while_the_sdk_is_being_opened_finishes_the_opening_and_closes_it(shop: Path) -> None:
    (shop / "slow").touch()
    with serve(shop) as process:
        assert process.out.line() == "opening\n"
        process.send_signal(signal.SIGTERM)
        process.err.line_with("stopping before the SDK is open")
        assert not (shop / "closed").exists()
        (shop / "slow").unlink()
        done = process.finish()
    assert done.returncode == 0, done.stderr
    assert (shop / "closed").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_closes_the_sdk(number: signal.Signals, shop: Path) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, as under nohup, and so it is in a child")
    with serve(shop) as process:
        process.err.line_with("serves shop:service at ")
        process.send_signal(number)
        done = process.finish()
    assert done.returncode == 0, done.stderr
    assert (shop / "closed").exists()


async def test_sighup_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with handle_signals(lambda count: None):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
