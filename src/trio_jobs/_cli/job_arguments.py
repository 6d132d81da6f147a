"""The arguments of the commands of `job_commands`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from trio_jobs._cli import argument_types as types

__all__ = ["add_bulk_commands", "add_job_commands"]

Command = Callable[..., argparse.ArgumentParser]
Add = Callable[[argparse.ArgumentParser], None]


def add_job_commands(command: Command, add_job: Add, add_note: Add) -> None:
    """Add the commands for one job. command, add_job, add_note: as in `arguments.parser`."""
    acted = "A job that may have done its work is refused: verify it first."
    correct = command(
        "correct",
        "begin a new run of a failed or cancelled job with another payload",
        acted,
        """5f0c21ab '{"folio": "A-1", "tax_id": "X-7"}'""",
    )
    add_job(correct)
    correct.add_argument("payload", metavar="PAYLOAD", help="JSON; - reads it from standard input")
    _add_if_seq(correct)
    add_note(correct)

    states = "For a failed, cancelled or in_doubt job. The output is done, not_done or unknown."
    verify = command("verify", "let verify look now whether the work of a job is done", states, "5f0c21ab")
    add_job(verify)
    add_note(verify)

    reschedule = command("reschedule", "change when a waiting job is due", "", "--key A-1 --at 2026-12-01T08:00")
    add_job(reschedule)
    when = reschedule.add_mutually_exclusive_group(required=True)
    when.add_argument("--at", type=types.date, metavar="DATE", help="a date in the future, such as 2026-12-01T08:00")
    when.add_argument("--in", dest="delay", type=types.span, metavar="TIME", help="in so many seconds, or 90m, 2h, 7d")
    when.add_argument("--now", action="store_true", help="at once")
    _add_if_seq(reschedule)
    add_note(reschedule)

    claim = command("claim", "show others that you work on a job", "It keeps nobody from changing it.", "5f0c21ab")
    add_job(claim)
    claim.add_argument(
        "--for", dest="seconds", type=types.span, default=900.0, metavar="TIME", help="how long (default: 15m)"
    )
    claim.add_argument("--take-over", action="store_true", help="replace or end a claim of somebody else")
    claim.add_argument("--release", action="store_true", help="end the claim")
    add_note(claim)


def add_bulk_commands(command: Command, add_conditions: Add, add_note: Add) -> None:
    """Add the commands for many jobs. command, add_conditions, add_note: as in `arguments.parser`."""
    lines = 'Each line is an object like {"kind": "post", "payload": {}, "key": "A-1", "labels": {}}.'
    submit = command("submit-many", "submit the jobs of a file of JSON lines: all or none", lines, "invoices.jsonl")
    submit.add_argument("file", metavar="FILE", help="the file; - reads standard input")
    submit.add_argument(
        "--wait", type=types.seconds, default=30.0, metavar="SECONDS", help="wait for free slots (default: 30)"
    )
    looks = "--dry-run shows what it would do."
    cancel = command("cancel-many", "cancel the jobs that match", looks, "--label company=acme --dry-run")
    asks = "Where a job may have done its work, verify is called first; without a verify the job is left as it is."
    retry = command(
        "retry-many", "begin a new run of the failed and cancelled jobs that match", f"{asks} {looks}",
        "--error TimeoutError --since 2h --dry-run",
    )  # fmt: skip
    for parser in (cancel, retry):
        add_conditions(parser)
        parser.add_argument("--id", action="append", dest="ids", metavar="ID", help="only this job; can be repeated")
        parser.add_argument(
            "--limit", type=types.count, default=1000, metavar="COUNT", help="at most COUNT jobs (default: 1000)"
        )
        parser.add_argument("--dry-run", action="store_true", help="change nothing, and show what would be done")
        add_note(parser)
    retry.add_argument(
        "--even-if-acted", action="store_true", help="repeat also what may have been done and has no verify"
    )


def _add_if_seq(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--if-seq",
        type=types.count,
        metavar="EVENT",
        help="only if this is the last event of the job, as seq of `show --json`",
    )
