"""Rules of page sessions, tickets and login codes: what is accepted from whom, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from support.server import OPERATOR, OWNER, WATCHER
from trio_jobs._server.address_limiter import AddressLimiter
from trio_jobs._server.credentials import Credentials
from trio_jobs._server.identity import Identity, InvalidCredential, Problem
from trio_jobs._server.known_token import ANYONE
from trio_jobs._server.login_codes import MAX_CODES, TRIES, LoginCodes, LoginRefused
from trio_jobs._server.logins import LIFETIME, Logins
from trio_jobs._server.page_sessions import LIFETIME as SESSION_LIFETIME
from trio_jobs._server.page_sessions import EndedSessions, PageSession
from trio_jobs._server.queue_keys import QueueKeys
from trio_jobs._server.signatures import decode64, derive, encode64, is_signed_by, sign, split
from trio_jobs._server.tickets import MAX_TICKET, create_ticket, read_ticket
from trio_jobs._server.tokens import Token, known

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
JOB = "a" * 32


@attrs.define
class Secrets:
    """The part of a queue that keeps secrets, and its clock."""

    time: float = 1_000_000.0
    kept: dict[str, str] = attrs.field(factory=dict)

    def now(self) -> float:
        return self.time

    async def read_secrets(self) -> Mapping[str, str]:
        return dict(self.kept)

    async def keep_secret(self, name: str, value: str) -> None:
        self.kept[name] = value


class Bench:
    """The credentials of a server, without the server."""

    def __init__(self, *tokens: Token, backend: Secrets | None = None) -> None:
        self.backend = backend or Secrets()
        self.keys = QueueKeys(cast("Any", self.backend))
        self.credentials = Credentials([known(token) for token in tokens], self.keys, self.backend.now)
        self.logins = Logins(self.credentials, self.keys, self.backend.now)

    async def restarted(self, *tokens: Token) -> Bench:
        """The same queue in another life of its server."""
        bench = Bench(*tokens, backend=self.backend)
        await bench.keys.load()
        return bench

    async def session(self, token: Token = OPERATOR) -> PageSession:
        return await self.logins.start(self.credentials.identify(token.secret))

    def problem(self, secret: str) -> Problem:
        with pytest.raises(InvalidCredential) as refused:
            self.credentials.identify(secret)
        assert len(secret) < 20 or secret not in str(refused.value)
        return refused.value.problem


# signatures


def test_a_derived_key_is_that_of_rfc_5869() -> None:
    """HKDF-Expand has the length of one hash, and the info of a purpose: test case 1 with 32 bytes."""
    secret, salt, info = b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA))
    expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
    assert derive(secret, info, salt).hex() == expected


@given(st.binary(max_size=60))
def test_base64url_has_no_padding_and_comes_back(data: bytes) -> None:
    assert decode64(encode64(data)) == data
    assert "=" not in encode64(data)


@given(st.data())
def test_a_signed_text_in_which_any_character_differs_is_refused(data: st.DataObject) -> None:
    """Also where the bytes that it encodes are the same: the last character of base64 has bits without a meaning."""
    text = sign("t1", KEY, b"payload")
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("ABCDEFGHabcdefgh0123456789-_.= \u00e9").filter(lambda char: char != text[at]))
    changed = split("t1", text[:at] + other + text[at + 1 :])
    assert changed is None or not is_signed_by(KEY, changed)


@given(st.text(max_size=100))
def test_any_text_can_be_presented(text: str) -> None:
    bench = Bench(OWNER)
    for secret in (text, f"t1.{text}", f"s1.{text}", f"t1.a.b.{text}", f"s1.a.b.{text}"):
        bench.problem(secret)


# page sessions


async def test_a_page_session_has_the_name_and_the_scope_of_its_token() -> None:
    bench = Bench(OWNER, OPERATOR)
    session = await bench.session()
    identity = bench.credentials.identify(session.secret)
    assert (identity.name, identity.scope, identity.bounds) == ("ida", "operate", known(OPERATOR).bounds)
    assert identity.credential == known(OPERATOR).credential, "it shares the limits of its token"
    assert (session.name, session.scope) == ("ida", "operate")
    assert session.secret not in repr(session)
    assert session.expires_at == identity.until == bench.backend.time + SESSION_LIFETIME
    bench.credentials.check(identity)


async def test_a_page_session_survives_a_restart_and_ends_with_its_token() -> None:
    bench = Bench(OWNER, OPERATOR)
    session = await bench.session()
    identity = bench.credentials.identify(session.secret)
    assert (await bench.restarted(OPERATOR)).credentials.identify(session.secret) == identity
    rotated = Token("rotated-" + "1" * 20, "ida", "operate")
    for tokens in ([OWNER], [rotated], [OWNER, rotated]):
        later = await bench.restarted(*tokens)
        assert later.problem(session.secret) is Problem.SESSION_ENDED
        with pytest.raises(InvalidCredential):
            later.credentials.check(identity)


@pytest.mark.parametrize(("name", "scope"), [("ida", "watch"), ("ida", "control"), ("ada", "operate")])
async def test_a_page_session_ends_when_its_token_has_another_name_or_scope(name: str, scope: Any) -> None:
    bench = Bench(OPERATOR)
    session = await bench.session()
    identity = bench.credentials.identify(session.secret)
    later = await bench.restarted(Token(OPERATOR.secret, name, scope))
    assert later.problem(session.secret) is Problem.SESSION_ENDED
    with pytest.raises(InvalidCredential):
        later.credentials.check(identity)


async def test_a_page_session_expires() -> None:
    bench = Bench(OPERATOR)
    session = await bench.session()
    identity = bench.credentials.identify(session.secret)
    bench.backend.time = session.expires_at - 1
    assert bench.credentials.identify(session.secret) == identity
    bench.backend.time = session.expires_at
    assert bench.problem(session.secret) is Problem.SESSION_EXPIRED
    with pytest.raises(InvalidCredential):
        bench.credentials.check(identity)


async def test_a_page_session_ends_at_a_logout() -> None:
    bench = Bench(OPERATOR)
    session, other = await bench.session(), await bench.session()
    identity = bench.credentials.identify(session.secret)
    assert bench.logins.log_out(identity)
    assert bench.problem(session.secret) is Problem.SESSION_ENDED
    with pytest.raises(InvalidCredential):
        bench.credentials.check(identity)
    bench.credentials.check(bench.credentials.identify(other.secret))
    assert not bench.logins.log_out(bench.credentials.identify(OPERATOR.secret)), "a token is removed, not logged out"


def test_no_logout_is_forgotten_before_its_session_expires() -> None:
    """Where the list is full, sessions that expire as early as a dropped one count as ended too."""
    ended = EndedSessions(most=3)
    sessions = [Identity("ida", "operate", session=str(n), until=1000.0 + n) for n in range(6)]
    for n in (4, 0, 2, 1, 3):
        ended.add(str(n), 1000.0 + n, 0.0)
        assert len(ended) <= 3
    for session in sessions[:5]:
        with pytest.raises(InvalidCredential):
            ended.check(session)
    ended.check(sessions[5])


def test_logouts_of_expired_sessions_are_dropped() -> None:
    ended = EndedSessions()
    ended.add("a", 10.0, 0.0)
    ended.add("b", 20.0, 10.0)
    assert len(ended) == 1


async def test_who_can_read_the_digests_alone_cannot_make_page_sessions() -> None:
    """Two queues with the same tokens have different keys."""
    bench, other = Bench(OPERATOR), Bench(OPERATOR)
    session = await bench.session()
    await other.session()
    assert other.problem(session.secret) is Problem.SESSION_ENDED


async def test_only_a_token_starts_a_page_session() -> None:
    bench = Bench(OPERATOR)
    session = bench.credentials.identify((await bench.session()).secret)
    key = await bench.keys.for_tickets()
    ticket = bench.credentials.identify(create_ticket(JOB, bench.backend.time + 60, (), key))
    for identity in (session, ticket, ANYONE):
        with pytest.raises(LoginRefused, match="has presented a token"):
            bench.logins.new_code(identity)
        with pytest.raises(LoginRefused, match="has presented a token"):
            await bench.logins.start(identity)


# tickets


async def test_a_ticket_is_for_one_job_and_watches() -> None:
    bench = Bench(OWNER)
    until = bench.backend.time + 3600
    secret = create_ticket(JOB, until, ["result"], await bench.keys.for_tickets())
    identity = bench.credentials.identify(secret)
    assert identity.ticket is not None
    assert (identity.ticket.job, identity.ticket.show) == (JOB, frozenset({"state", "result"}))
    assert (identity.scope, identity.until) == ("watch", until)
    assert secret not in repr(identity)
    assert identity.credential not in secret.rpartition(".")[2]


async def test_a_ticket_is_refused_with_its_reason() -> None:
    bench, other = Bench(OWNER), Bench(OWNER)
    until = bench.backend.time + 3600
    secret = create_ticket(JOB, until, (), await bench.keys.for_tickets())
    await other.keys.for_tickets()
    assert other.problem(secret) is Problem.FOREIGN
    changed = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    assert bench.problem(changed) is Problem.CHANGED
    assert bench.problem(secret.rpartition(".")[0]) is Problem.CHANGED
    identity = bench.credentials.identify(secret)
    bench.backend.time = until
    assert bench.problem(secret) is Problem.EXPIRED
    with pytest.raises(InvalidCredential, match="expired"):
        bench.credentials.check(identity)


async def test_a_ticket_survives_a_restart_and_a_change_of_tokens_but_not_a_revocation() -> None:
    bench = Bench(OWNER)
    secret = create_ticket(JOB, bench.backend.time + 3600, (), await bench.keys.for_tickets())
    later = await bench.restarted(WATCHER)
    identity = later.credentials.identify(secret)
    later.credentials.check(identity)
    await later.keys.revoke_tickets()
    assert later.problem(secret) is Problem.FOREIGN
    with pytest.raises(InvalidCredential):
        later.credentials.check(identity)
    assert (await bench.restarted(OWNER)).problem(secret) is Problem.FOREIGN


async def test_each_ticket_is_valid_for_its_whole_time_though_its_key_is_replaced() -> None:
    """After two replacements no ticket of the first key can be left."""
    bench = Bench(OWNER)
    tickets: list[tuple[str, float]] = []
    for _ in range(30):
        until = bench.backend.time + MAX_TICKET
        tickets.append((create_ticket(JOB, until, (), await bench.keys.for_tickets()), until))
        assert len(bench.keys.tickets) <= 2
        for secret, end in tickets:
            if end > bench.backend.time:
                bench.credentials.identify(secret)
        bench.backend.time += MAX_TICKET // 7
    assert len({secret.split(".")[1] for secret, _ in tickets}) > 2


async def test_tickets_have_no_key_of_a_token() -> None:
    bench = Bench(OWNER)
    keys = {await bench.keys.for_tickets(), await bench.keys.for_sessions()}
    assert len(keys) == 2
    assert keys.isdisjoint({known(OWNER).digest, derive(known(OWNER).digest, "trio-jobs session")})


# login codes


async def test_a_login_code_is_valid_once_and_for_five_minutes(autojump_clock: MockClock) -> None:
    bench = Bench(OPERATOR)
    identity = bench.credentials.identify(OPERATOR.secret)
    code = bench.logins.new_code(identity)
    assert len(decode64(code)) == 16
    session = await bench.logins.exchange(code, "10.0.0.1")
    assert bench.credentials.identify(session.secret).name == "ida"
    with pytest.raises(LoginRefused, match="used before"):
        await bench.logins.exchange(code, "10.0.0.1")
    codes = [bench.logins.new_code(identity) for _ in range(2)]
    await trio.sleep(LIFETIME - 1)
    await bench.logins.exchange(codes[0], "10.0.0.1")
    await trio.sleep(1)
    with pytest.raises(LoginRefused, match="has expired") as refused:
        await bench.logins.exchange(codes[1], "10.0.0.1")
    assert codes[1] not in str(refused.value)


async def test_a_login_code_of_a_removed_token_is_not_valid() -> None:
    bench = Bench(OWNER)
    identity = Bench(OPERATOR).credentials.identify(OPERATOR.secret)
    code = bench.logins.new_code(identity)  # as if the token had been removed since then
    with pytest.raises(LoginRefused, match="removed"):
        await bench.logins.exchange(code, "10.0.0.1")


def test_an_address_tries_ten_logins_a_minute() -> None:
    codes, identity = LoginCodes(), known(OPERATOR).identity
    code = codes.create(identity, bytes(16), 0.0)
    for _ in range(TRIES):
        with pytest.raises(LoginRefused, match="not valid"):
            codes.redeem("guess", "10.0.0.1", 0.0)
    with pytest.raises(LoginRefused, match="too many") as refused:
        codes.redeem(code, "10.0.0.1", 0.0)
    assert refused.value.retry_after == pytest.approx(6.0)
    assert codes.redeem(code, "10.0.0.2", 0.0) == identity, "another address, and the code is not used up"
    with pytest.raises(LoginRefused, match="not valid"):
        codes.redeem("guess", "10.0.0.1", 6.1)


def test_the_number_of_login_codes_is_limited() -> None:
    codes, identity = LoginCodes(), known(OPERATOR).identity
    made = [codes.create(identity, n.to_bytes(16, "big"), 0.0) for n in range(MAX_CODES + 1)]
    assert len(codes) == MAX_CODES
    with pytest.raises(LoginRefused):
        codes.redeem(made[0], "a", 0.0)
    assert codes.redeem(made[-1], "a", 0.0) == identity


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 20)), max_size=60))
def test_addresses_together_take_no_more_than_their_buckets_and_one(steps: list[tuple[float, int]]) -> None:
    limiter, now, taken = AddressLimiter(5, 0.5, most=4), 0.0, 0
    for wait, address in steps:
        now += wait
        assert len(limiter) <= 4
        taken += limiter.take(str(address), 1, now) == 0
        assert taken <= 5 * 21 + 0.5 * now * 21
    one = AddressLimiter(5, 0.5, most=4)
    for n in range(4):
        one.take(str(n), 1, 0.0)
    assert sum(one.take(str(address), 1, 0.0) == 0 for address in range(100, 200)) == 5, "the others share one bucket"
    assert one.take("0", 4, 0.0) == 0


def test_an_unknown_key_of_a_ticket_names_another_queue() -> None:
    ticket = create_ticket(JOB, 10.0, (), KEY)
    assert read_ticket(ticket, [OTHER_KEY, KEY], 0.0).ticket is not None
    with pytest.raises(InvalidCredential, match="another queue"):
        read_ticket(ticket, [OTHER_KEY], 0.0)
