"""The file of named tokens: who may use a server, without the secrets.

`trio-jobs token` writes the file, and a running server reads it again when it changes. It has the SHA-256 of each
secret: secrets are random, so nobody finds one by its digest. It is JSON, so that a file of which only a part is
written cannot be read.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from trio_jobs._engine.bounds import Bounds
from trio_jobs._errors import UsageError
from trio_jobs._log import Log
from trio_jobs._server.known_token import KnownToken
from trio_jobs._server.tokens import check_name
from trio_jobs._wire.codes import Scope
from trio_jobs._wire.params import Kind
from trio_jobs._wire.schemas import Labels

__all__ = ["NamedToken", "NamedTokens", "read_tokens", "write_tokens"]

log: Final = Log("trio_jobs.server")

MAX_TOKENS: Final = 1000  #: tokens of a file: each is compared with what a client presents, which takes a microsecond
MAX_SIZE: Final = 4 * 1024 * 1024  #: bytes of a file
VERSION: Final = 1


class NamedToken(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A token in the file."""

    name: str
    scope: Scope
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    kinds: Annotated[list[Kind], Meta(min_length=1, max_length=100)] | None = None
    labels: Labels | None = None
    created_at: Annotated[float, Meta(ge=0, le=253402300799)] | None = None

    def known(self) -> KnownToken:
        """The token as a server keeps it."""
        bounds = Bounds(self.kinds, self.labels or {})
        return KnownToken(bytes.fromhex(self.sha256), self.name, self.scope, bounds)


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    version: Annotated[int, Meta(ge=1)]
    tokens: Annotated[list[NamedToken], Meta(max_length=MAX_TOKENS)]


class _Version(Struct, frozen=True):
    version: int


_decode: Final = msgspec.json.Decoder(_File).decode


def read_tokens(path: Path) -> list[NamedToken]:
    """Read the file.

    Raises:
        FileNotFoundError: It does not exist.
        UsageError: It cannot be read or is not complete, other users can read it, or a name or a secret occurs twice.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"the file of tokens {path} is not a file")
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_SIZE + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"the file of tokens {path} cannot be read: {why}") from None
    if sys.platform != "win32" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"other users can read or change the file of tokens {path}: chmod 600 it")
    if len(data) > MAX_SIZE:
        raise UsageError(f"the file of tokens {path} has more than {MAX_SIZE} bytes")
    try:
        found = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the file of tokens {path} is not valid or not complete: {_newer(data) or error}") from None
    if found.version != VERSION:
        raise UsageError(f"the file of tokens {path} is not valid: {_newer(data)}")
    _check(found.tokens, path)
    return found.tokens


def _newer(data: bytes) -> str:
    """What is wrong with a file of a later version; empty for another one."""
    try:
        version = msgspec.json.decode(data, type=_Version).version
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return "" if version <= VERSION else f"it is of version {version}; this trio-jobs reads version {VERSION}"


def _check(tokens: Iterable[NamedToken], path: Path) -> None:
    """Raise `UsageError` if a name is not valid, or a name or a secret occurs twice."""
    names: set[str] = set()
    digests: set[str] = set()
    for token in tokens:
        try:
            check_name(token.name)
        except UsageError as error:
            raise UsageError(f"the file of tokens {path}: {error}") from None
        if token.name in names:
            raise UsageError(f"the file of tokens {path} has the name {token.name!r} twice: remove one of them")
        if token.sha256 in digests:
            raise UsageError(f"the file of tokens {path} has the secret of {token.name!r} twice: remove one of them")
        names.add(token.name)
        digests.add(token.sha256)


def write_tokens(path: Path, tokens: list[NamedToken]) -> None:
    """Replace the file, with mode 0600: a reader finds either all of it or the previous one. Raises OSError."""
    data = msgspec.json.format(msgspec.json.encode(_File(VERSION, tokens)), indent=1) + b"\n"
    new = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


class NamedTokens:
    """The file of a running server.

    Args:
        path: The file. While it does not exist, there are no named tokens.
        reserved: Names that the file must not have, since the server has tokens of these names.

    Raises:
        UsageError: The file cannot be used.
    """

    def __init__(self, path: Path, reserved: Iterable[str] = ()) -> None:
        self.path = path
        self._reserved = frozenset(reserved)
        self._signature = self._look()
        self._problem = ""
        self.tokens: list[KnownToken] = self._read()
        """The tokens of the last valid file."""

    def refresh(self) -> bool:
        """Read the file again if it has changed.

        A file that is not valid is reported once, and the tokens of the last valid one stay in use. If the file is
        gone, so are its tokens.

        Returns:
            Whether the tokens have changed.
        """
        signature = self._look()
        if signature == self._signature:
            return False
        before, self._signature = self.tokens, signature
        try:
            self.tokens = self._read()
        except UsageError as error:
            if str(error) != self._problem:
                log.error("the tokens have changed and cannot be used, the previous ones stay in use: %s", error)
            self._problem = str(error)
            return False
        self._problem = ""
        if not signature:
            log.warning("the file of tokens %s is gone, and so are its tokens", self.path)
        elif self.tokens != before:
            log.info("the file of tokens %s was read again; it has %s tokens", self.path, len(self.tokens))
        return self.tokens != before

    def _read(self) -> list[KnownToken]:
        try:
            found = read_tokens(self.path)
        except FileNotFoundError:
            return []
        for token in found:
            if token.name in self._reserved:
                raise UsageError(
                    f"the file of tokens {self.path} has the name {token.name!r}, which is that of a token of the "
                    "server: choose another name"
                )
        return [token.known() for token in found]

    def _look(self) -> tuple[int, ...]:
        """What differs when the file is replaced or rewritten; empty if it does not exist."""
        try:
            found = self.path.stat()
        except (OSError, ValueError):
            return ()
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode)
