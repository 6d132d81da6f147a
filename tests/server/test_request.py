"""The HTTP head: what clients and proxies send is accepted, what readers could read in two ways is refused."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import h11
import pytest
from heads import HEADS, body_of, crlf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import Request

from support.server import KEY, OWNER, handshake
from trio_jobs import UsageError
from trio_jobs._server.refusals import Reason
from trio_jobs._server.request import (
    BadRequest,
    HeadBuffer,
    RequestHead,
    check_host_names,
    check_hosts,
    replay,
)
from trio_jobs._server.request import parse as parse_head
from trio_jobs._server.request import wants_websocket as wants

HOSTS = frozenset({"localhost", "jobs.example"})
LIMIT = 32 * 1024


def parse(raw: bytes, hosts: Collection[str]) -> RequestHead:
    head = parse_head(raw)
    check_hosts(head, hosts)
    return head


def refused(raw: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        replay(parse(raw, HOSTS))
    return caught.value


def get(*headers: str, target: str = "/healthz", version: str = "1.1") -> RequestHead:
    """A plain request. A header can have any character up to U+00FF, which is a byte."""
    host = [] if version == "1.0" else ["Host: localhost"]
    return parse(crlf(f"GET {target} HTTP/{version}", *host, *headers), HOSTS)


def test_a_plain_handshake_is_accepted_and_rebuilt() -> None:
    made = replay(parse(handshake(Origin="https://x.example", User_Agent="a b"), HOSTS))
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(made)
    (request,) = server.events()
    assert isinstance(request, Request)
    assert (request.target, request.subprotocols, request.extensions) == ("/ws", ["trio-jobs.v1"], [])
    assert b"x.example" not in made


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:7373", "127.0.0.1:1", "[::1]:7373", "jobs.example", "jobs.example:", "192.0.2.7"],
)
def test_an_allowed_host_name_or_an_address_is_accepted(host: str) -> None:
    assert parse(handshake(Host=host), HOSTS).get("host") == host


def test_a_host_name_can_have_an_underscore_as_names_of_containers_do() -> None:
    assert parse(handshake(Host="trio_jobs:7373"), {"trio_jobs"}).get("host") == "trio_jobs:7373"


@pytest.mark.parametrize(
    "changes",
    [
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "upgrade", "Upgrade": "WebSocket"},
        {"Upgrade": "h2c, websocket"},
        {"Upgrade": "h2c\r\nUpgrade: websocket"},
        {"Connection": "keep-alive\r\nConnection: Upgrade"},
        {"X_Forwarded_For": "10.0.0.1\r\nX-Forwarded-For: 10.0.0.2"},
        {"Sec_WebSocket_Extensions": "\xe9"},
        {"Remote_Name": "Jos\xc3\xa9"},
        {"Cookie": "theme=gr\xc3\xb6\xc3\x9fe\r\nCookie: a=b"},
        {"X_Empty": ""},
        {"X" * 200: "long"},
        {"Content_Length": "0"},
    ],
)
def test_a_handshake_as_a_proxy_or_browser_sends_it_is_accepted(changes: dict[str, str]) -> None:
    assert replay(parse(handshake(OWNER, **changes), HOSTS)) == replay(parse(handshake(), HOSTS))


def test_subprotocols_on_several_lines_are_one_list() -> None:
    head = parse(handshake(Sec_WebSocket_Protocol="bearer.x , y\r\nsec-websocket-protocol: trio-jobs.v1"), HOSTS)
    assert head.listed("sec-websocket-protocol") == ["bearer.x", "y", "trio-jobs.v1"]
    assert replay(head)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\r\n\r\n", 400),
        (crlf("GET /ws HTTP/1.0"), 426),
        (crlf("POST /ws HTTP/1.0"), 405),
        (crlf("GET /ws HTTP/1.2", "Host: localhost"), 400),
        (b"GET /ws HTTP/1.1\nHost: localhost\r\n\r\n", 400),
        (b"GET  /ws HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (crlf("GET ftp://localhost/ws HTTP/1.1", "Host: localhost"), 400),
        (crlf("GET http://evil.example/ws HTTP/1.1", "Host: localhost"), 421),
        (crlf("GET http://localhost/ws HTTP/1.1", "Host: evil.example"), 421),
        (crlf("GET http://localhost/ws HTTP/1.1"), 400),
        (crlf("GET http://me@localhost/ws HTTP/1.1", "Host: localhost"), 400),
        (crlf("GET http:///ws HTTP/1.1", "Host: localhost"), 400),
        (crlf("GET /ws#part HTTP/1.1", "Host: localhost"), 400),
        (crlf("GET ws HTTP/1.1", "Host: localhost"), 400),
        (crlf("GET /w\xff HTTP/1.1", "Host: localhost"), 400),
        (crlf("get /ws HTTP/1.1", "Host: localhost"), 400),
        (b"\x16\x03\x01\x02\x00 HTTP/1.1\r\n\r\n", 400),
        (handshake(Sec_WebSocket_Protocol="trio-jobs.v1, caf\xe9"), 400),
        (handshake(Host="jobs.ex\xe4mple"), 400),
        (handshake(Origin="https://\xe4"), 400),
        (handshake(X_A="a\x00b"), 400),
        (handshake(X_A="a\x7fb"), 400),
        (handshake(X_A="a\r\n b"), 400),
        (handshake(X_A="a\nb"), 400),
        (handshake(X_A="a\rb"), 400),
        (handshake(X_A="a\r\nHost: localhost"), 400),
        (handshake(X_A="a\r\nHOST: localhost"), 400),
        (handshake(OWNER, X_A=f"a\r\nauthorization: Bearer {OWNER.secret}"), 400),
        (handshake(Origin="https://a.example\r\nOrigin: https://a.example"), 400),
        (handshake(X_A="a\r\nsec-websocket-KEY: b"), 400),
        (handshake(X_A="a\r\nsec-websocket-version: 13"), 400),
        (handshake(X_A="a\r\nbroken"), 400),
        (handshake(X_A="a\r\n: b"), 400),
        (handshake(X_A="a\r\nspace : b"), 400),
        (handshake(X_A="a\r\ntab\t: b"), 400),
        (handshake(X_A="a\r\n\xe9: b"), 400),
        (handshake(Content_Length="0\r\nContent-Length: 0"), 400),
        (handshake(Content_Length="+1"), 400),
        (handshake(Content_Length="1_0"), 400),
        (handshake(Content_Length="0x1"), 400),
        (handshake(Content_Length="1, 1"), 400),
        (handshake(Content_Length="-1"), 400),
        (handshake(Content_Length=""), 400),
        (handshake(Content_Length="1" * 16), 400),
        (handshake(Content_Length="0", Transfer_Encoding="chunked"), 400),
        (handshake(Transfer_Encoding="chunked\r\nTransfer-Encoding: chunked"), 400),
        (handshake(Transfer_Encoding="gzip, chunked"), 400),
        (handshake(Transfer_Encoding="chunked, chunked"), 400),
        (handshake(Transfer_Encoding="identity"), 400),
        (handshake(Transfer_Encoding="xchunked"), 400),
        (handshake(Transfer_Encoding=""), 400),
        (crlf("GET /ws HTTP/1.0", "Transfer-Encoding: chunked"), 400),
        (handshake(OWNER, **{f"X-{i}": "a" for i in range(130)}), 431),
        (handshake(Host=None), 400),
        (handshake(Host=""), 400),
        (handshake(Host="a b"), 400),
        (handshake(Host="localhost:port"), 400),
        (handshake(Host="localhost, localhost"), 400),
        (handshake(Host="evil.example"), 421),
        (handshake(Host="evil-localhost"), 421),
        (handshake(Host="localhost.evil.example:7373"), 421),
        (handshake(Host="xn--" + "a" * 70), 421),
        (crlf("GET /ws HTTP/1.0", "Host: evil.example"), 421),
        (handshake(Connection="close"), 426),
        (handshake(Connection=None), 426),
        (handshake(Upgrade="h2c"), 426),
        (handshake(Upgrade=None), 426),
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
def test_a_head_that_is_malformed_or_ambiguous_is_refused(raw: bytes, status: int) -> None:
    assert refused(raw).status == status


def test_a_refused_host_name_is_answered_with_the_option_that_allows_it() -> None:
    bad = refused(handshake(Host="jobs.example.org:443"))
    assert (bad.status, bad.reason) == (421, Reason.HOST)
    assert "--allow-host jobs.example.org" in bad.why
    assert "serve(hosts=['jobs.example.org'])" in bad.why


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/healthz", "/healthz", ""),
        ("/a?b?c", "/a", "b?c"),
        ("http://127.0.0.1/healthz", "/healthz", ""),
        ("HTTPS://jobs.example:443/healthz?x=1", "/healthz", "x=1"),
        ("http://[::1]", "/", ""),
        ("http://localhost?x", "/", "x"),
        ("//evil.example/healthz", "//evil.example/healthz", ""),
    ],
)
def test_a_target_is_a_path_or_a_url_of_an_allowed_host(target: str, path: str, query: str) -> None:
    head = get(target=target)
    assert (head.path, head.query) == (path, query)


def test_health_checks_in_http_1_0_need_no_host() -> None:
    assert get(version="1.0").minor == 0


def test_an_upgrade_to_another_protocol_or_in_http_1_0_is_ignored() -> None:
    assert not wants(get("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk"))
    assert not wants(get("Upgrade: websocket", "Connection: Upgrade", version="1.0"))
    assert wants(get("Upgrade: websocket", "Connection: Upgrade"))


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        ([], None),
        (["203.0.113.9"], "203.0.113.9"),
        (["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        (["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9:5000"], "203.0.113.9"),
        (["[2001:db8::1]:5000"], "2001:db8::1"),
        (["2001:db8::1"], "2001:db8::1"),
        (["unknown"], None),
        (["fe80::1%a secret"], None),
        (["a secret"], None),
        (["1.1.1.1, \xff"], None),
    ],
)
def test_a_message_names_the_address_that_the_nearest_proxy_has_added(lines: Sequence[str], address: str) -> None:
    assert get(*(f"X-Forwarded-For: {line}" for line in lines)).forwarded_for == address


@pytest.mark.parametrize(
    "name", ["https://jobs.example", "jobs.example:443", "jobs.example/", "", "größe.example", "a b", "a\n", "*"]
)
def test_a_host_name_that_no_request_can_have_is_refused_where_it_is_given(name: str) -> None:
    with pytest.raises(UsageError, match="is not a host name"):
        check_host_names([name])


def test_host_names_are_a_list() -> None:
    assert check_host_names(["Jobs.Example", "trio_jobs", "::1", "[::1]"]) == {"jobs.example", "trio_jobs"}
    with pytest.raises(UsageError, match="must be a list"):
        check_host_names("jobs.example")


# how a head arrives

WILD = st.lists(
    st.one_of(
        st.sampled_from([b"\r\n", b"\r", b"\n", b"\0", b"\r\n\r\n", b" ", b"\t", b":", b"GET /healthz HTTP/1.1"]),
        st.sampled_from([b"Host: localhost", b"X: ", b"GET http://localhost HTTP/1.0", b"Content-Length: 1", b"\xff"]),
        st.binary(max_size=20),
    ),
    max_size=15,
).map(b"".join)


def outcome(pieces: Sequence[bytes], limit: int = 200) -> object:
    """What becomes of a head that arrives in these pieces: its parse, its refusal, or None if it is not complete."""
    buffer = HeadBuffer(limit)
    for at, piece in enumerate(pieces):
        try:
            found = buffer.feed(piece)
            if found is None:
                continue
            head, rest = found
            assert head + rest == b"".join(pieces[: at + 1])
            return parse(head, HOSTS)
        except BadRequest as bad:
            return bad.status, bad.why
    return None


@given(WILD, st.sampled_from([40, 200]))
@example(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 200)
@example(b"GET / HTTP/1.1\nHost: localhost\n\n", 200)
@example(b"GET / HTTP/1.0\r\n\r\n\0", 200)
@example(b"\r\n\r\n", 40)
def test_a_head_has_the_same_answer_however_it_is_divided(raw: bytes, limit: int) -> None:
    whole = outcome([raw], limit)
    assert outcome([raw[i : i + 1] for i in range(len(raw))], limit) == whole
    for at in range(len(raw)):
        assert outcome([raw[:at], raw[at:]], limit) == whole
    if whole is None:
        assert len(raw) < limit


@given(WILD)
def test_any_bytes_are_a_head_or_are_refused_with_a_status_of_the_client(raw: bytes) -> None:
    whole = outcome([raw])
    if isinstance(whole, tuple):
        assert 400 <= whole[0] < 500


def test_a_head_is_at_most_as_long_as_the_limit() -> None:
    for length in (LIMIT, LIMIT + 1):
        raw = crlf("GET / HTTP/1.1", "Host: localhost", "Cookie: ")
        raw = raw[:-4] + b"x" * (length - len(raw)) + b"\r\n\r\n"
        whole = outcome([raw], LIMIT)
        assert isinstance(whole, RequestHead) if length == LIMIT else whole[0] == 431  # type: ignore[index]


def test_a_long_value_of_spaces_is_read_in_linear_time() -> None:
    raw = crlf("GET / HTTP/1.1", "Host: localhost", "X: a" + " " * 30_000 + "b", "Y:" + "\t" * 2000)
    assert isinstance(outcome([raw], 2 * LIMIT), RequestHead)


# the same meaning as other readers: otherwise a proxy could take for a body what this server takes for a request


def h11_reads(raw: bytes, body: bytes) -> tuple[h11.Request, bytes] | None:
    """How h11 reads a head that is followed by `body`, and what is left after the request; None if it refuses it."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw + body)
    request: h11.Request | None = None
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                return request, connection.trailing_data[0]
            elif not isinstance(event, h11.Data):
                raise AssertionError(f"h11 waits for more of the body: {event}")
    except h11.RemoteProtocolError:
        return None


