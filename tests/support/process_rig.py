"""The service of a rig whose SDK is in a process of its own. That process makes the same one, from what an environment
variable says."""

from __future__ import annotations

import os
import pickle
from typing import Any, Final

import trio_jobs
from support.process_time import around_thread
from trio_jobs import Service
from trio_jobs.testing import FakeSession
from trio_jobs.testing._remote_sdk import RemoteSdk
from trio_jobs.testing._remote_session import open_session

__all__ = ["end_served", "make_process_service", "serve_sdk"]

SERVICE: Final = "TRIO_JOBS_TEST_SERVICE"

_served: list[RemoteSdk] = []


def serve_sdk() -> RemoteSdk:
    """An SDK for the processes of this test."""
    served = RemoteSdk()
    served.around_thread = around_thread
    _served.append(served)
    return served


def end_served() -> None:
    """Called at the end of a test."""
    while _served:
        _served.pop().end()
    os.environ.pop(SERVICE, None)


def make_process_service(settings: dict[str, Any], rules: dict[str, Any], *, verifies: bool) -> Service:
    """The service with the handler "work", whose process makes the same one."""
    os.environ[SERVICE] = pickle.dumps((settings, rules, verifies)).hex()
    return _make(settings, rules, verifies)


def located_service() -> Service:
    """For `locate=`, in the process."""
    # what this test has written
    return _make(*pickle.loads(bytes.fromhex(os.environ[SERVICE])))


def _make(settings: dict[str, Any], rules: dict[str, Any], verifies: bool) -> Service:
    service = Service(sdk=open_session, executor="process", locate="support.process_rig:located_service", **settings)
    if verifies:
        rules = {**rules, "verify": _verify}
    service.handler(kind="work", **rules)(_work)
    return service


def _work(session: FakeSession, what: str) -> Any:
    return session.call(what)


def _verify(session: FakeSession, job: trio_jobs.JobContext) -> Any:
    return session.verify(job.kind)
