"""What a client may have at once: refusals that cost nothing, waits that are cancelled, limits that are announced."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from support.server import OPERATOR, WATCHER, Raw, bench, make_service, patient
from trio_jobs import State
from trio_jobs._server.limits import STRIKES_KEPT, RateLimiter, ServerLimits
from trio_jobs._wire.codes import ErrorCode


async def test_requests_and_subscriptions_beyond_their_number_never_close_the_connection() -> None:
    async with bench(limits=patient(strikes=1, subscriptions=1)) as b:
        await b.queue.pause("")
        job = await b.queue.submit("double", 1)
        client = await b.raw()
        await client.ask("jobs.subscribe", subscription="s0")
        for _ in range(5):
            assert (await client.ask("jobs.subscribe", subscription="s1"))["error"]["data"] == {
                "limit": "subscriptions"
            }
        waits = [client.request("jobs.result", job=job.job_id, wait=30)[1] for _ in range(64)]
        await client.send(b"".join(waits))
        for _ in range(5):
            assert (await client.ask("server.hello"))["error"]["data"] == {"limit": "in_flight"}
        await b.queue.resume()
        await client.say_goodbye()


async def test_the_filters_of_a_connection_and_of_all_clients_name_a_bounded_number_of_jobs() -> None:
    async with bench(limits=patient(strikes=1, followed_jobs=3, all_followed_jobs=5)) as b:
        first, second = await b.raw(), await b.raw()

        async def limit_of(client: Raw, subscription: str, jobs: list[str] | None) -> str | None:
            answer = await client.ask("jobs.subscribe", subscription=subscription, jobs=jobs)
            return answer["error"]["data"]["limit"] if "error" in answer else None

        assert await limit_of(first, "s0", ["a", "b"]) is None
        assert await limit_of(first, "s1", ["c", "d"]) == "followed_jobs"
        assert await limit_of(first, "s1", ["c"]) is None
        assert await limit_of(first, "s2", None) is None
        assert await limit_of(second, "s0", ["a", "b", "c"]) == "followed_jobs"
        assert await limit_of(second, "s0", ["a", "b"]) is None
        await first.ask("jobs.unsubscribe", subscription="s0")
        assert await limit_of(second, "s1", ["c"]) is None
        assert await limit_of(first, "s0", ["a", "b"]) == "followed_jobs"
        await second.stream.send_eof()
        await second.read_all()  # until the server has ended the connection
        await second.stream.aclose()
        assert await limit_of(first, "s0", ["a", "b"]) is None
        await first.say_goodbye()


async def test_a_cancelled_wait_frees_its_place_at_once() -> None:
    async with bench(limits=patient()) as b:
        await b.queue.pause("")
        job = await b.queue.submit("double", 1)
        client = await b.raw()
        waits = [client.request("jobs.result", job=job.job_id, wait=30) for _ in range(63)]
        await client.send(b"".join(data for _, data in waits))
        for request, _ in waits:
            assert (await client.ask("requests.cancel", request=request))["cancelled"]
        refused = [client.notifications.pop(0) for _ in range(62)] + [await client.next_notification()]
        assert sorted(answer["id"] for answer in refused) == [request for request, _ in waits]
        assert {answer["error"]["code"] for answer in refused} == {-32018}
        assert not (await client.ask("requests.cancel", request=waits[0][0]))["cancelled"]
        assert not (await client.ask("requests.cancel", request="none"))["cancelled"]
        await b.queue.resume()
        await client.say_goodbye()


async def test_a_cancelled_submit_that_waits_for_a_slot_leaves_no_job() -> None:
    async with bench(make_service(buffer=1), limits=patient()) as b:
        await b.queue.pause("")
        client = await b.raw()
        await client.ask("jobs.submit", kind="double", payload=1)
        number, data = client.request("jobs.submit", kind="double", payload=2, wait=30)
        await client.send(data)
        assert (await client.ask("requests.cancel", request=number))["cancelled"]
        assert (await client.next_notification())["error"]["code"] == -32018
        await b.queue.resume()
        await b.queue.drain()
        assert b.queue.statistics().jobs[State.COMPLETED] == 1
        await client.say_goodbye()


async def test_hello_has_the_limits_of_the_connection() -> None:
    async with bench(limits=patient(frames=100, frames_per_second=1000.0)) as b:
        client, watcher = await b.raw(), await b.raw(WATCHER)
        mib = 1024 * 1024
        assert (await client.ask("server.hello"))["limits"] == {
            "message": mib + 65536, "in_flight": 64, "messages": 90.0, "messages_per_second": 100.0,
            "bytes": 4.0 * mib, "bytes_per_second": 1.0 * mib, "subscriptions": 32, "followed_jobs": 4000,
        }  # fmt: skip
        limits = (await watcher.ask("server.hello"))["limits"]
        assert [limits[name] for name in ("messages", "messages_per_second", "bytes")] == [40.0, 20.0, 4.0 * mib / 16]
        await client.say_goodbye()
        await watcher.say_goodbye()


async def test_strikes_are_forgiven_within_a_minute(autojump_clock: MockClock) -> None:
    limits = ServerLimits(strikes=2)
    strikes = RateLimiter(limits.strikes, limits.strikes / STRIKES_KEPT, trio.current_time())
    assert [strikes.take(1, trio.current_time()) for _ in range(3)] == [True, True, False]
    await trio.sleep(STRIKES_KEPT / 2)
    assert strikes.take(1, trio.current_time())


async def test_a_payload_of_one_mib_fits_into_a_message() -> None:
    service = make_service()

    @service.handler
    async def length(text: str) -> int:
        return len(text)

    async with bench(service, limits=patient()) as b:
        client = await b.raw()
        text = "x" * (1024 * 1024 - 2)
        receipt = await client.ask("jobs.submit", kind="length", payload=text, key="\u0001" * 500)
        assert (await client.ask("jobs.result", job=receipt["job"], wait=30))["result"] == len(text)
        await client.say_goodbye()


@pytest.mark.parametrize("depth", [101, 500, 900])
async def test_a_payload_with_a_key_that_is_nested_too_deeply_is_refused_by_its_limit(depth: int) -> None:
    service = make_service()

    @service.handler
    async def anything(value: Any) -> None:
        pass

    async with bench(service, limits=patient()) as b:
        client = await b.raw()
        payload = json.loads("[" * depth + "]" * depth)
        error = (await client.ask("jobs.submit", kind="anything", payload=payload, key="k"))["error"]
        assert error["code"] == ErrorCode.INVALID_PARAMS
        assert f"nested {depth} levels deep" in error["message"]
        await client.say_goodbye()


async def test_the_connections_of_one_token_share_a_rate() -> None:
    """Those of another token do not; and who has kept to the limits of the connection is never disconnected for it."""
    limits = patient(messages=5, messages_per_second=0.001, token_connections=2, strikes=1)
    async with bench(limits=limits, metrics=False) as b:
        clients = [await b.raw() for _ in range(4)]
        answers = [await client.ask("server.hello") for client in clients for _ in range(4)]
        refused = [answer["error"]["data"] for answer in answers if "error" in answer]
        assert len(answers) - len(refused) == 10
        assert all(data["limit"] == "rate" and data["retry_after"] > 0 for data in refused)
        assert len(refused) == 6, "more than the strikes of a connection, and all are still connected"
        other = await b.raw(OPERATOR)
        assert (await other.ask("server.hello"))["name"] == "ida"
        for client in (*clients, other):
            await client.stream.aclose()


async def test_refused_requests_count_for_their_own_connection() -> None:
    """So a client that ignores the refusals is disconnected, although another connection has used up the rate."""
    limits = patient(messages=5, messages_per_second=0.001, token_connections=1, strikes=1)
    async with bench(limits=limits, metrics=False) as b:
        first, second = await b.raw(), await b.raw()
        for _ in range(5):
            await first.ask("server.hello")
        for _ in range(8):
            await second.send(second.request("server.hello")[1])
        assert await second.close_code() == 4429
        for client in (first, second):
            await client.stream.aclose()
