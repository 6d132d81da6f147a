"""Real SDKs, and the programs of `examples/` that use them.

Debian packages the bindings of GnuCash and LibreOffice for its own Python only, so what uses them runs in another
environment than the tests, which `./run sdks` makes.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from support.processes import run

__all__ = ["EXAMPLES", "load_example", "need_module", "sdk_environment", "sdk_python"]

TOP: Final = Path(__file__).parents[2]
EXAMPLES: Final = TOP / "examples"
#: Debian's packages that a module needs
PACKAGES: Final[Mapping[str, str]] = {
    "gnucash": "gnucash python3-gnucash",
    "uno": "libreoffice-calc-nogui python3-uno",
}
CHECK: Final = "import importlib.util, sys; sys.exit(not all(map(importlib.util.find_spec, sys.argv[1:])))"


def sdk_python(module: str) -> Path:
    """The Python that has `module`, and the dependencies of trio-jobs. Skips the test where there is none."""
    found = _find(module)
    if found is None:
        pytest.skip(
            f"no Python here has {module}: apt-get install --no-install-recommends {PACKAGES[module]}, then ./run sdks"
        )
    return found


def sdk_environment(**more: str) -> dict[str, str]:
    """The environment variables of a child that imports trio-jobs, and programs of `examples/`, from this checkout."""
    paths = [str(TOP / "src"), str(EXAMPLES)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", **more}


def need_module(name: str) -> None:
    """Skip a module of tests without `name`, a package of the extra `examples`."""
    if importlib.util.find_spec(name) is None:
        reason = f"{name} is not installed: ./run sdks, or pip install 'trio-jobs[examples]'"
        pytest.skip(reason, allow_module_level=True)


def load_example(name: str) -> ModuleType:
    """Import a program of `examples/` once more, so that nothing is shared with another test."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def _find(module: str) -> Path | None:
    for python in (TOP / ".venv-sdks" / "bin" / "python", Path(sys.executable)):
        if python.exists() and run([python, "-c", CHECK, module, "trio_websocket", "msgspec"]).returncode == 0:
            return python
    return None
