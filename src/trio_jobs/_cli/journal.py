"""`trio-jobs journal check` and `trio-jobs journal backup`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from trio_jobs._backup import Backup
from trio_jobs._cli.commands import print_answer
from trio_jobs._client.client import Client
from trio_jobs._engine.jobs import escape
from trio_jobs._errors import StoreError, UsageError
from trio_jobs._stores.sqlite.check import CheckResult, check
from trio_jobs._stores.sqlite.store import SqliteStore

__all__ = ["backup_of_file", "backup_of_service", "check_file"]

DAMAGED: Final = 1
IN_USE: Final = 4


def check_file(arguments: argparse.Namespace) -> int:
    """Print what the file contains. The file is not changed."""
    try:
        found = check(arguments.file)
    except StoreError as error:
        raise UsageError(str(error)) from None
    print_answer(attrs.asdict(found), arguments.json, _text(found))
    if found.holder is not None:
        return IN_USE
    return 0 if found.damage is None else DAMAGED


def _text(found: CheckResult) -> str:
    what = "backup of a journal" if found.is_backup else "journal"
    lines = [f"{found.path}: a {what}, {found.size / 1e6:.1f} MB, schema {_or_unknown(found.schema)}"]
    if found.mark_seq is not None:
        lines.append(f"high-water mark: {_event(found.mark_seq)} (epoch {found.mark_epoch})")
    if found.holder is not None:
        since = "" if found.holder["since"] is None else f" since {found.holder['since']}"
        lines.append(f"in use by process {_or_unknown(found.holder['pid'])}{since}: not checked")
        return "\n".join(map(escape, lines))
    last = "unknown" if found.last_seq is None else _event(found.last_seq)
    lines.append(f"epoch {_or_unknown(found.epoch)}, last event: {last}")
    if found.events is not None:
        lines.append(f"{found.events} events and {found.keys} key tombstones can be read")
    if found.jobs is not None:
        lines.append(", ".join(f"{count} {state}" for state, count in found.jobs.items()) or "no jobs")
    lines.append("sound" if found.damage is None else f"DAMAGED: {found.damage}")
    return "\n".join(map(escape, lines))


def _event(seq: int) -> str:
    return f"event {seq}" if seq else "none"


def _or_unknown(value: Any) -> str:
    return "unknown" if value is None else str(value)


async def backup_of_service(client: Client, arguments: argparse.Namespace) -> int:
    """Let the running service copy its journal."""
    _print_backup(await client.backup(arguments.file), arguments.json)
    return 0


def backup_of_file(arguments: argparse.Namespace) -> int:
    """Copy a journal that no service has open."""
    if not arguments.journal.exists():
        raise UsageError(f"{arguments.journal} does not exist")
    _print_backup(trio.run(_copy, arguments.journal, arguments.file), arguments.json)
    return 0


async def _copy(journal: Path, to: str) -> Backup:
    store = SqliteStore(journal)
    await store.open(lambda events: None)
    try:
        return await store.backup(to)
    finally:
        await store.aclose()


def _print_backup(backup: Backup, as_json: bool) -> None:
    print_answer(
        attrs.asdict(backup),
        as_json,
        escape(f"{backup.path}: {backup.events} events, up to {backup.seq}, {backup.size} bytes"),
    )
