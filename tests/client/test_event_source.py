"""A browser's own EventSource, in headless Chromium, with the function of docs/howto/http.md, while the server is
killed and started again: each event is seen once. Directly, and behind nginx with the location of docs/howto/proxy.md,
whose 502 closes an EventSource for good."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from test_browser import Site, needs_browser, site

from support.processes import Process
from support.server import free_port

__all__ = ["site"]

HOWTO: Final = Path(__file__).parents[2] / "docs" / "howto"
PAGE: Final = (HOWTO / "http.md").read_text(encoding="utf-8")
FUNCTION: Final = re.search(r"```js\n(function follow.*?)```", PAGE, re.DOTALL)
LOCATION: Final = re.search(
    r"^    location /v1/ \{.*?^    \}", (HOWTO / "proxy.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)
CHILD: Final = Path(__file__).with_name("event_source_child.py")
LIVES: Final = 3
JOBS: Final = 5  #: of one life


def served(journal: Path, port: int, origin: str) -> tuple[Process, int, str, int]:
    """The process, its port, the epoch and the number of the last event."""
    process = Process([sys.executable, CHILD, journal, str(port), origin], forked=True)
    found, epoch, seq = process.out.line().split()
    return process, int(found), epoch, int(seq)


def submit(port: int, number: int, *, wait: int) -> None:
    """Submit a job. wait: for its end, in seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Content-Type": "application/json", "Prefer": f"wait={wait}"}
    connection.request("POST", "/v1/kinds/double/jobs", str(number), headers)
    response = connection.getresponse()
    assert (response.status == 200) is (wait > 0) or response.status == 202, response.read()
    connection.close()


def last_event(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/v1/jobs?limit=1")
    seq: int = json.load(connection.getresponse())["seq"]
    connection.close()
    return seq


def nginx(folder: Path, port: int, upstream: int) -> Process:
    """nginx with the location of the page, without TLS, which the page's own test is about."""
    assert LOCATION is not None
    paths = "".join(f"{k}_temp_path {folder}/{k}; " for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    location = LOCATION[0].replace("127.0.0.1:7373", f"127.0.0.1:{upstream}")
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/log; events {{}}\n"
        f"http {{ access_log off; {paths} server {{ listen 127.0.0.1:{port};\n{location}\n}} }}\n"
    )
    return Process(["nginx", "-p", folder, "-e", folder / "log", "-c", folder / "nginx.conf"], group=True)


async def see_each_event_once(site: Site, folder: Path, function: str, ports: tuple[int, int]) -> None:
    """ports: that to which the page connects, and that of the server."""
    journal = folder / "jobs.db"
    process, _, epoch, first = served(journal, ports[1], site.origin)
    url = f"http://127.0.0.1:{ports[0]}/v1/events?after={epoch}/{first}"
    site.open(folder, f'{function}\nfollow("{url}", (event, id) => report([event.seq, id]));')
    seen: list[int] = []

    async def see(last: int) -> None:
        while not {*range(first + 1, last + 1)} <= {*seen}:  # the reports of the page may change places
            told: Any = await site.told()
            assert isinstance(told, list), told
            assert told[1] == f"{epoch}/{told[0]}"
            seen.append(told[0])

    for life in range(LIVES):
        for number in range(JOBS):
            submit(ports[1], number, wait=10)
        await see(last_event(ports[1]))
        if life < LIVES - 1:
            submit(ports[1], JOBS, wait=0)  # its events are under way, or not committed, or not sent
            process.kill()
            process.wait()
            process, *_ = served(journal, ports[1], site.origin)
    process.kill()
    assert sorted(seen) == [*range(first + 1, max(seen) + 1)]


@needs_browser
async def test_an_event_source_sees_each_event_once_over_two_kills(site: Site, tmp_path: Path) -> None:
    assert FUNCTION is not None
    port = free_port()
    await see_each_event_once(site, tmp_path, FUNCTION[1], (port, port))


@pytest.mark.campaign
@needs_browser
@pytest.mark.skipif(
    shutil.which("nginx") is None, reason="nginx is not installed; on Debian: apt-get install nginx-light"
)
async def test_an_event_source_behind_nginx_sees_each_event_once_over_two_kills(site: Site, tmp_path: Path) -> None:
    """nginx answers 502 while there is no server, and the function of the page makes a new EventSource."""
    assert FUNCTION is not None
    function = FUNCTION[1].replace("connect, 5000", "connect, 300")
    assert function != FUNCTION[1]
    port, upstream = free_port(), free_port()
    with nginx(tmp_path, port, upstream):
        await see_each_event_once(site, tmp_path, function, (port, upstream))


@pytest.mark.parametrize(
    "what", ["addEventListener", "readyState === EventSource.CLOSED", 'searchParams.set("after", last)']
)
def test_the_function_of_the_page_connects_again_after_an_error_status(what: str) -> None:
    assert FUNCTION is not None
    assert what in FUNCTION[1]
