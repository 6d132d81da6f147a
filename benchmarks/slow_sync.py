"""A library that makes each sync of a file take longer, in any process that loads it before the C library.

So all contestants have the same slow disk, whatever disk the machine has: SQLite and Python call `fsync` and
`fdatasync` of the C library. It is built with the C compiler of the machine.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.environment import HERE, NotHere

__all__ = ["library"]

SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static int later(int (*sync)(int), int fd) {
    struct timespec wait = {0, NANOSECONDS};
    int result = sync(fd);
    nanosleep(&wait, 0);
    return result;
}

int fsync(int fd) { return later((int (*)(int)) dlsym(RTLD_NEXT, "fsync"), fd); }
int fdatasync(int fd) { return later((int (*)(int)) dlsym(RTLD_NEXT, "fdatasync"), fd); }
"""


def library(milliseconds: float) -> Path:
    """Build the library. Raises `NotHere`."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        raise NotHere("needs Linux and a C compiler, to make each sync take longer")
    folder = HERE / ".scratch"
    folder.mkdir(exist_ok=True)
    source, built = folder / "slow_sync.c", folder / f"slow_sync_{milliseconds:g}.so"
    source.write_text(SOURCE.replace("NANOSECONDS", f"{milliseconds * 1e6:.0f}"))
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(built), str(source), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotHere(f"the C compiler failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
    return built
