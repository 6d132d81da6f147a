"""Queues whose SDK lives in a process of its own (`process_ledger`)."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support import process_ledger
from support.waiting import DEADLINE, deadline, wait_until
from trio_jobs import Service
from trio_jobs._executors.process_child import SdkProcess
from trio_jobs._service import parts_of

__all__ = [
    "LIMIT",
    "answer_before_the_kill",
    "has_ended",
    "let_time_pass_when",
    "result_of",
    "use_seat",
    "with_settings",
]

LIMIT: Final = DEADLINE  #: seconds of real time for the longest wait


def with_settings(**settings: Any) -> Service:
    """The service of the ledger, with other arguments; its process finds the same one."""
    service = process_ledger.service
    copy = object.__new__(Service)
    copy.__dict__.update(service.__dict__)
    options = {name: settings.pop(name) for name in ("memory_limit", "on_killed") if name in settings}
    parts = parts_of(service)
    assert parts.process is not None
    copy.__dict__["_parts"] = attrs.evolve(parts, process=attrs.evolve(parts.process, **options))
    copy.settings = attrs.evolve(service.settings, **settings)
    return copy


def use_seat(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the services of the ledger a seat and a file in this folder. Returns the file of the SDK."""
    monkeypatch.setenv("LEDGER", str(folder / "ledger"))
    for service in (process_ledger.service, process_ledger.saving_service, process_ledger.chained_service):
        monkeypatch.setattr(service, "settings", attrs.evolve(service.settings, seat_lock=str(folder / "seat")))
    return folder / "ledger"


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with contextlib.suppress(OSError):  # a zombie whose parent has been killed
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


async def result_of(queue: trio_jobs.Queue, kind: str, what: str) -> Any:
    with deadline(f"the result of {what[:50]}", LIMIT):
        return await queue.result((await queue.submit(kind, what)).job_id)


async def let_time_pass_when(clock: MockClock, path: Path, has: str = "") -> None:
    """Wait until this file exists and has this text; then time passes as real time does.

    A call that hangs says that it does. Until then the clock stands still, so no limit passes because a process is
    slow.
    """

    def is_written() -> bool:
        return path.exists() and has in path.read_text()

    await trio.to_thread.run_sync(wait_until, is_written, f"{path.name} has {has!r}")
    clock.rate = 1.0


def answer_before_the_kill(monkeypatch: pytest.MonkeyPatch, pipe: str, then: Callable[[], object] = int) -> None:
    """Let the first process that is killed have all the time that it needs to write its stack, or to answer.

    Args:
        pipe: What is waited for: "stack", or "outbound" for the answer to its call.
        then: Called when the process was asked for its stack.
    """
    kill = SdkProcess.kill
    killed: list[SdkProcess] = []

    def kill_and_wait(process: SdkProcess) -> None:
        kill(process)
        killed.append(process)
        if len(killed) > 1:
            return
        then()
        fd = getattr(vars(process)["_pipes"], pipe).own
        assert select.select([fd], [], [], DEADLINE)[0], f"the process has written nothing into {pipe}"

    monkeypatch.setattr(SdkProcess, "kill", kill_and_wait)
