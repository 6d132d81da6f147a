"""Redis and PostgreSQL on loopback, if Debian's packages are installed; started and stopped with each run.

Both have their default settings: Redis with snapshots and without an append-only file (so it can lose what it
acknowledged), PostgreSQL with fsync. Their data is in a temporary folder.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.environment import NotHere

START = 20.0  #: seconds a server may take to start


@contextmanager
def redis() -> Iterator[dict[str, object]]:
    """Start Redis; yields the arguments for contestants. Raises `NotHere`."""
    program = shutil.which("redis-server")
    if program is None:
        raise NotHere("redis-server is not installed")
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        with running(command, port):
            yield {"port": port}


@contextmanager
def postgres() -> Iterator[dict[str, object]]:
    """Start PostgreSQL; yields the arguments for contestants. Raises `NotHere`."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [
        Path(place).parent for place in [shutil.which("initdb")] if place is not None
    ]
    if not found:
        raise NotHere("postgresql is not installed")
    tools = found[-1]
    with tempfile.TemporaryDirectory() as folder:
        prefix: list[str] = []
        if sys.platform != "win32" and os.getuid() == 0:  # it refuses to run as root; Debian's has a user of its own
            if shutil.which("setpriv") is None:
                raise NotHere("PostgreSQL does not run as root, and setpriv is not installed")
            prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            shutil.chown(folder, "postgres", "postgres")
        data, port = f"{folder}/data", free_port()
        made = subprocess.run(
            [*prefix, str(tools / "initdb"), "-D", data, "-U", "bench", "-A", "trust"], capture_output=True, text=True
        )
        if made.returncode:
            raise NotHere(f"initdb: {made.stderr.strip().splitlines()[-1]}")
        command = [*prefix, str(tools / "postgres"), "-D", data, "-p", str(port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
        with running(command, port):
            yield {"dsn": f"postgresql://bench@127.0.0.1:{port}/postgres"}


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(process, port)
        yield
    finally:
        process.terminate()  # for PostgreSQL: no new clients, and end when those there are have gone
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    ends = time.monotonic() + START
    while time.monotonic() < ends and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            time.sleep(0.5)  # PostgreSQL listens a moment before it lets anybody in
            return
    raise NotHere(f"{command_name(process)} did not start within {START:g} s")


def command_name(process: subprocess.Popen[bytes]) -> str:
    arguments = process.args
    assert isinstance(arguments, list)
    return Path(next(str(a) for a in arguments if "/" in str(a))).name


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def serve(name: str) -> Iterator[dict[str, object]]:
    """Start the server of that name. Raises `NotHere`."""
    with {"redis": redis, "postgres": postgres}[name]() as address:
        yield address
