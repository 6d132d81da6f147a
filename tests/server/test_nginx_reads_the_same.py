"""An accepted head means the same to nginx: a proxy that sees another end of a request would hide one in it."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from heads import HEADS, body_of, crlf
from hypothesis import HealthCheck, example, given, settings

from support.processes import Process
from support.waiting import DEADLINE, wait_until
from trio_jobs._server.request import BadRequest, parse

CONFIGURATION = """
daemon off; pid {folder}/pid; error_log {folder}/log; events {{}}
http {{
    access_log off; client_body_timeout 5s; client_header_timeout 5s; keepalive_timeout 5s;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{
        listen unix:{folder}/socket;
        location / {{ return 204; }}
        location = /mark {{ return 205; }}
    }}
}}
"""
MARK = crlf("GET /mark HTTP/1.1", "Host: localhost", "Connection: close")


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of an nginx that answers each request with 204, and MARK with 205."""
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed; on Debian: apt-get install nginx-light")
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder))
    with Process(["nginx", "-p", folder, "-e", folder / "log", "-c", folder / "nginx.conf"], group=True) as process:
        wait_until(lambda: process.returncode is not None or accepts(folder / "socket"), "nginx listens")
        yield folder / "socket"


def accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def statuses(path: Path, data: bytes) -> list[int]:
    """The statuses of nginx's answers until it closes the connection."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE)
        client.connect(str(path))
        client.sendall(data)
        received = b""
        while more := client.recv(65536):
            received += more
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=HEADS)
@example(head=crlf("POST /healthz HTTP/1.1", "Host: localhost", "Content-Length: 5"))
@example(head=crlf("POST /healthz HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked"))
@example(head=crlf("GET http://localhost/healthz HTTP/1.1", "Host: localhost"))
def test_an_accepted_head_ends_where_nginx_sees_its_end(nginx: Path, head: bytes) -> None:
    try:
        parsed = parse(head)
    except BadRequest:
        return
    answers = statuses(nginx, head + body_of(parsed.body) + MARK)
    if 400 <= answers[0] < 600:
        return  # nginx refuses it
    may_close = parsed.minor == 0 or "close" in (part.lower() for part in parsed.listed("connection"))
    assert answers == [204, 205] or (may_close and answers == [204]), (head, answers)
