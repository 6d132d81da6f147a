"""The Python environments of contestants: this project's own, and separate ones for other queues.

The separate ones are created in benchmarks/.venv* from pinned versions, and again when the list of versions changes. If
a package cannot be installed, the contestant is listed with the reason.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


class NotHere(Exception):
    """A contestant cannot run; the message says why."""


def own(package: str = "") -> Path:
    """The Python that this project runs in. Raises `NotHere` without `package`."""
    return Path(sys.executable)


def peers(package: str, *, install: bool = True) -> Path:
    """The Python that has `package`. Raises `NotHere`."""
    return _environment(".venv", "peers.txt", Path(sys.executable), package, install)


def peers_oban(package: str, *, install: bool = True) -> Path:
    """The Python 3.12 that has `package`. Raises `NotHere`."""
    python = Path(sys.executable)
    if sys.version_info < (3, 12):
        found = [path for name in ("python3.13", "python3.12") if (path := _find(name)) is not None]
        if not found:
            raise NotHere("needs Python 3.12 or newer, and none is installed")
        python = found[0]
    return _environment(".venv-oban", "peers-oban.txt", python, package, install)


def _find(name: str) -> Path | None:
    """A Python that runs; pyenv's shims exist also for versions that are not active, and fail."""
    places = [shutil.which(name), *sorted(map(str, Path.home().glob(f".pyenv/versions/{name[6:]}.*/bin/python")))]
    for place in places:
        if place is not None and _run([place, "-c", "import venv"]) is None:
            return Path(place)
    return None


def _environment(folder: str, listed: str, python: Path, package: str, install: bool) -> Path:
    windows = sys.platform == "win32"
    there = HERE / folder
    inside = there / ("Scripts/python.exe" if windows else "bin/python")
    wanted = (HERE / listed).read_text()
    stamp = there / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        if not install:
            raise NotHere(f"{package} is not installed (benchmarks/{listed})")
        print(f"installing benchmarks/{listed} into benchmarks/{folder} ...", file=sys.stderr)
        problem = _run([str(python), "-m", "venv", "--clear", str(there)]) or _run(
            [str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(HERE / listed)]
        )
        if problem is not None:
            raise NotHere(f"{package} could not be installed: {problem}")
        stamp.write_text(wanted)
    return inside


def _run(command: list[str]) -> str | None:
    """Run a command. Returns None, or its error in one line."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it failed without a word"])[-1]
    return None


def versions(python: Path, packages: list[str]) -> dict[str, str]:
    """The installed versions of these packages; missing packages are left out."""
    script = (
        "import sys, json, platform, importlib.metadata as m\n"
        "found = {'Python': platform.python_version()}\n"
        "for name in sys.argv[1:]:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    import json

    done = subprocess.run([str(python), "-c", script, *packages], capture_output=True, text=True, timeout=60)
    found: dict[str, str] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found
