"""Rules of the file of named tokens, and of a server that reads it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import assume, given
from hypothesis import strategies as st

from support.server import OWNER, Bench, bench
from support.waiting import deadline
from trio_jobs import PermissionDenied, Token, UsageError, connect
from trio_jobs._server.identity import Problem
from trio_jobs._server.named_tokens import MAX_TOKENS, NamedToken, NamedTokens, read_tokens, write_tokens
from trio_jobs._wire.codes import Scope

ADA = Token("ada-" + "1" * 20, "ada", "operate")
BOB = Token("bob-" + "2" * 20, "bob", "watch")


def entry(token: Token, scope: Scope | None = None) -> NamedToken:
    return NamedToken(token.name, scope or token.scope, hashlib.sha256(token.secret.encode()).hexdigest())


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


# the file


def test_a_file_that_was_written_is_read(path: Path) -> None:
    tokens = [entry(ADA), entry(BOB)]
    write_tokens(path, tokens)
    assert read_tokens(path) == tokens
    assert ADA.secret not in path.read_text()
    assert sys.platform == "win32" or path.stat().st_mode & 0o777 == 0o600
    assert [*path.parent.iterdir()] == [path]


@given(at=st.floats(0, 1), more=st.sampled_from([b"", b"\0", b"}", b"\n["]))
def test_a_file_of_which_a_part_is_missing_is_refused(at: float, more: bytes, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "half"
    write_tokens(path, [entry(ADA), entry(BOB)])
    whole = path.read_bytes().rstrip()
    part = whole[: int(at * (len(whole) - 1))] + more
    assume(b"".join(part.split()) != b"".join(whole.split()))
    path.write_bytes(part)
    with pytest.raises(UsageError, match=r"half is not valid or not complete"):
        read_tokens(path)


def changed(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda file: file["tokens"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda file: file["tokens"].append(dict(file["tokens"][0], sha256="0" * 64)), "the name 'ada' twice"),
        (lambda file: file["tokens"].append(dict(file["tokens"][0], name="eve")), "the secret of 'eve' twice"),
        (changed(scope="root"), "scope"),
        (changed(name=""), "1 to 100 printable"),
        (changed(name="a\nb"), "1 to 100 printable"),
        (changed(sha256="A" * 64), "sha256"),
        (changed(sha256="0" * 63), "sha256"),
        (changed(secret="x"), "unknown field"),
        (lambda file: file.update(version=2), "of version 2; this trio-jobs reads version 1"),
        (lambda file: file.update(tokens=[file["tokens"][0]] * (MAX_TOKENS + 1)), "length <= 1000"),
    ],
)
def test_a_file_that_is_not_valid_is_refused_with_its_name(
    change: Callable[[dict[str, Any]], object], match: str, path: Path
) -> None:
    write_tokens(path, [entry(ADA)])
    file = json.loads(path.read_bytes())
    change(file)
    path.write_text(json.dumps(file))
    with pytest.raises(UsageError, match=match) as refused:
        read_tokens(path)
    assert str(path) in str(refused.value)


@pytest.mark.skipif(sys.platform == "win32", reason="files have no mode there")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_other_users_can_read_is_refused(mode: int, path: Path) -> None:
    write_tokens(path, [entry(ADA)])
    path.chmod(mode)
    with pytest.raises(UsageError, match="chmod 600"):
        read_tokens(path)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_what_is_no_file_is_refused_at_once(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(UsageError, match="is not a file"):
        read_tokens(path)


def test_the_last_valid_file_stays_in_use_until_the_file_is_gone(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokens = NamedTokens(path)
    assert tokens.tokens == []
    write_tokens(path, [entry(ADA)])
    assert tokens.refresh()
    assert [token.name for token in tokens.tokens] == ["ada"]
    assert not tokens.refresh()
    path.write_bytes(b'{"version": 1, "tok')
    for _ in range(2):
        assert not tokens.refresh()
    assert [token.name for token in tokens.tokens] == ["ada"]
    assert caplog.text.count("the previous ones stay in use") == 1
    write_tokens(path, [entry(ADA), entry(BOB)])
    assert tokens.refresh()
    path.unlink()
    assert tokens.refresh()
    assert tokens.tokens == []
    assert "is gone" in caplog.text


def test_a_name_of_the_server_s_own_tokens_is_refused(path: Path) -> None:
    write_tokens(path, [entry(ADA)])
    with pytest.raises(UsageError, match="choose another name"):
        NamedTokens(path, ["ada"])


# the server


@asynccontextmanager
async def served(path: Path, *entries: NamedToken) -> AsyncIterator[Bench]:
    if entries:
        write_tokens(path, [*entries])
    async with bench(tokens=[OWNER], token_file=path, metrics=False) as b:
        yield b


async def test_a_token_is_accepted_as_soon_as_it_is_in_the_file(path: Path) -> None:
    async with served(path) as b:
        with pytest.raises(PermissionDenied):
            async with connect(b.server.url, token=ADA.secret):
                pass
        write_tokens(path, [entry(ADA)])
        async with connect(b.server.url, token=ADA.secret) as client:
            job = await client.get((await client.submit("double", 1)).job_id)
            assert job.by == "ada"


@pytest.mark.parametrize("now", [[entry(BOB)], [entry(ADA, "control")], None], ids=["removed", "changed", "gone"])
async def test_the_connections_of_a_removed_token_are_closed(now: list[NamedToken] | None, path: Path) -> None:
    """With 4401, within seconds, although they send nothing; those of other tokens stay."""
    async with served(path, entry(ADA), entry(BOB)) as b:
        ada, bob, owner = await b.raw(ADA), await b.raw(BOB), await b.raw(OWNER)
        for client in (ada, bob, owner):
            await client.ask("jobs.subscribe", subscription="s")
        if now is None:
            path.unlink()
        else:
            write_tokens(path, now)
        with deadline("the connection of the removed token is closed"):
            _, payload = await ada.frame()
        assert int.from_bytes(payload[:2], "big") == 4401
        assert payload[2:].decode() == Problem.REMOVED
        await ada.stream.aclose()
        assert (await owner.ask("server.hello"))["name"] == "ann"
        if now == [entry(BOB)]:
            assert (await bob.ask("server.hello"))["name"] == "bob"
        await bob.stream.aclose()
        await owner.stream.aclose()


async def test_a_half_written_file_does_not_end_the_service(path: Path) -> None:
    async with served(path, entry(ADA)) as b:
        client = await b.raw(ADA)
        path.write_bytes(path.read_bytes()[:-9])
        for token in (ADA, OWNER):
            again = await b.raw(token)
            assert (await again.ask("server.hello"))["name"] == token.name
            await again.stream.aclose()
        assert (await client.ask("server.hello"))["scope"] == "operate"
        await client.stream.aclose()


async def test_a_file_that_is_not_valid_at_the_start_is_refused(path: Path) -> None:
    path.write_bytes(b"")
    path.chmod(0o600)
    with pytest.raises(UsageError, match="not valid or not complete"):
        async with served(path):
            raise AssertionError


async def test_a_file_of_tokens_alone_is_enough(path: Path) -> None:
    write_tokens(path, [entry(ADA)])
    async with bench(tokens=[], token_file=path, metrics=False) as b:
        client = await b.raw(ADA)
        assert (await client.ask("server.hello"))["name"] == "ada"
        await client.stream.aclose()
    with pytest.raises(UsageError, match="token_file needs tokens"):
        async with bench(tokens=None, token_file=path):
            raise AssertionError


async def test_a_logout_closes_the_connections_of_its_page_session_alone(path: Path) -> None:
    async with served(path, entry(ADA)) as b:
        logins, credentials = b.server.access.logins, b.server.access.credentials
        assert logins is not None
        assert credentials is not None
        identity = credentials.identify(ADA.secret)
        sessions = [await logins.start(identity) for _ in range(2)]
        clients = [await b.raw(Token(ADA.secret), Authorization=f"Bearer {session.secret}") for session in sessions]
        for client in clients:
            assert (await client.ask("server.hello"))["name"] == "ada"
        assert logins.log_out(credentials.identify(sessions[0].secret))
        with deadline("the connection is closed"):
            assert await clients[0].close_code() == 4401
        assert (await clients[1].ask("server.hello"))["name"] == "ada"
        for client in clients:
            await client.stream.aclose()
        await trio.lowlevel.checkpoint()
