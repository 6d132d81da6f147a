"""The configurations in docs/howto, checked by the programs that they are for, where these are installed."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from blocks import ROOT, blocks

import trio_jobs
from support.processes import Process, run

PAGE = ROOT / "docs" / "howto" / "proxy.md"
DEPLOY = ROOT / "docs" / "howto" / "deploy.md"
NAME = "jobs.example.org"
TOKEN = trio_jobs.Token.random()


def configuration(language: str, port: int, upstream: int, replaced: dict[str, str]) -> str:
    """The page's block, with ports and certificates of this test."""
    [text] = [block.text for block in blocks(PAGE) if block.language == language]
    assert text.count("127.0.0.1:7373") >= 1
    text = text.replace("127.0.0.1:7373", f"127.0.0.1:{upstream}")
    for found, put in replaced.items():
        assert found in text
        text = text.replace(found, put)
    return re.sub(r"(listen |bind :)443", rf"\g<1>{port}", text)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def nginx(folder: Path, port: int, upstream: int, cert: Path, key: Path) -> list[str]:
    replaced = {"/etc/ssl/jobs.example.org.pem": str(cert), "/etc/ssl/private/jobs.example.org.key": str(key)}
    site = configuration("nginx", port, upstream, replaced)
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    head = f"daemon off; pid {folder}/pid; error_log {folder}/log;\nevents {{}}\n"
    (folder / "nginx.conf").write_text(f"{head}http {{\naccess_log off;\n{paths}{site}}}\n")
    return ["nginx", "-p", str(folder), "-e", f"{folder}/log", "-c", f"{folder}/nginx.conf"]


def haproxy(folder: Path, port: int, upstream: int, cert: Path, key: Path) -> list[str]:
    both = folder / "both.pem"
    both.write_text(cert.read_text() + key.read_text())
    text = configuration("haproxy", port, upstream, {"/etc/haproxy/certs/jobs.example.org.pem": str(both)})
    (folder / "haproxy.cfg").write_text(text)
    return ["haproxy", "-db", "-f", f"{folder}/haproxy.cfg"]


async def answer(port: int, tls: ssl.SSLContext, path: str) -> bytes:
    """The answer of the proxy to one request."""
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=tls)
    async with stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
        return b"".join([chunk async for chunk in stream])


@pytest.mark.parametrize("proxy", [nginx, haproxy])
async def test_a_client_follows_jobs_through_the_proxy(
    proxy: Callable[..., list[str]], tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    if shutil.which(proxy.__name__) is None:
        pytest.skip(f"{proxy.__name__} is not installed")
    service = trio_jobs.Service()

    @service.handler
    async def double(number: int) -> int:
        return number * 2

    port = free_port()
    tls = ssl.create_default_context(cafile=certificate[0])
    tls.check_hostname = False
    async with (
        service.open() as queue,
        trio_jobs.serve(queue, port=0, tokens=[TOKEN], hosts=[NAME, "localhost"]) as server,
    ):
        with Process(proxy(tmp_path, port, server.port, *certificate), group=True):
            with trio.fail_after(20):
                while b" 200 " not in await ask_when_ready(port, tls, "/healthz"):
                    await trio.sleep(0.1)
                assert b" 200 " not in await answer(port, tls, "/metrics")
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


async def ask_when_ready(port: int, tls: ssl.SSLContext, path: str) -> bytes:
    try:
        return await answer(port, tls, path)
    except (OSError, trio.BrokenResourceError):
        return b""


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
    longest = settings.drain_timeout + settings.cancel_timeout + settings.close_timeout
    text = DEPLOY.read_text(encoding="utf-8")
    for pattern in (r"TimeoutStopSec=(\d+)", r"stop_grace_period: (\d+)s"):
        found = re.search(pattern, text)
        assert found is not None
        assert int(found[1]) > longest
