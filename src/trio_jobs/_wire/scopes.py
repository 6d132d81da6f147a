"""The scopes of tokens: what a client may do. Each scope includes those before it."""

from __future__ import annotations

from typing import Final, get_args

from trio_jobs._wire.codes import Scope

__all__ = ["SCOPES", "includes"]

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)


def includes(scope: Scope, least: Scope) -> bool:
    """Whether a token of `scope` may do what requires the scope `least`."""
    return SCOPES.index(scope) >= SCOPES.index(least)
