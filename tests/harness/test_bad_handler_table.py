"""Rules of `check_bad_handlers`: the queue classifies each handler of the table, and a wrong decorator is found."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from trio.testing import MockClock

from trio_jobs.testing import BAD_HANDLERS, ConformanceError, check_bad_handlers


async def test_the_queue_classifies_every_bad_handler_and_continues(autojump_clock: MockClock) -> None:
    report = await check_bad_handlers()
    assert len(report.checked) == len(BAD_HANDLERS) + sum(bad.plain is not None for bad in BAD_HANDLERS)
    assert len({bad.name for bad in BAD_HANDLERS}) == len(BAD_HANDLERS) >= 16


def translating(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A common kind of decorator: it turns every exception into its own, Fail and Cancelled included."""
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


async def test_a_decorator_that_replaces_exceptions_is_found(autojump_clock: MockClock) -> None:
    with pytest.raises(ConformanceError, match="handler that raises Fail: its outcome is error, not fail") as caught:
        await check_bad_handlers(translating)
    assert len(caught.value.report.findings) > 20


async def test_a_decorator_that_passes_exceptions_on_has_no_findings(autojump_clock: MockClock) -> None:
    def timed(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def perform(*args: Any) -> Any:
            return fn(*args)

        return fn if inspect.iscoroutinefunction(fn) else perform

    assert (await check_bad_handlers(timed)).ok
