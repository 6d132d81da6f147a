"""Where a service is declared, so that the process of its SDK can find it: a name among the globals of a module."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from trio_jobs._errors import UsageError
from trio_jobs._executors.process_messages import Setup

__all__ = ["make_setup"]

_MAIN = "__main__"


def make_setup(
    service: object, module: str, locate: str | None, kinds: Sequence[str], memory_limit: int | None
) -> Setup:
    """Return the message by which the process of the SDK finds a service.

    Args:
        service: The service.
        module: The name of the module in which it was made.
        locate: "module:callable" of a function that returns it; None to look for it in the module.
        kinds: The kinds of its handlers.
        memory_limit: See `Setup`.

    Raises:
        UsageError: The process could not find it.
    """
    name: str | None = None
    path: str | None = None
    if locate is None:
        home = sys.modules.get(module)
        names = [] if home is None else [key for key, value in vars(home).items() if value is service]
        if home is None or not names:
            raise UsageError(
                f"executor='process': the service is not a global of module {module!r}, in which it was made, so the "
                "process of the SDK cannot find it; assign it to a name at module level, or give "
                "locate='module:callable' of a function that returns it"
            )
        name = names[0]
        if module == _MAIN:
            module, path = _main_program(home)
    return Setup(
        module=module,
        path=None if path is None else os.fsencode(path),
        name=name,
        locate=locate,
        kinds=list(kinds),
        # what is no text is ignored by imports
        sys_path=[os.fsencode(entry or Path.cwd()) for entry in sys.path if isinstance(entry, str)],
        argv=[os.fsencode(argument) for argument in sys.argv],
        memory_limit=memory_limit,
    )


def _main_program(main: object) -> tuple[str, str | None]:
    """How the process imports the main program: by its name after `python -m`, else by its file."""
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name and not spec.name.endswith("__main__"):
        return str(spec.name), None
    path = getattr(main, "__file__", None)
    if path is None or not Path(path).exists():
        raise UsageError(
            "executor='process': the service is declared in a program that has no file (a notebook, the interactive "
            "interpreter, python -c), which the process of the SDK cannot import; put it into a module, or give "
            "locate='module:callable' of a function that returns it"
        )
    return "__mp_main__", str(Path(path).resolve())
