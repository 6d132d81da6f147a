"""Plant a mutation into a copy of the packages, and run a check on the copy in a new process."""

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
PACKAGES = (PACKAGE.name, "trio_jobs_demo")  #: the packages in which bugs are planted
SCHEDULES = 1500  #: how many schedules the simulator runs at most
SECONDS = 150.0  #: the timeout of a check; one that exceeds it also when it runs alone has no result
DEADLINE = (
    15.0  #: seconds that a test waits for an event; a test in Trio fails after four times as long (tests/conftest.py)
)
LIMIT = 75.0  #: seconds after which any other test fails


@attrs.frozen
class Finding:
    """The result of one check on one mutation."""

    found: bool
    """The check failed."""
    examples: int
    """How many schedules were run, or how many tests passed."""
    how: str
    """The start of the message."""
    ended: bool = True
    """The check did not time out; a test of it that does not end fails (`DEADLINE`, `LIMIT`)."""


@contextmanager
def copied() -> Iterator[Path]:
    """A folder with a copy of the packages, to be put on the import path."""
    with TemporaryDirectory(prefix="trio-jobs-mutation-") as folder:
        for package in PACKAGES:
            shutil.copytree(PACKAGE.parent / package, Path(folder) / package)
        yield Path(folder)


def plant(mutation: Mutation, folder: Path) -> None:
    """Apply the mutation to the copy. Raises `AssertionError` unless each snippet occurs exactly once."""
    file = folder / mutation.package / mutation.file
    source = file.read_text(encoding="utf-8")
    mutated = mutation.apply(source)
    compile(mutated, str(file), "exec")
    file.write_text(mutated, encoding="utf-8")


def run_check(check: str, folder: Path, *, schedules: int = SCHEDULES) -> Finding:
    """Run a check on the copy in `folder` until its first failure.

    Args:
        check: A check of the catalogue.
        folder: Has the copy.
        schedules: How many schedules the simulator runs at most.
    """
    if check == SIMULATOR:
        command = ["-m", "sim", "--schedules", str(schedules)]
    else:
        command = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", f"--timeout={LIMIT:g}"]
        command.append(str(ROOT / check))
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TRIO_JOBS_HYPOTHESIS": "find",
        "TRIO_JOBS_TEST_DEADLINE": str(DEADLINE),
    }
    try:
        done = processes.run([sys.executable, *command], cwd=ROOT, env=environment, timeout=SECONDS)
    except processes.DidNotEnd:
        return Finding(False, 0, f"timed out after {SECONDS:g} s", ended=False)
    found = done.returncode == 1
    assert found or done.returncode == 0, f"{check} could not run:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return _read(check, found, done.stdout, done.stderr)


def _read(check: str, found: bool, output: str, errors: str) -> Finding:
    if check == SIMULATOR:
        counted = re.search(r"^(\d+) schedules, ", output, re.MULTILINE)
        assert counted is not None, f"the simulator did not end:\n{output[-2000:]}\n{errors[-3000:]}"
        promises = re.findall(r"!!\s+(.*)", output)
        return Finding(found, int(counted[1]), _short(promises[0]) if promises else "")
    passed = re.search(r"(\d+) passed", output)
    failed = re.search(r"^(?:FAILED|ERROR) \S+::(\S+)", output, re.MULTILINE)
    if failed is None:  # pytest-timeout shows the stacks and ends the process
        failed = re.search(r"^  File .*, line \d+, in (test_\w+)$", f"{output}\n{errors}", re.MULTILINE)
    return Finding(found, int(passed[1]) if passed else 0, failed[1] if failed else "")


def _short(text: str) -> str:
    """The text on one line, at most 90 characters."""
    return re.sub(r"\s+", " ", text)[:90]
