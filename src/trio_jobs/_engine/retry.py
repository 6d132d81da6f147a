"""Floor 3: when to try again, and what the rules of a handler are. Pure: chance is an argument."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, final

import attrs

from trio_jobs._engine.jobs import OnDoubt
from trio_jobs._errors import UsageError
from trio_jobs._validation import check_wait

__all__ = ["DEFAULT_RETRY", "Retry", "Rules", "Which"]

Which = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]


@final
@attrs.frozen(init=False)
class Retry:
    """How often a failed attempt is tried again, and after which waits.

    max_retries: 0 or more; the first attempt is not a retry. waits: seconds before retry 1, 2, ...; the last one
    repeats. Instead of a list: `first` seconds, each following wait `factor` (1 or more) times the one before.
    max_wait: no wait is longer, jitter included. jitter: 0 to 1; a wait of w becomes one between w * (1 - jitter)
    and w, by chance, so that many that failed together do not come back together. on: which errors: a class, a tuple of
    them, or a function that is asked; what is not an `Exception` is retried only if it is named.

    The default waits 1, 2 and 4 seconds.
    """

    max_retries: int
    waits: tuple[float, ...] | None
    first: float
    factor: float
    max_wait: float
    jitter: float
    on: Which

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
        if isinstance(max_retries, bool) or not isinstance(max_retries, int) or max_retries < 0:
            raise UsageError(f"max_retries must be a whole number, 0 or more, not {max_retries!r}")
        if waits is not None and (not isinstance(waits, Sequence) or not waits or isinstance(waits, str)):
            raise UsageError("waits must be a list of one or more seconds; for no retries say max_retries=0")
        if not (isinstance(factor, int | float) and 1 <= factor < math.inf):
            raise UsageError(f"factor must be 1 or more, not {factor!r}")
        if not (isinstance(jitter, int | float) and 0 <= jitter <= 1):
            raise UsageError(f"jitter must be between 0 and 1, not {jitter!r}")
        if not _is_which(on):
            raise UsageError(f"on must be an error class, a tuple of them, or a function of the error, not {on!r}")
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
        """Is this error worth another attempt? An `on` function that raises says no."""
        if isinstance(self.on, type | tuple):
            return isinstance(error, self.on)
        try:
            return bool(self.on(error))
        except Exception:
            return False

    def wait_before(self, retry: int, chance: float) -> float:
        """Seconds before retry number `retry` (from 1); `chance` is uniform in [0, 1)."""
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


def _is_which(on: object) -> bool:
    """Checked at once: `isinstance` with something else would raise when the first attempt fails."""
    if isinstance(on, tuple):
        return all(isinstance(error, type) and issubclass(error, BaseException) for error in on)
    return issubclass(on, BaseException) if isinstance(on, type) else callable(on)


DEFAULT_RETRY: Final = Retry()


@attrs.frozen
class Rules:
    """What the engine has to know of a handler to decide about its jobs.

    verifies: it has a `verify`. max_crashes: the attempt that sees the process die for this many-th time fails the job
    as poison. max_snoozes: one more fails the job.
    """

    retry: Retry = DEFAULT_RETRY
    idempotent: bool = False
    verifies: bool = False
    on_doubt: OnDoubt = "hold"
    max_crashes: int = 3
    max_snoozes: int = 1000
