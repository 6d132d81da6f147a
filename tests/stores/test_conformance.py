"""Every store passes `check_store`."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from trio_jobs import MemoryStore
from trio_jobs._stores.sqlite.store import SqliteStore
from trio_jobs.testing import check_store
from trio_jobs.testing.crashable_store import CrashableStore
from trio_jobs.testing.report import ConformanceError


async def test_the_memory_store_conforms() -> None:
    await check_store(MemoryStore)


async def test_the_journal_conforms(tmp_path: Path) -> None:
    number = count()
    await check_store(lambda: SqliteStore(tmp_path / f"{next(number)}.db"))


async def test_a_journal_in_memory_conforms() -> None:
    await check_store(lambda: SqliteStore(":memory:"), persistent=False)


async def test_the_crashable_store_conforms() -> None:
    report = await check_store(lambda: CrashableStore().store())
    assert len(report.checked) == 11


async def test_a_violation_is_reported_as_a_sentence() -> None:
    class Forgetful(MemoryStore):
        async def open(self, *listeners: Any) -> Any:
            await super().open(*listeners)
            return []

    report = await check_store(Forgetful, raises=False)
    assert [finding.rule for finding in report.findings] == [
        "Events are acknowledged in order, and the events of jobs are restored",
        "A pruned job is gone, and `oldest` says from where on the events are complete",
        "The tombstones of pruned jobs' keys are kept until they are stale",
        "Jobs are pruned whole and alone, even where their events are interleaved",
        "Event numbers continue after a restart, and a close commits what was appended",
    ]
    assert "the events of jobs [1, 2, 4] were restored as []" in str(report)
    with pytest.raises(ConformanceError, match="5 findings"):
        await check_store(Forgetful)
