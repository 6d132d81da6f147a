"""The file that contains the token. Only its owner can read it; a command-line argument would be visible to others.

A client that was connected to a server connects to the next one with the same token. So a token outlives the process
that created it: an existing file is read, and a missing file is created.
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
    "path_beside",
    "read_token",
    "stored_token",
    "token_from_environment",
    "write_token",
]

VARIABLE = "TRIO_JOBS_TOKEN"


def default_path(port: int) -> Path:
    """The file in the runtime directory of the user, named by the port of the server."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home()))
    elif "XDG_RUNTIME_DIR" in os.environ:
        base = Path(os.environ["XDG_RUNTIME_DIR"])
    else:
        base = Path.home() / ".cache"
    return base / "trio-jobs" / f"token-{port}"


def path_beside(journal: Path) -> Path:
    """The file beside the journal, for all servers of that journal."""
    return journal.with_name(f"{journal.name}-token")


def write_token(path: Path, token: Token) -> None:
    """Write the secret to a file of mode 0600; an existing file is replaced. Raises OSError."""
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
    """The secret in the file. Raises `UsageError` if the file cannot be read, or if other users can read it."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise UsageError(f"the token file {path} cannot be read: {why}") from None
    if sys.platform != "win32" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(
            f"other users can read the token file {path}: remove it, so that serve creates a new token, or chmod 600 it"
        )
    return text


def stored_token(path: Path, name: str = "owner", scope: Scope = "control") -> Token:
    """The token in the file; a new one if the file does not exist. Raises `UsageError`, OSError."""
    if path.exists():
        return _as_token(read_token(path), f"the token file {path}", name, scope)
    token = Token.random(name, scope)
    write_token(path, token)
    return token


def token_from_environment() -> Token | None:
    """The token in TRIO_JOBS_TOKEN, if it is set. Raises `UsageError`."""
    secret = os.environ.get(VARIABLE)
    return _as_token(secret, VARIABLE, "owner", "control") if secret else None


def _as_token(secret: str, where: str, name: str, scope: Scope) -> Token:
    try:
        return Token(secret, name, scope)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def find_token(given: Path | None, port: int) -> str | None:
    """The secret from --token-file, from TRIO_JOBS_TOKEN or from the file of `serve`; None if there is none."""
    if given is not None:
        return read_token(given)
    if os.environ.get(VARIABLE):
        return os.environ[VARIABLE]
    path = default_path(port)
    return read_token(path) if path.exists() else None
