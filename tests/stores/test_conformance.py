"""Every store does what `check_store` says."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from trio_jobs import MemoryStore
from trio_jobs._stores.sqlite import SqliteStore
from trio_jobs.testing import check_store


async def test_the_memory_store_does_what_a_store_must() -> None:
    await check_store(MemoryStore)


async def test_the_journal_does_what_a_store_must(tmp_path: Path) -> None:
    number = count()
    await check_store(lambda: SqliteStore(tmp_path / f"{next(number)}.db"))


async def test_a_journal_in_memory_does_what_a_store_must() -> None:
    await check_store(lambda: SqliteStore(":memory:"), keeps=False)
