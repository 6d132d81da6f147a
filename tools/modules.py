"""Writes the table of modules in docs/architecture.md. `python -m tools.modules` prints it; --write writes it.

What a module is for stands in the first sentence of its docstring. A test compares the page with them.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

__all__ = ["PAGE", "main", "table", "with_table"]

PAGE: Final = Path("docs/architecture.md")
"""The page, relative to the top of the repository."""

_SOURCE: Final = Path("src/trio_jobs")
_PACKAGES: Final = ("", "_engine", "_wire", "_executors", "_stores", "_stores/sqlite", "_runtime", "_server", "_client",
                    "_cli", "testing")  # fmt: skip
_BETWEEN: Final = re.compile(r"(?<=<!-- modules -->\n).*(?=<!-- /modules -->)", re.DOTALL)


def table(top: Path) -> str:
    """The tables, one for each package, as Markdown. top: the top of the repository."""
    return "\n".join(_of_package(top / _SOURCE / package, package) for package in _PACKAGES)


def _of_package(folder: Path, package: str) -> str:
    rows = "".join(f"| `{name}` | {sentence} |\n" for name, sentence in _modules(folder))
    return f"### {package or 'trio_jobs'}\n\n| module | what it is for |\n|---|---|\n{rows}"


def _modules(folder: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(folder.glob("*.py")):
        if not file.name.startswith("__"):
            yield file.stem, _first_sentence(ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "")


def _first_sentence(docstring: str) -> str:
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    sentence = re.split(r"(?<=[^.]\.) (?=[A-Z`])", paragraph)[0]
    return sentence.replace("|", "\\|")


def with_table(page: str, modules: str) -> str:
    """The page with these tables between its markers."""
    return _BETWEEN.sub(lambda _: f"\n{modules}\n", page)


def main(arguments: Sequence[str]) -> int:
    if arguments == ["--write"]:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(with_table(page, table(Path())), encoding="utf-8")
        return 0
    if arguments:
        print(f"usage: python -m tools.modules [--write]   (writes into {PAGE})", file=sys.stderr)
        return 2
    print(table(Path()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
