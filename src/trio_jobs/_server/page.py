"""The web page: static files of the package, at `/` and below `/page/`.

The files are read, hashed and compressed once, at their first request. Each has an ETag, and a browser asks for it each
time it loads the page (`no-cache`), so that after an update of the server no file of the old version is used. The build
number is a hash of all files: the page contains it, and `page/build.json` has that of the server, so that a page that
is open during an update recognises it.

Job data is foreign, so the page is the part of the server that an attacker can hope for. The Content Security Policy
allows no inline script and no style in the markup, no other origin, and, by Trusted Types, no markup from text: the
page builds its elements one by one.

`page/protocol.js` is made from the tables of methods and of transitions, so that the page offers what the server has,
and draws the states as they are.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

import msgspec

from trio_jobs._engine.states import FINAL, State
from trio_jobs._engine.transitions import TABLE
from trio_jobs._wire.codes import BEARER, PROTOCOL
from trio_jobs._wire.methods import METHODS

__all__ = ["HEADERS", "PageResponse", "page_files", "page_response"]

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
}
_BUILD_MARK: Final = b"BUILD-OF-THE-PAGE"
_PATH: Final = re.compile(r"/(?:page/([a-z0-9_]{1,40}\.(?:css|js|json|svg)))?")
_GZIP: Final = re.compile(r"(?:x-)?gzip|\*")
_ZERO: Final = re.compile(r"q=0(?:\.0{0,3})?")

HEADERS: Final = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-cache"),
    ("Vary", "Accept-Encoding"),
)
"""The headers of every file, beside Content-Type and ETag."""


class PageResponse(NamedTuple):
    """The response to a request for a file of the page."""

    status: int
    """200, or 304 if the client has the file."""
    content_type: str
    """The value of header Content-Type."""
    body: bytes
    """The content, compressed if header Content-Encoding says so; empty with 304."""
    headers: tuple[tuple[str, str], ...]
    """The other headers, without Content-Length."""


class _File(NamedTuple):
    content_type: str
    content: bytes
    compressed: bytes
    tag: str


def page_response(
    path: str, *, if_none_match: str | None = None, accept_encoding: str | None = None
) -> PageResponse | None:
    """Return the response to a GET request for a file of the page; None if the page has no such file.

    Args:
        path: The path of the request, without query.
        if_none_match: The header with the ETags that the client has; None without it.
        accept_encoding: The header with the codings that the client understands; None without it.
    """
    found = _PATH.fullmatch(path)
    file = None if found is None else page_files().get(found[1] or "index.html")
    if file is None:
        return None
    compress = len(file.compressed) < len(file.content) and _accepts_gzip(accept_encoding)
    tag = f'"{file.tag}-gzip"' if compress else f'"{file.tag}"'  # a compressed file is another sequence of bytes
    headers = (("ETag", tag), *HEADERS)
    if if_none_match is not None and _has_tag(if_none_match, tag):
        return PageResponse(304, file.content_type, b"", headers)
    if compress:
        return PageResponse(200, file.content_type, file.compressed, (*headers, ("Content-Encoding", "gzip")))
    return PageResponse(200, file.content_type, file.content, headers)


@cache
def page_files() -> dict[str, _File]:
    """The files of the page by their names, with the generated ones."""
    folder = files("trio_jobs").joinpath("_page")
    contents = {
        file.name: file.read_bytes()
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.is_file() and file.name.rpartition(".")[2] in _TYPES
    }
    contents["protocol.js"] = _protocol()
    whole = hashlib.sha256()
    for name, content in contents.items():
        whole.update(b"%d %s %d " % (len(name), name.encode(), len(content)))
        whole.update(content)
    build = whole.hexdigest()[:16].encode()
    contents["index.html"] = contents["index.html"].replace(_BUILD_MARK, build)
    contents["build.json"] = b'{"build": "%s"}\n' % build
    return {
        name: _File(
            _TYPES[name.rpartition(".")[2]],
            content,
            gzip.compress(content, 9, mtime=0),
            hashlib.sha256(content).hexdigest()[:32],
        )
        for name, content in contents.items()
    }


def _protocol() -> bytes:
    """The script module with what the page knows of the protocol and of the states."""
    methods = {
        row.name: {"scope": row.scope, "params": [field.encode_name for field in msgspec.structs.fields(row.params)]}
        for row in METHODS.values()
    }
    moves = [[row.before, row.event.__struct_config__.tag, row.after, row.guard, row.reason] for row in TABLE]
    values = {
        "PROTOCOL": PROTOCOL,
        "BEARER": BEARER,
        "METHODS": methods,
        "STATES": [*State],
        "FINAL": [state for state in State if state in FINAL],
        "MOVES": moves,
    }
    return b"".join(
        b"export const %s = %s;\n" % (name.encode(), msgspec.json.encode(value)) for name, value in values.items()
    )


def _accepts_gzip(accept_encoding: str | None) -> bool:
    """Whether a client understands gzip (RFC 9110, section 12.5.3). The weights beside 0 are not compared."""
    for element in (accept_encoding or "").split(","):
        coding, *parameters = (part.strip().lower() for part in element.split(";"))
        if _GZIP.fullmatch(coding) and not any(_ZERO.fullmatch(parameter) for parameter in parameters):
            return True
    return False


def _has_tag(if_none_match: str, tag: str) -> bool:
    """Whether a list of ETags has `tag`, in the weak comparison (RFC 9110, section 13.1.2)."""
    if if_none_match.strip() == "*":
        return True
    return any(given.strip().removeprefix("W/") == tag for given in if_none_match.split(","))
