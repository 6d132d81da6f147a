"""Settings for all tests: the same examples on every run, so that a red test is a change and not luck; and no child
process outlives its test."""

from __future__ import annotations

import functools
import gc
import inspect
import itertools
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants
from trio.testing import MockClock

from support import processes
from support.certificates import make_certificate
from support.forked_sdk import fork_sdk_processes
from support.process_rig import end_served
from support.rig import BOTH, IN_PROCESS, HostKind, make_clock
from support.stalls import STALLS, make_stalls
from support.waiting import DEADLINE, time_limit
from trio_jobs._client import reconnect
from trio_jobs._runtime import seat_lock
from trio_jobs._server import server
from trio_jobs._server.limits import ServerLimits

settings.register_profile(
    "fixed", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# for planted bugs: that there is one is all that is asked
settings.register_profile("find", settings.get_profile("fixed"), phases=[Phase.explicit, Phase.generate])
PROFILE = os.environ.get("TRIO_JOBS_HYPOTHESIS", "fixed")
settings.load_profile(PROFILE)
if PROFILE != "search" and hasattr(providers, "_get_local_constants"):
    # Hypothesis draws the constants of the modules that are imported too, so the examples of a test would depend on
    # which tests its worker has run before
    providers._get_local_constants = Constants


def _is_wanted(record: logging.LogRecord) -> bool:
    """A loaded machine blocks the loop for longer than the watchdog allows, and no assertion about the log may depend
    on that. So its records are dropped, except in the tests of the watchdog, which add handlers of their own. (pytest
    adds its handlers to loggers that do not propagate too.)"""
    return any(not type(handler).__module__.startswith("_pytest") for handler in _watchdog.handlers)


_watchdog = logging.getLogger("trio_jobs.watchdog")
_watchdog.propagate = False
_watchdog.addFilter(_is_wanted)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell lets what it runs in the background ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)


#: seconds for a test in Trio, which then shows where its tasks wait; `timeout` of pyproject.toml is longer
LIMIT = 4 * DEADLINE
CAMPAIGN = 4 * 3600.0  #: seconds for a long check


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates in captured output: a worker of pytest-xdist can send only what UTF-8 can encode."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode("utf-8")) for name, text in report.sections
    ]
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid}: give the parameters ids, since each worker has other addresses")
        if any(name.endswith("_clock") for mark in item.iter_markers("usefixtures") for name in mark.args):
            raise pytest.UsageError(f"{item.nodeid}: pytest-trio uses a clock only if it is an argument of the test")
        is_long = item.get_closest_marker("campaign") is not None
        if is_long:
            item.add_marker(pytest.mark.timeout(CAMPAIGN + 60))
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = _limited(item.obj, item.name, CAMPAIGN if is_long else LIMIT)


def pytest_collection_finish() -> None:
    """Keep thousands of collected tests out of each later collection of garbage, which takes 0.2 s otherwise."""
    gc.collect()
    gc.freeze()


_finished = itertools.count(1)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish() -> None:
    """Keep out of it too what tests leave, such as reports and modules: the tests of the server make a thousand
    collections, and each took up to 0.1 s."""
    if next(_finished) % 100 == 0:
        gc.collect()
        gc.freeze()


def _limited(fn: Callable[..., Awaitable[None]], name: str, seconds: float) -> Callable[..., Awaitable[None]]:
    @functools.wraps(fn)
    async def limited(**arguments: Any) -> None:
        with time_limit(name, seconds):
            await fn(**arguments)

    return limited


@pytest.fixture(autouse=True)
def stalls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """If TRIO_JOBS_STALLS is set, threads and processes of the test are paused now and then, see `support.stalls`."""
    if STALLS:
        make_stalls(request.node.nodeid).install(monkeypatch)


@pytest.fixture(autouse=True)
def handshakes_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine under load can take ten seconds for any step. So where a test names no limit, it has that of a wait."""
    first_session = reconnect.ReconnectingSession.first_session
    defaults = (5.0, 10.0)  # of the commands, and of `trio_jobs.connect`

    async def patient(session: reconnect.ReconnectingSession, timeout: float) -> None:
        await first_session(session, DEADLINE if timeout in defaults else timeout)

    monkeypatch.setattr(reconnect.ReconnectingSession, "first_session", patient)
    monkeypatch.setattr(reconnect, "DIAL_TIMEOUT", DEADLINE)
    monkeypatch.setattr(server, "ServerLimits", functools.partial(ServerLimits, head_timeout=DEADLINE))


_numbers = itertools.count()


@pytest.fixture(autouse=True)
def seats_of_a_test_are_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this folder are the lock files of services without a journal. A test can leave one held, by a call that does
    not return, and the tests of other processes use the same services."""
    folder = tmp_path_factory.getbasetemp() / f"runtime-{next(_numbers)}"

    def make_folder() -> Path:
        folder.mkdir(exist_ok=True)
        return folder

    monkeypatch.setattr(seat_lock, "runtime_folder", make_folder)


@pytest.fixture(autouse=True)
def children_end_with_their_test() -> Iterator[None]:
    """A fixture of a module has started its children before, and ends them itself."""
    before = processes.alive()
    yield
    processes.end_processes(keep=before)


@pytest.fixture
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostKind]:
    """The executors, one after the other. The process of the third is a fork, since to start one takes a third of a
    second of CPU; in the campaign it is started."""
    kind, _, is_started = request.param.partition(" ")
    if kind == "process" and not is_started:
        fork_sdk_processes(monkeypatch)
    yield cast("HostKind", kind)
    end_served()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with a `kind` runs on each executor, unless it names those on which it makes sense."""
    given = [str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize")]
    if "kind" in metafunc.fixturenames and "kind" not in given:
        metafunc.parametrize("kind", [*BOTH, *IN_PROCESS], indirect=True)


@pytest.fixture
def clock(kind: HostKind) -> MockClock:
    """In the loop time jumps; with a thread it moves only when the test moves it."""
    return make_clock(kind)


@pytest.fixture
def network_clock() -> MockClock:
    """As autojump_clock, beside connections over loopback: what is on its way arrives before time jumps, since it jumps
    only when nothing has come for a while."""
    return MockClock(autojump_threshold=0.05)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Of localhost, and its key."""
    return make_certificate(tmp_path)
