"""Journals for tests, without a store or a thread around them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from trio_jobs._stores.sqlite.disk import Disk
from trio_jobs._stores.sqlite.journal import Journal
from trio_jobs.testing.store_check import submitted

__all__ = ["SUFFIXES", "call", "copy_journal", "make_journal", "write_journal"]

SUFFIXES = ("", "-wal", "-mark")


def call(sync: Callable[[], None]) -> None:
    """Sync at once instead of in the background."""
    sync()


def make_journal(path: Path, *, allow_data_loss: bool = False) -> Journal:
    """A journal, not open. Its WAL is not preallocated, so each byte of it is in use."""
    return Journal(str(path), Disk(wal_size=0), allow_data_loss=allow_data_loss, run_in_background=call)


def write_journal(path: Path, groups: int, *, size: int = 3, close: bool = True) -> Journal:
    """Write a journal of `groups` groups of `size` events. Unless it is closed, its WAL still exists."""
    journal = make_journal(path)
    journal.open()
    for _ in range(groups):
        journal.write([submitted(journal.last_seq + 1 + i) for i in range(size)])
    if close:
        journal.close()
    return journal


def copy_journal(path: Path, to: Path) -> Path:
    """Copy the files of a journal over those of another one."""
    for suffix in SUFFIXES:
        to.with_name(to.name + suffix).unlink(missing_ok=True)
        if path.with_name(path.name + suffix).exists():
            shutil.copy(path.with_name(path.name + suffix), to.with_name(to.name + suffix))
    return to
