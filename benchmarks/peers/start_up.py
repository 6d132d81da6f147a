"""The CPU time of a process that only starts: the user and system time of child processes, `starts` at least, in ms each."""

from __future__ import annotations

import json
import os
import subprocess
import sys

TICKS = 0.05  #: seconds of CPU time to be measured at least
MOST = 50  #: starts, where that time is not reached


def main(action: str, arguments: dict[str, object]) -> float:
    program = {
        "code": ["-c", str(arguments["program"])],
        "module": ["-m", *str(arguments["program"]).split()],
    }[action]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, *program]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)  # compiles what it imports
    least = int(str(arguments["starts"]))
    count, seconds, before = 0, 0.0, os.times()
    # some kernels count in ticks of 10 ms, in which a short start is none
    while count < least or (seconds < TICKS and count < MOST):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        count += 1
        after = os.times()
        seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds / count * 1000


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.loads(sys.argv[2]))))
