"""The entry point: runs a command, reports errors in one line, and returns the exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import trio

from trio_jobs import _errors as e
from trio_jobs._cli.arguments import parser
from trio_jobs._cli.commands import COMMANDS
from trio_jobs._cli.journal import backup_of_file, backup_of_service, check_file, describe
from trio_jobs._cli.serve import run_server
from trio_jobs._cli.token_file import find_token
from trio_jobs._cli.watch import watch
from trio_jobs._client.connect import connect
from trio_jobs._client.reconnect import parse_url
from trio_jobs._concurrency import single_cause
from trio_jobs._engine.jobs import escape
from trio_jobs._server.server import DEFAULT_PORT

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parsed = parser().parse_args(arguments)
    try:
        if parsed.command == "serve":
            return run_server(parsed)
        if parsed.command == "journal" and parsed.journal_command == "check":
            return check_file(parsed)
        if parsed.command == "journal" and parsed.journal is not None:
            return backup_of_file(parsed)
        return trio.run(_run_client, parsed)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output has ended, such as head
        sys.stderr.close()
        return 0
    except (e.TrioJobsError, OSError, BaseExceptionGroup) as error:
        return _report(error)


def _report(error: BaseException) -> int:
    """Print the error in one line, and return its exit code."""
    error = single_cause(error)
    match error:
        case KeyboardInterrupt():
            return 130
        case e.TrioJobsError() | OSError():
            print(f"trio-jobs: {escape(describe(error))}", file=sys.stderr)
        case _:
            raise error
    match error:
        case e.JobFailed() | e.JobCancelled() | e.JobInDoubt() | e.ResultUnavailable():
            return 1
        case e.JobNotFound() | e.InvalidState():
            return 3
        case e.InvalidJournalPath():
            return 2
        case e.ConnectionFailed() | e.OutcomeUnknown():
            return 4
        case e.QueueFull() | e.QueueClosed() | e.StoreError():
            return 5
        case e.SdkCallStuck():
            return 70
    return 2


async def _run_client(arguments: argparse.Namespace) -> int:
    token = find_token(arguments.token_file, parse_url(arguments.url).port or DEFAULT_PORT)
    timeout = arguments.connect_timeout
    async with connect(arguments.url, token=token, connect_timeout=timeout, reconnect_timeout=timeout) as client:
        if arguments.command == "watch":
            return await watch(client, arguments)
        if arguments.command == "journal":
            return await backup_of_service(client, arguments)
        return await COMMANDS[arguments.command](client, arguments)


if __name__ == "__main__":
    sys.exit(main())
