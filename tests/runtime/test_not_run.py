"""A job whose handler returned something that has not run is not completed."""

from __future__ import annotations

import concurrent.futures
import functools
import gc
import itertools
import logging
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import attrs
import pytest
from trio.testing import MockClock

import trio_jobs
from support.rig import NO_RETRY, ended, last, make_rig, open_queue, until_state
from trio_jobs import Done, InvalidHandler, NotDone, Service, State, Unknown
from trio_jobs._engine.handlers import _wraps_async, encode_result


async def work_of_an_sdk(number: int) -> int:
    raise AssertionError("it is never awaited")


def generated(number: int) -> Iterator[int]:
    yield number


async def generated_async(number: int) -> AsyncIterator[int]:
    yield number


class Awaitable:
    def __await__(self) -> Iterator[None]:
        yield


@attrs.frozen
class AwaitableRecord:
    """JSON could hold it."""

    number: int = 1

    def __await__(self) -> Iterator[None]:
        yield


def done_future() -> concurrent.futures.Future[int]:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    future.set_result(1)
    return future


LAZY: dict[str, tuple[Callable[[], Any], str]] = {
    "coroutine": (lambda: work_of_an_sdk(1), "a coroutine"),
    "generator": (lambda: generated(1), "a generator"),
    "async generator": (lambda: generated_async(1), "an async generator"),
    "awaitable": (Awaitable, "an awaitable"),
    "awaitable record": (AwaitableRecord, "an awaitable"),
    "future": (done_future, "a future"),
    "map": (lambda: map(print, [1]), "an iterator that has not been read"),
    "starmap": (lambda: itertools.starmap(print, [(1,)]), "an iterator that has not been read"),
    "in a list": (lambda: [1, work_of_an_sdk(1), work_of_an_sdk(2)], "a coroutine"),
    "in a dict": (lambda: {"a": (generated(1), work_of_an_sdk(2))}, "a generator"),
}
EACH = pytest.mark.parametrize(("make", "noun"), LAZY.values(), ids=LAZY)


