"""A child process of a test ends with the test, which only support.processes ensures."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]

#: Functions that start a process and leave its end to the caller
STARTS = {
    *(f"subprocess.{name}" for name in ("Popen", "call", "check_call", "check_output", "run")),
    *(f"os.{name}" for name in ("fork", "forkpty", "popen", "posix_spawn", "posix_spawnp", "system")),
    *("trio.run_process", "trio.lowlevel.open_process", "asyncio.create_subprocess_exec", "multiprocessing.Process"),
}
NAMES = {start.rpartition(".")[2] for start in STARTS}


def test_tests_start_processes_only_through_the_support_package() -> None:
    found = [
        f"{file.relative_to(TESTS)}:{node.lineno}: {ast.unparse(node)}"
        for file in sorted(TESTS.rglob("*.py"))
        if file.parent != TESTS / "support"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in NAMES and ast.unparse(node) in STARTS
    ]
    assert found == []
