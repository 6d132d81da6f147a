"""Ctrl-C is raised between any two lines of a task that is not protected from it.

Such a task would end there, and what it was to do for the stop of the queue would not be done: the stop would wait for
it, or a socket would stay open. So each task of a queue, a server and a client is protected, and Ctrl-C is raised in
the task of the user alone, at checkpoints while it enters and leaves a context manager of ours.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import trio_jobs

SOURCES: Final = Path(trio_jobs.__file__).parent
PACKAGES: Final = ("_runtime", "_executors", "_stores", "_server", "_client")
PROTECTION: Final = "trio.lowlevel.enable_ki_protection"

#: Tasks whose function is a method of another object, or an attribute
ELSEWHERE: Final = {
    "supervisor.stop_task.run": "_runtime/stop_task.py: run",
    "output.run": "_executors/process_output.py: run",
    "self.watch": "_runtime/pump.py: _watch",
    "self._refusals.run": "_server/refusals.py: run",
    "self.access.watch": "_server/access.py: watch",
    "self._keep_alive.run": "_server/keep_alive.py: run",
    "self._metrics.run": "_server/metrics.py: run",
    "accept_forever": "_server/listener.py: accept_forever",
    "connection.close": "_server/connection.py: close",
    "server._run": "_server/server.py: _run",
    "session.run": "_client/reconnect.py: run",
    "session.send": "_client/session.py: send",
    "session.tend": "_client/session.py: tend",
    "session.keep_alive": "_client/session.py: keep_alive",
    "self._stream.discard": "_client/stream.py: discard",
}

#: Context managers that are not protected themselves: they are entered and left in protected tasks
INTERNAL: Final = {
    "_concurrency.py: bare_nursery",
    "_server/http_body.py: read",
    "_server/http_body.py: reserve",
    "_server/stream.py: _turn",
    "testing/_executor_fixture.py: tasks",
    "testing/fake_sdk.py: _async_session",
}


def functions() -> dict[str, bool]:
    """Whether each asynchronous function is protected, by its file and name."""
    found: dict[str, bool] = {}
    for file, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.AsyncFunctionDef):
                found[f"{file}: {node.name}"] = PROTECTION in map(ast.unparse, node.decorator_list)
    return found


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((SOURCES / package).glob("*.py")):
            yield path.relative_to(SOURCES).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def started() -> Iterator[str]:
    """The functions of tasks."""
    for file, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "start_soon":
                name = ast.unparse(node.args[0])
                yield ELSEWHERE.get(name) or f"{file}: {name.removeprefix('self.')}"


def test_each_task_of_a_queue_is_protected_from_ctrl_c() -> None:
    protected = functions()
    tasks = sorted({*started()})
    assert len(tasks) > 10
    assert [task for task in tasks if not protected.get(task, False)] == []


def test_each_context_manager_that_a_user_enters_is_protected_from_ctrl_c() -> None:
    unprotected = {
        f"{path.relative_to(SOURCES).as_posix()}: {node.name}"
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.AsyncFunctionDef)
        and any("asynccontextmanager" in ast.unparse(decorator) for decorator in node.decorator_list)
    }
    assert unprotected == INTERNAL
