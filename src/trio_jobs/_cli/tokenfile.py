"""Where the token is kept: a file that only its owner can read, never an argument that every process can see."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from trio_jobs._errors import UsageError
from trio_jobs._server.tokens import Token

__all__ = ["default_path", "find_token", "read_token", "write_token"]

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


def write_token(path: Path, token: Token) -> None:
    """Write the secret to a new file of mode 0600, in place of the one that is there. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, token.secret.encode() + b"\n")
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
        raise UsageError(f"others can read the token file {path}: chmod 600 it, and make a new token")
    return text


def find_token(given: Path | None, port: int) -> str | None:
    """From --token-file, from TRIO_JOBS_TOKEN, or from where `serve` has written it; None if there is none."""
    if given is not None:
        return read_token(given)
    if os.environ.get(VARIABLE):
        return os.environ[VARIABLE]
    path = default_path(port)
    return read_token(path) if path.exists() else None
