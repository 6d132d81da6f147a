"""The CPU time of the start: of an import, and of `trio-jobs --help`."""

from __future__ import annotations

from benchmarks.frame import Answer, Contestant, Kind, Run, Table, at_most, ratio

STARTS = 8  #: in a round
PYTHON = "python"
LEAST = "import trio, msgspec, attrs"
IMPORT = "import trio_jobs"
SERVICE = "from trio_jobs import Service"
HELP = "trio-jobs --help"

PROGRAMS: tuple[tuple[str, Kind, str, str, str], ...] = (
    (PYTHON, "limit", "code", "pass", "starts and ends"),
    ("import trio", "peer", "code", "import trio", ""),
    (LEAST, "limit", "code", LEAST, "what trio-jobs is built on"),
    (IMPORT, "ours", "code", IMPORT, "no name is used"),
    (SERVICE, "ours", "code", SERVICE, "declares a queue"),
    ("with the queue", "ours", "code", f"{IMPORT} as t; t.Queue", "what the first open imports"),
    ("with client and server", "ours", "code", f"{IMPORT} as t; t.Client, t.Server", "their names are used"),
    (HELP, "ours", "module", "trio_jobs._cli --help", ""),
)


def measure(run: Run) -> Answer:
    starts = 1 if run.quick else STARTS
    rows = run.race(
        [
            Contestant(name, kind, ("start_up", action), 0, setting, {"program": program, "starts": starts})
            for name, kind, action, program, setting in PROGRAMS
        ]
    )
    table = Table(
        "One start", "ms of CPU time", rows, "lower", (LEAST,),
        ("User and system time of a process, with everything compiled before. Wall time is the same on an idle machine.",),
    )  # fmt: skip
    why = "a service has 16 attrs classes in 45 modules, and each class is compiled anew at every start"
    help_row = table.row(HELP)
    return Answer(
        "start_up", "What does a start cost?", (table,),
        (
            at_most(f"{IMPORT}, of trio, msgspec and attrs", ratio(table, IMPORT, LEAST), 1.25),
            at_most(f"{SERVICE}, of trio, msgspec and attrs", ratio(table, SERVICE, LEAST), 1.25, why=why),
            at_most("trio-jobs --help, CPU time", None if help_row is None else help_row.median, 150, " ms"),
        ),
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit("run it as: ./run bench start_up")