@settings(max_examples=500)
@given(HEADS)
def test_an_accepted_head_means_the_same_to_h11(raw: bytes) -> None:
    try:
        head = parse(raw, HOSTS)
    except BadRequest:
        return
    read = h11_reads(raw, body_of(head.body) + b"GET /mark HTTP/1.1\r\n")
    if read is None:
        return
    request, left = read
    assert left == b"GET /mark HTTP/1.1\r\n"
    assert (request.method.decode(), request.http_version) == (head.method, f"1.{head.minor}".encode())
    assert request.target.decode().endswith(head.path + (f"?{head.query}" if head.query else ""))
    for name, value in head.headers.items():
        lines = [line.decode() for n, line in request.headers if n.decode() == name]
        assert head.listed(name) == [part.strip() for part in ",".join(lines).split(",") if part.strip()], (name, value)


def test_the_generated_heads_reach_both_answers_and_each_kind_of_body() -> None:
    seen: set[object] = set()

    @settings(max_examples=500)
    @given(HEADS)
    def collect(raw: bytes) -> None:
        try:
            seen.add(parse(raw, HOSTS).body)
        except BadRequest as bad:
            seen.add(bad.why)

    collect()
    assert {0, 5, None} <= seen
    assert sum(isinstance(found, str) for found in seen) >= 8, seen


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


def test_each_header_that_the_server_reads_is_refused_twice_or_joined() -> None:
    single = ["host", "authorization", "origin", "sec-websocket-key", "sec-websocket-version", "content-length",
              "transfer-encoding"]  # fmt: skip
    for name in single:
        with pytest.raises(BadRequest, match=f"header {name} is repeated"):
            parse(crlf("GET / HTTP/1.1", f"{name.title()}: x", f"{name}: x"), HOSTS)
    for name in ("connection", "upgrade", "sec-websocket-protocol"):
        assert get(f"{name}: a", f"{name}: b, c").listed(name) == ["a", "b", "c"]
