"""Plain HTTP on the same port."""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from support.server import OWNER, WATCHER, bench, make_service
from support.waiting import deadline
from trio_jobs import TrioClock
from trio_jobs._server.http import Page, response
from trio_jobs._server.metrics import Metrics
from trio_jobs._server.tokens import Token


class NoClients:
    connections = subscriptions = 0
    refusals: ClassVar[dict[str, int]] = {}
    certificate_not_after = None


async def get(
    port: int, path: str, token: Token | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        auth = f"Authorization: Bearer {token.secret}\r\n" if token else ""
        await stream.send_all(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{auth}\r\n".encode()
        )
        data = b""
        with deadline("the whole answer"):
            while more := await stream.receive_some(65536):
                data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), {name.lower(): value for name, value in headers.items()}, body


async def test_a_request_without_a_token_gets_the_health_and_nothing_else() -> None:
    async with bench() as b:
        status, headers, body = await get(b.port, "/healthz")
        assert (status, json.loads(body)) == (200, {"ok": True, "paused": False})
        assert headers["connection"] == "close"
        status, _, body = await get(b.port, "/healthz", WATCHER)
        health: dict[str, Any] = json.loads(body)
        assert {"ok", "paused", "health", "queue", "host", "store", "server"} == set(health)
        b.queue.close_to_submits()
        status, _, body = await get(b.port, "/healthz")
        assert (status, json.loads(body)) == (503, {"ok": False, "paused": False})


async def test_a_paused_queue_says_so_and_stays_in_service() -> None:
    """A proxy that takes the server out of service would keep out the operator who is to end the pause."""
    async with bench() as b:
        await b.queue.pause("month end", by="ann")
        status, _, body = await get(b.port, "/healthz")
        assert (status, json.loads(body)) == (200, {"ok": False, "paused": True})
        for token, shown in ((OWNER, {"reason", "since", "by"}), (WATCHER, {"reason", "since"})):
            _, _, body = await get(b.port, "/healthz", token)
            health = json.loads(body)["health"]
            assert health["problems"] == ["paused"]
            assert set(health["paused"]) == shown
        b.queue.close_to_submits()
        assert (await get(b.port, "/healthz"))[0] == 503


async def test_the_description_of_the_protocol_needs_no_token() -> None:
    async with bench() as b:
        status, headers, body = await get(b.port, "/asyncapi.json")
        assert (status, headers["content-type"]) == (200, "application/json")
        assert json.loads(body)["asyncapi"] == "3.1.0"
        status, headers, body = await get(b.port, "/asyncapi.json", method="HEAD")
        assert (status, body) == (200, b"")
        assert int(headers["content-length"]) > 1000


async def test_metrics_need_a_token() -> None:
    pytest.importorskip("prometheus_client")
    async with bench() as b:
        assert (await get(b.port, "/metrics"))[0] == 401
        job = await b.queue.submit("double", 1)
        await b.queue.result(job.job_id)
        await trio.testing.wait_all_tasks_blocked()
        status, headers, body = await get(b.port, "/metrics", WATCHER)
        assert status == 200
        text = body.decode()
        for name in (
            'trio_jobs_jobs{kind="double",state="completed"} 1.0',
            'trio_jobs_jobs{kind="double",state="failed"} 0.0',
            'trio_jobs_problem{problem="paused"} 0.0',
            "trio_jobs_places_free 100.0",
            "trio_jobs_oldest_waiting_seconds 0.0",
            'trio_jobs_wait_seconds_count{kind="double"} 1.0',
            'trio_jobs_run_seconds_count{kind="double"} 1.0',
            "trio_jobs_retries_total 0.0",
            'trio_jobs_ended_total{kind="double",outcome="completed"} 1.0',
            "trio_jobs_sdk_busy_seconds_total",
            "trio_jobs_in_doubt 0.0",
            "trio_jobs_subscriptions 0.0",
        ):
            assert name in text, f"{name} is not in {text}"
        assert headers["content-type"].startswith("text/plain")


async def test_the_busy_time_counts_the_running_attempt_once(autojump_clock: MockClock) -> None:
    pytest.importorskip("prometheus_client")
    busy: list[float] = []

    async with make_service().open(clock=TrioClock()) as queue, trio.open_nursery() as nursery:
        metrics = Metrics(queue.backend, NoClients())
        nursery.start_soon(metrics.run)

        def read() -> float:
            found = re.search(r"^trio_jobs_sdk_busy_seconds_total (\S+)$", metrics.text().decode(), re.MULTILINE)
            assert found
            return float(found[1])

        await wait_all_tasks_blocked()
        busy.append(read())
        job = await queue.submit("wait", 100.0)
        for _ in range(2):
            await trio.sleep(40)
            busy.append(read())
        await queue.result(job.job_id)
        await wait_all_tasks_blocked()
        busy.append(read())
        await trio.sleep(1000)
        busy.append(read())
        nursery.cancel_scope.cancel()
    assert busy == pytest.approx([0, 40, 80, 100, 100], abs=0.01)


@pytest.mark.parametrize("step", [-365 * 86_400.0, 365 * 86_400.0])
async def test_the_seconds_of_the_metrics_do_not_follow_the_wall_clock(step: float, autojump_clock: MockClock) -> None:
    pytest.importorskip("prometheus_client")
    clock = TrioClock()
    async with make_service().open(clock=clock) as queue, trio.open_nursery() as nursery:
        metrics = Metrics(queue.backend, NoClients())
        nursery.start_soon(metrics.run)

        def read(name: str) -> float:
            found = re.findall(rf"^trio_jobs_{name}(?:{{.*}})? (\S+)$", metrics.text().decode(), re.MULTILINE)
            assert found
            return sum(map(float, found))

        job = await queue.submit("wait", 100.0)
        await queue.submit("double", 1)
        await trio.sleep(40)
        clock.set_wall(step)
        assert read("sdk_busy_seconds_total") == pytest.approx(40, abs=0.1)
        assert read("oldest_waiting_seconds") == pytest.approx(40, abs=0.1)
        await queue.result(job.job_id)
        await wait_all_tasks_blocked()
        assert read("run_seconds_sum") == pytest.approx(100, abs=0.1)
        assert read("sdk_busy_seconds_total") == pytest.approx(100, abs=0.1)
        assert read("wait_seconds_sum") == pytest.approx(100, abs=0.1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/ws", 426),
        ("POST", "/healthz", 405),
        ("GET", "/healthz/", 404),
        ("PUT", "/x", 405),
    ],
)
async def test_other_paths_and_methods_are_refused(method: str, path: str, status: int) -> None:
    async with bench() as b:
        assert (await get(b.port, path, OWNER, method))[0] == status


async def test_metrics_can_be_left_out() -> None:
    async with bench(metrics=False) as b:
        assert (await get(b.port, "/metrics", OWNER))[0] == 404


def test_a_response_without_a_body_says_no_length_and_one_with_a_line_end_in_a_header_is_our_bug() -> None:
    assert response(None, Page(204, "", b""), keep=True).lower().count(b"content-") == 1  # x-content-type-options
    with pytest.raises(AssertionError, match="control character"):
        response(None, Page(200, "text/plain", b"", (("Location", "/x\r\nSet-Cookie: a=b"),)))
