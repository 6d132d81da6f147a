"""Tickets over HTTP: a link or an EventSource that follows one job."""

from __future__ import annotations

from typing import Any

from test_sse import Events, connect

from support.http_client import Http, http_site
from support.server import OWNER, Bench


async def made(b: Bench, http: Http, **arguments: Any) -> tuple[str, str]:
    """A job and a ticket for it."""
    path = (await http("POST", "/v1/kinds/double/jobs", 21, Prefer="wait=30")).headers["location"]
    job = path.rpartition("/")[2]
    answer = await http("POST", "/v1/tickets", {"job": job, **arguments})
    return path, answer.json["ticket"]


async def test_a_link_with_a_ticket_shows_its_job_to_any_page() -> None:
    async with http_site() as (b, http):
        path, ticket = await made(b, http, show=["result"])
        anybody = Http(await b.socket(), None)
        answer = await anybody("GET", f"{path}?ticket={ticket}", Origin="https://any.example")
        assert (answer.status, answer.json["state"], answer.json["result"]) == (200, "completed", 42)
        assert "payload" not in answer.json
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["referrer-policy"] == "no-referrer"
        _, state = await made(b, http)
        shown = await Http(await b.socket(), None)("GET", f"{path}?ticket={state}")
        assert shown.status == 404, "it is the ticket of another job"
        owned = await http("GET", path)
        assert owned.headers["etag"] != answer.headers["etag"]


async def test_a_ticket_in_a_query_is_for_one_job_and_its_events_and_a_token_is_for_none() -> None:
    async with http_site() as (b, http):
        path, ticket = await made(b, http)
        for method, target in (("GET", f"/v1/jobs?ticket={ticket}"), ("GET", f"/v1/status?ticket={ticket}"),
                               ("POST", f"{path}/cancel?ticket={ticket}"), ("GET", f"{path}?ticket={OWNER.secret}"),
                               ("GET", f"{path}?ticket={ticket}&ticket={ticket}"),
                               ("GET", f"{path}?ticket={ticket[:-2]}")):  # fmt: skip
            answer = await Http(await b.socket(), None)(method, target)
            assert answer.status == 401, target


async def test_the_stream_of_a_ticket_has_the_events_of_its_job_and_two_can_be_open() -> None:
    async with http_site() as (b, http):
        path, ticket = await made(b, http)
        query = f"?ticket={ticket}&snapshot=true"
        streams: list[Events] = [await connect(b, query, token=None) for _ in range(3)]
        for stream in streams[:2]:
            page = await stream.event("jobs.snapshot")
            assert [job["id"] for job in page.data["jobs"]] == [path.rpartition("/")[2]]
        assert [block.retry for block in await streams[2].rest()] == [15_000]
