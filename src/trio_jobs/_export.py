"""Gives public classes and functions the name of the public module that exports them, as Trio does.

So a repr, a traceback, a pickle and a documentation page say `trio_jobs.Job`, not `trio_jobs._engine.jobs.Job`.
`typing.get_type_hints`, attrs and msgspec look up the names in a class's annotations in the module that the class
names, where most of them are not defined; so the annotations are evaluated first.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any, get_type_hints

import attrs

__all__ = ["export"]


def export(module: str, names: Iterable[str], namespace: Mapping[str, Any]) -> None:
    """Set `__module__` of the classes and functions with these names to `module`."""
    values = [namespace[name] for name in names]
    classes = [value for value in values if isinstance(value, type)]
    for class_ in classes:
        _evaluate_annotations(class_)
    for value in [*classes, *(value for value in values if isinstance(value, FunctionType))]:
        value.__module__ = module


def _evaluate_annotations(class_: type) -> None:
    own = inspect.get_annotations(class_)
    if own:
        hints = get_type_hints(class_, include_extras=True)
        class_.__annotations__ = {name: hints[name] for name in own}
    if attrs.has(class_):
        attrs.resolve_types(class_)
