"""The arguments of the commands about who may use a server."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from trio_jobs._cli import argument_types as types
from trio_jobs._wire.scopes import SCOPES

__all__ = ["add_login", "add_named_tokens", "add_ticket", "add_token"]

_SCOPES = "watch: look; operate: also submit, cancel, retry and resolve jobs, and pause; control: everything"


def add_token(parser: argparse.ArgumentParser) -> None:
    """`trio-jobs token`."""
    parser.description = (
        "Change who may use a server: a file of names, scopes and digests of secrets. A running server reads the file "
        "again when it changes, and disconnects the clients of a removed token."
    )
    parser.epilog = "example: trio-jobs token add ada --scope operate --journal jobs.db"
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument(
        "--journal", type=types.path, metavar="FILE", help="change the file beside this journal, FILE-tokens"
    )
    where.add_argument("--tokens", type=types.path, metavar="PATH", help="change this file, as given to serve")
    where.add_argument("--json", action="store_true", help="print JSON, one value a line")
    commands = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    add = commands.add_parser(
        "add",
        parents=[where],
        help="add a token, and print its secret",
        description="Add a token. The output is its secret, which is not kept.",
        epilog="example: trio-jobs token add ada --scope operate --journal jobs.db > ada-token",
    )
    add.add_argument("name", metavar="NAME", help="who has the token; recorded with everything that is done with it")
    add.add_argument("--scope", required=True, choices=SCOPES, help=_SCOPES)
    add.add_argument(
        "--kinds", nargs="+", metavar="KIND", help="only jobs of these kinds exist for the token (default: all)"
    )
    add.add_argument(
        "--labels",
        nargs="+",
        type=types.label,
        metavar="NAME=VALUE",
        help="only jobs with all of these labels exist for the token, and jobs that it submits get them (default: all)",
    )
    commands.add_parser(
        "list",
        parents=[where],
        help="list the tokens, without their secrets",
        epilog="example: trio-jobs token list --journal jobs.db",
    )
    remove = commands.add_parser(
        "remove",
        parents=[where],
        help="remove a token",
        description="Remove a token. Its clients are disconnected, and the page sessions of its owner end.",
        epilog="example: trio-jobs token remove ada --journal jobs.db",
    )
    remove.add_argument("name", metavar="NAME", help="the name of the token")


def add_named_tokens(parser: argparse.ArgumentParser) -> None:
    """The option of `serve`."""
    parser.add_argument(
        "--tokens",
        type=types.path,
        metavar="PATH",
        help="the file of named tokens that `trio-jobs token` changes; it is read again when it changes "
        "(default: FILE-tokens beside the journal)",
    )


def add_ticket(
    parser: argparse.ArgumentParser,
    connection: argparse.ArgumentParser,
    add_job: Callable[[argparse.ArgumentParser], None],
) -> None:
    """`trio-jobs ticket`."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    create = commands.add_parser(
        "create",
        parents=[connection],
        help="make a ticket, and print it",
        description="Make a ticket. Whoever has it can follow this one job, and change nothing.",
        epilog="example: trio-jobs ticket create --key A-1 --show result --days 7",
    )
    add_job(create)
    create.add_argument(
        "--show",
        action="append",
        default=[],
        choices=["result", "payload"],
        help="what the ticket shows beside the state of the job; can be repeated",
    )
    create.add_argument(
        "--days",
        type=types.ticket_days,
        default=1.0,
        metavar="DAYS",
        help="how long it is valid, at most 30 (default: 1)",
    )
    commands.add_parser(
        "revoke",
        parents=[connection],
        help="revoke all tickets",
        description="Revoke all tickets that were made so far. Their clients are disconnected.",
        epilog="example: trio-jobs ticket revoke",
    )


def add_login(parser: argparse.ArgumentParser) -> None:
    """`trio-jobs login`."""
    parser.add_argument("--open", action="store_true", help="open the link in the browser of this machine")
