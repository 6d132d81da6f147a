"""Rules of the origins of web pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.server import bench, patient
from trio_jobs import UsageError
from trio_jobs._server.origins import check_origins, is_allowed_origin

LISTED = frozenset({"https://shop.example", "http://tools.example:8080"})


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "localhost:7373"),
        ("https://shop.example", "localhost:7373"),
        ("http://localhost:7373", "localhost:7373"),
        ("http://LOCALHOST:7373", "Localhost:7373"),
        ("http://127.0.0.1:7373", "127.0.0.1:7373"),
        ("http://[::1]:7373", "[::1]:7373"),
        ("https://jobs.example", "jobs.example"),  # behind a proxy that ends TLS
        ("https://jobs.example", "jobs.example:443"),
        ("http://jobs.example:80", "jobs.example"),
    ],
)
def test_listed_origins_and_that_of_the_server_itself_are_allowed(origin: str | None, host: str) -> None:
    assert is_allowed_origin(origin, host, LISTED)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://shop.example.evil.example", "localhost:7373"),
        ("https://shop.example/", "localhost:7373"),
        ("https://shop.exampl", "localhost:7373"),
        ("http://shop.example", "localhost:7373"),
        ("http://localhost", "localhost:7373"),
        ("http://localhost:3000", "localhost:7373"),
        ("http://localhost:73730", "localhost:7373"),
        ("http://localhost:7373.evil.example", "localhost:7373"),
        ("http://evil-localhost:7373", "localhost:7373"),
        ("http://localhost:7373@evil.example", "localhost:7373"),
        ("http://localhost:7373\n", "localhost:7373"),
        ("file://localhost:7373", "localhost:7373"),
        ("null", "null"),
        ("", ""),
        ("http://", ""),
        ("http://localhost:7373", None),
    ],
)
def test_any_other_origin_is_refused(origin: str, host: str | None) -> None:
    assert not is_allowed_origin(origin, host, LISTED)


@given(st.sampled_from(sorted(LISTED)) | st.just("http://localhost:7373"), st.text(min_size=1, max_size=20))
def test_an_origin_that_only_begins_or_ends_like_an_allowed_one_is_refused(allowed: str, more: str) -> None:
    assert not is_allowed_origin(allowed + more, "localhost:7373", LISTED) or allowed + more in LISTED
    assert not is_allowed_origin(more + allowed, "localhost:7373", LISTED)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_client_that_sends_its_own_host_as_origin_is_served(host: str) -> None:
    async with bench(limits=patient()) as b:
        client = await b.raw(Host=f"{host}:{b.port}", Origin=f"http://{host}:{b.port}")
        assert (await client.ask("server.hello"))["name"] == "ann"
        await client.say_goodbye()


def test_a_listed_origin_is_compared_as_browsers_send_it() -> None:
    given = ["https://Shop.example:443", "http://tools.example:8080", "chrome-extension://abcdef", "http://[::1]:80"]
    sent = {"https://shop.example", "http://tools.example:8080", "chrome-extension://abcdef", "http://[::1]"}
    assert check_origins(given) == sent


@pytest.mark.parametrize(
    "origin",
    ["https://shop.example/", "shop.example", "https://shop.example/page", "", "*", "null", "https://shop.example\n"],
)
def test_an_origin_that_no_browser_sends_is_refused_where_it_is_given(origin: str) -> None:
    with pytest.raises(UsageError, match="is not the origin of a web page"):
        check_origins([origin])


def test_origins_are_a_list() -> None:
    with pytest.raises(UsageError, match="must be a list"):
        check_origins("https://shop.example")
