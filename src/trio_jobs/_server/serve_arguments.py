"""The checks of what `serve` is given."""

from __future__ import annotations

import ssl
from collections.abc import Collection
from os import PathLike

from trio_jobs._errors import UsageError
from trio_jobs._server.certificates import CertificateFiles
from trio_jobs._server.listener import is_loopback
from trio_jobs._server.tokens import Token

__all__ = ["check_arguments"]


def check_arguments(
    host: str,
    tokens: Collection[Token] | None,
    token_file: str | PathLike[str] | None,
    tls: ssl.SSLContext | CertificateFiles | None,
    *,
    insecure: bool,
) -> None:
    """Raises `UsageError` if the arguments do not fit each other. Arguments: as of `serve`."""
    if isinstance(tokens, Token | str):
        raise UsageError("tokens must be a list of Token, or None to accept every client")
    if not isinstance(tls, ssl.SSLContext | CertificateFiles | None):
        raise UsageError(f"tls must be CertificateFiles or an ssl.SSLContext, not {type(tls).__name__}")
    if isinstance(tls, ssl.SSLContext) and tls.protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise UsageError(
            "tls is a TLS context for clients; make it with ssl.Purpose.CLIENT_AUTH, or give CertificateFiles"
        )
    if not is_loopback(host):
        if tls is None and not insecure:
            raise UsageError(
                f"{host!r} is not a loopback address: give tls=... (--tls-cert), or allow plain text with "
                "insecure=True (--insecure)"
            )
        if tokens is None:
            raise UsageError(f"{host!r} is not a loopback address: without tokens every client could control the queue")
    if tokens is None and token_file is not None:
        raise UsageError("token_file needs tokens; without tokens every client is accepted")
    if tokens is not None and not tokens and token_file is None:
        raise UsageError("tokens is empty, so no client could connect; give tokens=None to accept every client")
