"""Plant a mutation into a copy of the packages, and run a check on the copy in a process of its own."""

from __future__ import annotations

import compileall
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
from catalogue import SIMULATOR, Mutation

import trio_jobs
from support import processes
from support.forking import Run, run_module

__all__ = ["PACKAGE", "ROOT", "SCHEDULES", "WARM", "Finding", "copied", "originals", "plant", "run_check"]

PACKAGE = Path(trio_jobs.__file__).parent
ROOT = PACKAGE.parent.parent
PACKAGES = (PACKAGE.name, "trio_jobs_demo")  #: the packages in which bugs are planted
SCHEDULES = 1500  #: how many schedules the simulator runs at most
SECONDS = 150.0  #: the timeout of a check; one that exceeds it also when it runs alone has no result
DEADLINE = 15.0  #: seconds that a test waits for an event; a test in Trio fails after four times as long
LIMIT = 75.0  #: seconds after which any other test fails
#: what a check imports, and is imported once for all of them; nothing that is mutated
WARM = (
    *("apsw", "attrs", "hypothesis.stateful", "msgspec", "prometheus_client", "rich.live", "sqlite3", "ssl"),
    *("trio.testing", "trio_websocket", "_hypothesis_pytestplugin", "pytest", "pytest_timeout", "pytest_trio.plugin"),
)
NO_SUCH_TEST = 4  #: pytest's exit code
REWRITTEN = "ignore::pytest.PytestAssertRewriteWarning"  #: pytest's plugins are among them


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
def originals() -> Iterator[Path]:
    """A folder with a compiled copy of the packages, from which `copied` makes others."""
    with TemporaryDirectory(prefix="trio-jobs-originals-") as folder:
        for package in PACKAGES:
            shutil.copytree(PACKAGE.parent / package, Path(folder) / package)
        compileall.compile_dir(folder, quiet=1)
        yield Path(folder)


@contextmanager
def copied(original: Path) -> Iterator[Path]:
    """A folder with a copy of the packages, to be put on the import path; its files are links to the originals."""
    with TemporaryDirectory(prefix="trio-jobs-mutation-") as folder:
        for package in PACKAGES:
            shutil.copytree(original / package, Path(folder) / package, copy_function=os.link)
        yield Path(folder)


def plant(mutation: Mutation, folder: Path) -> None:
    """Apply the mutation to the copy. Raises `AssertionError` unless each snippet occurs exactly once."""
    file = folder / mutation.package / mutation.file
    source = file.read_text(encoding="utf-8")
    mutated = mutation.apply(source)
    if file.suffix == ".py":
        compile(mutated, str(file), "exec")
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
        compiled.unlink()
    file.unlink()  # a link, whose file stays as it is
    file.write_text(mutated, encoding="utf-8")


def run_check(
    check: str, folder: Path, *, schedules: int = SCHEDULES, known: Finding | None = None, run: Run = run_module
) -> Finding:
    """Run a check on the copy in `folder` until its first failure.

    Args:
        check: A check of the catalogue.
        folder: Has the copy.
        schedules: How many schedules the simulator runs at most.
        known: What the check found at another time: only that test or schedule is run.
        run: Runs it.
    """
    if check == SIMULATOR:
        seeds = (0, schedules) if known is None else (known.examples - 1, 1)
        module, arguments = "sim", [f"--from={seeds[0]}", f"--schedules={seeds[1]}"]
    else:
        left_out = [*(f"-pno:{name}" for name in ("cacheprovider", "xdist", "cov")), "-W", REWRITTEN]
        tests = str(ROOT / check) + ("" if known is None else f"::{known.how.partition('[')[0]}")
        module, arguments = "pytest", ["-x", "-q", "--no-header", f"--timeout={LIMIT:g}", *left_out, tests]
    environment = {"TRIO_JOBS_HYPOTHESIS": "find", "TRIO_JOBS_TEST_DEADLINE": str(DEADLINE)}
    try:
        done = run(module, arguments, path=[str(folder), str(ROOT)], env=environment, timeout=SECONDS)
    except processes.DidNotEnd:
        return Finding(False, 0, f"timed out after {SECONDS:g} s", ended=False)
    found = done.returncode == 1
    if known is not None and done.returncode == NO_SUCH_TEST:
        return Finding(False, 0, "")
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
