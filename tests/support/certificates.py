"""Certificates of localhost, made by openssl."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from support import processes

__all__ = ["make_certificate"]

_AUTHORITY: Final = """
[ca]
default_ca = own
[own]
dir = {folder}
new_certs_dir = {folder}
database = {folder}/index
serial = {folder}/serial
default_md = sha256
policy = any
x509_extensions = names
unique_subject = no
[any]
commonName = supplied
[names]
subjectAltName = DNS:localhost,IP:127.0.0.1
"""


def make_certificate(
    folder: Path, start: datetime | None = None, end: datetime | None = None, *, name: str = "own"
) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key. Skips the test without openssl.

    Args:
        folder: The folder for both files, which is made.
        start, end: From and until when it is valid; by default two days from now on.
        name: The beginning of the files' names.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with; on Debian: apt-get install openssl")
    folder.mkdir(exist_ok=True)
    cert, key, request = folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}.csr"
    new = [openssl, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    new += ["-subj", "/CN=localhost", "-keyout", str(key)]
    if end is None:
        names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        processes.run([*new, "-x509", "-days", "2", *names, "-out", cert], check=True)
        return cert, key
    start = start or end - timedelta(days=90)
    (folder / "ca.cnf").write_text(_AUTHORITY.format(folder=folder))
    (folder / "index").write_text("")
    (folder / "serial").write_text("01")
    processes.run([*new, "-out", request], check=True)
    sign = [openssl, "ca", "-selfsign", "-batch", "-notext", "-config", folder / "ca.cnf", "-keyfile", key]
    dates = ["-startdate", f"{start:%Y%m%d%H%M%SZ}", "-enddate", f"{end:%Y%m%d%H%M%SZ}"]
    processes.run([*map(str, sign), *dates, "-in", str(request), "-out", str(cert)], check=True)
    return cert, key
