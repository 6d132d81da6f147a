"""Users' mistakes, and what they are told. The message says what to do; it is checked whole."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.rig import NO_RETRY, busy_queue, ended, make_rig
from trio_jobs import (
    InvalidHandler,
    InvalidPayload,
    InvalidState,
    JobNotFound,
    Retry,
    Service,
    TrioJobsError,
    UnknownKind,
    UsageError,
)
from trio_jobs._engine.retry import Rules
from trio_jobs._runtime.settings import Settings
from trio_jobs._service import parts_of
from trio_jobs._service_parts import ServiceParts


@attrs.frozen
class Invoice:
    folio: str
    total_cents: int


@asynccontextmanager
async def async_sdk() -> AsyncIterator[str]:
    yield "sdk"


def says(error: type[TrioJobsError], message: str) -> Any:
    """The whole message, which may hold any characters."""
    import re

    return pytest.raises(error, match="^" + re.escape(message) + "$")


# the declaration


def plain(payload: int) -> None: ...


def generator(payload: int) -> Iterator[int]:
    yield payload


async def async_generator(payload: int) -> AsyncIterator[int]:
    yield payload


def untyped(payload): ...  # type: ignore[no-untyped-def]


def too_many(payload: int, job: Any, more: int) -> None: ...


def keyword_only(*, payload: int) -> None: ...


def unknown_class(payload: object) -> None: ...


def with_sdk(sdk: Any, payload: int) -> None: ...


HANDLERS: dict[str, tuple[Callable[..., Any], dict[str, Any], type[TrioJobsError], str]] = {
    "a lambda": (lambda payload: None, {}, InvalidHandler, "needs a name of 1 to 200 characters; give kind=..."),
    "too many parameters": (
        too_many,
        {},
        InvalidHandler,
        "must take (payload) or (payload, job), not (payload: 'int', job: 'Any', more: 'int') -> 'None'",
    ),
    "keyword only": (
        keyword_only,
        {},
        InvalidHandler,
        "handler 'keyword_only' must take (payload) or (payload, job), not (*, payload: 'int') -> 'None'",
    ),
    "no annotation": (
        untyped,
        {},
        InvalidHandler,
        "handler 'untyped': annotate parameter 'payload' with its payload type, or give payload_type=...",
    ),
    "on_doubt": (
        plain,
        {"on_doubt": "shrug"},
        InvalidHandler,
        "on_doubt of 'plain' must be 'hold', 'retry' or 'fail', not 'shrug'",
    ),
    "retry": (plain, {"retry": 3}, InvalidHandler, "retry of 'plain' must be a Retry, not 3"),
    "verify with an SDK": (
        plain,
        {"verify": with_sdk},
        InvalidHandler,
        "verify of 'plain' must take (job)",
    ),
    "a negative timeout": (
        plain,
        {"attempt_timeout": -1},
        UsageError,
        "attempt_timeout must be a number of seconds, more than 0, not -1",
    ),
    "a timeout of nothing": (
        plain,
        {"attempt_timeout": 0},
        UsageError,
        "attempt_timeout must be a number of seconds, more than 0, not 0",
    ),
    "a timeout that is no number": (
        plain,
        {"verify_delay": "soon"},
        UsageError,
        "verify_delay must be a number of seconds, 0 or more, not 'soon'",
    ),
    "a timeout that is not a number": (
        plain,
        {"verify_timeout": float("nan")},
        UsageError,
        "verify_timeout must be a number of seconds, more than 0, not nan",
    ),
}


@pytest.mark.parametrize("name", HANDLERS)
def test_a_handler_that_cannot_work_is_refused_where_it_is_declared(name: str) -> None:
    fn, options, error, message = HANDLERS[name]
    with pytest.raises(error) as caught:
        Service().handler(**options)(fn)
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize("fn", [generator, async_generator], ids=["generator", "async generator"])
def test_a_generator_is_refused_as_a_handler(fn: Any) -> None:
    with pytest.raises(InvalidHandler, match="generator"):
        Service().handler(fn)


def test_a_kind_that_is_registered_already_is_refused() -> None:
    service = Service()
    service.handler(plain)
    with says(InvalidHandler, "a handler for kind 'plain' is registered already; give this one another kind"):
        service.handler(plain)
    with says(InvalidHandler, "'other': this function is registered already, under another kind"):
        service.handler(kind="other")(plain)
    assert repr(service) == "<Service plain>"
    assert repr(Service()) == "<Service without handlers>"


def test_a_plain_handler_is_refused_beside_an_async_sdk() -> None:
    service = Service(async_sdk=async_sdk)
    with pytest.raises(InvalidHandler, match="the SDK is asynchronous; declare it with async def"):
        service.handler(with_sdk)

    async def good(sdk: str, payload: int) -> None: ...

    with says(
        InvalidHandler, "verify of 'good' is a plain function, but the SDK is asynchronous; declare it with async def"
    ):
        service.handler(verify=lambda sdk, job: None)(good)


UNDECLARED = """handler 'with_sdk' takes an SDK, so it must declare what follows an attempt that may have done its work:
  verify=FUNCTION   FUNCTION(sdk, job) looks whether the work is there, and nothing is done twice. It costs a function,
                    and one more call of the SDK after each such attempt.
  idempotent=True   Doing the work twice does no harm. It is repeated after an error, a limit, a crash and a stop.
  retry=Retry()     An attempt that raised is repeated without a look: what it had done is done twice. After a limit,
                    a crash or a stop the job waits in_doubt.
  on_doubt="hold"   At most once: the job waits in_doubt until a person resolves it. With "fail" it fails instead."""

DECLARATIONS: list[dict[str, Any]] = [
    {"verify": with_sdk},
    {"idempotent": True},
    {"retry": Retry()},
    {"on_doubt": "hold"},
    {"on_doubt": "fail"},
    {"on_doubt": "retry"},
]


@contextmanager
def plain_sdk() -> Iterator[str]:
    yield "sdk"


def some_executor(nursery: trio.Nursery) -> Any: ...


@pytest.mark.parametrize(
    "options", [{}, {"retry": None, "on_doubt": None}, {"attempt_timeout": 3, "kind": "with_sdk"}], ids=str
)
@pytest.mark.parametrize("sdk", [{"sdk": plain_sdk}, {"executor": some_executor}], ids=["sdk", "executor"])
def test_p12_a_handler_that_takes_an_sdk_declares_what_follows_an_attempt_that_may_have_acted(
    sdk: dict[str, Any], options: dict[str, Any]
) -> None:
    service = Service(**sdk)
    with says(InvalidHandler, UNDECLARED):
        service.handler(**options)(with_sdk)
    with says(InvalidHandler, UNDECLARED):
        service.handler(with_sdk)
    for number, declaration in enumerate(DECLARATIONS):
        service.handler(kind=f"kind {number}", payload_type=int, **declaration)(lambda sdk, payload: None)
    assert len(repr(service).split(",")) == len(DECLARATIONS)


def test_p12_an_async_handler_that_takes_an_sdk_declares_it_too() -> None:
    async def with_sdk(sdk: str, payload: int) -> None: ...

    for service in (Service(async_sdk=async_sdk), Service(sdk=plain_sdk)):
        with says(InvalidHandler, UNDECLARED):
            service.handler(with_sdk)
        service.handler(on_doubt="hold")(with_sdk)


def test_a_handler_without_an_sdk_declares_nothing() -> None:
    service = Service()
    service.handler(plain)
    assert parts_of(service).handlers["plain"].rules == Rules()


SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "both SDKs": ({"sdk": print, "async_sdk": async_sdk}, "give sdk or async_sdk, not both"),
    "no function": (
        {"sdk": "ledger"},
        "sdk must be a function that returns a context manager, without parameters or with one for an Opening, not "
        "'ledger'",
    ),
    "a misspelt keyword": ({"bufer": 3}, "Service has no keyword 'bufer'; did you mean 'buffer'?"),
    "a word of other queues": ({"maxsize": 3}, "Service has no keyword 'maxsize'; did you mean 'buffer'?"),
    "a former name": ({"unknown": "hold"}, "Service has no keyword 'unknown'; did you mean 'unhandled_jobs'?"),
    "a keyword of a handler": (
        {"attempt_timeout": 3},
        "Service has no keyword 'attempt_timeout'; Service.handler has it",
    ),
    "a keyword of open": ({"journal": "jobs.db"}, "Service has no keyword 'journal'; Service.open has it"),
    "no such keyword": (
        {"colour": "red"},
        "Service has no keyword 'colour'; its keywords are alive, async_sdk, buffer, cancel_timeout, check_after, "
        "close_timeout, commit_timeout, drain_timeout, executor, interrupt, job_retention, key_retention, locate, "
        "max_crashes, max_finished_jobs, max_keys, max_waiting, memory_limit, min_interval, on_killed, on_open_failed, "
        "on_stuck, open_retry, open_timeout, pump, pump_every, renew_after_error, renew_after_idle, renew_after_jobs, "
        "save, save_after, save_after_jobs, save_timeout, sdk, seat_lock, strict_order, unhandled_jobs, watchdog",
    ),
    "a process": (
        {"executor": "process"},
        "executor='process' needs sdk=..., which is opened in the process; async_sdk is for Trio",
    ),
    "an unknown executor": (
        {"executor": "fibre"},
        "executor must be 'thread', 'process' or a function that takes a nursery and returns an executor, not 'fibre'",
    ),
    "no executor": (
        {"executor": None},
        "executor must be 'thread', 'process' or a function that takes a nursery and returns an executor, not None",
    ),
    "an executor and an SDK": (
        {"executor": print, "async_sdk": async_sdk},
        "give executor or an SDK, not both: an executor opens its SDK itself",
    ),
    "no place": ({"buffer": 0}, "buffer must be a whole number, 1 or more, not 0"),
    "half a place": ({"buffer": 1.5}, "buffer must be a whole number, 1 or more, not 1.5"),
    "a true place": ({"buffer": True}, "buffer must be a whole number, 1 or more, not True"),
    "less than none": ({"max_finished_jobs": -1}, "max_finished_jobs must be a whole number, 0 or more, not -1"),
    "a state that does not end": (
        {"job_retention": {"pending": 5}},
        "job_retention is set by final state (completed, failed, cancelled), not by 'pending'",
    ),
    "no state at all": (
        {"max_finished_jobs": {"done": 5}},
        "max_finished_jobs is set by final state (completed, failed, cancelled), not by 'done'",
    ),
    "a bad age of one state": (
        {"job_retention": {"failed": "x"}},
        "job_retention['failed'] must be a number of seconds, 0 or more, not 'x'",
    ),
    "half a job of one state": (
        {"max_finished_jobs": {"failed": 0.5}},
        "max_finished_jobs['failed'] must be a whole number, 0 or more, not 0.5",
    ),
    "no age of keys": ({"key_retention": -1}, "key_retention must be a number of seconds, 0 or more, not -1"),
    "no number of keys": ({"max_keys": True}, "max_keys must be a whole number, 0 or more, not True"),
    "no crash at all": ({"max_crashes": 0}, "max_crashes must be a whole number, 1 or more, not 0"),
    "no time": ({"close_timeout": 0}, "close_timeout must be a number of seconds, more than 0, not 0"),
    "less than no time": ({"drain_timeout": -1}, "drain_timeout must be a number of seconds, 0 or more, not -1"),
    "on_stuck": ({"on_stuck": "cry"}, "on_stuck must be 'wait' or 'stop', not 'cry'"),
    "unhandled_jobs": ({"unhandled_jobs": "drop"}, "unhandled_jobs must be 'refuse' or 'hold', not 'drop'"),
    "strict_order": ({"strict_order": 1}, "strict_order must be True or False, not 1"),
    "open_retry": ({"open_retry": 3}, "open_retry must be a Retry, not 3"),
    "renewed after no job": ({"renew_after_jobs": 0}, "renew_after_jobs must be a whole number, 1 or more, not 0"),
    "a watchdog without patience": ({"watchdog": 0}, "watchdog must be a number of seconds, more than 0, not 0"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_an_invalid_setting_is_refused(name: str) -> None:
    settings, message = SETTINGS[name]
    with says(UsageError, message):
        Service(**settings)


def test_an_unknown_keyword_of_a_handler_is_refused_by_name() -> None:
    service: Any = Service()  # type checkers report such a keyword
    with says(UsageError, "Service.handler has no keyword 'timeout'; did you mean 'attempt_timeout'?"):
        service.handler(timeout=3)
    with says(UsageError, "Service.handler has no keyword 'verify_frist'; did you mean 'verify_first'?"):
        service.handler(verify_frist=True)
    with says(UsageError, "Service.handler has no keyword 'buffer'; Service has it"):
        service.handler(buffer=3)


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor], ids=["threads", "processes"])
def test_a_pool_of_workers_is_refused_as_an_executor(pool: Any) -> None:
    message = (
        f"executor cannot be a {pool.__name__}: a concurrent.futures.Executor is a pool of workers, but an SDK session "
        "is opened, called and closed by one thread; give sdk=..., which gets a thread of its own, or a function that "
        "returns a trio_jobs.ports.SdkExecutor"
    )
    with says(UsageError, message):
        Service(executor=pool)
    with pool(1) as made, says(UsageError, message):
        Service(executor=made)


def test_the_settings_have_the_same_defaults_in_the_service_and_in_the_record() -> None:
    declared = inspect.signature(Service).parameters
    for field in attrs.fields(Settings):
        assert declared[field.name].default == field.default, field.name
    assert attrs.asdict(Service().settings) == attrs.asdict(Settings())


def test_an_unknown_hook_is_refused_with_the_known_names() -> None:
    known = "overdue, stuck, in_doubt, failed, completed, cancelled, close_failed"
    with says(UsageError, f"there is no hook 'sunday'; the hooks are {known}"):
        Service().on("sunday", print)  # type: ignore[call-overload]


def test_a_hook_that_cannot_be_called_is_refused() -> None:
    with says(UsageError, "the hook for failed must be a function, not 'mail'"):
        Service().on("failed", "mail")  # type: ignore[call-overload]


def test_a_function_is_registered_once_for_each_hook() -> None:
    service, told = Service(), list[Any]()
    service.on("failed", told.append)
    service.on("in_doubt", told.append)
    with says(UsageError, f"{told.append!r} is registered for failed already; it would be called twice for each event"):
        service.on("failed", told.append)


# the submit


@pytest.fixture
async def queue(autojump_clock: MockClock) -> AsyncIterator[trio_jobs.Queue]:
    service = Service(async_sdk=async_sdk)

    @service.handler(on_doubt="hold")
    async def post_invoice(sdk: str, invoice: Invoice) -> None: ...

    @service.handler(payload_type=Any, on_doubt="hold")
    async def anything(sdk: str, what: Any) -> None: ...

    async with service.open(clock=trio_jobs.TrioClock(epoch=0)) as queue:
        yield queue


async def test_an_unknown_kind_is_refused_with_the_known_kinds(
    queue: trio_jobs.Queue, autojump_clock: MockClock
) -> None:
    with says(UnknownKind, "no handler is registered for kind 'post' (registered: anything, post_invoice)"):
        await queue.submit("post", {})
    with says(UnknownKind, "no handler is registered for kind 'plain' (registered: anything, post_invoice)"):
        await queue.submit(plain, 1)


async def test_a_submit_to_a_service_without_handlers_is_refused_with_that_reason() -> None:
    async with Service().open() as queue:
        with says(UnknownKind, "no handler is registered for kind 'x' (registered: none)"):
            await queue.submit("x", 1)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ({"folio": "A-1"}, "Object missing required field `total_cents`"),
        ({"folio": "A-1", "total_cents": "11600"}, "Expected `int`, got `str` - at `$.total_cents`"),
        (7, "Expected `object`, got `int`"),
        (object(), "Encoding objects of type object is unsupported"),
    ],
    ids=["missing", "wrong", "no object", "no json"],
)
async def test_the_refusal_of_a_wrong_payload_names_the_field(
    payload: Any, why: str, queue: trio_jobs.Queue, autojump_clock: MockClock
) -> None:
    with says(InvalidPayload, f"payload for 'post_invoice' refused: {why}"):
        await queue.submit("post_invoice", payload)
    assert queue.list() == []


async def test_a_payload_that_is_too_large_is_refused(queue: trio_jobs.Queue, autojump_clock: MockClock) -> None:
    with says(InvalidPayload, "payload for 'anything' refused: it is 1048577 bytes long, the limit is 1048576"):
        await queue.submit("anything", "x" * (1024 * 1024 - 1))


SUBMITS: dict[str, tuple[dict[str, Any], str]] = {
    "an empty key": ({"key": ""}, "a key is a text of 1 to 500 characters, not ''"),
    "no text as key": ({"key": 7}, "a key is a text of 1 to 500 characters, not 7"),
    "a long key": ({"key": "k" * 501}, f"a key is a text of 1 to 500 characters, not '{'k' * 99}"),
    "half a character": ({"key": "a\ud800"}, r"a key is a text of 1 to 500 characters, not 'a\ud800'"),
    "half a character as name": ({"by": "\udc80"}, r"by is a name of 1 to 200 characters, not '\udc80'"),
    "nobody": ({"by": ""}, "by is a name of 1 to 200 characters, not ''"),
    "no text as name": ({"by": 7}, "by is a name of 1 to 200 characters, not 7"),
    "two times": ({"delay": 1, "due_at": datetime.now(UTC)}, "give due_at or delay, not both"),
    "two deadlines": (
        {"deadline_after": 1, "deadline_at": datetime.now(UTC)},
        "give deadline_at or deadline_after, not both",
    ),
    "a naive time": (
        {"due_at": datetime(2030, 1, 1)},
        "due_at must be an aware datetime, such as datetime.now(UTC), not datetime.datetime(2030, 1, 1, 0, 0)",
    ),
    "no time": ({"due_at": 5}, "due_at must be an aware datetime, such as datetime.now(UTC), not 5"),
    "a negative delay": ({"delay": -1}, "delay must be a number of seconds, 0 or more, not -1"),
    "a deadline that has passed": (
        {"deadline_at": datetime(1969, 1, 1, tzinfo=UTC)},
        "the deadline must be in the future, and after the time at which the job is due",
    ),
    "a deadline before it is due": (
        {"delay": 10, "deadline_after": 5},
        "the deadline must be in the future, and after the time at which the job is due",
    ),
}


@pytest.mark.parametrize("name", SUBMITS)
async def test_an_invalid_submit_is_refused_and_leaves_nothing(
    name: str, queue: trio_jobs.Queue, autojump_clock: MockClock
) -> None:
    options, message = SUBMITS[name]
    with says(UsageError, message):
        await queue.submit("anything", 1, **options)
    assert queue.list() == []
    assert queue.statistics().free == 100


@pytest.mark.parametrize("wait", [-1, "5", True, float("nan")])
async def test_an_invalid_wait_is_refused_whether_or_not_a_slot_is_free(wait: Any, autojump_clock: MockClock) -> None:
    rig = make_rig("trio", settings={"buffer": 1})
    async with busy_queue(rig) as (queue, _, _first):
        for free in (1, 0):
            assert queue.statistics().free == free
            with says(UsageError, f"wait must be a number of seconds, 0 or more, not {wait!r}"):
                await queue.submit("work", "b", wait=wait)
            await queue.submit("work", "a", wait=0) if free else None


# what is asked of jobs


async def test_an_unknown_job_raises_job_not_found(queue: trio_jobs.Queue, autojump_clock: MockClock) -> None:
    known = "no job 'nope' is known (never submitted here, or pruned since)"
    message = f"{known}; give the whole id, or at least its last 6 characters"
    with says(JobNotFound, message):
        queue.get("nope")
    with says(JobNotFound, message):
        await queue.result("nope")
    with says(JobNotFound, message):
        await queue.cancel("nope")
    with says(JobNotFound, message):
        await queue.retry("nope")
    with says(JobNotFound, message):
        await queue.resolve("nope", "done")
    with says(JobNotFound, message):
        queue.list(after="nope")


async def test_an_invalid_list_request_is_refused(queue: trio_jobs.Queue, autojump_clock: MockClock) -> None:
    with says(
        UsageError,
        "there is no state 'lost'; there are scheduled, pending, processing, saving, retrying, in_doubt, completed, "
        "failed, cancelled",
    ):
        queue.list(state="lost")
    with says(UsageError, "limit must be a whole number, 1 or more, not 0"):
        queue.list(limit=0)
    with says(UsageError, "limit must be at most 1000, not 1001"):
        queue.list(limit=1001)


async def test_an_operation_on_a_job_in_another_state_raises_invalid_state(autojump_clock: MockClock) -> None:
    rig = make_rig("trio")
    async with rig.open() as queue:
        job = (await queue.submit("work", "a")).job_id
        await queue.result(job)
        assert await queue.cancel(job) == "too_late"
        with says(InvalidState, f"job {job} is completed: only a failed or cancelled job can be retried"):
            await queue.retry(job)
        with says(InvalidState, f"job {job} is completed: only a job that is in_doubt can be resolved"):
            await queue.resolve(job, "done")
        with says(UsageError, "a job in doubt is resolved as 'done', 'not_done' or 'failed', not 'maybe'"):
            await queue.resolve(job, "maybe")  # type: ignore[arg-type] # the mistake
        with pytest.raises(UsageError, match="the result cannot be kept: not JSON"):
            await queue.resolve(job, "done", result=object())


async def test_a_result_of_another_type_than_annotated_is_returned(autojump_clock: MockClock) -> None:
    service = Service(async_sdk=async_sdk)

    @service.handler(on_doubt="hold")
    async def work(sdk: str, n: int) -> int:
        return "not a number"  # type: ignore[return-value]

    async with service.open(clock=trio_jobs.TrioClock()) as queue:
        assert await queue.result((await queue.submit(work, 1)).job_id) == "not a number"


@pytest.mark.parametrize("error", [trio_jobs.Snooze, trio_jobs.RetryAfter])
async def test_a_handler_that_asks_for_an_invalid_wait_fails(error: Any, autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=NO_RETRY)

    def ask() -> None:
        raise error(-5)

    rig.sdk.script("call", ask)
    async with rig.open() as queue:
        job = await ended(queue, (await queue.submit("work", "a")).job_id)
    assert job.error is not None
    assert job.error.message == f"{error.__name__}(seconds) must be a number of seconds, 0 or more, not -5"


RETRIES: dict[str, tuple[dict[str, Any], str]] = {
    "retries": ({"max_retries": -1}, "max_retries must be a whole number, 0 or more, not -1"),
    "waits": ({"waits": []}, "waits must be a list of one or more seconds; for no retries give max_retries=0"),
    "endless": ({"first": float("inf")}, "first must be at most 3155760000 (100 years), not inf"),
    "jitter": ({"jitter": 2}, "jitter must be between 0 and 1, not 2"),
    "factor": ({"factor": 0.5}, "factor must be 1 or more, not 0.5"),
}


@pytest.mark.parametrize("name", RETRIES)
def test_an_invalid_retry_policy_is_refused(name: str) -> None:
    options, message = RETRIES[name]
    with says(UsageError, message):
        Retry(**options)


# the wrong place


def test_a_queue_outside_of_trio_is_refused() -> None:
    async def main() -> None:
        async with Service().open():
            pass

    with says(UsageError, "a queue runs in Trio: open it within trio.run(), not in asyncio"):
        asyncio.run(main())


async def test_a_queue_with_two_stores_is_refused(tmp_path: Path) -> None:
    with says(UsageError, "give journal or store, not both"):
        async with make_rig("trio").open(journal=tmp_path / "jobs.db", store=trio_jobs.MemoryStore()):
            pass
    assert list(tmp_path.iterdir()) == []


async def test_an_error_before_the_queue_is_open_is_raised_bare(monkeypatch: pytest.MonkeyPatch) -> None:
    def make_executor(self: ServiceParts, nursery: trio.Nursery) -> Any:
        raise LookupError("no such host")

    monkeypatch.setattr(ServiceParts, "make_executor", make_executor)
    with pytest.raises(LookupError, match="no such host"):
        async with make_rig("trio").open():
            pass


async def test_a_block_that_is_entered_twice_is_refused(autojump_clock: MockClock) -> None:
    block = make_rig("trio").service.open(clock=trio_jobs.TrioClock())
    async with block:
        pass
    with pytest.raises((RuntimeError, AttributeError)):
        async with block:
            pass


async def test_a_factory_that_returns_no_context_manager_is_refused_at_open() -> None:
    service = Service(sdk=lambda: "ledger", open_retry=NO_RETRY)  # type: ignore[arg-type]
    with pytest.raises(trio_jobs.UsageError, match="returns a context manager: it returned an object of type str"):
        async with service.open():
            await trio.sleep_forever()


@pytest.mark.parametrize(
    "do",
    [
        lambda queue, by: queue.cancel("x", by=by),
        lambda queue, by: queue.retry("x", by=by),
        lambda queue, by: queue.resolve("x", "done", by=by),
        lambda queue, by: queue.pause(by=by),
        lambda queue, by: queue.resume(by=by),
        lambda queue, by: queue.cancel_many(by=by),
        lambda queue, by: queue.retry_many(by=by),
        lambda queue, by: queue.submit_many([], by=by),
    ],
)
async def test_an_invalid_by_is_refused(do: Any) -> None:
    async with make_rig("trio").open() as queue:
        with says(UsageError, r"by is a name of 1 to 200 characters, not '\ud800'"):
            await do(queue, "\ud800")
