"""Finds the service in the process of its SDK: in the globals of its module, or by a function of the user's."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from typing import Any, Final

from trio_jobs._errors import UsageError
from trio_jobs._executors.process_messages import Setup
from trio_jobs._service import Service, parts_of

__all__ = ["MAIN", "find_service"]

#: The name that a main program has when the process imports it, as with multiprocessing
MAIN: Final = "__mp_main__"


def find_service(setup: Setup) -> Service:
    """Import the module of the service, and return the service.

    Raises:
        UsageError: There is no service where it was, or it lacks handlers.
        BaseException: What importing the module raised.
    """
    found: Any
    if setup.locate is not None:
        module_name, _, function = setup.locate.partition(":")
        found = getattr(importlib.import_module(module_name), function)()
        where = f"what {setup.locate!r} returned"
    else:
        found = _globals_of(setup).get(setup.name or "")
        where = f"the global {setup.name!r} of {setup.module if setup.path is None else os.fsdecode(setup.path)}"
    if not isinstance(found, Service):
        raise UsageError(f"{where} is no Service in the process of the SDK, but {type(found).__name__}")
    missing = sorted(set(setup.kinds) - set(parts_of(found).handlers))
    if missing:
        raise UsageError(
            f"{where} has no handler for {', '.join(missing)} in the process of the SDK; register handlers where the "
            "module is imported, not in a function that only the main program calls"
        )
    return found


def _globals_of(setup: Setup) -> dict[str, Any]:
    if setup.module == MAIN:
        assert setup.path is not None
        # not a new module: libraries keep their own state in `__main__`, as that of LibreOffice does
        main = sys.modules["__main__"]
        vars(main).update(runpy.run_path(os.fsdecode(setup.path), run_name=MAIN))
        sys.modules[MAIN] = main
        return vars(main)
    return vars(importlib.import_module(setup.module))
