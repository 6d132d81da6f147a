"""The reference has every public name and every setting, and no name that does not exist."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest
from blocks import ROOT

import trio_jobs

REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
DIRECTIVE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
PUBLIC = [
    name
    for name in ("trio_jobs", "trio_jobs.events", "trio_jobs.ports", "trio_jobs.testing")
    if importlib.util.find_spec(name) is not None
]


def documented() -> list[str]:
    return [name for page in REFERENCE for name in DIRECTIVE.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("module", PUBLIC)
def test_every_exported_name_is_in_the_reference_once(module: str) -> None:
    exported = importlib.import_module(module).__all__
    names = [name.removeprefix(f"{module}.") for name in documented() if name.rpartition(".")[0] == module]
    assert sorted(names) == sorted(exported)


def test_the_reference_names_public_modules_only() -> None:
    assert {name.rpartition(".")[0] for name in documented()} == set(PUBLIC)


def table(heading: str) -> dict[str, str]:
    """Names and defaults of the table under a heading of the page of the service."""
    page = (ROOT / "docs" / "reference" / "service.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert section is not None
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) \|", section[1], re.MULTILINE))


def keywords(callable_: object) -> set[str]:
    parameters = inspect.signature(callable_).parameters.values()  # type: ignore[arg-type] # a class or a function
    return {each.name for each in parameters if each.kind is each.KEYWORD_ONLY}


def test_the_settings_of_a_service_are_those_of_its_constructor() -> None:
    assert set(table("Settings of a service")) == keywords(trio_jobs.Service)


def test_the_settings_of_a_handler_are_those_of_its_decorator() -> None:
    assert set(table("Settings of a handler")) == keywords(trio_jobs.Service.handler)


@pytest.mark.parametrize(
    ("heading", "callable_"),
    [("Settings of a service", trio_jobs.Service), ("Settings of a handler", trio_jobs.Service.handler)],
    ids=["service", "handler"],
)
def test_defaults_that_are_plain_values_are_those_of_the_code(heading: str, callable_: object) -> None:
    compared = 0
    shown = table(heading)
    for name, parameter in inspect.signature(callable_).parameters.items():  # type: ignore[arg-type] # one of the two
        default = parameter.default
        if isinstance(default, bool | int | float | str) and re.fullmatch(
            r'`[^`]*`|"[^"]*"|[\d,.]+', shown.get(name, "")
        ):
            wanted = f'`"{default}"`' if isinstance(default, str) else f"`{default}`"
            plain = shown[name].replace(",", "")
            assert plain == wanted or (not isinstance(default, bool | str) and float(plain) == default), name
            compared += 1
    assert compared >= 4


def test_the_architecture_names_every_package_of_the_code() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    top = Path(trio_jobs.__file__).parent
    found = {path.stem for path in top.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    private = {name for name in found if name.startswith("_") and not name.startswith("__")}
    assert {name for name in private if f"`{name}`" not in page} == set()


def test_the_modules_that_the_architecture_names_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    top = Path(trio_jobs.__file__).parent
    named = set(re.findall(r"`(_\w+/\w*)`", page))
    assert len(named) > 8
    assert {name for name in named if not (top / name).is_dir() and not (top / f"{name}.py").is_file()} == set()


def test_the_promises_on_the_first_page_are_those_of_the_readme() -> None:
    tables = [
        re.search(r"^\| \| promise .*?(?=\n\n)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        for name in ("README.md", "docs/index.md")
    ]
    assert tables[0] is not None and tables[1] is not None
    assert tables[0][0] == tables[1][0]
    assert [*re.findall(r"^\| (P\d+) ", tables[0][0], re.MULTILINE)] == [f"P{n}" for n in range(1, 13)]
