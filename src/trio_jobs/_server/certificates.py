"""The TLS certificate of a server, read again when its files change.

Certificates are renewed every few weeks while the server runs. The files are looked at when a connection is accepted,
at most once a second: no thread watches them, and a server that nobody connects to needs no new certificate. What is
compared is the identity of a file, its size and its times, behind all symbolic links, since certbot and Kubernetes
replace links. If the new files cannot be used, the last good certificate stays in use, and the files are tried again.
"""

from __future__ import annotations

import ssl
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, final

import attrs
import trio

from trio_jobs._errors import UsageError
from trio_jobs._log import Log
from trio_jobs._server import x509

__all__ = ["Certificate", "CertificateFiles", "load"]

log: Final = Log("trio_jobs.server")

CHECK_INTERVAL: Final = 1.0  #: seconds between two looks at the files
WARNING_INTERVAL: Final = 86_400.0  #: seconds between two warnings about the same date
EXPIRES_SOON: Final = timedelta(days=14)  #: certbot renews 30 days before the end
MAX_SIZE: Final = 1024 * 1024  #: bytes of a file, against the path of something else

_Signature = tuple[tuple[int, ...], ...]
_State = Literal["valid", "not yet valid", "expires soon", "expired"]


@final
@attrs.frozen
class CertificateFiles:
    """The files of a TLS certificate, for `serve(tls=...)`. The server reads them again when they change."""

    certificate: Path = attrs.field(converter=Path)
    """The file with the certificate and the intermediate certificates, in PEM."""
    key: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    """The file with the private key, in PEM and not encrypted; None if it is in the same file."""


@attrs.frozen
class Loaded:
    """A certificate that OpenSSL has accepted."""

    context: ssl.SSLContext
    """The context for new connections."""
    not_before: datetime | None
    """When the certificate begins to be valid; None if this could not be read."""
    not_after: datetime | None
    """When the first certificate of the chain expires; None if this could not be read."""


def load(files: CertificateFiles) -> Loaded:
    """Read a certificate and its key.

    Raises:
        UsageError: They cannot be used; the message names the file.
    """
    certificate, key = files.certificate, files.key or files.certificate
    pem = _read(certificate, "certificate")
    secret = pem if files.key is None else _read(key, "private key")
    if b"-----BEGIN" not in pem or b"CERTIFICATE-----" not in pem:
        raise UsageError(f"{certificate} contains no certificate in PEM")
    if b"PRIVATE KEY-----" not in secret:
        more = "; name the file with its key too (--tls-key, or key=...)" if files.key is None else " in PEM"
        raise UsageError(f"{key} contains no private key{more}")
    if b"ENCRYPTED" in secret:
        raise UsageError(f"the private key in {key} is encrypted; write it without a passphrase, with openssl pkey")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, files.key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(f"the private key in {key} does not belong to the certificate in {certificate}") from None
        both = f"{certificate}" if files.key is None else f"{certificate} or its private key {key}"
        raise UsageError(f"the certificate {both} cannot be used: {error.reason or error}") from None
    except OSError as error:
        raise UsageError(f"the certificate {certificate} cannot be read: {error.strerror or error}") from None
    return Loaded(context, *_validity(pem))


def _read(path: Path, what: str) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"the {what} {path} is not a file")
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"the {what} {path} cannot be read: {reason or error}") from None
    if len(data) > MAX_SIZE:
        raise UsageError(f"the {what} {path} has more than {MAX_SIZE} bytes")
    return data


def _no_password() -> str:
    """Without it, OpenSSL would ask for one at the terminal and wait."""
    return ""


def _validity(pem: bytes) -> tuple[datetime | None, datetime | None]:
    """From when the first certificate is valid, and until when all of them are."""
    try:
        dates = [x509.validity(der) for der in x509.certificates(pem)]
        return dates[0][0], min(not_after for _, not_after in dates)
    except (ValueError, IndexError):
        return None, None


@final
class Certificate:
    """The certificate of a running server.

    Args:
        files: The files.
        now: The wall clock, in seconds since 1970.

    Raises:
        UsageError: The files cannot be used.
    """

    def __init__(self, files: CertificateFiles, now: Callable[[], float]) -> None:
        self._files = files
        self._now = now
        self._signature = self._look()
        self._loaded = load(files)
        self._checked_at = trio.current_time()
        self._problem = ""
        self._warned: _State = "valid"
        self._warned_at = 0.0
        self._warn()

    @property
    def not_after(self) -> datetime | None:
        """When the certificate in use expires; None if this could not be read."""
        return self._loaded.not_after

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection, with the certificate that the files have now."""
        now = trio.current_time()
        if now - self._checked_at >= CHECK_INTERVAL:
            self._checked_at = now
            self._check()
            self._warn()
        return self._loaded.context

    def _look(self) -> _Signature:
        """What differs when a file is replaced or rewritten."""
        return tuple(_identity(path) for path in (self._files.certificate, self._files.key) if path is not None)

    def _check(self) -> None:
        signature = self._look()
        if signature == self._signature and not self._problem:
            return
        self._signature = signature
        try:
            self._loaded = load(self._files)
        except UsageError as error:
            if str(error) != self._problem:  # once, although the files are tried again at each check
                log.error("the certificate has changed and cannot be used, the previous one stays in use: %s", error)
            self._problem = str(error)
        else:
            self._problem, self._warned = "", "valid"
            log.info("the certificate %s was read again; %s", self._files.certificate, _until(self._loaded.not_after))

    def _warn(self) -> None:
        """Warn about a certificate that clients refuse, or will refuse soon: at once, and once a day."""
        state, why = self._state()
        now = trio.current_time()
        if state != "valid" and (state != self._warned or now - self._warned_at >= WARNING_INTERVAL):
            self._warned_at = now
            log.warning("the certificate %s %s", self._files.certificate, why)
        self._warned = state

    def _state(self) -> tuple[_State, str]:
        """Whether clients accept the certificate, and the reason why they do not."""
        start, end = self._loaded.not_before, self._loaded.not_after
        if start is None or end is None:
            return "valid", ""
        now = self._now()
        left = end.timestamp() - now
        if left <= 0:
            return "expired", f"expired at {_shown(end)}, and clients refuse it"
        if now < start.timestamp():
            return "not yet valid", f"is not valid before {_shown(start)}, and clients refuse it"
        # a certificate for six days is renewed later than one for ninety
        if left < min(EXPIRES_SOON, (end - start) / 5).total_seconds():
            return "expires soon", f"expires at {_shown(end)}, and has not been renewed"
        return "valid", ""


def _identity(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _until(not_after: datetime | None) -> str:
    return "its dates are not known" if not_after is None else f"it is valid until {_shown(not_after)}"


def _shown(date: datetime) -> str:
    return f"{date.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
