"""What is installed: the package, and nothing of what only belongs to its repository."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from support.processes import run

TOP = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[PurePosixPath]:
    """The files in a wheel that is built from this checkout."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel: pip install trio-jobs[test]")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    run(build, cwd=TOP, check=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return [PurePosixPath(name) for name in archive.namelist()]


def test_the_wheel_contains_neither_the_demo_nor_the_simulator(names: list[PurePosixPath]) -> None:
    assert {name.parts[0] for name in names if ".dist-info" not in name.parts[0]} == {"trio_jobs"}
    assert not [name for name in names if {"demo", "sim", "simulate", "samples", "tools"} & {*name.parts}]


def test_the_wheel_contains_what_is_read_at_run_time(names: list[PurePosixPath]) -> None:
    assert {PurePosixPath("trio_jobs/py.typed"), PurePosixPath("trio_jobs/asyncapi.json")} <= {*names}
    assert PurePosixPath("trio_jobs/testing/__init__.py") in names
    page = {file.name for file in (TOP / "src" / "trio_jobs" / "_page").iterdir()}
    assert page == {name.name for name in names if name.parent == PurePosixPath("trio_jobs/_page")}
