"""Every store passes `check_store`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_jobs import MemoryStore
from trio_jobs._engine.events import Event, JobEvent
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
    assert len(report.checked) == 14


async def test_a_violation_is_reported_as_a_sentence() -> None:
    class Forgetful(MemoryStore):
        async def open(self, *listeners: Any) -> Any:
            await super().open(*listeners)
            return []

    report = await check_store(Forgetful, raises=False)
    assert [finding.rule for finding in report.findings] == [
        "Events are acknowledged in order, and the events of jobs are restored",
        "No event of a forgotten job is returned any more, and those behind its last one are",
        "A pruned job is gone, and `oldest` says from where on the events are complete",
        "A prune that is cancelled, or beside which events are appended, removes each job completely or not at all",
        "The tombstones of pruned jobs' keys are kept until they are stale",
        "Jobs are pruned whole and alone, even where their events are interleaved",
        "Event numbers continue after a restart, and a close commits what was appended",
    ]
    assert "the events of jobs [1, 2, 4] were restored as []" in str(report)
    with pytest.raises(ConformanceError, match="7 findings"):
        await check_store(Forgetful)


async def test_a_store_whose_oldest_event_is_gone_is_found(tmp_path: Path) -> None:
    class Generous(SqliteStore):
        @property
        def oldest(self) -> int:
            return max(super().oldest - 1, 1)

    number = count()
    report = await check_store(lambda: Generous(tmp_path / f"{next(number)}.db"), raises=False)
    assert [finding.rule for finding in report.findings] == [
        "No event of a forgotten job is returned any more, and those behind its last one are",
        "A pruned job is gone, and `oldest` says from where on the events are complete",
    ]


async def test_a_store_whose_history_of_a_job_has_events_of_others_is_found() -> None:
    class Careless(MemoryStore):
        async def job_events(self, job: str, first: int, last: int) -> Sequence[Event]:
            return [event for event in await self.events(first - 1, 100) if event.seq <= last]

    report = await check_store(Careless, raises=False)
    assert [finding.rule for finding in report.findings] == [
        "The events of one job are returned in order, also where those of other jobs were pruned in between"
    ]


async def test_a_store_that_can_be_cancelled_within_a_prune_is_found() -> None:
    class Interruptible(MemoryStore):
        async def prune(self, jobs: Any, keys: Any = (), stale: Any = ()) -> None:
            await super().prune({}, keys, stale)
            await trio.lowlevel.checkpoint()
            await super().prune(jobs)

    report = await check_store(Interruptible, raises=False)
    assert [finding.rule for finding in report.findings] == [
        "A prune that is cancelled, or beside which events are appended, removes each job completely or not at all"
    ]


async def test_a_store_that_loses_events_appended_during_a_prune_is_found() -> None:
    class Copying(MemoryStore):
        async def prune(self, jobs: Any, keys: Any = (), stale: Any = ()) -> None:
            copy = list(self._chunk)
            for _ in range(3):
                await super().prune(jobs, keys, stale)
            self._chunk[:] = [event for event in copy if not (isinstance(event, JobEvent) and event.job in jobs)]

    report = await check_store(Copying, raises=False)
    assert "10 jobs were appended beside prunes, and" in str(report)
