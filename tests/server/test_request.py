"""The HTTP head: what an honest client sends is taken, anything else is refused before a library sees it."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import Request

from support.server import KEY, OWNER, handshake
from trio_jobs._server.request import BadRequest, parse, replay

HOSTS = frozenset({"localhost", "jobs.example"})


def refused(raw: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        replay(parse(raw, HOSTS))
    return caught.value


def test_a_plain_handshake_is_accepted_and_rebuilt() -> None:
    made = replay(parse(handshake(Origin="https://x.example", User_Agent="a b"), HOSTS))
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(made)
    (request,) = server.events()
    assert isinstance(request, Request)
    assert (request.target, request.subprotocols, request.extensions) == ("/ws", ["trio-jobs.v1"], [])
    assert b"x.example" not in made


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:7373", "127.0.0.1:1", "[::1]:7373", "jobs.example", "192.0.2.7"]
)
def test_an_allowed_host_name_or_an_address_is_accepted(host: str) -> None:
    assert parse(handshake(Host=host), HOSTS).get("host") == host


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"GET /ws HTTP/1.0\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /ws HTTP/1.1\nHost: localhost\r\n\r\n", 400),
        (b"GET  /ws HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://localhost/ws HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /w\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"get /ws HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00 HTTP/1.1\r\n\r\n", 400),
        (handshake(Sec_WebSocket_Protocol="trio-jobs.v1, caf\xe9"), 400),
        (handshake(Sec_WebSocket_Extensions="\xe9"), 400),
        (handshake(Host="jobs.ex\xe4mple"), 400),
        (handshake(X_A="a\x00b"), 400),
        (handshake(X_A="a\r\n b"), 400),
        (handshake(X_A="a\nb"), 400),
        (handshake(X_A="a\rb"), 400),
        (handshake(X_A="a\r\nHost: localhost"), 400),
        (handshake(X_A="a\r\nsec-websocket-KEY: b"), 400),
        (handshake(X_A="a\r\nbroken"), 400),
        (handshake(X_A="a\r\nspace : b"), 400),
        (handshake(Transfer_Encoding="chunked"), 400),
        (handshake(Content_Length="5"), 400),
        (handshake(OWNER, **{f"X-{i}": "a" for i in range(70)}), 431),
        (handshake(Host=None), 400),
        (handshake(Host=""), 400),
        (handshake(Host="a b"), 400),
        (handshake(Host="evil.example"), 421),
        (handshake(Host="localhost.evil.example:7373"), 421),
        (handshake(Host="xn--" + "a" * 70), 421),
        (handshake(Connection="close"), 400),
        (handshake(Connection=None), 400),
        (handshake(Upgrade="h2c"), 400),
        (handshake(Upgrade=None), 400),
        (handshake(Sec_WebSocket_Version="8"), 426),
        (handshake(Sec_WebSocket_Version=None), 426),
        (handshake(Sec_WebSocket_Key=None), 400),
        (handshake(Sec_WebSocket_Key="short"), 400),
        (handshake(Sec_WebSocket_Key="!" * 24), 400),
        (handshake(Sec_WebSocket_Protocol=None), 400),
        (handshake(Sec_WebSocket_Protocol="trio-jobs.v2"), 400),
        (handshake().replace(b"GET", b"POST"), 405),
        (handshake().replace(b"/ws", b"/"), 404),
        (handshake().replace(b"/ws", b"/ws?token=x"), 400),
    ],
)
def test_a_head_that_no_honest_client_sends_is_refused(raw: bytes, status: int) -> None:
    assert refused(raw).status == status


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_are_a_head_that_h11_reads(noise: bytes) -> None:
    raw = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + noise.replace(b"\r\n\r\n", b"") + b"\r\n\r\n"
    try:
        head = parse(raw, HOSTS)
    except BadRequest as bad:
        assert 400 <= bad.status < 500
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head.raw)
    assert isinstance(connection.next_event(), h11.Request)


@given(st.dictionaries(st.sampled_from(["Host", "Upgrade", "Origin", "Sec-WebSocket-Key", "Connection"]), st.text()))
def test_every_accepted_head_is_a_handshake_for_wsproto(changes: dict[str, str]) -> None:
    try:
        made = replay(
            parse(handshake(OWNER, **{k: v.encode("utf-8").decode("latin-1") for k, v in changes.items()}), HOSTS)
        )
    except BadRequest:
        return
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(made)
    assert isinstance(next(server.events()), Request)
    assert KEY.encode() in made or "Sec-WebSocket-Key" in changes
