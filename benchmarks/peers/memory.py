"""How much memory a process has. Apart, since the parts of a benchmark are visited by the collector whose pauses it measures."""

from __future__ import annotations

import gc
import sys
from pathlib import Path


def resident() -> int:
    """The resident memory of the process in bytes; its peak if the system does not report the current value."""
    gc.collect()
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        if sys.platform == "win32":
            sys.exit("this system does not report how much memory a process has")
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
