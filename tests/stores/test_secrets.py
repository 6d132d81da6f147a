"""Rules of the secrets that a store keeps for its server."""

from __future__ import annotations

from pathlib import Path

import pytest

from trio_jobs import MemoryStore, Service, SqliteStore
from trio_jobs.ports import KeepsSecrets


async def test_a_memory_store_keeps_secrets_as_long_as_its_jobs() -> None:
    store = MemoryStore()
    assert isinstance(store, KeepsSecrets)
    for _ in range(2):
        async with Service().open(store=store) as queue:
            before = await queue.backend.read_secrets()
            await queue.backend.keep_secret("tickets", "1 ab")
    assert before == {"tickets": "1 ab"}


async def test_a_journal_keeps_secrets_and_so_does_its_backup(tmp_path: Path) -> None:
    assert isinstance(SqliteStore(":memory:"), KeepsSecrets)
    async with Service().open(journal=tmp_path / "jobs.db") as queue:
        assert await queue.backend.read_secrets() == {}
        await queue.backend.keep_secret("tickets", "1 ab")
        await queue.backend.keep_secret("sessions", "cd")
        await queue.backend.keep_secret("tickets", "2 ef")
        await queue.backup(tmp_path / "copy.db")
    for name in ("jobs.db", "copy.db"):
        async with Service().open(journal=tmp_path / name) as queue:
            assert await queue.backend.read_secrets() == {"tickets": "2 ef", "sessions": "cd"}


@pytest.mark.parametrize("keep", [0, 1])
async def test_a_store_that_keeps_no_secrets_can_be_served(keep: int) -> None:
    class Forgetful(MemoryStore):
        secrets = keep_secret = None  # type: ignore[assignment] # as a store of an earlier version

    async with Service().open(store=Forgetful()) as queue:
        backend = queue.backend
        if keep:
            await backend.keep_secret("tickets", "1 ab")
        assert await backend.read_secrets() == ({"tickets": "1 ab"} if keep else {})