@EACH
async def test_an_attempt_that_did_not_enter_fails_without_a_retry(
    make: Callable[[], Any], noun: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service()

    @service.handler
    async def work(number: int) -> Any:
        return make()

    with caplog.at_level(logging.ERROR):
        async with open_queue(service) as queue:
            job = await ended(queue, (await queue.submit("work", 1)).job_id)
    assert (job.state, job.attempt_count, job.may_have_acted) == (State.FAILED, 1, False)
    assert job.error is not None
    assert job.error.type == "InvalidHandler"
    assert job.error.message.startswith(f"the handler returned {noun}, which has not run; declare it with async def")
    assert f"the handler returned {noun}, which has not run" in caplog.text


@EACH
async def test_an_attempt_that_entered_is_in_doubt(make: Callable[[], Any], noun: str, mock_clock: MockClock) -> None:
    rig = make_rig("thread")
    rig.sdk.script("call", make)
    async with rig.open() as queue:
        job = await until_state(queue, (await queue.submit("work", "a")).job_id, "in_doubt")
    assert (job.reason, job.may_have_acted, last(job).outcome) == ("error", True, "error")


async def test_an_idempotent_attempt_fails(mock_clock: MockClock) -> None:
    rig = make_rig("thread", idempotent=True)
    rig.sdk.script("call", lambda: work_of_an_sdk(1))
    async with rig.open() as queue:
        job = await ended(queue, (await queue.submit("work", "a")).job_id)
    assert (job.state, job.attempt_count) == (State.FAILED, 1)


@pytest.mark.parametrize(
    ("answer", "state"), [(Done("7"), "completed"), (NotDone(), "failed"), (Unknown(), "in_doubt")], ids=str
)
async def test_verify_says_what_the_attempt_did(answer: Any, state: str, mock_clock: MockClock) -> None:
    rig = make_rig("thread", verifies=True)
    rig.sdk.script("call", lambda: work_of_an_sdk(1))
    rig.sdk.script("verify", answer)
    async with rig.open() as queue:
        job = await until_state(queue, (await queue.submit("work", "a")).job_id, state)
    assert job.attempt_count == 1


@EACH
def test_no_coroutine_is_left_that_python_warns_of(make: Callable[[], Any], noun: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encode_result(make()).not_run == noun
        gc.collect()


async def test_a_cursor_and_other_iterators_are_results_that_are_not_kept(autojump_clock: MockClock) -> None:
    service = Service()

    @service.handler
    async def work(number: int) -> Any:
        return iter([number])

    async with open_queue(service) as queue:
        job = await ended(queue, (await queue.submit("work", 1)).job_id)
    assert job.state is State.COMPLETED
    assert job.result_problem == "not JSON: Encoding objects of type list_iterator is unsupported"


# declarations


def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any) -> Any:
        return fn(*args)

    return wrapper


async def book(number: int) -> int:
    raise NotImplementedError


class Booker:
    async def __call__(self, number: int) -> int:
        raise NotImplementedError


@pytest.mark.parametrize(
    "fn",
    [
        logged(book),
        logged(logged(book)),
        functools.partial(logged(book)),
        logged(functools.partial(book)),
        functools.cache(book),
        logged(Booker()),
    ],
)
def test_a_plain_function_around_an_async_one_is_refused_when_it_is_declared(fn: Callable[..., Any]) -> None:
    with pytest.raises(InvalidHandler, match="handler 'book' is a plain function around an async one, whose coroutine"):
        Service().handler(kind="book", payload_type=int)(fn)

    def work(number: int) -> int:
        raise NotImplementedError

    with pytest.raises(InvalidHandler, match="verify of 'work' is a plain function around an async one"):
        Service().handler(verify=fn)(work)


def test_a_plain_function_that_runs_the_coroutine_itself_can_be_declared() -> None:
    @functools.wraps(book)
    def run_by_itself(number: int) -> int:
        raise NotImplementedError

    del run_by_itself.__wrapped__
    Service().handler(run_by_itself)


def test_an_async_function_around_a_plain_one_can_be_declared() -> None:
    def plain(number: int) -> int:
        raise NotImplementedError

    @functools.wraps(plain)
    async def wrapper(number: int) -> int:
        raise NotImplementedError

    Service().handler(wrapper)


def test_a_function_that_wraps_itself_is_a_plain_one() -> None:
    def odd(number: int) -> int:
        raise NotImplementedError

    odd.__wrapped__ = odd  # type: ignore[attr-defined] # what a decorator may do by mistake
    assert not _wraps_async(odd)


# handlers without a hash


@attrs.define
class Unhashable:
    """Compared by value, so it has no hash."""

    prefix: str

    async def __call__(self, number: int) -> str:
        return f"{self.prefix}{number}"


async def test_a_handler_object_without_a_hash_is_found(autojump_clock: MockClock) -> None:
    service = Service()
    one, two = Unhashable("a"), Unhashable("b")
    service.handler(kind="one")(one)
    service.handler(kind="two")(two)
    async with open_queue(service) as queue:
        assert await queue.result((await queue.submit("one", 1)).job_id) == "a1"
        assert await queue.result((await queue.submit(two, 1)).job_id) == "b1"
        with pytest.raises(trio_jobs.UnknownKind):
            await queue.submit(Unhashable("a"), 1)
        with pytest.raises(trio_jobs.UnknownKind):
            await queue.submit([], 1)  # type: ignore[arg-type] # the mistake


# steps


async def test_a_step_name_that_is_used_twice_in_an_attempt_is_refused(autojump_clock: MockClock) -> None:
    service = Service()
    done: list[str] = []

    @service.handler(retry=NO_RETRY, on_doubt="fail")
    async def work(number: int, job: trio_jobs.AsyncJobContext) -> None:
        async def line(text: str) -> None:
            done.append(text)

        await job.step("post", line, "first")
        await job.step("post", line, "second")

    async with open_queue(service) as queue:
        job = await ended(queue, (await queue.submit("work", 1)).job_id)
    assert done == ["first"]
    assert last(job).error is not None
    assert "step 'post' was executed already in this attempt" in str(last(job).error)


async def test_a_step_name_that_is_used_twice_is_refused_where_an_earlier_attempt_finished_it(
    autojump_clock: MockClock,
) -> None:
    service = Service()
    seen: list[Any] = []

    @service.handler
    async def work(number: int, job: trio_jobs.AsyncJobContext) -> None:
        async def post() -> int:
            return 7

        seen.append(await job.step("post", post))
        if job.attempt == 1:
            raise trio_jobs.RetryAfter(1)
        with pytest.raises(trio_jobs.UsageError, match="was executed already in this attempt"):
            await job.step("post", post)

    async with open_queue(service) as queue:
        await queue.result((await queue.submit("work", 1)).job_id)
    assert seen == [7, 7]


async def test_a_step_that_raised_can_be_tried_again_in_the_same_attempt(autojump_clock: MockClock) -> None:
    service = Service()
    results: list[Any] = [ValueError(), 7]

    @service.handler
    async def work(number: int, job: trio_jobs.AsyncJobContext) -> Any:
        async def post() -> Any:
            result = results.pop(0)
            if isinstance(result, Exception):
                raise result
            return result

        with pytest.raises(ValueError):
            await job.step("post", post)
        return await job.step("post", post)

    async with open_queue(service) as queue:
        assert await queue.result((await queue.submit("work", 1)).job_id) == 7


# SDK factories


class Opener:
    def __enter__(self) -> int:
        return 1

    def __exit__(self, *error: object) -> None: ...


class AsyncOpener:
    async def __aenter__(self) -> int:
        return 1

    async def __aexit__(self, *error: object) -> None: ...


def bare() -> Iterator[int]:
    yield 1


async def bare_async() -> AsyncIterator[int]:
    yield 1


async def coroutine() -> Opener:
    raise NotImplementedError


def needs_a_path(path: str) -> Opener:
    raise NotImplementedError


@pytest.mark.parametrize("name", ["sdk", "async_sdk"])
@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (5, "not 5"),
        (bare, "not a generator function; decorate"),
        (bare_async, "not a generator function; decorate"),
        (coroutine, "not an async function; decorate"),
        (needs_a_path, "its parameter 'path' is not for an Opening"),
    ],
)
def test_an_sdk_that_is_no_function_for_a_context_manager_is_refused_at_once(
    name: str, factory: Any, says: str
) -> None:
    arguments: dict[str, Any] = {name: factory}
    with pytest.raises(trio_jobs.UsageError, match=rf"^{name} must be a function .* returns a context manager.*{says}"):
        Service(**arguments)


