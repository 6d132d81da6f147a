"""The commands of `trio-jobs`, their arguments and their help."""

from __future__ import annotations

import argparse
import functools
import io
import textwrap
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Final

from trio_jobs import __version__
from trio_jobs._cli import argument_types as types
from trio_jobs._cli.access_arguments import add_login, add_named_tokens, add_ticket, add_token
from trio_jobs._cli.exit_codes import CHECK_CODES, MEANINGS, ExitCode
from trio_jobs._cli.history_arguments import add_activity, add_kinds
from trio_jobs._cli.job_arguments import add_bulk_commands, add_job_commands
from trio_jobs._cli.output import print_line
from trio_jobs._engine.states import State
from trio_jobs._wire.codes import DEFAULT_PORT

__all__ = ["VARIABLE", "parse", "parser"]

VARIABLE: Final = "TRIO_JOBS_TOKEN"  #: the environment variable with the token

_ARGUMENTS_NOT_SENT: Final = frozenset({"command", "host", "journal_command", "service", "action", "url"})
_RAW: Final = argparse.RawDescriptionHelpFormatter


def parse(arguments: Sequence[str] | None) -> argparse.Namespace | ExitCode:
    """The parsed arguments; or the exit code, if they asked for help or are not valid, which is then printed.

    Raises:
        OutputFailed: Standard output cannot be written.
    """
    top, commands = _parsers()
    help_text = io.StringIO()  # argparse prints it, and ignores errors
    try:
        with redirect_stdout(help_text):
            parsed, extra = top.parse_known_args(arguments)
            if extra:  # argparse would print the usage of all commands
                commands[parsed.command].error(f"unrecognized arguments: {' '.join(extra)}")
        for name, value in vars(parsed).items():
            if name not in _ARGUMENTS_NOT_SENT and not types.is_unicode(value):
                top.error(f"argument {name.replace('_', '-')}: the text is not valid in the encoding of the system")
    except SystemExit as error:
        if error.code:
            return ExitCode.INVALID
        print_line(help_text.getvalue().removesuffix("\n"))
        return ExitCode.DONE
    return parsed


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line, made once."""
    return _parsers()[0]


@functools.cache
def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of the whole command line, and that of each command."""
    top = argparse.ArgumentParser(
        prog="trio-jobs",
        description="A job queue for an SDK, device or program that can do only one thing at a time.\n"
        "`trio-jobs COMMAND --help` describes the arguments of a command.",
        epilog=_epilog(),
        formatter_class=_RAW,
    )
    top.add_argument("--version", action="version", version=f"trio-jobs {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    connection = _connection()

    def command(name: str, summary: str, more: str = "", example: str = "") -> argparse.ArgumentParser:
        description = summary[0].upper() + summary[1:] + "." + (f" {more}" if more else "")
        epilog = f"example: trio-jobs {name} {example}" if example else None
        return commands.add_parser(name, parents=[connection], help=summary, description=description, epilog=epilog)

    _add_serve(commands.add_parser("serve", help="run a service and a server for its queue"))
    submit = command(
        "submit",
        "submit a job",
        "The output is its id and its state.",
        """post_invoice '{"folio": "A-1"}' --key A-1 --label company=acme""",
    )
    _add_submit(submit)
    for name, summary, example in (
        ("show", "show a job and its attempts", "--key A-1"),
        ("history", "show what has happened to a job, and who did what", "--key A-1"),
        ("result", "wait until a job is final, and print its result as JSON", "5f0c21ab"),
    ):
        _add_job(command(name, summary, example=example))
    cancel = command("cancel", "cancel a job", example='5f0c21ab --note "the customer called"')
    _add_job(cancel)
    _add_note(cancel)
    verified = "If it may have done its work, verify is called first; without a verify it is refused."
    _add_retry(command("retry", "begin a new run of a failed or cancelled job", verified, "--key A-1"))
    add_job_commands(command, _add_job, _add_note)
    add_bulk_commands(command, _add_conditions, _add_note)
    ids = "A job is shown with the last 8 characters of its id, by which the other commands find it."
    example = "--state failed --error TimeoutError --since 2d"
    _add_list(command("list", "list jobs, the newest submits first", ids, example))
    _add_count(command("count", "count jobs", "", "--group error_type --state failed --since 2026-11-01"))
    live = "A terminal shows a live table, a pipe JSON lines."
    _add_watch(command("watch", "follow the events of the queue", live, "--job 5f0c21ab"))
    _add_resolve(command("resolve", "resolve a job in doubt", example="--key A-1 done --result 4711"))
    calm = "The running attempt continues; no other attempt starts."
    pause = command("pause", "pause the queue", calm, '--reason "month end"')
    pause.add_argument("--reason", default="", metavar="TEXT", help="why, for everybody who looks at the queue")
    pause.add_argument(
        "--until", type=types.date, metavar="DATE", help="the pause ends by itself, such as 2026-12-01T08:00"
    )
    _add_note(command("resume", "resume the queue", "Attempts start again.", '--note "the ledger is back"'))
    drain = command(
        "drain",
        "accept no new jobs, and wait until the accepted ones are done",
        "If the command is interrupted, the queue still accepts no jobs: undrain ends that.",
        '--note "a new server"',
    )
    _add_note(drain)
    _add_note(command("undrain", "accept jobs again after a drain", "", '--note "not yet"'))
    add_activity(command)
    forget = command(
        "forget",
        "remove the data of a final job now",
        "Its key stays known, so a submit with it does nothing.",
        '--key A-1 --note "she asked for it"',
    )
    _add_job(forget)
    _add_note(forget)
    add_kinds(command, commands)
    command("status", "show whether the queue is healthy, and how full it is", "", "--json")
    link = "Whoever opens it within five minutes uses the page as the owner of the token. It works once."
    add_login(command("login", "print a link with which the page of the server logs in", link, "--open"))
    add_ticket(commands.add_parser("ticket", help="make or revoke tickets for one job"), connection, _add_job)
    add_token(commands.add_parser("token", help="add, list or remove the tokens of people"))
    _add_journal(commands.add_parser("journal", help="check or copy a journal"), connection)
    return top, commands.choices


def _epilog() -> str:
    codes = [
        textwrap.fill(meaning, 100, initial_indent=f"  {code:<4}", subsequent_indent=" " * 6)
        for code, meaning in MEANINGS.items()
    ]
    return "\n".join(
        [
            "exit codes:",
            *codes,
            "",
            "environment:",
            f"  {VARIABLE}  the token, unless --token-file is given",
        ]
    )


def _connection() -> argparse.ArgumentParser:
    """What all commands share that are requests to a server."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--url", default=f"ws://127.0.0.1:{DEFAULT_PORT}/ws", help="the URL of the server (default: %(default)s)"
    )
    options.add_argument(
        "--token-file",
        type=types.path,
        metavar="PATH",
        help=f"the file with the token (default: {VARIABLE}, then the file that serve has written for the port)",
    )
    options.add_argument(
        "--connect-timeout",
        type=types.seconds,
        default=5.0,
        metavar="SECONDS",
        help="how long to wait for a connection, also after a lost one (default: 5)",
    )
    options.add_argument("--json", action="store_true", help="print JSON, one value a line")
    return options


def _add_label(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--label", action="append", type=types.label, default=[], metavar="NAME=VALUE", help=text)


def _add_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="the id of the job, or at least its last 6 characters")
    parser.add_argument("--key", dest="by_key", action="store_true", help="JOB is the key of the job instead of its id")
    parser.add_argument("--kind", metavar="KIND", help="with --key: the kind of the job, if the key occurs in several")


def _add_submit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="KIND", help="the name of the handler")
    parser.add_argument("payload", metavar="PAYLOAD", help="JSON; - reads it from standard input")
    parser.add_argument("--key", help="make the submit idempotent: the same key and payload give the same job")
    parser.add_argument(
        "--correct",
        action="store_true",
        help="if the key belongs to a failed or cancelled job with another payload, start that job again with this one",
    )
    parser.add_argument("--delay", type=types.wait, metavar="SECONDS", help="start the job no sooner than in SECONDS")
    parser.add_argument("--deadline", type=types.wait, metavar="SECONDS", help="let the job expire in SECONDS")
    parser.add_argument(
        "--wait",
        type=types.seconds,
        default=30.0,
        metavar="SECONDS",
        help="wait for a free slot (default: 30; 0: not at all)",
    )
    _add_label(parser, "a label of the job, by which jobs are listed and counted; can be repeated")
    parser.add_argument("--result", action="store_true", help="wait until the job is final, and print its result")


def _add_conditions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state",
        action="append",
        choices=_states(),
        metavar="STATE",
        help=f"only jobs in STATE, one of {', '.join(State)}; can be repeated",
    )
    parser.add_argument("--kind", metavar="KIND", help="only jobs of this kind")
    parser.add_argument("--key-prefix", metavar="TEXT", help="only jobs whose key begins with TEXT")
    parser.add_argument("--error", metavar="TYPE", help="only jobs whose last error is of the class TYPE")
    acted = "only jobs that may have acted, or that have not"
    parser.add_argument("--may-have-acted", action=argparse.BooleanOptionalAction, help=acted)
    _add_label(parser, "only jobs with this label; can be repeated")
    parser.add_argument("--by", metavar="NAME", help="only jobs of this submitter")
    since = "only jobs submitted since a date or a time ago, such as 2026-11-29T08:30 or 2h"
    parser.add_argument("--since", type=types.date, metavar="DATE", help=since)
    parser.add_argument("--until", type=types.date, metavar="DATE", help="only jobs submitted before that")


def _add_list(parser: argparse.ArgumentParser) -> None:
    _add_conditions(parser)
    parser.add_argument("--oldest", action="store_true", help="list the oldest submits first")
    parser.add_argument(
        "--after", metavar="CURSOR", help="continue a list: the cursor that it has printed, or the id of its last job"
    )
    parser.add_argument(
        "--limit", type=types.count, default=100, metavar="COUNT", help="at most COUNT jobs (default: 100)"
    )


def _add_count(parser: argparse.ArgumentParser) -> None:
    _add_conditions(parser)
    parser.add_argument(
        "--group", metavar="GROUP", help="count them by state, kind, error_type or label:NAME, the largest number first"
    )


def _add_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--job", action="append", metavar="JOB", help="only the job with this id; can be repeated")
    parser.add_argument("--kind", action="append", metavar="KIND", help="only jobs of this kind; can be repeated")
    parser.add_argument(
        "--state",
        action="append",
        choices=_states(),
        metavar="STATE",
        help=f"only events that lead to STATE, one of {', '.join(State)}; can be repeated",
    )
    parser.add_argument("--snapshot", action="store_true", help="print the present jobs before the first event")


def _add_retry(parser: argparse.ArgumentParser) -> None:
    _add_job(parser)
    parser.add_argument(
        "--even-if-acted",
        action="store_true",
        help="repeat it although it may have done its work and its handler has no verify",
    )
    _add_note(parser)


def _add_resolve(parser: argparse.ArgumentParser) -> None:
    _add_job(parser)
    parser.add_argument(
        "resolution",
        choices=["done", "not_done", "failed"],
        help="done: the work is done, the job is completed; not_done: nothing was done, the job is pending again; "
        "failed: the job fails",
    )
    parser.add_argument("--result", metavar="JSON", help="with done: the result of the job (default: null)")
    _add_note(parser)


def _add_note(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--note", metavar="TEXT", help="why, for the history of the job and of the queue")


def _add_journal(parser: argparse.ArgumentParser, connection: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="journal_command", required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check",
        help="check a journal or a backup that no service has open",
        description="Check a journal or a backup, and print what it contains. The file is not changed: a copy of it\n"
        "is checked, which needs as much space in the directory for temporary files.",
        epilog=CHECK_CODES,
        formatter_class=_RAW,
    )
    check.add_argument("file", type=types.path, metavar="FILE", help="the journal or the backup")
    check.add_argument("--json", action="store_true", help="print JSON")
    backup = commands.add_parser(
        "backup",
        parents=[connection],
        help="copy a journal, also one that is in use",
        description="Let the running service copy its journal to a file beside it, named like the journal with "
        ".backup-NAME appended. With --journal, copy a journal that no service has open. A backup opened as a journal "
        "has a new epoch.",
    )
    backup.add_argument("file", metavar="NAME", help="the name of the backup; with --journal, the path of the copy")
    backup.add_argument(
        "--journal", type=types.path, metavar="FILE", help="copy this journal, which no service has open"
    )


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run the service SERVICE of the Python module MODULE, and a server for its queue."
    parser.epilog = (
        "Ctrl-C, SIGTERM or SIGHUP once: accept no new jobs, let the running attempt end, and stop. Twice: cancel the "
        "running attempt. Three times: exit at once, without closing the SDK."
    )
    parser.add_argument("service", metavar="MODULE:SERVICE", help="such as shop:service, for `service` in shop.py")
    parser.add_argument(
        "--journal", type=types.path, metavar="FILE", help="store jobs in FILE (default: only in memory)"
    )
    parser.add_argument(
        "--allow-data-loss", action="store_true", help="open a damaged journal with what can be recovered of it"
    )
    parser.add_argument(
        "--executor",
        choices=("thread", "process"),
        help="where the SDK lives: on a thread, or in a process, which is killed when a call exceeds its limit "
        "(default: as the service says)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen on (default: %(default)s); other ones need --tls-cert",
    )
    parser.add_argument(
        "--port",
        type=types.port,
        default=DEFAULT_PORT,
        help="the port to listen on (default: %(default)s); 0: any free port",
    )
    parser.add_argument(
        "--token-file",
        type=types.path,
        metavar="PATH",
        help="the file with the token of scope control; it is created if it does not exist "
        f"(default: {VARIABLE}, then a file beside the journal, then a file in the runtime directory of the user)",
    )
    parser.add_argument(
        "--watch-token-file",
        type=types.path,
        metavar="PATH",
        help="the file with a second token, of scope watch, which can read and change nothing; created likewise",
    )
    add_named_tokens(parser)
    parser.add_argument("--no-token", action="store_true", help="require no token; on 127.0.0.1 only")
    parser.add_argument("--insecure", action="store_true", help="allow another --host without TLS")
    parser.add_argument(
        "--tls-cert",
        type=types.path,
        metavar="PATH",
        help="the certificate for TLS, in PEM; it is read again when the file changes",
    )
    parser.add_argument(
        "--tls-key", type=types.path, metavar="PATH", help="its private key, unless it is in the same file"
    )
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="allow web pages of this origin, such as https://example.org, to connect; can be repeated",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a host name under which clients reach the server; can be repeated",
    )
    parser.add_argument(
        "--public-url",
        metavar="URL",
        help="the URL under which clients reach the server through a proxy, such as https://example.org/queue",
    )
    parser.add_argument("--no-page", action="store_true", help="do not offer the web page at /")
    parser.add_argument("--log-json", action="store_true", help="write logs as JSON lines")
    parser.add_argument("--verbose", action="store_true", help="write debug logs too")


def _states() -> list[str]:
    return [str(state) for state in State]
