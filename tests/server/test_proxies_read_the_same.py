"""No request is hidden in another one: the server reads as requests what nginx and HAProxy have read as requests.

The proxies add a header to each request. A request without it would be one that the proxy has taken for a part of a
body, so that its rules were not applied to it.
"""

from __future__ import annotations

import re
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from heads import crlf
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import trio_jobs
from support.processes import Process
from support.server import OWNER, free_port, make_service
from support.waiting import DEADLINE, wait_until
from trio_jobs._server.request import RequestHead, parse

NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/log; events {{}}
http {{
    access_log off; keepalive_timeout 1s; client_body_timeout 300ms; client_header_timeout 1s;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    upstream jobs {{ server 127.0.0.1:{port}; keepalive 1; }}
    server {{
        listen 127.0.0.1:{listen};
        location / {{
            proxy_pass http://jobs; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
            proxy_set_header X-Seen yes; {extra}
        }}
    }}
}}
"""
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 500ms
    timeout server 5s
    option http-keep-alive
frontend in
    bind 127.0.0.1:{listen}
    http-request set-header X-Seen yes
    default_backend jobs
backend jobs
    http-reuse always
    server one 127.0.0.1:{port} maxconn 1
"""
HOST = "Host: localhost"
TOKEN = f"Authorization: Bearer {OWNER.secret}"
MARK = crlf("POST /v1/queue/pause HTTP/1.1", HOST, TOKEN, "Content-Type: application/json", "Content-Length: 2",
            "Connection: close") + b"{}"  # fmt: skip
HIDDEN = crlf("POST /v1/queue/drain HTTP/1.1", HOST, TOKEN, "Content-Length: 0")


class Site:
    """A server in a thread of its own, which keeps the heads of all requests."""

    def __init__(self) -> None:
        self.port = free_port()
        self.heads: list[bytes] = []
        self._stop: tuple[trio.lowlevel.TrioToken, trio.Event] | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run,))

    def parse(self, raw: bytes) -> RequestHead:
        head = parse(raw)
        self.heads.append(raw)
        return head

    async def _run(self) -> None:
        async with make_service().open() as queue:
            async with trio_jobs.serve(queue, port=self.port, tokens=[OWNER]):
                self._stop = (trio.lowlevel.current_trio_token(), trio.Event())
                self._ready.set()
                await self._stop[1].wait()

    def __enter__(self) -> Site:
        self._thread.start()
        assert self._ready.wait(DEADLINE)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._stop is not None
        self._stop[0].run_sync_soon(self._stop[1].set)
        self._thread.join()


def accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module", params=["nginx", "nginx without buffers", "haproxy"])
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Site]]:
    """The port of a proxy, and the server behind it."""
    name = request.param.split()[0]
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed; on Debian: apt-get install nginx-light haproxy")
    folder, listen = tmp_path_factory.mktemp(name), free_port()
    extra = "proxy_request_buffering off; proxy_buffering off;" if "without" in request.param else ""
    with Site() as site, pytest.MonkeyPatch.context() as patch:
        patch.setattr("trio_jobs._server.handshake.parse", site.parse)
        text = (NGINX if name == "nginx" else HAPROXY).format(folder=folder, port=site.port, listen=listen, extra=extra)
        configuration = Path(folder / "configuration")
        configuration.write_text(text)
        command: list[str | Path] = ["haproxy", "-db", "-f", configuration]
        if name == "nginx":
            command = ["nginx", "-p", folder, "-e", folder / "log", "-c", configuration]
        with Process(command, group=True) as process:
            wait_until(lambda: process.returncode is not None or accepts(listen), f"{name} listens")
            yield listen, site


def answers(port: int, data: bytes) -> list[int]:
    """The statuses of the responses until the proxy closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as client:
        received = b""
        try:
            client.sendall(data)
            while more := client.recv(65536):
                received += more
        except ConnectionError:
            pass
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


LINES = st.sampled_from(["POST /v1/kinds/double/jobs", "GET /v1/jobs", "POST /v1/nothing", "DELETE /v1/jobs"])
LENGTHS = st.sampled_from([[], ["Content-Length: 0"], ["Content-Length: 4"], [f"Content-Length: {len(HIDDEN)}"],
                           ["Content-Length: 4", "Content-Length: 0"], ["Content-Length: 4, 4"],
                           ["Content-Length: +4"], ["Content-Length: 0x4"], ["Content-Length : 4"]])  # fmt: skip
CODINGS = st.sampled_from([[], [], ["Transfer-Encoding: chunked"], ["Transfer-Encoding: Chunked"],
                           ["Transfer-Encoding: identity"], ["Transfer-Encoding: chunked, identity"],
                           ["Transfer-Encoding: xchunked"], ["Transfer-Encoding:\x0bchunked"],
                           ["Transfer-Encoding: chunked", "Transfer-Encoding: x"]])  # fmt: skip
BODIES = st.sampled_from([b"", b"null", b"0\r\n\r\n", b"4\r\nnull\r\n0\r\n\r\n", b"4\r\nnull\r\n0\r\nX: y\r\n\r\n",
                          b"4;x=y\r\nnull\r\n0\r\n\r\n", b"4\nnull\n0\n\n", b"4\r\nnull\r\n0\r\n\n",
                          b"0\r\nContent-Length: 9\r\n\r\n", b"4 \r\nnull\r\n0\r\n\r\n",
                          b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN), b"0\r\n\r\n" + HIDDEN, HIDDEN])  # fmt: skip


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=LINES, length=LENGTHS, coding=CODINGS, body=BODIES)
@example(line="POST /v1/nothing", length=[f"Content-Length: {len(HIDDEN)}"], coding=[], body=HIDDEN)
def test_no_request_is_hidden_in_another_one(
    proxied: tuple[int, Site], line: str, length: list[str], coding: list[str], body: bytes
) -> None:
    port, site = proxied
    head = crlf(f"{line} HTTP/1.1", HOST, TOKEN, "Content-Type: application/json", *length, *coding)
    answers(port, head + body + MARK)
    hidden = [raw for raw in site.heads if b"x-seen: yes" not in raw.lower()]
    assert hidden == [], (head, body)


def test_requests_reach_the_server_through_the_proxy(proxied: tuple[int, Site]) -> None:
    port, site = proxied
    site.heads.clear()
    statuses = answers(port, crlf("GET /v1/status HTTP/1.1", HOST, TOKEN) + MARK)
    assert statuses == [200, 200]
    assert len(site.heads) == 2
