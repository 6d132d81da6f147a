"""Arguments, errors in one line, exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from trio_jobs import __version__
from trio_jobs import _errors as e
from trio_jobs._cli.commands import COMMANDS
from trio_jobs._cli.journal import CHECK_CODES, backup_of_file, backup_of_service, check_file
from trio_jobs._cli.serve import run_server
from trio_jobs._cli.token_file import VARIABLE, find_token
from trio_jobs._cli.watch import watch
from trio_jobs._client.connect import connect
from trio_jobs._client.reconnect import parse_url
from trio_jobs._engine.jobs import State, escape
from trio_jobs._server.server import DEFAULT_PORT

__all__ = ["main"]

EXIT_CODES: Final = """exit codes:
  0   done
  1   the job failed, was cancelled or is in doubt; the queue is not well (status); too late (cancel)
  2   wrong arguments, a payload that does not fit, a wrong or missing token; a journal that cannot be served
  3   no such job, or it is in another state
  4   the server cannot be reached, or it is not known whether it was done
  5   full, stopping, or a journal that is in use: try again later
  70  serve left without closing the SDK
  130 interrupted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole command. Gives the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        if parsed.command == "serve":
            return run_server(parsed)
        if parsed.command == "journal" and parsed.what == "check":
            return check_file(parsed)
        if parsed.command == "journal" and parsed.journal is not None:
            return backup_of_file(parsed)
        return trio.run(_run_client, parsed)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone: that is its right
        sys.stderr.close()
        return 0
    except (e.TrioJobsError, OSError, BaseExceptionGroup) as error:
        return _tell(error)


def _tell(error: BaseException) -> int:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case KeyboardInterrupt():
            return 130
        case e.TrioJobsError() | OSError():
            print(f"trio-jobs: {escape(str(error))}", file=sys.stderr)
        case _:
            raise error
    match error:
        case e.JobFailed() | e.JobCancelled() | e.JobInDoubt() | e.ResultUnavailable():
            return 1
        case e.JobNotFound() | e.InvalidState():
            return 3
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trio-jobs",
        description="A job queue for the thing that can do only one thing at a time.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"trio-jobs {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--url", default=f"ws://127.0.0.1:{DEFAULT_PORT}/ws", help="the server's (%(default)s)")
    common.add_argument(
        "--token-file", type=Path, help=f"where the token is; else {VARIABLE}, else the file that serve has written"
    )
    common.add_argument("--connect-timeout", type=float, default=5.0, metavar="SECONDS")
    common.add_argument("--json", action="store_true", help="answer in JSON, a line each")

    def command(name: str, does: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, parents=[common], help=does, description=does)

    _add_serve(commands.add_parser("serve", help="run a service and serve its queue"))
    add = command("submit", "submit a job")
    add.add_argument("kind", help="the handler's name")
    add.add_argument("payload", help="JSON; - reads it from standard input")
    add.add_argument("--key", help="the same key and payload again give the same job")
    add.add_argument("--delay", type=float, metavar="SECONDS", help="not before")
    add.add_argument("--deadline", type=float, metavar="SECONDS", help="expires after")
    add.add_argument("--wait", type=float, default=30.0, metavar="SECONDS", help="for a place in the line (30)")
    add.add_argument("--result", action="store_true", help="wait for the job's end and print its result")
    for name, does in (
        ("show", "a job with its attempts"),
        ("result", "wait for a job's end and print its result"),
        ("cancel", "cancel a job"),
        ("retry", "begin a new run of a failed or cancelled job"),
    ):
        command(name, does).add_argument("job", help="its id")
    look = command("list", "jobs, in the order of their submit")
    look.add_argument("--state", choices=[str(state) for state in State])
    look.add_argument("--kind")
    look.add_argument("--after", metavar="JOB", help="those behind this one")
    look.add_argument("--limit", type=int, default=100)
    follow = command("watch", "what happens: a live table in a terminal, JSON lines when piped")
    follow.add_argument("--job", action="append", metavar="ID", help="only this job; may be repeated")
    follow.add_argument("--kind", action="append", help="only jobs of this kind; may be repeated")
    follow.add_argument("--state", action="append", choices=[str(state) for state in State])
    follow.add_argument("--snapshot", action="store_true", help="the jobs as they are first, when piped too")
    settle = command("resolve", "say what a job in doubt came to")
    settle.add_argument("job", help="its id")
    settle.add_argument("resolution", choices=["done", "not_done", "failed"])
    settle.add_argument("--result", metavar="JSON", help="with done")
    command("pause", "let no attempt begin").add_argument("--reason", default="")
    command("resume", "let attempts begin again")
    command("status", "how full, how busy, how well")
    _add_journal(commands.add_parser("journal", help="look into a journal, or copy it"), common)
    return parser


def _add_journal(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    whats = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")
    look = whats.add_parser(
        "check",
        help="what is in a journal (or a backup), and whether it is sound",
        description="Say what is in a journal, or a backup, and whether it is sound. Nothing is changed: a copy is "
        "opened, which takes as much room in the folder for temporary files.",
        epilog=CHECK_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    look.add_argument("file", type=Path)
    look.add_argument("--json", action="store_true", help="answer in JSON")
    copy = whats.add_parser(
        "backup",
        parents=[common],
        help="copy a journal that is in use",
        description="Have the running service copy its journal, beside it and under its name with .backup-FILE behind "
        "it; FILE is a plain name then. Opened as a journal, the copy goes on from there under a new epoch.",
    )
    copy.add_argument("file", help="a name; with --journal, where to")
    copy.add_argument("--journal", type=Path, help="copy this one, which no service has open")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Ctrl-C or SIGTERM once drains, twice cancels the running attempt, three times leaves at once."
    parser.add_argument("service", help="module:service")
    parser.add_argument("--journal", type=Path, help="a file that keeps the jobs; without it they live in memory")
    parser.add_argument("--allow-data-loss", action="store_true", help="go on with what is left of a damaged journal")
    parser.add_argument("--host", default="127.0.0.1", help="%(default)s; another one only with TLS, or --insecure")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="%(default)s; 0 for any")
    parser.add_argument(
        "--token-file",
        type=Path,
        help=f"where the token is, or is to be written if there is none; else {VARIABLE}, else beside the journal, "
        "else in the user's runtime folder",
    )
    parser.add_argument(
        "--watch-token-file", type=Path, metavar="PATH", help="the same for a token that can only look, for a page"
    )
    parser.add_argument("--no-token", action="store_true", help="let anyone on this machine do anything")
    parser.add_argument("--insecure", action="store_true", help="serve other machines without TLS")
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--origin", action="append", default=[], help="a web page's origin that may connect")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="the server's name")
    parser.add_argument("--log-json", action="store_true", help="logs as JSON lines")
    parser.add_argument("--verbose", action="store_true")


if __name__ == "__main__":
    sys.exit(main())
