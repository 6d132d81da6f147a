"""Gives public classes and functions the name of the public module that exports them, as Trio does.

So a repr, a traceback, a pickle and a documentation page say `trio_jobs.Job`, not `trio_jobs._engine.jobs.Job`.
`typing.get_type_hints`, attrs and msgspec look up the names in a class's annotations in the module that the class
names, where most of them are not defined; so the annotations are evaluated first.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from types import FunctionType
from typing import Any, get_type_hints

import attrs

__all__ = ["export", "on_first_use"]


def export(module: str, names: Iterable[str], namespace: Mapping[str, Any]) -> None:
    """Set `__module__` of the classes and functions with these names to `module`."""
    values = [namespace[name] for name in names]
    classes = [value for value in values if isinstance(value, type)]
    for class_ in classes:
        _evaluate_annotations(class_)
    for value in [*classes, *(value for value in values if isinstance(value, FunctionType))]:
        value.__module__ = module


def on_first_use(
    module: str, namespace: MutableMapping[str, Any], groups: Iterable[Mapping[str, Iterable[str]]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a module that imports some of its public names when one is used.

    Args:
        module: The name of the public module.
        namespace: Its globals, which get the names.
        groups: The names by the modules that define them, which are relative to `module`. All names of a group are
            imported together, so that each class of it has its public name.
    """
    homes = {name: group for group in groups for names in group.values() for name in names}

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = {
            member: getattr(importlib.import_module(f"{module}.{home}"), member)
            for home, members in homes[name].items()
            for member in members
        }
        export(module, found, found)
        namespace.update(found)
        return found[name]

    return get, lambda: sorted({*namespace, *homes})


def _evaluate_annotations(class_: type) -> None:
    own = inspect.get_annotations(class_)
    if own:
        hints = get_type_hints(class_, include_extras=True)
        class_.__annotations__ = {name: hints[name] for name in own}
    if attrs.has(class_):
        attrs.resolve_types(class_)
