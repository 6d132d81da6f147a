"""Command line of the benchmarks, `./run bench`."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

from benchmarks import frame, machine, page, text

QUESTIONS = (
    "throughput", "instructions", "latency", "fan_out", "http", "frozen", "watchers", "lists", "sdk", "scale",
    "pauses", "start_up", "profile", "million"
)  # fmt: skip
ASKED_BY_NAME = ("million",)  #: takes as long as all others
RESULTS = Path(__file__).resolve().parent / "results"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="./run bench", description="Run the benchmarks: the named questions, or all but million."
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument(
        "--quick", action="store_true", help="run each contestant once with small numbers, as a check of the benchmarks"
    )
    parser.add_argument("--missing", action="store_true", help="only questions without an answer for this commit")
    parser.add_argument(
        "--rounds", type=int, default=frame.ROUNDS, help=f"how often each contestant runs (default: {frame.ROUNDS})"
    )
    parser.add_argument("--huge", action="store_true", help="scale: also with a million jobs (4 more minutes, 3 GB)")
    parser.add_argument(
        "--no-install", action="store_true", help="do not install other queues; leave out those that are missing"
    )
    parser.add_argument(
        "--to", type=Path, help="folder for the results (default: benchmarks/results; with --quick a temporary one)"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.questions) - set(QUESTIONS)
    if unknown or options.rounds < 1:
        parser.error(f"there is no question {', '.join(unknown)}" if unknown else "--rounds must be 1 or more")
    to = options.to or (Path(tempfile.mkdtemp(prefix="trio-jobs-bench-")) if options.quick else RESULTS)
    to.mkdir(parents=True, exist_ok=True)
    run = frame.Run(options.quick, not options.no_install, options.rounds, huge=options.huge)
    total = frame.stopwatch()
    for name in options.questions or [name for name in QUESTIONS if name not in ASKED_BY_NAME]:
        if options.missing and page.answered(to, name, machine.commit()):
            print(f"{name}: answered for this commit already")
            continue
        watch = frame.stopwatch()
        answer = importlib.import_module(f"benchmarks.{name}").measure(run)
        print(text.render(answer), flush=True)
        page.save(to, answer, run, watch())
        print(f"{name}: {watch():.0f} s, written to {to}\n", flush=True)
    page.write(to)
    print(f"{total():.0f} s in all; {to / 'README.md'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
