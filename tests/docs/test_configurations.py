"""The configurations in docs/howto, checked by the programs that they are for, where these are installed."""

from __future__ import annotations

import re
import shutil
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from blocks import ROOT, blocks
from wsproto.frame_protocol import CloseReason, Opcode

import trio_jobs
from support.processes import Process, run
from support.server import Raw, free_port, handshake, make_service, patient
from support.waiting import deadline
from trio_jobs._server.http_jobs import MAX_WAIT
from trio_jobs._server.sse import KEEP_ALIVE

PAGE = ROOT / "docs" / "howto" / "proxy.md"
DEPLOY = ROOT / "docs" / "howto" / "deploy.md"
NAME = "jobs.example.org"
TOKEN = trio_jobs.Token.random()
PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy"}
NO_CHANGES: Mapping[str, str] = {}


def configuration(language: str, port: int, upstream: int, replaced: Mapping[str, str]) -> str:
    """The page's block, with ports, certificates and timeouts of this test."""
    [text, _] = [block.text for block in blocks(PAGE) if block.language == language]
    assert text.count("127.0.0.1:7373") >= 1
    for found, put in replaced.items():
        assert found in text
        text = text.replace(found, put)
    text = text.replace("127.0.0.1:7373", f"127.0.0.1:{upstream}")
    return re.sub(r"(listen |bind :)443", rf"\g<1>{port}", text)


def nginx(
    folder: Path, port: int, upstream: int, cert: Path, key: Path, timeouts: Mapping[str, str] = NO_CHANGES
) -> list[str]:
    replaced = {"/etc/ssl/jobs.example.org.pem": str(cert), "/etc/ssl/private/jobs.example.org.key": str(key)}
    return nginx_command(folder, configuration("nginx", port, upstream, {**replaced, **timeouts}))


def nginx_command(folder: Path, site: str) -> list[str]:
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    head = f"daemon off; pid {folder}/pid; error_log {folder}/log;\nevents {{}}\n"
    (folder / "nginx.conf").write_text(f"{head}http {{\naccess_log off;\n{paths}{site}}}\n")
    return ["nginx", "-p", str(folder), "-e", f"{folder}/log", "-c", f"{folder}/nginx.conf"]


def haproxy(
    folder: Path, port: int, upstream: int, cert: Path, key: Path, timeouts: Mapping[str, str] = NO_CHANGES
) -> list[str]:
    both = folder / "both.pem"
    both.write_text(cert.read_text() + key.read_text())
    replaced = {"/etc/haproxy/certs/jobs.example.org.pem": str(both), **timeouts}
    (folder / "haproxy.cfg").write_text(configuration("haproxy", port, upstream, replaced))
    return ["haproxy", "-db", "-f", f"{folder}/haproxy.cfg"]


def for_the_page(proxy: Callable[..., list[str]]) -> dict[str, str]:
    """What the page's second block changes in the first one."""
    [whole, part] = [block.text for block in blocks(PAGE) if block.language == proxy.__name__]
    if proxy is nginx:
        last = "    location / {\n        return 404;\n    }\n"
        return {last: part + last}
    [rule] = [line + "\n" for line in whole.splitlines() if "http-request deny" in line]
    return {rule: part}


def started(proxy: Callable[..., list[str]], *arguments: object) -> Process:
    """The proxy, with the page's configuration."""
    if shutil.which(proxy.__name__) is None:
        pytest.skip(f"{proxy.__name__} is not installed; on Debian: apt-get install {PACKAGES[proxy.__name__]}")
    return Process(proxy(*arguments), group=True)


def trusting(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    tls = ssl.create_default_context(cafile=certificate[0])
    tls.check_hostname = False
    return tls


async def connected(port: int, tls: ssl.SSLContext | None) -> Any:
    if tls is None:
        return await trio.open_tcp_stream("127.0.0.1", port)
    return await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=tls, https_compatible=True)


