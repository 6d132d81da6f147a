"""How the page logs in and out: by a code, by a token, and from its own origin only."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from support.server import OWNER, WATCHER, bench
from support.waiting import deadline


async def post(
    port: int, path: str, body: object, *, bearer: str | None = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    """The status and the body of the answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Host": f"127.0.0.1:{port}", "Content-Type": "application/json", "Connection": "close"}
    lines |= {"Content-Length": str(len(data)), "Origin": f"http://127.0.0.1:{port}"}
    lines |= {name.replace("_", "-").title(): value for name, value in headers.items()}
    if bearer is not None:
        lines["Authorization"] = f"Bearer {bearer}"
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    received = b""
    async with stream:
        await stream.send_all(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + data)
        with deadline("the whole answer"):
            while more := await stream.receive_some(65536):
                received += more
    head, _, answer = received.decode().partition("\r\n\r\n")
    return int(head.split()[1]), json.loads(answer)


async def test_a_code_gives_one_session_with_the_name_and_the_scope_of_its_maker() -> None:
    async with bench() as b:
        for token in (OWNER, WATCHER):
            client = await b.raw(token)
            code = (await client.ask("server.login"))["code"]
            status, session = await post(b.port, "/page/login", {"code": code})
            assert status == 200
            assert (session["name"], session["scope"]) == (token.name, token.scope)
            assert session["secret"].startswith("s1.") and token.secret not in session["secret"]
            page = await b.raw(None, Authorization=f"Bearer {session['secret']}")
            hello = await page.ask("server.hello")
            assert (hello["name"], hello["scope"]) == (token.name, token.scope)
            assert (await post(b.port, "/page/login", {"code": code}))[0] == 401
            assert "error" in await page.ask("server.login")  # a session makes no further ones
        b.reset_clients()


async def test_a_token_gives_a_session_so_that_the_page_need_not_keep_the_token() -> None:
    async with bench() as b:
        status, session = await post(b.port, "/page/login", {}, bearer=OWNER.secret)
        assert (status, session["scope"]) == (200, "control")
        assert (await post(b.port, "/page/login", {}, bearer=session["secret"]))[0] == 401
        for wrong in ("wrong-" + "0" * 20, None):
            assert (await post(b.port, "/page/login", {}, bearer=wrong))[0] == 401


async def test_a_logout_ends_the_session_and_its_connections() -> None:
    async with bench() as b:
        secret = (await post(b.port, "/page/login", {}, bearer=OWNER.secret))[1]["secret"]
        other = (await post(b.port, "/page/login", {}, bearer=OWNER.secret))[1]["secret"]
        page = await b.raw(None, Authorization=f"Bearer {secret}")
        stays = await b.raw(None, Authorization=f"Bearer {other}")
        assert await post(b.port, "/page/logout", {}, bearer=secret) == (200, {"ended": True})
        with deadline("the connection of the session is closed"):
            assert await page.close_code() == 4401
        assert await post(b.port, "/page/logout", {}, bearer=secret) == (200, {"ended": False})
        assert (await stays.ask("server.hello"))["name"] == OWNER.name
        assert await post(b.port, "/page/logout", {}, bearer=OWNER.secret) == (200, {"ended": False})
        b.reset_clients()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_type": ""}, 415),
    ],
)
async def test_a_foreign_page_can_log_nobody_in(change: dict[str, str], status: int) -> None:
    async with bench() as b:
        assert (await post(b.port, "/page/login", {}, bearer=OWNER.secret, **change))[0] == status


@pytest.mark.parametrize("body", [b"", b"[]", b'{"code": 1}', b'{"more": 1}', b'{"code": "' + b"x" * 2000 + b'"}'])
async def test_a_malformed_login_is_refused(body: bytes) -> None:
    async with bench() as b:
        status, _ = await post(b.port, "/page/login", body, bearer=OWNER.secret)
        assert status == (413 if len(body) > 1000 else 400)


async def test_an_address_can_try_ten_codes_a_minute() -> None:
    async with bench() as b:
        tries = [await post(b.port, "/page/login", {"code": f"{at:022}"}) for at in range(11)]
        assert [status for status, _ in tries] == [401] * 10 + [429]


async def test_a_server_without_tokens_needs_no_session() -> None:
    async with bench(tokens=None) as b:
        status, session = await post(b.port, "/page/login", {})
        assert (status, session["secret"]) == (200, "")


async def test_a_server_without_the_page_has_no_logins() -> None:
    async with bench(page=False) as b:
        for path in ("/page/login", "/page/logout"):
            assert (await post(b.port, path, {}, bearer=OWNER.secret))[0] in (404, 405)
