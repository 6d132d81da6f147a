"""The hooks that exist, and the registration of functions for them, which `hooks` calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from trio_jobs._errors import UsageError

__all__ = ["HookName", "JobHook", "add_hook"]

JobHook = Literal["overdue", "stuck", "in_doubt", "failed", "completed", "cancelled"]
HookName = Literal[JobHook, "close_failed"]


def add_hook(hooks: dict[HookName, list[Callable[[Any], Any]]], hook: HookName, fn: Callable[[Any], Any]) -> None:
    """Register a function.

    Raises:
        UsageError: There is no such hook, `fn` cannot be called, or it is registered for this hook already.
    """
    if hook not in get_args(HookName):
        raise UsageError(f"there is no hook {hook!r:.100}; the hooks are {', '.join(get_args(HookName))}")
    if not callable(fn):
        raise UsageError(f"the hook for {hook} must be a function, not {fn!r:.100}")
    functions = hooks.setdefault(hook, [])
    if fn in functions:
        raise UsageError(f"{fn!r:.100} is registered for {hook} already; it would be called twice for each event")
    functions.append(fn)
