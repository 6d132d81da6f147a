"""The file that contains the token. Only its owner can read it; a command-line argument would be visible to others.

A client that was connected to a server connects to the next one with the same token. So a token outlives the process
that created it: an existing file is read, and a missing file is created.
"""

from __future__ import annotations

import codecs
import os
import secrets
import stat
import sys
from pathlib import Path

from trio_jobs._cli.arguments import VARIABLE
from trio_jobs._errors import UsageError
from trio_jobs._server.tokens import Token
from trio_jobs._wire.codes import Scope

__all__ = [
    "decode_text",
    "default_path",
    "find_token",
    "path_beside",
    "places",
    "read_token",
    "record_token",
    "recorded_token",
    "stored_token",
    "token_from_environment",
    "write_token",
]


def default_path(port: int) -> Path:
    """The file in the runtime directory of the user, named by the port of the server.

    Raises:
        UsageError: The user has no such directory.
    """
    base = _runtime_directory()
    if base is None:
        raise UsageError("this user has no home directory and no runtime directory")
    return base / "trio-jobs" / f"token-{port}"


def record_token(port: int, token: Token) -> Path:
    """Write the secret where the other commands look for it, and return that file.

    Raises:
        UsageError: That is not possible.
    """
    path = default_path(port)
    try:
        write_token(path, token)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    return path


def recorded_token(port: int) -> Token | None:
    """The token that a server on this port has recorded; None without one. Raises `UsageError`."""
    try:
        path = default_path(port)
    except UsageError:
        return None
    return read_token(path) if path.exists() else None


def _runtime_directory() -> Path | None:
    """A directory for files of this user; None for a user without a home, as in some containers.

    Variables that are empty, or name a relative path, count as not set.
    """
    if sys.platform == "win32":
        candidates = [os.environ.get("LOCALAPPDATA"), _home()]
    else:
        home = _home()
        candidates = [os.environ.get("XDG_RUNTIME_DIR"), home and str(Path(home, ".cache"))]
    return next((Path(path) for path in candidates if path and Path(path).is_absolute()), None)


def _home() -> str | None:
    if os.environ.get("HOME") == "":  # pathlib makes it the root directory
        return None
    try:
        home = str(Path.home())
    except (RuntimeError, KeyError):  # no HOME, and no entry in the list of users
        return None
    return home if Path(home).is_absolute() else None


def path_beside(journal: Path) -> Path:
    """The file beside the journal, for all servers of that journal."""
    return journal.with_name(f"{journal.name}-token")


def write_token(path: Path, token: Token) -> None:
    """Write the secret to a file of mode 0600; an existing file is replaced. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # a name by chance: in a container, the process id is that of the process that was killed here before
    new = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            os.write(handle, token.secret.encode() + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def decode_text(data: bytes) -> str:
    """Decode a text that a person may have written with any editor: UTF-8, or UTF-16, with a byte order mark or not.

    Raises:
        UnicodeDecodeError: It is neither.
    """
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if is_utf16 else "utf-8-sig")


def _read(path: Path) -> str:
    """The text of the file, without white space around it.

    Raises:
        FileNotFoundError: It does not exist.
        UsageError: It cannot be read, or other users can read it.
    """
    try:
        mode = path.stat().st_mode
        text = decode_text(path.read_bytes()).strip()
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is neither UTF-8 nor UTF-16"
        raise UsageError(f"the token file {path} cannot be read: {why}") from None
    if sys.platform != "win32" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(
            f"other users can read the token file {path}: remove it, so that serve creates a new token, or chmod 600 it"
        )
    return text


def read_token(path: Path, name: str = "owner", scope: Scope = "control") -> Token:
    """The token in the file. Raises `UsageError` if it cannot be read or is not valid, or other users can read it."""
    try:
        text = _read(path)
    except FileNotFoundError as error:
        raise UsageError(f"the token file {path} cannot be read: {error.strerror}") from None
    return _as_token(text, f"the token file {path}", name, scope)


def stored_token(path: Path, name: str = "owner", scope: Scope = "control") -> Token:
    """The token in the file; a new one if the file does not exist. Raises `UsageError`, OSError."""
    try:
        text = _read(path)
    except FileNotFoundError:
        token = Token.random(name, scope)
        write_token(path, token)
        return token
    return _as_token(text, f"the token file {path}", name, scope)


def token_from_environment() -> Token | None:
    """The token in TRIO_JOBS_TOKEN, if it is set. Raises `UsageError`."""
    secret = os.environ.get(VARIABLE, "").lstrip("\ufeff").strip()
    return _as_token(secret, VARIABLE, "owner", "control") if secret else None


def _as_token(secret: str, where: str, name: str, scope: Scope) -> Token:
    try:
        return Token(secret, name, scope)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def places(port: int) -> str:
    """Where `find_token` looks if no file is given, in words."""
    try:
        return f"TRIO_JOBS_TOKEN and in {default_path(port)}"
    except UsageError as error:
        return f"TRIO_JOBS_TOKEN, and {error}"


def find_token(given: Path | None, port: int) -> str | None:
    """The secret from --token-file, from TRIO_JOBS_TOKEN or from the file of `serve`; None if there is none.

    Raises:
        UsageError: It cannot be read, or is not valid.
    """
    if given is not None:
        return read_token(given).secret
    token = token_from_environment()
    if token is not None:
        return token.secret
    token = recorded_token(port)
    return None if token is None else token.secret
