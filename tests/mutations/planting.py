"""Planting a mutation into a copy of the package, and running a check on that copy in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
from catalogue import SIMULATOR, Mutation

import trio_jobs
from support import processes

__all__ = ["PACKAGE", "ROOT", "SCHEDULES", "Finding", "copied", "plant", "run_check"]

PACKAGE = Path(trio_jobs.__file__).parent
ROOT = PACKAGE.parent.parent
SCHEDULES = 1500  #: the simulator has so many to find it in
SECONDS = 150.0  #: a check that takes longer says nothing: it may hang, or the machine may be busy


@attrs.frozen
class Finding:
    """found: the check failed. examples: what it looked at until then: schedules, or tests. how: its words, short.
    ended: it came to an end; one that did not has found nothing, unless a hang is what the bug looks like."""

    found: bool
    examples: int
    how: str
    ended: bool = True


@contextmanager
def copied() -> Iterator[Path]:
    """A folder with a copy of the package, as it is imported from there."""
    with TemporaryDirectory(prefix="trio-jobs-mutation-") as folder:
        shutil.copytree(PACKAGE, Path(folder) / PACKAGE.name, ignore=shutil.ignore_patterns("samples"))
        yield Path(folder)


def plant(mutation: Mutation, folder: Path) -> None:
    """Raises `AssertionError` where the code has moved on and the snippet does not stand in it exactly once."""
    file = folder / PACKAGE.name / mutation.file
    source = file.read_text(encoding="utf-8")
    mutated = mutation.apply(source)
    compile(mutated, str(file), "exec")
    file.write_text(mutated, encoding="utf-8")


def run_check(check: str, folder: Path, *, schedules: int = SCHEDULES, hangs: bool = False) -> Finding:
    """Run a check on what lies in `folder`, up to the first thing it finds. hangs: that is what is to be found."""
    if check == SIMULATOR:
        command = ["-m", "sim", "--schedules", str(schedules)]
    else:
        command = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", str(ROOT / check)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TRIO_JOBS_HYPOTHESIS": "find",
    }
    try:
        done = processes.run([sys.executable, *command], cwd=ROOT, env=environment, timeout=SECONDS)
    except processes.DidNotEnd:
        return Finding(hangs, 0, f"it has not ended after {SECONDS:g} s", ended=False)
    found = done.returncode == 1
    assert found or done.returncode == 0, f"{check} could not be run:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return _read(check, found, done.stdout, done.stderr)


def _read(check: str, found: bool, told: str, errors: str) -> Finding:
    if check == SIMULATOR:
        counted = re.search(r"^(\d+) schedules, ", told, re.MULTILINE)
        assert counted is not None, f"the simulator did not come to its end:\n{told[-2000:]}\n{errors[-3000:]}"
        promises = re.findall(r"!!\s+(.*)", told)
        return Finding(found, int(counted[1]), _short(promises[0]) if promises else "")
    passed = re.search(r"(\d+) passed", told)
    failed = re.search(r"^(?:FAILED|ERROR) \S+::(\S+)", told, re.MULTILINE)
    return Finding(found, int(passed[1]) if passed else 0, failed[1] if failed else "")


def _short(text: str) -> str:
    """Without the numbers that belong to one schedule."""
    return re.sub(r"\s+", " ", text)[:90]
