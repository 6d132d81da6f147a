"""The public URL gives the allowed host name, the own origin and the prefix of paths; headers of proxies never do."""

from __future__ import annotations

import pytest

from support.http_client import Http, http_site
from support.server import OWNER
from trio_jobs import UsageError
from trio_jobs._server.public_url import PublicUrl

URL = "https://jobs.example:8443/queue"
HOST = "jobs.example:8443"


@pytest.mark.parametrize(
    ("url", "origin", "host", "prefix"),
    [(URL, "https://jobs.example:8443", "jobs.example", "/queue"),
     ("https://Jobs.Example:443/", "https://jobs.example", "jobs.example", ""),
     ("http://[::1]:8080/a/b/", "http://[::1]:8080", "[::1]", "/a/b")],
)  # fmt: skip
def test_a_public_url_has_an_origin_a_host_and_a_prefix(url: str, origin: str, host: str, prefix: str) -> None:
    assert PublicUrl.parse(url) == PublicUrl(origin, host, prefix)


@pytest.mark.parametrize(
    "url",
    ["jobs.example", "ftp://jobs.example", "https://", "https://jobs.example?x=1", "https://jobs.example/#x",
     "https://ann@jobs.example", "https://jobs.example/a/../b", "https://jobs.example//", "https://jobs.example/a b"],
)  # fmt: skip
def test_another_text_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="such as https"):
        PublicUrl.parse(url)


async def test_paths_may_have_the_prefix_and_links_have_it() -> None:
    async with http_site(public_url=URL) as (b, http):
        for prefix in ("/queue", ""):
            answer = await http("POST", f"{prefix}/v1/kinds/double/jobs", 1, Host=HOST)
            assert answer.headers["location"] == f"/queue/v1/jobs/{answer.json['id']}"
        assert (await http("GET", answer.headers["location"], Host=HOST)).status in (200, 202)
        assert (await http("GET", "/queue/healthz", Host=HOST)).status == 200
        assert (await http("GET", "/queuehealthz", Host=HOST)).status == 404
        client = await b.raw(Host=HOST)
        client.reset()


async def test_the_prefix_without_a_slash_leads_to_the_page() -> None:
    async with http_site(public_url=URL) as (_, http):
        for method in ("GET", "HEAD"):
            answer = await http(method, "/queue", Host=HOST)
            assert (answer.status, answer.headers["location"]) == (308, "/queue/")
        assert (await http("GET", "/queue/", Host=HOST)).headers["content-type"].startswith("text/html")
        assert (await http("POST", "/queue", Host=HOST)).status == 405
    for settings in ({"public_url": URL, "page": False}, {"public_url": "https://jobs.example:8443"}):
        async with http_site(**settings) as (_, http):
            assert (await http("GET", "/queue", Host=HOST)).status == 404


async def test_the_own_origin_is_that_of_the_public_url_whatever_a_proxy_says() -> None:
    async with http_site(public_url=URL) as (b, http):
        assert (await http("POST", "/v1/queue/pause", Host=HOST, Origin="https://jobs.example:8443")).status == 200
        for origin in ("http://jobs.example:8443", "https://jobs.example", "http://localhost"):
            other = Http(await b.socket(), OWNER)
            refused = await other(
                "POST", "/v1/queue/resume", Origin=origin, X_Forwarded_Host="jobs.example", X_Forwarded_Proto="https"
            )
            assert refused.status == 403, origin
        foreign = await b.raw(Origin="https://jobs.example", Host=HOST)
        assert await foreign.close_code() == 4403
        own = await b.raw(Origin="https://jobs.example:8443", Host=HOST)
        assert (await own.ask("server.hello"))["name"] == "ann"


async def test_a_host_name_that_only_a_forwarded_header_has_is_refused() -> None:
    async with http_site(public_url=URL) as (_, http):
        answer = await http("GET", "/v1/status", Host="evil.example", X_Forwarded_Host=HOST)
        assert (answer.status, answer.problem) == (421, "unknown-host")


async def test_without_a_public_url_the_own_origin_has_the_host_and_port_of_the_request() -> None:
    async with http_site() as (b, http):
        host = f"localhost:{b.port}"
        assert (await http("POST", "/v1/queue/pause", Host=host, Origin=f"http://{host}")).status == 200
        assert (await http("POST", "/v1/queue/resume", Host=host, Origin="http://localhost:1")).status == 403
