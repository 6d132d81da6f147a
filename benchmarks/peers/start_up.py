"""The CPU time of a process that only starts: the user and system time of `starts` child processes, in ms each."""

from __future__ import annotations

import json
import os
import subprocess
import sys


def main(action: str, arguments: dict[str, object]) -> float:
    program = {
        "code": ["-c", str(arguments["program"])],
        "module": ["-m", *str(arguments["program"]).split()],
    }[action]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, *program]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)  # compiles what it imports
    count = int(str(arguments["starts"]))
    before = os.times()
    for _ in range(count):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds / count * 1000


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.loads(sys.argv[2]))))
