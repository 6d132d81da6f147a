"""`trio-jobs token add | list | remove`: who may use a server. They change a file that a server reads again."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from trio_jobs import _file_lock
from trio_jobs._cli.commands import print_answer
from trio_jobs._cli.output import print_error
from trio_jobs._engine.jobs import escape
from trio_jobs._errors import UsageError
from trio_jobs._runtime.clock import SystemClock
from trio_jobs._server.named_tokens import MAX_TOKENS, NamedToken, read_tokens, write_tokens
from trio_jobs._server.tokens import Token

__all__ = ["change_tokens", "tokens_beside"]

RESERVED: Final = ("owner", "watcher")  #: the names of the tokens that `serve` makes
WAITS: Final = "another command is changing it; try again"


def tokens_beside(journal: Path) -> Path:
    """The file of named tokens beside a journal."""
    return journal.with_name(f"{journal.name}-tokens")


def change_tokens(arguments: argparse.Namespace) -> int:
    """Execute the command. Returns the exit code."""
    if arguments.tokens is None and arguments.journal is None:
        raise UsageError("name the file of tokens: --journal FILE for the one beside a journal, or --tokens PATH")
    path: Path = arguments.tokens or tokens_beside(arguments.journal)
    if arguments.action == "list":
        return _list(path, arguments)
    with _locked(path):
        tokens = _read(path)
        if arguments.action == "add":
            return _add(path, tokens, arguments)
        return _remove(path, tokens, arguments)


def _read(path: Path) -> list[NamedToken]:
    try:
        return read_tokens(path)
    except FileNotFoundError:
        return []


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one command at a time change the file. Raises `UsageError`."""
    lock_path = Path(f"{path}-lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _file_lock.acquire(str(lock_path))
    except (_file_lock.LockTaken, _file_lock.LockFileReplaced):
        raise UsageError(f"the file of tokens {path}: {WAITS}") from None
    except OSError as error:
        raise UsageError(f"the file of tokens {path} cannot be changed: {error.strerror}") from None
    try:
        yield
    except OSError as error:
        raise UsageError(f"the file of tokens {path} cannot be written: {error.strerror}") from None
    finally:
        lock_path.unlink(missing_ok=True)
        lock.release()


def _add(path: Path, tokens: list[NamedToken], arguments: argparse.Namespace) -> int:
    labels = None if arguments.labels is None else dict(arguments.labels)
    token = attrs.evolve(Token.random(arguments.name, arguments.scope), kinds=arguments.kinds, labels=labels)
    if token.name in RESERVED:
        raise UsageError(f"{token.name!r} is the name of a token of `serve`: choose another name")
    if any(other.name == token.name for other in tokens):
        raise UsageError(f"{path} has a token {token.name!r}: choose another name, or remove that one first")
    if len(tokens) >= MAX_TOKENS:
        raise UsageError(f"{path} has {MAX_TOKENS} tokens, the most that it can have: remove one first")
    digest = hashlib.sha256(token.secret.encode("ascii")).hexdigest()
    kinds = None if token.kinds is None else sorted(token.kinds)
    labels = None if token.labels is None else dict(token.labels)
    named = NamedToken(token.name, token.scope, digest, kinds, labels, created_at=float(int(SystemClock().now())))
    write_tokens(path, [*tokens, named])
    if not print_answer({**_facts(named), "secret": token.secret}, arguments.json, token.secret):
        return 0
    print_error(f"this is the secret of {escape(token.name)}, which is not kept: it cannot be shown again")
    return 0


def _list(path: Path, arguments: argparse.Namespace) -> int:
    for token in _read(path):
        bounds = token.known().bounds
        text = f"{token.name}  {token.scope}" + (f"  {bounds}" if bounds else "")
        if not print_answer(_facts(token), arguments.json, escape(text)):
            break
    return 0


def _remove(path: Path, tokens: list[NamedToken], arguments: argparse.Namespace) -> int:
    left = [token for token in tokens if token.name != arguments.name]
    if len(left) == len(tokens):
        raise UsageError(f"{path} has no token {arguments.name!r}")
    write_tokens(path, left)
    print_answer({"removed": arguments.name}, arguments.json, f"removed {escape(arguments.name)}")
    return 0


def _facts(token: NamedToken) -> dict[str, Any]:
    """What is shown of a token."""
    return {"name": token.name, "scope": token.scope, "kinds": token.kinds, "labels": token.labels}
