"""Values of other people's classes are kept as exact ones, or refused to their caller; they end nothing."""

from __future__ import annotations

import contextlib
import enum
import inspect
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock

import trio_jobs
from support.hostile_errors import Number, Word
from support.rig import NO_RETRY, ended, last, open_queue
from support.server import make_service as served_service
from trio_jobs import Queue, Retry, Service, UsageError, events
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._validation import check_by, check_date, check_number, check_rate, check_seconds, check_text, check_wait


class Name(enum.StrEnum):
    ADA = "Ada"


class Seconds(float):
    """A float that is no exact one, as those of numpy are."""

    def __lt__(self, other: float) -> Any:
        return Word("maybe")  # as an array does

    __gt__ = __lt__


def make_service() -> Service:
    service = Service()

    @service.handler(kind=Word("work"), retry=NO_RETRY)
    async def work(what: str, job: trio_jobs.AsyncJobContext) -> Any:
        async def seven() -> Number:
            return Number(7)

        match what:
            case "fail":
                raise trio_jobs.Fail(Word("no"))
            case "cancel":
                raise trio_jobs.Cancel(Word("no"))
            case "later" if job.attempt == 1:
                raise trio_jobs.RetryAfter(Seconds(0.01), Word("later"))
            case "snooze" if job.attempt == 1:
                raise trio_jobs.Snooze(Number(0))
            case "step":
                return await job.step(Word("a"), seven)
            case "progress":
                job.progress(Number(1), Seconds(2), Word("half"))
            case "text":
                return Word("text")
            case "nested":
                return {Word("a"): [Number(1), Seconds(2), Name.ADA]}
        return None

    return service


SUBMITS: dict[str, dict[str, Any]] = {
    "key": {"key": Word("k")},
    "enum as key": {"key": Name.ADA},
    "by": {"by": Word("Ada")},
    "delay": {"delay": Seconds(0.01)},
    "deadline": {"deadline_after": Number(60)},
}
WHATS = ["fail", "cancel", "later", "snooze", "step", "progress", "text", "nested"]


def is_exact(value: Any) -> bool:
    """Whether a value of an event is of one of the classes that msgspec encodes without a hook."""
    if isinstance(value, msgspec.Struct):
        return all(is_exact(getattr(value, name)) for name in value.__struct_fields__)
    exact = (str, int, float, bool, type(None), msgspec.Raw, msgspec.UnsetType)
    return type(value) in exact or isinstance(value, trio_jobs.Outcome | trio_jobs.EndedBy)


async def exercise(queue: Queue) -> None:
    for arguments in SUBMITS.values():
        await queue.result((await queue.submit(Word("work"), "", **arguments)).job_id)
    for what in WHATS:
        await ended(queue, (await queue.submit("work", what)).job_id)
    await queue.submit_many([trio_jobs.NewJob("work", "", key=Word("m"))], by=Name.ADA)
    await queue.pause(Word("lunch"), by=Word("Ada"))
    await queue.resume(by=Word("Ada"))
    waiting = await queue.submit("work", "", delay=60)
    await queue.cancel(waiting.job_id, by=Name.ADA)
    await queue.retry(waiting.job_id, by=Word("Ada"))
    assert queue.list(kind=Word("work"), limit=Number(2))


@pytest.mark.parametrize("durable", [False, True], ids=["memory", "journal"])
async def test_every_event_has_exact_values(durable: bool, tmp_path: Path) -> None:
    async with make_service().open(journal=tmp_path / "j.db" if durable else None) as queue:
        await exercise(queue)
        stream = queue.events(after=0)
        seen = [await anext(stream) for _ in range(queue.statistics().seq)]
    assert [event for event in seen if not is_exact(event)] == []
    assert {event.by for event in seen if isinstance(event, events.Paused | events.CancelRequested)} == {"Ada"}


async def test_a_follower_in_memory_gets_every_event() -> None:
    service = served_service()
    async with service.open() as queue, trio_jobs.serve(queue, port=0, tokens=None) as server:
        async with trio_jobs.connect(server.url) as client, client.subscribe() as updates:
            await queue.submit("double", 1, key=Word("k"), by=Name.ADA)
            async for update in updates:
                if isinstance(update, events.Completed):
                    break
            assert client.reconnects == 0
            (job,) = await client.list()
            assert (job.key, job.by) == ("k", "Ada")


