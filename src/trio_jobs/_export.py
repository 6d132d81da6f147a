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

__all__ = ["export", "import_group_of", "on_first_use"]


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
    declaration: Mapping[str, Iterable[str]],
    modules: Iterable[str],
    queue: Iterable[str],
    others: Iterable[Mapping[str, Iterable[str]]],
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package that imports its public names when one is first used.

    All names of a group are imported together, so that each class of it has its public name. The names of a queue need
    those of a declaration, and the names of the other groups need both; what they need is imported before them.

    Args:
        namespace: The globals of the package, which get the names.
        declaration: The names with which a service is declared, by the modules that define them.
        modules: Public modules of the package. They belong to the group of a queue.
        queue: The modules that define the names of that group, which is all names that no other group has.
        others: The other groups: names by the modules that define them.
    """
    package: str = namespace["__name__"]
    declared = frozenset(name for names in declaration.values() for name in names)
    groups = {name: group for group in others for names in group.values() for name in names}
    of_queue = frozenset(namespace["__all__"]).difference(groups, declared)
    known = {*declared, *of_queue, *groups, *modules}

    def add(found: Mapping[str, Any]) -> None:
        export(package, found, found)
        namespace.update(found)

    def add_group(group: Mapping[str, Iterable[str]]) -> None:
        add(
            {
                member: getattr(importlib.import_module(f"{package}.{home}"), member)
                for home, members in group.items()
                for member in members
            }
        )

    def get(name: str) -> Any:
        if name not in known:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if not declared <= namespace.keys():
            add_group(declaration)
        if name not in declared and not of_queue <= namespace.keys():
            for module in modules:
                importlib.import_module(f"{package}.{module}")
            homes = [importlib.import_module(f"{package}.{home}") for home in queue]
            add({member: getattr(home, member) for home in homes for member in of_queue.intersection(home.__all__)})
        if name in groups:
            add_group(groups[name])
        return namespace[name]

    return get, lambda: sorted({*namespace, *known})


def import_group_of(name: str) -> None:
    """Import a public name of `trio_jobs`, and so its group; see `on_first_use`."""
    getattr(importlib.import_module(__name__.partition(".")[0]), name)


def _evaluate_annotations(class_: type) -> None:
    import inspect  # `import trio_jobs` alone needs neither

    import attrs

    if "__annotations__" in vars(class_):
        class_.__annotations__ = inspect.get_annotations(class_, eval_str=True)
    if attrs.has(class_):
        attrs.resolve_types(class_)
