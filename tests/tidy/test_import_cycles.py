"""No module of the package needs itself to be imported: otherwise it depends on who comes first whether that works."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"


def imported(name: str, file: Path, modules: frozenset[str]) -> set[str]:
    """The modules that this one imports as a whole or in part while it is imported; not within functions."""
    found: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            parts = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            found |= parts or {node.module}
    return (found & modules) - {name}


@pytest.mark.parametrize("package", ["trio_jobs", "trio_jobs_demo"])
def test_no_modules_import_each_other(package: str) -> None:
    files = {
        ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): file
        for file in (SOURCE / package).rglob("*.py")
    }
    modules = frozenset(files)
    graph = {name: imported(name, file, modules) for name, file in files.items()}
    assert any(graph.values())
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))
