"""The arguments of the commands that list what operators did, and which kinds of jobs there are."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from trio_jobs._cli import argument_types as types

__all__ = ["add_activity", "add_kinds"]


def add_activity(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command `activity`. command: adds a command, as in `arguments.parser`."""
    parser = command("activity", "show what operators did, the newest first", "", "--by ada --limit 20")
    parser.add_argument("--by", metavar="NAME", help="only what this operator did")
    parser.add_argument("--before", type=types.count, metavar="EVENT", help="only what was done before this event")
    parser.add_argument("--limit", type=types.count, default=100, metavar="COUNT", help="at most COUNT (default: 100)")


def add_kinds(command: Callable[..., argparse.ArgumentParser], commands: Any) -> None:
    """Add the commands `kinds` and `completion`. command, commands: as in `arguments.parser`."""
    command("kinds", "list the kinds of jobs", "With --json, with the JSON Schema of their payloads.", "--json")
    parser = commands.add_parser("completion", help="print a script with which a shell completes commands and kinds")
    parser.description = "Print a script with which a shell completes commands, options, states and kinds."
    parser.add_argument(
        "shell", nargs="?", choices=("bash", "zsh", "fish"), default="bash", help="the shell (default: bash)"
    )
    parser.epilog = 'example: eval "$(trio-jobs completion)"'
