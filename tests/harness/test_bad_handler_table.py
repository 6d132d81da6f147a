"""The table of bad handlers: the queue keeps to it, and a wrapper that does not is found."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from trio.testing import MockClock

from trio_jobs.testing import BAD_HANDLERS, ConformanceError, check_bad_handlers


async def test_the_queue_classifies_every_bad_handler_and_lives(autojump_clock: MockClock) -> None:
    report = await check_bad_handlers()
    assert len(report.checked) == len(BAD_HANDLERS) + sum(bad.plain is not None for bad in BAD_HANDLERS)
    assert len({bad.name for bad in BAD_HANDLERS}) == len(BAD_HANDLERS) >= 16


def translating(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator as people write them: it turns every error into its own, Fail and Cancelled included."""
    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def aperform(*args: Any) -> Any:
            try:
                return await fn(*args)
            except BaseException as error:
                raise RuntimeError("translated") from error

        return aperform

    @functools.wraps(fn)
    def perform(*args: Any) -> Any:
        try:
            return fn(*args)
        except BaseException as error:
            raise RuntimeError("translated") from error

    return perform


async def test_a_wrapper_that_hides_what_is_raised_is_found(autojump_clock: MockClock) -> None:
    with pytest.raises(ConformanceError, match="handler that raises Fail: its outcome is error, not fail") as caught:
        await check_bad_handlers(translating)
    assert len(caught.value.report.findings) > 20


async def test_a_wrapper_that_lets_everything_through_is_not(autojump_clock: MockClock) -> None:
    def timed(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def perform(*args: Any) -> Any:
            return fn(*args)

        return fn if inspect.iscoroutinefunction(fn) else perform

    assert (await check_bad_handlers(timed)).ok
