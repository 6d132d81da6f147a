"""Heads of requests that two readers of HTTP could read in two ways, for tests that compare readers."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

__all__ = ["HEADS", "body_of", "crlf"]


def crlf(*lines: str) -> bytes:
    """A head of these lines."""
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def body_of(length: int | None) -> bytes:
    """A body of that length, or a chunked one."""
    return b"3\r\nabc\r\n0\r\n\r\n" if length is None else b"x" * length


_NAMES: Final = ["Content-Length", "content-length", "Transfer-Encoding", "TRANSFER-ENCODING", "Connection", "X"]
_VALUES: Final = ["5", "05", "5, 5", "5 5", "+5", "-5", "0x5", "5.", "\xb2", "0", "", "chunked", "Chunked", "chunked,",
                  "gzip, chunked", "chunked, identity", "identity", "chunked;q=1", "\x0bchunked", "close", "keep-alive",
                  "Upgrade", "\xff", "a\tb", "a\x7f"]  # fmt: skip
_SEPARATORS: Final = [": ", ":", " : ", "\t:", ":\t", ":  ", ":\x0b", " ", ":\x00"]
_ENDS: Final = ["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n", "\r\n ", "\r\n\t", " \r\n", "\x00\r\n"]
_HOSTS: Final = ["Host: localhost\r\n"] * 6 + ["", "Host: localhost\r\nHost: localhost\r\n", "Host: a, localhost\r\n"]
_LINES: Final = [
    "{} /healthz HTTP/1.1", "{} /healthz?a=b HTTP/1.1", "{} http://localhost/healthz HTTP/1.1", "{} /healthz HTTP/1.0",
    "{} /healthz#x HTTP/1.1", "{}  /healthz HTTP/1.1", "{} /healthz HTTP/1.1 ", "{} /heal thz HTTP/1.1",
    "{} /healthz HTTP/01.1", "{} * HTTP/1.1", "\r\n{} /healthz HTTP/1.1", "{} //localhost/healthz HTTP/1.1",
]  # fmt: skip

_usual: Final = st.tuples(st.sampled_from(_NAMES[:4]), st.just(": "), st.sampled_from(_VALUES), st.just("\r\n"))
_harmless: Final = st.tuples(
    st.sampled_from(["X", "Connection", "Cookie"]),
    st.sampled_from([": ", ":", ":\t"]),
    st.sampled_from(["close", "keep-alive", "\xff", "a\tb", ""]),
    st.just("\r\n"),
)
_odd: Final = st.tuples(
    st.sampled_from(_NAMES), st.sampled_from(_SEPARATORS), st.sampled_from(_VALUES), st.sampled_from(_ENDS)
)
_framing: Final = st.sampled_from([[], ["Content-Length: 5\r\n"], ["Transfer-Encoding: chunked\r\n"]])


def _build(line: str, method: str, host: str, framing: list[str], fields: list[tuple[str, ...]]) -> bytes:
    head = line.format(method) + "\r\n" + host + "".join(framing) + "".join("".join(field) for field in fields)
    head, _, _ = head.partition("\r\n\r\n")  # a head ends at its first empty line
    head = head.removesuffix("\r\n")
    return f"{head}\r\n\r\n".encode("latin-1")


#: Heads that end with an empty line and have none before it. Most have only one or two oddities.
HEADS: Final = st.builds(
    _build,
    st.one_of(st.sampled_from(_LINES[:4]), st.sampled_from(_LINES)),
    st.sampled_from(["GET", "POST", "HEAD"]),
    st.sampled_from(_HOSTS),
    _framing,
    st.lists(st.one_of(_harmless, _harmless, _usual, _odd), max_size=3),
)
