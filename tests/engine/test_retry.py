"""The retry policy: the number of retries, the waits and the errors."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_jobs._engine.retry import DEFAULT_RETRY, Retry
from trio_jobs._errors import UsageError
from trio_jobs._validation import MAX_WAIT

SECONDS = st.floats(0, MAX_WAIT)
CHANCE = st.floats(0, 1, exclude_max=True)


def waits(retry: Retry, count: int, chance: float = 0.0) -> list[float]:
    return [retry.wait_before(n, chance) for n in range(1, count + 1)]


def test_by_default_there_are_three_retries_after_1_2_and_4_seconds() -> None:
    assert DEFAULT_RETRY.max_retries == 3
    assert waits(DEFAULT_RETRY, 3) == [1, 2, 4]


def test_the_last_wait_of_a_list_repeats() -> None:
    assert waits(Retry(9, waits=[1, 5]), 4) == [1, 5, 5, 5]


def test_each_wait_is_factor_times_the_previous_one_up_to_max_wait() -> None:
    assert waits(Retry(9, first=2, factor=3, max_wait=50), 5) == [2, 6, 18, 50, 50]


def test_no_wait_of_a_list_is_longer_than_max_wait() -> None:
    assert waits(Retry(9, waits=[1, 500], max_wait=60), 2) == [1, 60]


def test_a_first_wait_of_zero_stays_zero() -> None:
    assert waits(Retry(9, first=0), 3) == [0, 0, 0]


def test_a_factor_of_one_repeats_the_first_wait() -> None:
    assert waits(Retry(9, first=7, factor=1), 3) == [7, 7, 7]


def test_a_max_wait_of_zero_makes_every_wait_zero() -> None:
    assert waits(Retry(9, max_wait=0), 3) == [0, 0, 0]


@given(first=SECONDS, factor=st.floats(1, 1e300), max_wait=SECONDS, retry=st.integers(1, 10**9))
def test_every_wait_is_the_power_or_max_wait_and_never_overflows(
    first: float, factor: float, max_wait: float, retry: int
) -> None:
    wait = Retry(first=first, factor=factor, max_wait=max_wait).wait_before(retry, 0.0)
    assert 0 <= wait <= max_wait
    if retry <= 40:
        exact = min(Fraction(first) * Fraction(factor) ** (retry - 1), Fraction(max_wait))
        assert math.isclose(wait, float(exact), rel_tol=1e-9)


@given(
    first=SECONDS,
    jitter=st.floats(0, 1),
    retry=st.integers(1, 50),
    chance=CHANCE,
    listed=st.none() | st.lists(SECONDS, min_size=1),
)
def test_jitter_shortens_a_wait_by_at_most_its_share(
    first: float, jitter: float, retry: int, chance: float, listed: list[float] | None
) -> None:
    plain = Retry(first=first, waits=listed).wait_before(retry, chance)
    wait = Retry(first=first, waits=listed, jitter=jitter).wait_before(retry, chance)
    assert plain * (1 - jitter) <= wait <= plain


@given(retry=st.integers(1, 1000))
def test_without_jitter_a_wait_is_not_random(retry: int) -> None:
    assert DEFAULT_RETRY.wait_before(retry, 0.0) == DEFAULT_RETRY.wait_before(retry, 0.99)


@pytest.mark.parametrize(
    ("on", "error", "again"),
    [
        (Exception, ValueError(), True),
        (Exception, SystemExit(), False),
        (Exception, GeneratorExit(), False),
        (SystemExit, SystemExit(), True),
        ((OSError, ValueError), TimeoutError(), True),
        ((OSError, ValueError), KeyError(), False),
        ((), ValueError(), False),
        (lambda error: error.args == ("busy",), RuntimeError("busy"), True),
        (lambda error: error.args == ("busy",), RuntimeError("gone"), False),
        (lambda error: 1 / 0, RuntimeError(), False),
        (lambda error: "yes", RuntimeError(), True),
    ],
)
def test_on_selects_the_errors_that_are_retried(on: Any, error: BaseException, again: bool) -> None:
    assert Retry(on=on).retries(error) is again


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"max_retries": -1}, "max_retries must be a whole number, 0 or more"),
        ({"max_retries": True}, "max_retries must be a whole number"),
        ({"max_retries": 1.5}, "max_retries must be a whole number"),
        ({"waits": []}, "for no retries give max_retries=0"),
        ({"waits": "12"}, "waits must be a list"),
        ({"waits": 5}, "waits must be a list"),
        ({"waits": [1, -2]}, "waits must be a number of seconds, 0 or more"),
        ({"waits": [1, "2"]}, "waits must be a number of seconds"),
        ({"waits": [math.inf]}, "waits must be at most"),
        ({"first": -1}, "first must be a number of seconds"),
        ({"first": math.nan}, "first must be a number of seconds"),
        ({"max_wait": math.inf}, "max_wait must be at most"),
        ({"max_wait": 10**400}, "max_wait must be at most"),
        ({"factor": 0.5}, "factor must be 1 or more"),
        ({"factor": math.inf}, "factor must be 1 or more"),
        ({"factor": "2"}, "factor must be 1 or more"),
        ({"jitter": 1.1}, "jitter must be between 0 and 1"),
        ({"jitter": None}, "jitter must be between 0 and 1"),
        ({"on": "ValueError"}, "on must be an error class"),
        ({"on": int}, "on must be an error class"),
        ({"on": (ValueError, "KeyError")}, "on must be an error class"),
        ({"on": [ValueError]}, "on must be an error class"),
        ({"on": None}, "on must be an error class"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value)[:40],
)
def test_an_invalid_policy_is_refused_and_the_message_names_the_argument(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Retry(**wrong)


# groups


def test_a_group_is_retried_if_each_error_in_it_is() -> None:
    lost, wrong = ConnectionError(), ValueError()
    retry = Retry(on=ConnectionError)
    assert retry.retries(ExceptionGroup("", [lost, ExceptionGroup("", [lost])]))
    assert not retry.retries(ExceptionGroup("", [lost, ExceptionGroup("", [wrong])]))
    assert Retry(on=(ConnectionError, ValueError)).retries(ExceptionGroup("", [lost, wrong]))
    assert not Retry().retries(BaseExceptionGroup("", [lost, SystemExit()]))


def test_a_function_is_called_with_each_error_of_a_group() -> None:
    retry = Retry(on=lambda error: error.args == (429,))
    assert retry.retries(ExceptionGroup("", [ValueError(429), TypeError(429)]))
    assert not retry.retries(ExceptionGroup("", [ValueError(429), TypeError(400)]))


def test_a_group_is_retried_if_its_class_is_named() -> None:
    assert Retry(on=(KeyError, ExceptionGroup)).retries(ExceptionGroup("", [ValueError()]))


@pytest.mark.parametrize("worse", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_function_that_raises_anything_counts_as_false(worse: type[BaseException]) -> None:
    def on(error: BaseException) -> bool:
        raise worse

    assert not Retry(on=on).retries(ValueError())


def test_an_async_function_cannot_decide_about_retries() -> None:
    async def on(error: BaseException) -> bool:
        raise NotImplementedError

    with pytest.raises(UsageError, match="on must be a plain function: the coroutine of an async one would count"):
        Retry(on=on)  # type: ignore[arg-type] # the mistake
