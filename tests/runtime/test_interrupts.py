"""Which KeyboardInterrupt a signal raised, and which one a library."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import outcome
import pytest
import trio

from trio_jobs._concurrency import must_propagate, raised_by_signal


def caught(fn: Callable[[], object]) -> BaseException:
    result = outcome.capture(fn)
    assert isinstance(result, outcome.Error)
    return result.error


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def imitate() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def set_handler() -> Iterator[Callable[[Any], object]]:
    """Sets the handler of SIGINT for the test."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


class Handlers:
    def method(self, *_: object) -> None:
        raise KeyboardInterrupt

    def __call__(self, *_: object) -> None:
        raise KeyboardInterrupt


async def test_with_the_handler_of_trio_only_a_signal_counts() -> None:
    assert raised_by_signal(caught(interrupt))
    assert not raised_by_signal(caught(imitate))


@pytest.mark.parametrize("handler", [Handlers().method, lambda *_: imitate()], ids=["method", "function"])
async def test_with_a_handler_of_the_user_only_a_signal_counts(
    handler: Any, set_handler: Callable[[Any], object]
) -> None:
    set_handler(handler)
    assert raised_by_signal(caught(interrupt))
    assert not raised_by_signal(caught(imitate))


@pytest.mark.parametrize("handler", [signal.default_int_handler, Handlers()], ids=["Python's", "object"])
async def test_with_a_handler_without_a_frame_each_one_of_the_main_thread_counts(
    handler: Any, set_handler: Callable[[Any], object]
) -> None:
    set_handler(handler)
    assert raised_by_signal(caught(interrupt))
    assert raised_by_signal(caught(imitate))
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(raised_by_signal(caught(imitate))))
    thread.start()
    thread.join(20)
    assert answers == [False]


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
async def test_while_signals_raise_nothing_none_counts(handler: Any, set_handler: Callable[[Any], object]) -> None:
    set_handler(handler)
    assert not raised_by_signal(caught(imitate))


async def test_a_group_counts_if_one_of_its_errors_does() -> None:
    group = BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [caught(interrupt)])])
    assert raised_by_signal(group)
    assert not raised_by_signal(BaseExceptionGroup("", [ValueError(), caught(imitate)]))


async def test_a_cancelled_and_ctrl_c_propagate_and_no_other_error() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep(0)
        except trio.Cancelled as cancelled:
            assert must_propagate(cancelled)
            assert must_propagate(BaseExceptionGroup("", [ValueError(), cancelled]))
            raise
    assert must_propagate(caught(interrupt))
    assert not must_propagate(caught(imitate))
    assert not must_propagate(SystemExit())
    assert not must_propagate(BaseExceptionGroup("", [SystemExit()]))
