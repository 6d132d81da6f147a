"""Queues whose SDK lives in a process of its own (`process_ledger`)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

import trio_jobs
from support import process_ledger
from support.waiting import deadline
from trio_jobs import Service
from trio_jobs._service import parts_of

__all__ = ["LIMIT", "has_ended", "result_of", "use_seat", "with_settings"]

LIMIT: Final = 30.0  #: seconds of real time for the longest wait


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
