"""The arguments of the commands of `histories`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from trio_jobs._cli import argument_types as types

__all__ = ["add_activity"]


def add_activity(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command `activity`. command: adds a command, as in `arguments.parser`."""
    parser = command("activity", "show what operators did, the newest first", "", "--by ada --limit 20")
    parser.add_argument("--by", metavar="NAME", help="only what this operator did")
    parser.add_argument("--before", type=types.count, metavar="EVENT", help="only what was done before this event")
    parser.add_argument("--limit", type=types.count, default=100, metavar="COUNT", help="at most COUNT (default: 100)")