async def test_an_event_that_cannot_be_encoded_is_refused_and_changes_nothing(autojump_clock: MockClock) -> None:
    async with open_queue(make_service(), journal=None) as queue:
        log = runtime_of(queue).event_log
        odd = events.Paused(seq=log.next_seq, at=0.0, reason=Word("lunch"))
        with pytest.raises(UsageError, match="the event 'paused' cannot be encoded: TypeError: Encoding objects of"):
            log.append((odd,))
        assert queue.paused is None
        assert log.next_seq == odd.seq


async def test_a_submit_whose_event_cannot_be_encoded_keeps_no_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_jobs._runtime.admission.check_by", lambda by: by)
    for journal in (None, tmp_path / "j.db"):
        async with make_service().open(journal=journal) as queue:
            job = trio_jobs.NewJob("work", "")
            for _ in range(101):  # more than there are slots
                with pytest.raises(UsageError, match="cannot be encoded"):
                    await queue.submit("work", "", by=Word("Ada"), wait=0)
            for _ in range(51):
                with pytest.raises(UsageError, match="cannot be encoded"):
                    await queue.submit_many([job, job], by=Word("Ada"))
                if journal is None:
                    with pytest.raises(UsageError, match="cannot be encoded"):
                        queue.submit_nowait("work", "", by=Word("Ada"))
            assert queue.statistics().free == queue.statistics().capacity
            await queue.result((await queue.submit("work", "")).job_id)


# numbers


PUBLIC: list[Callable[..., Any]] = [Service, Retry, trio_jobs.Snooze, trio_jobs.RetryAfter, trio_jobs.ServerLimits]