@pytest.mark.parametrize(("name", "manager"), [("sdk", Opener()), ("async_sdk", AsyncOpener())])
def test_a_context_manager_in_place_of_its_function_is_refused(name: str, manager: Any) -> None:
    arguments: dict[str, Any] = {name: manager}
    with pytest.raises(trio_jobs.UsageError, match="give the function itself, without calling it"):
        Service(**arguments)


@pytest.mark.parametrize(
    ("name", "returned", "says"),
    [
        (
            "sdk",
            object(),
            "it returned an object of type object; decorate a generator function with @contextlib.context",
        ),
        ("sdk", None, "it returned an object of type NoneType"),
        ("sdk", AsyncOpener(), r"it returned an async one; give it as async_sdk=\.\.\."),
        ("async_sdk", Opener(), r"it returned a plain one; give it as sdk=\.\.\."),
        ("async_sdk", object(), "decorate an async generator function with @contextlib.asynccontextmanager"),
    ],
)
async def test_a_factory_that_returns_no_context_manager_is_called_once(name: str, returned: Any, says: str) -> None:
    calls: list[int] = []

    def factory() -> Any:
        calls.append(1)
        return returned

    arguments: dict[str, Any] = {name: factory}
    with pytest.raises(
        trio_jobs.UsageError, match=f"{name} must be a function that returns .* context manager: .*{says}"
    ):
        async with Service(**arguments).open():
            raise AssertionError
    assert calls == [1]


@pytest.mark.parametrize(("name", "class_"), [("sdk", Opener), ("async_sdk", AsyncOpener)])
async def test_a_class_of_context_managers_is_a_factory(name: str, class_: type) -> None:
    arguments: dict[str, Any] = {name: class_}
    async with Service(**arguments).open():
        pass
