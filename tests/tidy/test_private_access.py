"""Private attributes are read inside their own package; the accesses that exist today only become fewer.

An access is `obj._name` where `obj` is neither `self` nor `cls`. It crosses a package where no module of the package
defines `_name`. Lower a maximum here in the commit that removes an access; do not raise one.
"""

from __future__ import annotations

import ast
import functools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).parents[2]
SOURCE = TOP / "src" / "trio_jobs"

#: Accesses to private attributes of other packages, by "file attribute". Members of the standard library count too.
ACROSS_PACKAGES: dict[str, int] = {
    # argparse has no public way to list the options of a parser
    "_cli/completion.py _SubParsersAction": 1,
    "_cli/completion.py _actions": 2,
    "_cli/signals.py _exit": 1,
    "_runtime/watchdog.py _current_frames": 1,
    "testing/stateful.py _ALLOW_DETERMINISTIC_SCHEDULING": 1,
    "testing/stateful.py _r": 1,
}

#: Accesses inside each package of src/trio_jobs, those above included
IN_SOURCE: dict[str, int] = {
    "_cli": 4,
    "_runtime": 2,
    "_server": 4,
    "_stores": 1,
    "testing": 12,
    "trio_jobs": 1,
}

#: Accesses in each folder of the tests
IN_TESTS: dict[str, int] = {
    "client": 13,
    "conftest.py": 1,  # Hypothesis has no public way to leave out the constants of modules
    "harness": 3,
    "journal": 6,
    "runtime": 32,
    "server": 22,
    "simulator": 4,
    "stores": 13,
    "support": 3,
}


def test_src_accesses_no_more_private_attributes_of_other_packages_than_listed() -> None:
    assert _excess(_across_packages(), ACROSS_PACKAGES) == {}


def test_src_accesses_no_more_private_attributes_than_listed() -> None:
    assert _excess(Counter(_package(file) for file, _ in _accesses(SOURCE)), IN_SOURCE) == {}


def test_the_tests_access_no_more_private_attributes_than_listed() -> None:
    tests = TOP / "tests"
    assert _excess(Counter(file.relative_to(tests).parts[0] for file, _ in _accesses(tests)), IN_TESTS) == {}


def _excess(counts: Counter[str], maxima: dict[str, int]) -> dict[str, str]:
    return {
        name: f"{count} accesses, at most {maxima.get(name, 0)}"
        for name, count in sorted(counts.items())
        if count > maxima.get(name, 0)
    }


def _across_packages() -> Counter[str]:
    """By "file name"."""
    own: dict[str, set[str]] = {}
    for file in _files(SOURCE):
        own.setdefault(_package(file), set()).update(_names(file)[1])
    return Counter(
        f"{file.relative_to(SOURCE).as_posix()} {name}"
        for file, name in _accesses(SOURCE)
        if name not in own[_package(file)]
    )


def _package(file: Path) -> str:
    parts = file.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else "trio_jobs"


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def _accesses(folder: Path) -> Iterator[tuple[Path, str]]:
    for file in _files(folder):
        for name in _names(file)[0]:
            yield file, name


@functools.cache
def _names(file: Path) -> tuple[tuple[str, ...], frozenset[str]]:
    """The private attributes that a file accesses, and the names that it defines. The tree itself is not kept."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    accessed = tuple(
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and _is_private(node.attr)
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    )
    return accessed, frozenset(_defined(tree))


def _defined(tree: ast.Module) -> Iterator[str]:
    """Functions, classes and variables, and the attributes that methods assign to `self`."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(attr=name, value=ast.Name(id="self" | "cls"), ctx=ast.Store()):
                yield name


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"
