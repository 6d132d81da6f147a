"""Services whose SDK is in a process of its own. That process makes the same service, by the function and the arguments
that an environment variable names."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import trio_jobs
from support.process_time import around_thread
from support.served_sdk import OpenSession, ServedSdk
from trio_jobs import Service
from trio_jobs.testing import FakeSession
from trio_jobs.testing._remote_sdk import RemoteSdk
from trio_jobs.testing._remote_session import open_session

__all__ = ["IN_A_PROCESS", "end_served", "lose_sessions", "make_process_service", "make_service", "serve", "serve_sdk"]

SERVICE: Final = "TRIO_JOBS_TEST_SERVICE"

#: For `Service`: its SDK is in a process, which finds it by `make_service`
IN_A_PROCESS: Final[dict[str, Any]] = {"executor": "process", "locate": "support.process_rig:located_service"}

_served: list[RemoteSdk | ServedSdk] = []


def serve_sdk() -> RemoteSdk:
    """An SDK for the processes of this test."""
    served = RemoteSdk()
    served.around_thread = around_thread
    _served.append(served)
    return served


def serve(open_session: OpenSession, lose_session: Callable[[], object] = lambda: None) -> ServedSdk:
    """The processes of this test use the sessions of an SDK of the test. See `open_served_session`."""
    served = ServedSdk(open_session, lose_session)
    _served.append(served)
    return served


def lose_sessions() -> None:
    """Called when a queue has stopped: its process may have been killed, with a session open."""
    for served in _served:
        if isinstance(served, ServedSdk):
            served.lose_sessions()


def end_served() -> None:
    """Called at the end of a test."""
    while _served:
        _served.pop().end()
    os.environ.pop(SERVICE, None)


def make_service(make: Callable[..., Service], *args: Any) -> Service:
    """Return the service that the function makes. Its process makes it by the same function.

    Args:
        make: A function of a module; the service has the arguments `IN_A_PROCESS`.
        args: Its arguments, which can be pickled.
    """
    os.environ[SERVICE] = pickle.dumps((make, args)).hex()
    return make(*args)


def located_service() -> Service:
    """For `locate=`, in the process."""
    # what this test has written
    make, args = pickle.loads(bytes.fromhex(os.environ[SERVICE]))
    service: Service = make(*args)
    return service


def make_process_service(
    settings: dict[str, Any], rules: dict[str, Any], kinds: tuple[str, ...], *, verifies: bool
) -> Service:
    """The service of a rig."""
    return make_service(_make, settings, rules, kinds, verifies)


def _make(settings: dict[str, Any], rules: dict[str, Any], kinds: tuple[str, ...], verifies: bool) -> Service:
    service = Service(sdk=open_session, **IN_A_PROCESS, **settings)
    if verifies:
        rules = {**rules, "verify": _verify}
    for kind in kinds:
        service.handler(kind=kind, **rules)(partial(_work))  # a function can be registered once
    return service


def _work(session: FakeSession, what: str) -> Any:
    return session.call(what)


def _verify(session: FakeSession, job: trio_jobs.JobContext) -> Any:
    return session.verify(job.kind)
