"""A session in which something has gone wrong is discarded: it is closed with the exception, and not called again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.process_rig import IN_A_PROCESS, make_service, serve
from support.rig import NO_RETRY, HostKind, until_state
from support.rig import open_jumping_queue as open_queue
from support.served_sdk import open_served_session
from trio_jobs import Cancel, Done, Fail, NotDone, Retry, RetryAfter, Service, SessionDiscarded, SessionLost, Snooze


class Wrong(Exception):
    """What a handler raises."""


class OtherError(Exception):
    """What a handler raises that is not listed."""


@attrs.define
class Ledger:
    """An SDK whose session keeps work in its memory until it is saved; a close saves, a discard does not."""

    file: list[str] = attrs.field(factory=list)
    thrown: list[BaseException | None] = attrs.field(factory=list)
    """What was thrown into each session; None for a session that was closed."""
    opened: int = 0
    on_discard: BaseException | None = None
    on_verify: BaseException | None = None
    errors: list[BaseException] = attrs.field(factory=list)
    """Each call raises the next one."""

    @contextmanager
    def session(self) -> Iterator[LedgerSession]:
        self.opened += 1
        session = LedgerSession(self, self.opened, [*self.file])
        try:
            yield session
        except BaseException as error:
            self.thrown.append(error)
            if self.on_discard is not None:
                raise self.on_discard from error
            raise
        else:
            self.thrown.append(None)
            self.file = session.memory

    @asynccontextmanager
    async def async_session(self) -> AsyncIterator[LedgerSession]:
        await trio.lowlevel.checkpoint()
        with self.session() as session:
            yield session


@attrs.define
class LedgerSession:
    ledger: Ledger
    number: int
    memory: list[str]

    def book(self, what: str) -> str:
        self.memory.append(what)
        if self.ledger.errors:
            raise self.ledger.errors.pop(0)
        self.ledger.file = [*self.memory]  # what a handler returned is durable
        return f"{what} in session {self.number}"

    def has(self, what: str) -> bool:
        if self.ledger.on_verify is not None:
            raise self.ledger.on_verify
        return what in self.memory


def book(session: Any, what: str) -> str:
    result: str = session.book(what)
    return result


async def abook(session: LedgerSession, what: str) -> str:
    return session.book(what)


def is_in_memory(session: Any, job: Any) -> Done | NotDone:
    return Done("found") if session.has("a") else NotDone()


async def ais_in_memory(session: Any, job: Any) -> Done | NotDone:
    return is_in_memory(session, job)


def process_ledger_service(rules: dict[str, Any], settings: dict[str, Any]) -> Service:
    service = Service(sdk=open_served_session, **IN_A_PROCESS, **settings)
    service.handler(kind="book", **rules)(book)
    return service


def ledger_service(
    ledger: Ledger, kind: HostKind, *errors: BaseException, verifies: bool = False, **settings: Any
) -> Service:
    """A service with the kind "book", of which each call raises the next of `errors`."""
    ledger.errors += errors
    rules: dict[str, Any] = {"retry": settings.pop("retry", Retry(3, waits=[0]))}
    rules["idempotent"] = settings.pop("idempotent", False)
    if verifies:
        rules["verify"] = ais_in_memory if kind == "trio" else is_in_memory
    if kind == "process":
        serve(ledger.session)
        return make_service(process_ledger_service, rules, settings)
    service = Service(sdk=ledger.session, **settings)
    if kind == "trio":
        service = Service(async_sdk=ledger.async_session, **settings)
    service.handler(kind="book", **rules)(abook if kind == "trio" else book)
    return service


async def test_p6_verify_is_called_in_another_session_than_the_one_in_which_the_attempt_failed(
    kind: HostKind, autojump_clock: MockClock
) -> None:
    ledger = Ledger()
    async with open_queue(ledger_service(ledger, kind, Wrong(), verifies=True)) as queue:
        receipt = await queue.submit("book", "a")
        assert await queue.result(receipt.job_id) == "a in session 2"
    assert ledger.file == ["a"], "the failed attempt left its work in the memory of session 1 only"
    assert [type(error) for error in ledger.thrown] == [Wrong, type(None)]


async def test_the_work_of_the_next_job_does_not_carry_the_half_of_a_failed_one(
    kind: HostKind, autojump_clock: MockClock
) -> None:
    ledger = Ledger()
    async with open_queue(ledger_service(ledger, kind, Wrong(), retry=NO_RETRY)) as queue:
        await queue.submit("book", "half")
        await queue.submit("book", "whole")
    assert ledger.file == ["whole"]


async def test_the_exception_of_the_attempt_is_thrown_into_the_context_manager(
    kind: HostKind, autojump_clock: MockClock
) -> None:
    ledger, error = Ledger(), Wrong()
    async with open_queue(ledger_service(ledger, kind, error, retry=NO_RETRY)) as queue:
        await until_state(queue, (await queue.submit("book", "a")).job_id, "failed")
        await trio.sleep(1)
        assert [repr(thrown) for thrown in ledger.thrown] == [repr(error)], "at once, not when the next job comes"
        assert kind == "process" or ledger.thrown == [error]
        assert queue.health().ok
    assert queue.report is not None
    assert queue.report.sdk_closed
    assert queue.report.sdk_problem is None, "the thrown exception itself is no close problem"


async def test_what_else_a_close_raises_is_a_close_problem_that_names_both_errors(
    kind: HostKind, autojump_clock: MockClock
) -> None:
    ledger = Ledger(on_discard=OSError("cannot roll back"))
    store = trio_jobs.MemoryStore()
    async with open_queue(ledger_service(ledger, kind, Wrong("no such account"), retry=NO_RETRY), store=store) as queue:
        await until_state(queue, (await queue.submit("book", "a")).job_id, "failed")
        events = [event async for event in _closes(queue)]
    assert [event.problem for event in events] == [
        "OSError: cannot roll back (when the session was discarded because of Wrong: no such account)"
    ]


async def _closes(queue: trio_jobs.Queue) -> AsyncIterator[trio_jobs.events.SessionClosed]:
    async for event in queue.events(after=0):
        if isinstance(event, trio_jobs.events.SessionClosed):
            yield event
            return


@pytest.mark.parametrize(
    "directive", [Fail("no"), Cancel("no"), Snooze(1), RetryAfter(1)], ids=lambda error: type(error).__name__
)
async def test_a_directive_keeps_the_session(directive: Exception, kind: HostKind, autojump_clock: MockClock) -> None:
    ledger = Ledger()
    async with open_queue(ledger_service(ledger, kind, directive)) as queue:
        await queue.submit("book", "a")
        await trio.sleep(5)
        assert ledger.thrown == []
    assert ledger.thrown == [None]


async def test_a_group_of_a_directive_and_another_error_does_not_keep_the_session(
    kind: HostKind, autojump_clock: MockClock
) -> None:
    ledger = Ledger()
    error = ExceptionGroup("both", [Fail("no"), Wrong()])
    async with open_queue(ledger_service(ledger, kind, error, retry=NO_RETRY)) as queue:
        await until_state(queue, (await queue.submit("book", "a")).job_id, "failed")
        await trio.sleep(1)
        assert len(ledger.thrown) == 1


async def test_an_idempotent_handler_that_raises_discards_the_session_too(
    kind: HostKind, autojump_clock: MockClock
) -> None:
    ledger = Ledger()
    async with open_queue(ledger_service(ledger, kind, Wrong(), idempotent=True)) as queue:
        assert await queue.result((await queue.submit("book", "a")).job_id) == "a in session 2"


async def test_a_timeout_throws_session_discarded(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(async_sdk=ledger.async_session)

    @service.handler(attempt_timeout=5, on_doubt="hold")
    async def work(session: LedgerSession, what: str) -> None:
        await trio.sleep_forever()

    async with open_queue(service) as queue:
        await until_state(queue, (await queue.submit(work, "a")).job_id, "in_doubt")
        await trio.sleep(1)
        [thrown] = ledger.thrown
    assert isinstance(thrown, SessionDiscarded)
    assert str(thrown) == "attempt_timeout"


async def test_an_error_of_trios_thread_is_not_thrown_on_the_sdks_thread(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(retry=NO_RETRY)
    async def work(sdk: trio_jobs.SdkHandle, what: str) -> None:
        await sdk.call(LedgerSession.book, what)
        raise Wrong("made in Trio's thread")

    async with open_queue(service) as queue:
        await until_state(queue, (await queue.submit(work, "a")).job_id, "failed")
        await trio.sleep(1)
        [thrown] = ledger.thrown
    assert isinstance(thrown, SessionDiscarded)
    assert str(thrown) == "Wrong"


@pytest.mark.parametrize("grouped", [False, True])
async def test_what_a_call_of_an_async_handler_raised_is_thrown_into_the_context_manager(
    grouped: bool, autojump_clock: MockClock
) -> None:
    ledger, error = Ledger(), Wrong("no such account")
    service = Service(sdk=ledger.session)

    def fail(session: LedgerSession) -> None:
        raise error

    @service.handler(retry=NO_RETRY)
    async def work(sdk: trio_jobs.SdkHandle, what: str) -> None:
        if not grouped:
            await sdk.call(fail)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sdk.call, fail)

    async with open_queue(service) as queue:
        await until_state(queue, (await queue.submit(work, "a")).job_id, "failed")
        await trio.sleep(1)
        assert ledger.thrown == [error]


async def test_an_attempt_that_did_not_enter_the_sdk_keeps_the_session(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(retry=NO_RETRY)
    async def work(sdk: trio_jobs.SdkHandle, what: str) -> None:
        raise Wrong

    async with open_queue(service) as queue:
        await until_state(queue, (await queue.submit(work, "a")).job_id, "failed")
        await trio.sleep(1)
        assert ledger.thrown == []


def is_gone(error: BaseException) -> bool:
    return "gone" in str(error)


@pytest.mark.parametrize(
    ("renew", "error", "discards"),
    [
        (True, Wrong(), True),
        (False, Wrong(), False),
        (False, SessionLost(), True),
        (Wrong, Wrong(), True),
        (Wrong, OtherError(), False),
        ((Wrong, OtherError), OtherError(), True),
        (is_gone, Wrong("gone"), True),
        (is_gone, Wrong("busy"), False),
    ],
    ids=["all", "none", "SessionLost", "the class", "another class", "one of two", "accepted", "not accepted"],
)
async def test_renew_after_error_says_which_errors_discard_the_session(
    renew: Any, error: BaseException, discards: bool, kind: HostKind, autojump_clock: MockClock
) -> None:
    ledger = Ledger()
    service = ledger_service(ledger, kind, error, retry=NO_RETRY, renew_after_error=renew)
    async with open_queue(service) as queue:
        await until_state(queue, (await queue.submit("book", "a")).job_id, "failed")
        await trio.sleep(1)
        assert len(ledger.thrown) == discards


@pytest.mark.parametrize("renew", [None, "Wrong", 1.5, (Wrong, "Wrong"), int])
def test_an_invalid_renew_after_error_is_refused(renew: Any) -> None:
    with pytest.raises(trio_jobs.UsageError, match="renew_after_error must be"):
        Service(renew_after_error=renew)


async def test_a_verify_that_raises_discards_the_session(kind: HostKind, autojump_clock: MockClock) -> None:
    ledger = Ledger(on_verify=Wrong("cannot look"))
    async with open_queue(ledger_service(ledger, kind, Wrong(), verifies=True)) as queue:
        await until_state(queue, (await queue.submit("book", "a")).job_id, "in_doubt")
        await queue.result((await queue.submit("book", "b")).job_id)
    assert [type(error) for error in ledger.thrown] == [Wrong, Wrong, type(None)]


async def test_a_service_without_an_sdk_has_no_session_to_discard(autojump_clock: MockClock) -> None:
    service = Service()

    @service.handler(retry=NO_RETRY)
    def work(what: str) -> None:
        raise Wrong

    async with open_queue(service) as queue:
        await until_state(queue, (await queue.submit(work, "a")).job_id, "failed")
        assert queue.statistics().session == 1


async def test_from_the_third_failed_session_in_a_row_the_next_opening_waits(
    kind: HostKind, autojump_clock: MockClock
) -> None:
    ledger = Ledger()
    errors = [Wrong() for _ in range(5)]
    service = ledger_service(ledger, kind, *errors, retry=NO_RETRY, open_retry=Retry(2, waits=[10, 100]))
    async with open_queue(service) as queue:
        for n in range(6):
            await queue.submit("book", str(n))
        await trio.sleep(5)
        assert ledger.opened == 3
        assert queue.health().problems == ("opening_sdk", "sessions_failing")
        await trio.sleep(10)
        assert ledger.opened == 4
        await trio.sleep(60)  # at most a minute
        assert ledger.opened == 5
        await trio.sleep(60)
        assert ledger.opened == 6
        assert queue.health().problems == ("sessions_failing",)
        await queue.submit("book", "last")
    assert ledger.file == ["5", "last"]


async def test_a_session_in_which_an_attempt_completed_is_not_a_failed_one(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = ledger_service(ledger, "thread", retry=NO_RETRY, open_retry=Retry(1, waits=[1000]))

    @service.handler(kind="fail", retry=NO_RETRY)
    def fail(session: LedgerSession, what: str) -> None:
        raise Wrong

    async with open_queue(service) as queue:
        for n in range(5):
            await queue.submit("book", str(n))
            await queue.submit("fail", str(n))
        await trio.sleep(1)
        assert queue.health().ok
    assert trio.current_time() == 1
    assert ledger.opened == 5


async def test_result_does_not_raise_job_in_doubt_before_verify_has_answered(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    def verify(session: LedgerSession, job: Any) -> NotDone:
        return NotDone()

    @service.handler(verify=verify, verify_delay=30, retry=Retry(1, waits=[0]))
    def book(session: LedgerSession, what: str, job: trio_jobs.JobContext) -> str:
        if job.attempt == 1:
            session.ledger.errors.append(Wrong())
        return session.book(what)

    doubts: list[trio_jobs.Job] = []
    service.on("in_doubt", doubts.append)
    async with open_queue(service) as queue:
        receipt = await queue.submit(book, "a")
        assert await queue.result(receipt.job_id, in_doubt="raise") == "a in session 2"
    assert trio.current_time() == 30
    assert doubts == [], "the hook is called for doubts that an operator must resolve"


async def test_drain_waits_for_the_verify_of_a_job_in_doubt(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session, drain_timeout=100)

    @service.handler(verify=lambda session, job: Done("found"), verify_delay=30)
    def book(session: LedgerSession, what: str) -> str:
        session.ledger.errors.append(Wrong())
        return session.book(what)

    async with open_queue(service) as queue:
        receipt = await queue.submit(book, "a")
        await queue.drain()
        assert queue.get(receipt.job_id).state == "completed"
    assert trio.current_time() == 30
