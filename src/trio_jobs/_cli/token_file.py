"""Where the token is kept: a file that only its owner can read, never an argument that every process can see.

A client that follows a server comes back to the next one with the token that it has. So a token must outlive the
process that made it: a file that is there is read, and only where there is none is one made.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from trio_jobs._errors import UsageError
from trio_jobs._server.tokens import Token
from trio_jobs._wire.codes import Scope

__all__ = [
    "VARIABLE",
    "default_path",
    "find_token",
    "given_token",
    "kept_token",
    "path_beside",
    "read_token",
    "write_token",
]

VARIABLE = "TRIO_JOBS_TOKEN"


def default_path(port: int) -> Path:
    """In the user's runtime folder, by the server's port."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home()))
    elif "XDG_RUNTIME_DIR" in os.environ:
        base = Path(os.environ["XDG_RUNTIME_DIR"])
    else:
        base = Path.home() / ".cache"
    return base / "trio-jobs" / f"token-{port}"


def path_beside(journal: Path) -> Path:
    """Where a journal's token lies, for whoever serves it next."""
    return journal.with_name(f"{journal.name}-token")


def write_token(path: Path, token: Token) -> None:
    """Write the secret to a new file of mode 0600, in place of the one that is there. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, token.secret.encode() + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)
    new.replace(path)


def read_token(path: Path) -> str:
    """Raises `UsageError` where it cannot be read, or where others could have."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"the token file {path} cannot be read: {why}") from None
    if sys.platform != "win32" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(
            f"others can read the token file {path}: remove it and let serve make a new one, or chmod 600 it"
        )
    return text


def kept_token(path: Path, name: str = "owner", scope: Scope = "control") -> Token:
    """The token in that file; a new one, written there, where there is no file. Raises `UsageError`, OSError."""
    if path.exists():
        return _as_token(read_token(path), f"the token file {path}", name, scope)
    token = Token.random(name, scope)
    write_token(path, token)
    return token


def given_token() -> Token | None:
    """The one that TRIO_JOBS_TOKEN gives a server, if it does. Raises `UsageError`."""
    secret = os.environ.get(VARIABLE)
    return _as_token(secret, VARIABLE, "owner", "control") if secret else None


def _as_token(secret: str, where: str, name: str, scope: Scope) -> Token:
    try:
        return Token(secret, name, scope)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def find_token(given: Path | None, port: int) -> str | None:
    """From --token-file, from TRIO_JOBS_TOKEN, or from where `serve` has written it; None if there is none."""
    if given is not None:
        return read_token(given)
    if os.environ.get(VARIABLE):
        return os.environ[VARIABLE]
    path = default_path(port)
    return read_token(path) if path.exists() else None
