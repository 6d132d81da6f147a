"""The machine on our own queue, wherever jobs are kept."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from trio_jobs.testing.machine import QueueMachine

BOUNDED = settings(
    max_examples=40, stateful_step_count=25, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


class OnDisk(QueueMachine):
    keeps = "disk"


class InMemory(QueueMachine):
    keeps = "memory"


class OnSqlite(QueueMachine):
    keeps = "sqlite"


TestOnDisk = OnDisk.TestCase
TestOnDisk.settings = BOUNDED
TestInMemory = InMemory.TestCase
TestInMemory.settings = BOUNDED
TestOnSqlite = OnSqlite.TestCase
TestOnSqlite.settings = settings(BOUNDED, max_examples=15)
