"""The retry policy, and the rules of a handler. Pure: randomness is an argument."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Final, final

import attrs

from trio_jobs._engine.jobs import OnDoubt
from trio_jobs._engine.sdk_call_error import SdkCallError
from trio_jobs._errors import UsageError
from trio_jobs._exception_tree import is_a, leaves
from trio_jobs._validation import check_number, check_wait

__all__ = ["DEFAULT_RETRY", "Retry", "Rules", "Which", "is_which", "matches"]

Which = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]


@final
@attrs.frozen(init=False)
class Retry:
    """How often a failed attempt is retried, after which waits, and for which errors.

    `Retry()` retries three times, after 1, 2 and 4 seconds. A wait is at most 100 years.

    Args:
        max_retries: 0 or more. The first attempt is not a retry.
        waits: The seconds before each retry, at least one number, each 0 or more; the last one repeats. None: the waits
            follow from `first` and `factor`.
        first: Seconds before the first retry, 0 or more.
        factor: Each further wait is this many times the wait before it, 1 or more.
        max_wait: The longest wait in seconds, 0 or more.
        jitter: 0 to 1. A wait of w seconds becomes a random one between w * (1 - jitter) and w, so that jobs that
            failed together are not retried together.
        on: Which errors are retried: a class, a tuple of classes, or a function that takes the error and returns
            whether it is retried. A function that raises counts as False. By default every `Exception`; `SystemExit`
            and other errors that are none are retried only if they are named. An exception group is retried if each
            error in it is: the function is called with each of them.

    Raises:
        UsageError: A value is out of its range.
    """

    max_retries: int
    """The number of retries after the first attempt."""

    waits: tuple[float, ...] | None
    """Seconds before each retry; None if they follow from `first` and `factor`."""

    first: float
    """Seconds before the first retry."""

    factor: float
    """The ratio of a wait to the wait before it."""

    max_wait: float
    """The longest wait, in seconds."""

    jitter: float
    """The part of a wait that is random, 0 to 1."""

    on: Which
    """Which errors are retried."""

    def __init__(
        self,
        max_retries: int = 3,
        *,
        waits: Sequence[float] | None = None,
        first: float = 1.0,
        factor: float = 2.0,
        max_wait: float = 300.0,
        jitter: float = 0.0,
        on: Which = Exception,
    ) -> None:
        max_retries = check_number("max_retries", max_retries, 0)
        if waits is not None and (not isinstance(waits, Sequence) or not waits or isinstance(waits, str)):
            raise UsageError("waits must be a list of one or more seconds; for no retries give max_retries=0")
        if not (isinstance(factor, int | float) and 1 <= factor < math.inf):
            raise UsageError(f"factor must be 1 or more, not {factor!r}")
        if not (isinstance(jitter, int | float) and 0 <= jitter <= 1):
            raise UsageError(f"jitter must be between 0 and 1, not {jitter!r}")
        if not is_which(on):
            raise UsageError(f"on must be an error class, a tuple of them, or a function of the error, not {on!r:.100}")
        if inspect.iscoroutinefunction(on):
            raise UsageError("on must be a plain function: the coroutine of an async one would count as True")
        checked = None if waits is None else tuple(check_wait("waits", wait) for wait in waits)
        self.__attrs_init__(
            max_retries,
            checked,
            check_wait("first", first),
            float(factor),
            check_wait("max_wait", max_wait),
            float(jitter),
            on,
        )

    def retries(self, error: BaseException) -> bool:
        """Whether this error is retried; a group if each error in it is, or if `on` names the class of the group."""
        return matches(self.on, error)

    def wait_before(self, retry: int, chance: float) -> float:
        """The seconds before a retry.

        Args:
            retry: The number of the retry, from 1.
            chance: Uniform in [0, 1), for the jitter.
        """
        if self.waits is not None:
            wait = self.waits[min(retry, len(self.waits)) - 1]
        elif self.first == 0 or self.factor == 1:
            wait = self.first
        else:
            try:
                wait = self.first * self.factor ** (retry - 1)
            except OverflowError:
                wait = self.max_wait
        return min(wait, self.max_wait) * (1 - self.jitter * chance)


def matches(which: Which, error: BaseException) -> bool:
    """Whether the error is one of these; a group if each error in it is, or if `which` names the class of the group."""
    if not isinstance(which, type | tuple):
        return all(_accepts(which, leaf) for leaf in leaves(error))
    classes = which if isinstance(which, tuple) else (which,)
    groups = tuple(class_ for class_ in classes if _is_group(class_))
    return (groups != () and is_a(error, groups)) or all(_is_one_of(leaf, classes) for leaf in leaves(error))


def _is_one_of(error: BaseException, classes: tuple[type[BaseException], ...]) -> bool:
    """Whether the error is of one of these classes; by their names, if it was raised in another process."""
    if is_a(error, classes):
        return True
    if not is_a(error, SdkCallError):
        return False
    mro = error.mro  # type: ignore[attr-defined] # found by its class
    return any(f"{class_.__module__}:{class_.__qualname__}" in mro for class_ in classes)


def _accepts(on: Callable[[BaseException], bool], error: BaseException) -> bool:
    try:
        return bool(on(error))
    except BaseException:  # a function of the user
        return False


def _is_group(class_: type[BaseException]) -> bool:
    return issubclass(class_, BaseExceptionGroup)


def is_which(on: object) -> bool:
    """Whether `on` is valid. `isinstance` with anything else would raise later, when the first attempt fails."""
    if isinstance(on, tuple):
        return all(isinstance(error, type) and issubclass(error, BaseException) for error in on)
    return issubclass(on, BaseException) if isinstance(on, type) else callable(on)


DEFAULT_RETRY: Final = Retry()


@attrs.frozen
class Rules:
    """What the engine knows of a handler when it decides about a job."""

    retry: Retry = DEFAULT_RETRY
    """The retry policy."""

    retries_unverified: bool = True
    """Whether an attempt that raised inside the SDK is retried although nothing says what it did: `retry` was declared,
    or there is no SDK."""

    idempotent: bool = False
    """Whether doing the work twice does no harm."""

    verifies: bool = False
    """Whether the handler has a `verify`."""

    on_doubt: OnDoubt = "hold"
    """What follows a doubt that verify does not resolve."""

    max_crashes: int = 3
    """After this number of crashes in one run the job fails as poison."""

    max_snoozes: int = 1000
    """The number of snoozes in one run; the next one fails the job."""
