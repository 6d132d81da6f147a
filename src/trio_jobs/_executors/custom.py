"""Checks of a custom executor, `Service(executor=...)`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from trio_jobs._errors import UsageError

if TYPE_CHECKING:  # a service without an executor of its own does not need it
    from trio_jobs._ports import SdkExecutor

__all__ = ["ExecutorFactory", "check_executor_factory", "make_custom_executor"]

ExecutorFactory = Callable[[trio.Nursery], "SdkExecutor"]

_MUST: Final = "executor must be 'thread', 'process' or a function that takes a nursery and returns an executor"


def check_executor_factory(executor: object) -> None:
    """Check the argument `executor` before it is called.

    Raises:
        UsageError: It is not a function.
    """
    if isinstance(executor, str):
        raise UsageError(f"{_MUST}, not {executor!r:.100}")
    _refuse_pool(executor)
    if not callable(executor):
        if all(hasattr(executor, name) for name in _members()):
            raise UsageError(
                "executor must be a function that takes a nursery and returns a new executor, since each open needs "
                f"one of its own; {executor!r:.100} is an executor already"
            )
        raise UsageError(f"{_MUST}, not {executor!r:.100}")


def _members() -> list[str]:
    """The names of what an executor must have."""
    from trio_jobs._ports import SdkExecutor

    return sorted(name for name in vars(SdkExecutor) if not name.startswith("_"))


def make_custom_executor(factory: ExecutorFactory, nursery: trio.Nursery) -> SdkExecutor:
    """Call the user's function and check the executor that it returns.

    Raises:
        UsageError: It is not an `SdkExecutor`.
        Exception: Whatever `factory` raises.
    """
    executor = factory(nursery)
    _refuse_pool(executor)
    missing = [name for name in _members() if not hasattr(executor, name)]
    if missing:
        raise UsageError(
            f"executor returned {executor!r:.100}, which is not a trio_jobs.ports.SdkExecutor: "
            f"it has no {', '.join(missing)}"
        )
    return executor


def _refuse_pool(executor: object) -> None:
    futures = sys.modules.get("concurrent.futures")  # who has a pool has imported it
    kind = executor if isinstance(executor, type) else type(executor)
    if futures is not None and issubclass(kind, futures.Executor):
        raise UsageError(
            f"executor cannot be a {kind.__name__}: a concurrent.futures.Executor is a pool of workers, but an SDK "
            "session is opened, called and closed by one thread; give sdk=..., which gets a thread of its own, or a "
            "function that returns a trio_jobs.ports.SdkExecutor"
        )