async def answer(port: int, tls: ssl.SSLContext | None, path: str, method: str = "GET") -> bytes:
    """The answer of the proxy to one request."""
    async with await connected(port, tls) as stream:
        await stream.send_all(f"{method} {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
        return b"".join([chunk async for chunk in stream])


def request(path: str, *headers: str, method: str = "GET") -> bytes:
    lines = (f"{method} {path} HTTP/1.1", f"Host: {NAME}", f"Authorization: Bearer {TOKEN.secret}", *headers)
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


async def until_ready(port: int, tls: ssl.SSLContext | None) -> None:
    """Return when the proxy answers with the health of the service."""
    with deadline("the proxy forwards to the service"):
        while True:
            with suppress(OSError, trio.BrokenResourceError):
                if b'{"ok":true,' in await answer(port, tls, "/healthz"):
                    return
            await trio.sleep(0.05)


@pytest.mark.parametrize("proxy", [nginx, haproxy])
async def test_a_client_follows_jobs_through_the_proxy(
    proxy: Callable[..., list[str]], tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    port, tls = free_port(), trusting(certificate)
    async with (
        make_service().open() as queue,
        trio_jobs.serve(queue, port=0, tokens=[TOKEN], hosts=[NAME]) as server,
    ):
        with started(proxy, tmp_path, port, server.port, *certificate):
            await until_ready(port, tls)
            assert b'{"ok":' not in await answer(port, tls, "/metrics")
            url = f"wss://localhost:{port}/ws"
            async with trio_jobs.connect(url, token=TOKEN.secret, tls=tls) as client:
                async with client.subscribe() as subscription:
                    receipt = await client.submit("double", 21)
                    assert await client.result(receipt.job_id) == 42
                    seen = []
                    async for _ in subscription:
                        seen.append(subscription.seq)
                        if len(seen) == 3:
                            break
                    assert seen == [*range(seen[0], seen[0] + 3)]


@pytest.mark.parametrize("proxy", [nginx, haproxy])
@pytest.mark.parametrize("pings", [True, False], ids=["pings", "no pings"])
async def test_pings_keep_an_idle_connection_through_the_proxy(
    proxy: Callable[..., list[str]], pings: bool, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    """The proxy closes a connection on which nothing is sent for six seconds; without pings it does."""
    port, tls = free_port(), trusting(certificate)
    limits = patient(ping=0.5 if pings else 300.0)
    async with (
        make_service().open() as queue,
        trio_jobs.serve(queue, port=0, tokens=[TOKEN], hosts=[NAME], limits=limits) as server,
    ):
        with started(proxy, tmp_path, port, server.port, *certificate, {"120s": "6s"}):
            await until_ready(port, tls)
            async with await connected(port, tls) as stream:
                client = Raw(stream)
                await client.send(handshake(TOKEN, Host=NAME))
                assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
                if pings:
                    for _ in range(14):  # seven seconds
                        opcode, payload = await client.frame()
                        assert opcode is Opcode.PING
                        await client.send(client.proto.pong(payload))
                    assert (await client.ask("server.hello"))["name"] == TOKEN.name
                else:
                    with pytest.raises((EOFError, trio.BrokenResourceError)):
                        await client.frame()
                    await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("proxy", [nginx, haproxy])
async def test_a_stream_of_events_passes_the_proxy_at_once_and_stays_open_while_nothing_happens(
    proxy: Callable[..., list[str]],
    tmp_path: Path,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The proxy closes a connection on which nothing is sent for six seconds; the keep-alive blocks prevent it."""
    monkeypatch.setattr("trio_jobs._server.sse.KEEP_ALIVE", 0.5)
    port, tls = free_port(), trusting(certificate)
    async with (
        make_service().open() as queue,
        trio_jobs.serve(queue, port=0, tokens=[TOKEN], hosts=[NAME]) as server,
    ):
        with started(proxy, tmp_path, port, server.port, *certificate, {"60s": "6s"}):
            await until_ready(port, tls)
            async with await connected(port, tls) as stream:
                await stream.send_all(request("/v1/events"))
                received = b""
                with deadline("seven seconds of keep-alive blocks, then an event"):
                    while received.count(b"\nid: ") < 15:
                        received += await stream.receive_some()
                    assert b"event: " not in received
                    receipt = await queue.submit("double", 21)
                    await queue.result(receipt.job_id)
                    while received.count(b"event: jobs.event") < 3:
                        more = await stream.receive_some()
                        assert more, received
                        received += more
                assert received.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("proxy", [nginx, haproxy])
async def test_a_job_is_submitted_and_waited_for_through_the_proxy(
    proxy: Callable[..., list[str]], tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    port, tls = free_port(), trusting(certificate)
    async with (
        make_service().open() as queue,
        trio_jobs.serve(queue, port=0, tokens=[TOKEN], hosts=[NAME]) as server,
    ):
        with started(proxy, tmp_path, port, server.port, *certificate):
            await until_ready(port, tls)
            async with await connected(port, tls) as stream:
                headers = (
                    "Content-Type: application/json",
                    "Content-Length: 2",
                    "Prefer: wait=30",
                    "Connection: close",
                )
                await stream.send_all(request("/v1/kinds/double/jobs", *headers, method="POST") + b"21")
                response = b"".join([chunk async for chunk in stream])
            assert response.startswith(b"HTTP/1.1 200 ")
            assert b'"result":42}' in response


@pytest.mark.parametrize("proxy", [nginx, haproxy])
async def test_the_web_page_logs_in_through_the_proxy_if_the_page_says_how(
    proxy: Callable[..., list[str]], tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    port, tls = free_port(), trusting(certificate)
    async with (
        make_service().open() as queue,
        trio_jobs.serve(queue, port=0, tokens=[TOKEN], public_url=f"https://{NAME}") as server,
    ):
        with started(proxy, tmp_path, port, server.port, *certificate):
            await until_ready(port, tls)
            for path in ("/", "/page/main.js"):
                assert not (await answer(port, tls, path)).startswith(b"HTTP/1.1 200 "), path
    async with (
        make_service().open() as queue,
        trio_jobs.serve(queue, port=server.port, tokens=[TOKEN], public_url=f"https://{NAME}") as server,
    ):
        with started(proxy, tmp_path, port, server.port, *certificate, for_the_page(proxy)):
            await until_ready(port, tls)
            for path in ("/", "/page/main.js"):
                assert (await answer(port, tls, path)).startswith(b"HTTP/1.1 200 "), path
            for path in ("/metrics", "/pages", "/page"):
                assert not (await answer(port, tls, path)).startswith(b"HTTP/1.1 200 "), path
            for origin, status in ((f"https://{NAME}", b"200"), (f"http://127.0.0.1:{server.port}", b"403")):
                headers = ("Content-Type: application/json", "Content-Length: 2", f"Origin: {origin}")
                async with await connected(port, tls) as stream:
                    whole = request("/page/login", *headers, "Connection: close", method="POST") + b"{}"
                    await stream.send_all(whole)
                    response = b"".join([chunk async for chunk in stream])
                assert response.startswith(b"HTTP/1.1 " + status), response


def test_the_proxies_wait_longer_than_the_service() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for pattern in (r"proxy_read_timeout (\d+)s", r"timeout server (\d+)s", r"timeout client (\d+)s"):
        found = [int(seconds) for seconds in re.findall(pattern, text)]
        assert found
        assert min(found) > max(KEEP_ALIVE, MAX_WAIT)


@pytest.mark.parametrize("proxy", [nginx, haproxy])
async def test_a_refused_client_behind_the_proxy_is_logged_with_its_own_address(
    proxy: Callable[..., list[str]],
    tmp_path: Path,
    certificate: tuple[Path, Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    port, tls = free_port(), trusting(certificate)
    async with (
        make_service().open() as queue,
        trio_jobs.serve(queue, port=0, tokens=[TOKEN], hosts=[NAME], limits=patient()) as server,
    ):
        with started(proxy, tmp_path, port, server.port, *certificate):
            await until_ready(port, tls)
            async with await connected(port, tls) as stream:
                client = Raw(stream)
                await client.send(handshake(trio_jobs.Token("wrong" * 5), Host=NAME))
                assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
                assert await client.close_code() == 4401
                await client.send(client.proto.close(CloseReason.NORMAL_CLOSURE))
    assert "from 127.0.0.1 (X-Forwarded-For 127.0.0.1)" in caplog.text
    assert "wrong" not in caplog.text


async def test_health_checks_of_haproxy_find_a_service_that_starts_later(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    upstream, port = free_port(), free_port()
    with started(haproxy, tmp_path, port, upstream, *certificate, {"inter 5s": "inter 100ms"}) as process:
        process.err.line_with("is DOWN")
        async with (
            make_service().open() as queue,
            trio_jobs.serve(queue, port=upstream, tokens=[TOKEN], hosts=[NAME]),
        ):
            found = await trio.to_thread.run_sync(process.err.line_with, "is UP")
            assert "code: 200" in found
            await until_ready(port, trusting(certificate))


def plain_nginx(folder: Path, port: int, upstream: int) -> list[str]:
    """nginx with nothing but proxy_pass: HTTP/1.0, no upgrade, the name of the upstream as Host."""
    site = f"""
        upstream trio_jobs {{ server 127.0.0.1:{upstream}; }}
        server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://trio_jobs; }} }}
    """
    return nginx_command(folder, site)


async def test_a_plain_nginx_forwards_health_checks_and_gets_an_answer_that_names_what_is_missing(
    tmp_path: Path,
) -> None:
    port = free_port()
    async with (
        make_service().open() as queue,
        trio_jobs.serve(queue, port=0, tokens=[TOKEN], hosts=["trio_jobs"]) as server,
    ):
        if shutil.which("nginx") is None:
            pytest.skip(f"nginx is not installed; on Debian: apt-get install {PACKAGES['nginx']}")
        with Process(plain_nginx(tmp_path, port, server.port), group=True):
            await until_ready(port, None)
            assert (await answer(port, None, "/healthz", "HEAD")).startswith(b"HTTP/1.1 200 ")
            assert (await answer(port, None, "/")).startswith(b"HTTP/1.1 200 "), "the page"
            assert (await answer(port, None, "/none")).startswith(b"HTTP/1.1 404 ")
            assert (await answer(port, None, "/metrics")).startswith(b"HTTP/1.1 401 ")
            assert (await answer(port, None, "/healthz", "POST")).startswith(b"HTTP/1.1 405 ")
            async with await connected(port, None) as stream:
                await stream.send_all(handshake(TOKEN, Host=NAME))
                head = await stream.receive_some()
                assert head.startswith(b"HTTP/1.1 426 "), head
                assert b"proxy has to forward" in head


def test_the_systemd_unit_is_valid(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    [unit] = [block.text for block in blocks(DEPLOY) if block.language == "ini"]
    program = "/srv/labels/.venv/bin/trio-jobs"
    assert f"ExecStart={program} serve labels:service" in unit
    path = tmp_path / "labels.service"
    path.write_text(unit.replace(program, "/bin/true"), encoding="utf-8")
    checked = run(["systemd-analyze", "verify", path])
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_stop_timeouts_on_the_page_are_longer_than_those_of_a_service() -> None:
    settings = trio_jobs.Service().settings
    longest = settings.drain_timeout + settings.cancel_timeout + settings.close_timeout + settings.commit_timeout
    text = DEPLOY.read_text(encoding="utf-8")
    for pattern in (r"TimeoutStopSec=(\d+)", r"stop_grace_period: (\d+)s"):
        found = re.search(pattern, text)
        assert found is not None
        assert int(found[1]) > longest