def numbers_of(function: Callable[..., Any]) -> list[str]:
    """The names of the parameters whose annotation names a number."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if "float" in str(p.annotation) or "int" in str(p.annotation).split(" | ")]


@pytest.mark.parametrize(
    ("function", "name"), [(function, name) for function in PUBLIC for name in numbers_of(function)]
)
def test_nan_is_no_number_of_an_argument(function: Callable[..., Any], name: str) -> None:
    value: Any = [math.nan] if name == "waits" else math.nan
    needed: dict[str, Any] = {"executor": "process", "sdk": object} if name == "memory_limit" else {}
    with pytest.raises(UsageError, match="must be"):
        function(**{name: value}, **needed)


def test_the_numbers_of_each_public_argument_are_found() -> None:
    assert set(numbers_of(Retry)) == {"max_retries", "waits", "first", "factor", "max_wait", "jitter"}
    assert len(numbers_of(Service)) >= 12
    assert len(numbers_of(trio_jobs.ServerLimits)) == len(attrs.fields(trio_jobs.ServerLimits))


@pytest.mark.parametrize("name", ["attempt_timeout", "stuck_after", "verify_timeout", "verify_delay"])
def test_nan_is_no_limit_of_a_handler(name: str) -> None:
    limits: dict[str, Any] = {name: math.nan}
    with pytest.raises(UsageError, match=f"{name} must be a number of seconds"):
        Service().handler(kind="work", payload_type=int, **limits)(lambda payload: None)


@pytest.mark.parametrize("name", ["connect_timeout", "reconnect_timeout"])
async def test_nan_is_no_timeout_of_a_client(name: str) -> None:
    timeouts: dict[str, Any] = {name: math.nan}
    with pytest.raises(UsageError, match=f"{name} must be a number of seconds"):
        async with trio_jobs.connect("ws://127.0.0.1:9/ws", **timeouts):
            raise AssertionError


ANY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(10**300, 10**400), st.floats(), st.floats().map(Seconds),
    st.integers().map(Number), st.text(st.characters(codec=None)), st.text().map(Word), st.binary(), st.just([]),
)  # fmt: skip


@given(ANY)
def test_a_checked_value_is_exact_or_refused(value: Any) -> None:
    for check, class_ in (
        (lambda: check_seconds("x", value), float),
        (lambda: check_seconds("x", value, zero=False), float),
        (lambda: check_wait("x", value), float),
        (lambda: check_rate("x", value), float),
        (lambda: check_number("x", value), int),
        (lambda: check_text("x", value, 10), str),
    ):
        try:
            checked = check()
        except UsageError:
            continue
        assert type(checked) is class_
        assert checked == checked
        if class_ is str:
            assert 0 < len(checked.encode()) <= 40  # type: ignore[union-attr] # it is a str
        if class_ is float:
            assert checked >= 0.0  # type: ignore[operator] # it is a float
    with contextlib.suppress(UsageError):
        assert type(check_by(value)) in (str, type(None))


# progress


@pytest.mark.parametrize(
    ("report", "published"),
    [
        ((math.nan,), None),
        ((math.inf, 10), None),
        ((10**400,), None),
        ((1, math.inf), (1.0, None, "")),
        ((1, -math.inf, "x"), (1.0, None, "x")),
        ((1, 10**400), (1.0, None, "")),
        ((-1, 0), (-1.0, 0.0, "")),
        ((Number(1), Seconds(2), Word("x")), (1.0, 2.0, "x")),
        ((1, 2, "half \ud83d"), (1.0, 2.0, "half \\ud83d")),
        ((1, 2, "x" * 1_000_000), (1.0, 2.0, "x" * 200)),
        ((1, 2, 5), (1.0, 2.0, "5")),
    ],
)
async def test_progress_is_published_with_exact_finite_numbers_or_not_at_all(
    report: tuple[Any, ...], published: tuple[Any, ...] | None, autojump_clock: MockClock
) -> None:
    service = Service()
    seen = []

    @service.handler(retry=NO_RETRY)
    async def work(number: int, job: trio_jobs.AsyncJobContext) -> None:
        job.progress(*report)
        await trio.sleep(1)
        seen.append(queue.progress(job.id))

    async with open_queue(service) as queue:
        await queue.result((await queue.submit("work", 1)).job_id)
    (progress,) = seen
    if published is None:
        assert progress is None
    else:
        assert progress is not None
        values = (progress.done, progress.total, progress.message)
        assert values == published
        assert [type(value) for value in values] == [type(value) for value in published]


@pytest.mark.parametrize("bad", [None, "many", [1], object()])
async def test_progress_that_is_no_number_is_refused_to_the_handler(bad: Any, autojump_clock: MockClock) -> None:
    service = Service()

    @service.handler(retry=NO_RETRY)
    async def work(number: int, job: trio_jobs.AsyncJobContext) -> None:
        job.progress(bad)

    async with open_queue(service) as queue:
        job = await ended(queue, (await queue.submit("work", 1)).job_id)
        error = last(job).error
        assert error is not None
        assert (error.type, error.message[:21]) == ("UsageError", "done must be a number")


# dates


class Endless(tzinfo):
    """A time zone that says nothing about its offset."""

    def utcoffset(self, at: datetime | None) -> None:
        return None

    dst = utcoffset

    def tzname(self, at: datetime | None) -> str:
        return "endless"


LATEST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize("argument", ["due_at", "deadline_at"])
@pytest.mark.parametrize(
    "when",
    [
        datetime.max.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, tzinfo=UTC),
    ],
    ids=str,
)
async def test_a_job_of_the_latest_date_can_be_shown(argument: str, when: datetime, autojump_clock: MockClock) -> None:
    async with open_queue(make_service()) as queue:
        dates: dict[str, Any] = {argument: when}
        receipt = await queue.submit("work", "", **dates)
        job = queue.get(receipt.job_id)
        shown = job.due_at if argument == "due_at" else job.deadline_at
        assert shown is not None
        assert shown.timestamp() == min(when.timestamp(), LATEST.timestamp())
        assert queue.list()[0].to_dict()[argument].startswith("9999-12-31T")
        await queue.cancel(receipt.job_id)


@example(datetime.max.replace(tzinfo=UTC))
@given(st.datetimes(timezones=st.timezones() | st.just(UTC) | st.just(timezone(timedelta(hours=-23)))))
def test_every_aware_date_becomes_seconds_that_are_a_date_again(at: datetime) -> None:
    seconds = check_date("at", at)
    assert type(seconds) is float
    assert seconds <= LATEST.timestamp()
    shown = trio_jobs.events.Event(seq=1, at=seconds).occurred_at
    assert abs(shown.timestamp() - seconds) < 1


@pytest.mark.parametrize("bad", [datetime(2026, 1, 2), datetime(2026, 1, 2, tzinfo=Endless()), "2026-01-02", 5])
async def test_a_date_without_a_known_offset_is_refused(bad: Any, autojump_clock: MockClock) -> None:
    async with open_queue(make_service()) as queue:
        with pytest.raises(UsageError, match="due_at must be an aware datetime"):
            await queue.submit("work", "", due_at=bad)


@pytest.mark.parametrize("at", [253402300800.0, 1e18, -1e18, 253402300799.5])
def test_a_time_of_an_older_journal_that_is_no_date_is_shown_as_the_nearest_one(at: float) -> None:
    event = events.Scheduled(seq=1, at=at, job="j", kind="k", payload=msgspec.Raw(b"1"), due_at=at)
    assert event.due.year == event.occurred_at.year == (1 if at < 0 else 9999)
    assert event.to_dict()["due_at"][:5] in ("0001-", "9999-")
