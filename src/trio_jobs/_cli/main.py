"""The entry point: runs a command, reports errors in one line, and returns the exit code.

All that --help does not need, such as Trio, is imported where it is used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from trio_jobs._cli import output
from trio_jobs._cli.arguments import parse
from trio_jobs._cli.exit_codes import ExitCode, exit_code
from trio_jobs._wire.codes import DEFAULT_PORT

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code. Nothing is raised, so that each exit code has its meaning."""
    with ExitStack() as stack:
        try:
            output.prepare()
            parsed = parse(arguments)
            code: int
            if isinstance(parsed, ExitCode):  # --help, --version, or arguments that are not valid
                code = parsed
            else:
                if parsed.command == "serve":
                    from trio_jobs._cli import logs

                    stack.enter_context(output.background_stderr(logs.dropped(as_json=parsed.log_json)))
                code = _run(parsed)
            output.finish()
        except BaseException as error:
            code = _report(error)
        return code


def _run(parsed: argparse.Namespace) -> int:
    if parsed.command == "serve":
        from trio_jobs._cli.serve import run_server

        return run_server(parsed)
    if parsed.command == "journal" and (parsed.journal_command == "check" or parsed.journal is not None):
        from trio_jobs._cli.journal import backup_of_file, check_file

        return check_file(parsed) if parsed.journal_command == "check" else backup_of_file(parsed)
    if parsed.command == "completion":
        from trio_jobs._cli.arguments import parser
        from trio_jobs._cli.completion import fish_script, script

        output.print_line((fish_script if parsed.shell == "fish" else script)(parser()))
        return ExitCode.DONE
    if parsed.command == "token":
        from trio_jobs._cli.named_tokens import change_tokens

        return change_tokens(parsed)
    import trio

    return trio.run(_run_client, parsed)


def _report(error: BaseException) -> ExitCode:
    """Print the error, and return its exit code."""
    from trio_jobs._cli.error_text import ServiceNotLoaded, describe, safe_traceback
    from trio_jobs._concurrency import single_cause
    from trio_jobs._exception_tree import contains

    cause = KeyboardInterrupt() if contains(error, KeyboardInterrupt) else single_cause(error)
    code = exit_code(cause)
    if code is ExitCode.INTERRUPTED:
        return code
    if code is ExitCode.UNEXPECTED:
        output.print_error(safe_traceback(error, with_ours=True))
        output.print_error(f"trio-jobs: unexpected error: {type(cause).__name__}: {describe(cause)}")
        return code
    if isinstance(cause, ServiceNotLoaded):
        output.print_error(cause.traceback)
    output.print_error(f"trio-jobs: {describe(cause)}")
    return code


async def _run_client(arguments: argparse.Namespace) -> int:
    from trio_jobs import PermissionDenied
    from trio_jobs._cli.token_file import find_token, places
    from trio_jobs._client.handshake import parse_url

    port = parse_url(arguments.url).port or DEFAULT_PORT
    token = find_token(arguments.token_file, port)
    try:
        return await _run_with(token, arguments)
    except PermissionDenied as error:
        if token is None:
            raise PermissionDenied(f"{error}; there is none in {places(port)}: give --token-file") from None
        raise


async def _run_with(token: str | None, arguments: argparse.Namespace) -> int:
    from trio_jobs import connect  # and with it the public names of errors

    timeout = arguments.connect_timeout
    async with connect(arguments.url, token=token, connect_timeout=timeout, reconnect_timeout=timeout) as client:
        if arguments.command == "watch":
            from trio_jobs._cli.watch import watch

            return await watch(client, arguments)
        if arguments.command == "journal":
            from trio_jobs._cli.journal import backup_of_service

            return await backup_of_service(client, arguments)
        if arguments.command == "login":
            from trio_jobs._cli.login import login

            return await login(client, arguments)
        if arguments.command == "ticket":
            from trio_jobs._cli.ticket import ticket

            return await ticket(client, arguments)
        from trio_jobs._cli.commands import COMMANDS

        return await COMMANDS[arguments.command](client, arguments)


if __name__ == "__main__":
    sys.exit(main())
