"""Gives public classes and functions the name of the public module that exports them, as Trio does.

So a repr, a traceback, a pickle and a documentation page say `trio_jobs.Job`, not `trio_jobs._engine.jobs.Job`.
`typing.get_type_hints`, attrs and msgspec look up the names in a class's annotations in the module that the class
names, where most of them are not defined; so the annotations are evaluated first.
"""

from __future__ import annotations

import importlib
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping

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
    namespace: MutableMapping[str, Any],
    modules: Iterable[str],
    first: Iterable[str],
    others: Iterable[Mapping[str, Iterable[str]]],
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package that imports its public names when one is first used.

    All names of a group are imported together, so that each class of it has its public name. The names of the other
    groups need those of the first one, which is imported before them.

    Args:
        namespace: The globals of the package, which get the names.
        modules: Public modules of the package. They belong to the first group.
        first: The modules that define the names of the first group, which is all names that no other group has.
        others: The other groups: names by the modules that define them.
    """
    package: str = namespace["__name__"]
    groups = {name: group for group in others for names in group.values() for name in names}
    names = frozenset(namespace["__all__"]).difference(groups)
    known = {*names, *groups, *modules}

    def add(found: Mapping[str, Any]) -> None:
        export(package, found, found)
        namespace.update(found)

    def get(name: str) -> Any:
        if name not in known:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if not names <= namespace.keys():
            for module in modules:
                importlib.import_module(f"{package}.{module}")
            homes = [importlib.import_module(f"{package}.{home}") for home in first]
            add({member: getattr(home, member) for home in homes for member in names.intersection(home.__all__)})
        if name in groups:
            add(
                {
                    member: getattr(importlib.import_module(f"{package}.{home}"), member)
                    for home, members in groups[name].items()
                    for member in members
                }
            )
        return namespace[name]

    return get, lambda: sorted({*namespace, *known})


def _evaluate_annotations(class_: type) -> None:
    import inspect  # `import trio_jobs` alone needs neither

    import attrs

    if "__annotations__" in vars(class_):
        class_.__annotations__ = inspect.get_annotations(class_, eval_str=True)
    if attrs.has(class_):
        attrs.resolve_types(class_)
