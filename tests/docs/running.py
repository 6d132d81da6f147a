"""Runs the programs of a page as real processes, each with a deadline; none of them outlives the page."""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import os
import re
import shutil
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from blocks import ROOT, Program

from support.processes import Process
from support.waiting import wait_until

__all__ = ["DEADLINE", "PageRun", "page_run"]

DEADLINE: Final = 150.0  #: seconds for one program
LOCAL: Final = re.compile(r"127\.0\.0\.1:(\d{4,5})")
DEFAULT_PORT: Final = 7373


class PageRun:
    """A folder in which a page's programs run, one after another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "page"
        self.folder.mkdir()
        self._ports: dict[int, int] = {}
        self._background: list[Process] = []
        home, tools = folder / "home", folder / "bin"
        for made in (home, tools):
            made.mkdir(mode=0o700)
        self._write_tools(tools)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TRIO_JOBS_")},
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "error",
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
        }

    def run(self, program: Program) -> None:
        """Run one program, or write one file; raise `AssertionError` where it is not as the page says."""
        first = program.blocks[0]
        if "needs" in first.markers:
            _skip_without(first.markers["needs"])
        text = self._with_free_ports(program.text)
        if program.kind == "file":
            self._write(first.title or first.markers["end of"], text, is_end="end of" in first.markers)
            return
        if program.kind == "python":
            (self.folder / "page.py").write_text(text, encoding="utf-8")
            command = [sys.executable, "page.py"]
        else:
            if sys.platform == "win32":
                pytest.skip("the shell blocks need sh")
            command = ["sh", "-eu", "-c", f"exec {text}" if "background" in first.markers else text]
        if "background" in first.markers:
            if "beside" not in first.markers:
                self.stop()  # the one before: both may have the same SDK
            self._start(command, self._with_free_ports(first.markers["background"]), first.markers.get("needs", ""))
            return
        with Process(command, cwd=self.folder, env=self.env, group=True) as process:
            done = process.finish(DEADLINE)
        status = done.returncode if done.returncode >= 0 else 128 - done.returncode
        expected = int(first.markers.get("exits", "0"))
        printed = f"{done.stdout}\n{done.stderr}"
        assert status == expected, f"{first}: exit status {status}, expected {expected}\n{printed}"
        wanted = self._with_free_ports("".join(program.output)).rstrip("\n")
        if wanted:
            alike = doctest.OutputChecker().check_output(wanted, done.stdout.rstrip("\n"), doctest.ELLIPSIS)
            assert alike, f"{first}: the page shows\n{wanted}\nand the output is\n{printed}"

    def stop(self) -> None:
        """Ask the background programs to end, as a supervisor does; each has to end well."""
        for process in self._background:
            process.send_signal(signal.SIGTERM)
        for process in self._background:
            status = process.wait()
            assert status == 0, f"{process.name} ended with {status} after SIGTERM\n{process.err.text}"
        self._background.clear()

    def close(self) -> None:
        """End everything that still runs."""
        for process in self._background:
            process.end()

    def _write(self, name: str, text: str, *, is_end: bool) -> None:
        path = self.folder / name
        assert path.resolve().is_relative_to(self.folder.resolve())
        if is_end:
            before = path.read_text(encoding="utf-8")
            start = re.match(r"[@\w. ]+", text)
            assert start is not None
            assert before.count(f"\n{start[0]}") == 1, f"{name} has not one line that begins with {start[0]!r}"
            text = before[: before.index(f"\n{start[0]}") + 1] + text
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def _start(self, command: list[str], url: str, needs: str) -> None:
        # the warnings of other projects are not ours to fix
        env = {**self.env, "PYTHONWARNINGS": "default" if needs else "error"}
        process = Process(command, cwd=self.folder, env=env, group=True)
        self._background.append(process)

        def answers() -> bool:
            assert process.returncode is None, f"{process.name} ended with {process.returncode}\n{process.err.text}"
            return _answers(url)

        wait_until(answers, f"{url} answers")

    def _with_free_ports(self, text: str) -> str:
        return LOCAL.sub(lambda found: f"127.0.0.1:{self._port(int(found[1]))}", text)

    def _port(self, named: int) -> int:
        if named not in self._ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._ports[named] = probe.getsockname()[1]
        return self._ports[named]

    def _write_tools(self, folder: Path) -> None:
        """`python`, `pytest` and `trio-jobs` of this environment; the last one with this page's port as its default."""
        port = self._port(DEFAULT_PORT)
        url = f"ws://127.0.0.1:{port}/ws"
        scripts = {
            "python": 'exec "$PYTHON" "$@"',
            "pytest": 'exec "$PYTHON" -m pytest -p no:cacheprovider "$@"',
            "trio-jobs": (
                'command="$1"; shift\n'
                'case "$command" in\n'
                f'serve) exec "$PYTHON" -m trio_jobs._cli serve --port {port} "$@" ;;\n'
                'journal | --*) exec "$PYTHON" -m trio_jobs._cli "$command" "$@" ;;\n'
                f'*) exec "$PYTHON" -m trio_jobs._cli "$command" --url {url} "$@" ;;\n'
                "esac"
            ),
        }
        for name, script in scripts.items():
            path = folder / name
            path.write_text(f'#!/bin/sh\nPYTHON="{sys.executable}"\n{script}\n', encoding="utf-8")
            path.chmod(0o755)


@contextlib.contextmanager
def page_run(folder: Path) -> Iterator[PageRun]:
    """A `PageRun` whose processes are gone when the block ends."""
    run = PageRun(folder)
    try:
        yield run
    finally:
        run.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=20):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _skip_without(names: str) -> None:
    for name in re.split(r"[ ,]+", names):
        if importlib.util.find_spec(name) is None and shutil.which(name) is None:
            pytest.skip(f"{name} is not installed: pip install 'trio-jobs[docs-test]' has the Python packages")
