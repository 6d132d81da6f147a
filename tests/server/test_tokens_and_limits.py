"""Who may do what, and how often."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.server import OWNER, WATCHER, credentials, make_service
from trio_jobs import UsageError
from trio_jobs._server.identity import InvalidCredential
from trio_jobs._server.limits import RateLimiter, ServerLimits
from trio_jobs._server.server import serve
from trio_jobs._server.tokens import Token, known

TOKENS = credentials(OWNER, WATCHER)
OWN, WATCHING = known(OWNER).identity, known(WATCHER).identity


def as_subprotocol(secret: str) -> str:
    return "bearer." + base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")


def test_a_token_comes_by_header_or_by_subprotocol() -> None:
    assert TOKENS.authorise(f"Bearer {OWNER.secret}") == OWN
    assert TOKENS.authorise(f"bearer  {WATCHER.secret}") == WATCHING
    assert TOKENS.authorise(None, ["trio-jobs.v1", as_subprotocol(OWNER.secret)]) == OWN
    assert TOKENS.authorise(f"Bearer {OWNER.secret}", [as_subprotocol(OWNER.secret)]) == OWN


@pytest.mark.parametrize(
    ("header", "subprotocols"),
    [
        (None, []),
        ("", []),
        ("Bearer", []),
        ("Bearer ", []),
        (f"Basic {OWNER.secret}", []),
        (OWNER.secret, []),
        (f"Bearer {OWNER.secret}x", []),
        (f"Bearer {OWNER.secret[:-1]}", []),
        (None, ["bearer."]),
        (None, ["bearer.!!!"]),
        (None, ["bearer." + OWNER.secret]),
        (None, [as_subprotocol("é" * 20)]),
        (f"Bearer {OWNER.secret}", [as_subprotocol(WATCHER.secret)]),
        (None, [as_subprotocol(OWNER.secret), as_subprotocol(WATCHER.secret)]),
    ],
)
def test_any_other_credential_identifies_no_token(header: str | None, subprotocols: list[str]) -> None:
    with pytest.raises(InvalidCredential, match="the token is missing or invalid"):
        TOKENS.authorise(header, subprotocols)


def test_a_secret_is_not_shown() -> None:
    token = Token.random("ann", "watch")
    assert token.secret not in repr(token)
    assert len(token.secret) >= 43
    assert known(token).digest.hex() not in repr(known(token))
    assert credentials(token).identify(token.secret) == known(token).identity


@pytest.mark.parametrize(
    ("secret", "name", "scope"),
    [("short", "a", "watch"), ("x" * 16, "", "watch"), ("x" * 16, "a\n", "watch"), ("x" * 16, "a", "root"),
     ("é" * 16, "a", "watch"), ("x" * 15 + " ", "a", "watch")],
)  # fmt: skip
def test_an_invalid_token_is_refused_where_it_is_made(secret: str, name: str, scope: str) -> None:
    with pytest.raises(UsageError):
        Token(secret, name, scope)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 20)), max_size=40))
def test_a_rate_limiter_never_admits_more_than_its_size_and_its_rate(steps: list[tuple[float, float]]) -> None:
    bucket, now, passed = RateLimiter(10, 2.0, 0.0), 0.0, 0.0
    for wait, amount in steps:
        now += wait
        if bucket.take(amount, now):
            passed += min(amount, 10)
        assert passed <= 10 + 2.0 * now + 1e-6


def test_a_rate_limiter_fills_up_again() -> None:
    bucket = RateLimiter(2, 1.0, 0.0)
    assert [bucket.take(1, 0.0) for _ in range(3)] == [True, True, False]
    assert bucket.take(1, 1.0)
    assert not bucket.take(1, 1.5)


@pytest.mark.parametrize("name", ["connections", "pending", "ping", "write_timeout", "bytes_per_second", "frames"])
def test_a_limit_of_zero_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        ServerLimits(**{name: 0})


@pytest.mark.parametrize(
    ("connections", "most"), [(1, 1), (2, 1), (500, 250), (960, 480), (2048, 1024), (10_000, 1024)]
)
def test_unauthenticated_connections_have_at_most_half_of_the_slots(connections: int, most: int) -> None:
    assert ServerLimits(connections=connections).most_pending == most


@pytest.mark.parametrize(
    "arguments",
    [
        {"host": "0.0.0.0", "tokens": [OWNER]},
        {"host": "example.org", "tokens": [OWNER]},
        {"host": "0.0.0.0", "tokens": None, "insecure": True},
        {"tokens": []},
        {"tokens": OWNER},
    ],
)
async def test_arguments_that_would_admit_unauthenticated_clients_are_refused_before_the_server_listens(
    arguments: dict[str, object],
) -> None:
    async with make_service().open() as queue:
        with pytest.raises(UsageError):
            async with serve(queue, port=0, **arguments):  # type: ignore[arg-type]
                pass
