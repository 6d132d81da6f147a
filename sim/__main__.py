"""Command line of the simulator."""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from sim.recording import Recording
from sim.run import Schedule, simulate, simulate_all

__all__ = ["main"]

BATCH = 50  #: schedules in one task of a worker process
DESCRIPTION = """\
Run random schedules of the queue in virtual time, with faults and crashes, and check the promises after each one.
The exit code is 0 if every promise held, 1 if one was broken or effects differ, 2 if there was nothing to compare."""


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m sim", description=DESCRIPTION)
    parser.add_argument("--schedules", type=int, default=1000, metavar="N", help="run N schedules (default: 1000)")
    parser.add_argument("--from", type=int, default=0, dest="first", metavar="SEED", help="first seed (default: 0)")
    parser.add_argument("--seed", type=int, help="run one schedule and print its timeline")
    parser.add_argument("--crash-at", type=int, metavar="STEP", help="with --seed: the first machine dies at that step")
    parser.add_argument(
        "--sweep", type=int, metavar="SEED", help="run one seed with a crash at each step of its first life"
    )
    parser.add_argument("--kills", action="store_true", help="the SDK has a process, which is killed and dies")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="use N worker processes (default: 1)")
    parser.add_argument("--seconds", type=float, metavar="S", help="start no schedule after S seconds")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write a digest of the effects of each schedule")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="compare these digests with a recorded file")
    parser.add_argument("--keep-going", action="store_true", help="continue after a broken promise")
    options = parser.parse_args(argv)
    if options.seed is not None:
        schedule = simulate(options.seed, crash_at=options.crash_at, kills=options.kills)
        print(schedule.timeline)
        print(f"seed {schedule.seed}: {schedule.steps} steps, history {schedule.digest}")
        return print_failure(schedule, options.crash_at, kills=options.kills)
    if options.sweep is not None:
        return _many(_swept(options.sweep, options.kills), options.keep_going, options.seconds, kills=options.kills)
    seeds = range(options.first, options.first + options.schedules)
    run = functools.partial(simulate, kills=options.kills)
    schedules = _in_processes(seeds, options.jobs, options.kills) if options.jobs > 1 else map(run, seeds)
    if options.record is None and options.compare is None:
        return _many(schedules, options.keep_going, options.seconds, len(seeds), kills=options.kills)
    made = Recording.begin()
    code = _many(_recorded(schedules, made), options.keep_going, options.seconds, len(seeds))
    if options.record is not None:
        made.write(options.record)
    if options.compare is not None:
        code = max(code, _compare(made, options.compare))
    return code


def _recorded(schedules: Iterable[Schedule], made: Recording) -> Iterator[Schedule]:
    for schedule in schedules:
        made.add(schedule)
        yield schedule


def _compare(made: Recording, path: Path) -> int:
    known = Recording.read(path)
    if known.made_with != made.made_with:
        print(f"{path} was recorded with {known.made_with}, not with {made.made_with}: nothing to compare")
        return 2
    seeds = made.differs(known)
    both = len(made.effects.keys() & known.effects.keys())
    print(f"{both} schedules compared with {path}: {len(seeds)} differ {seeds[:20] or ''}".rstrip())
    return 1 if seeds or not both else 0


def print_failure(schedule: Schedule, crash_at: int | None = None, *, kills: bool = False) -> int:
    """Print the violations of one schedule and return the exit code."""
    for violation in schedule.violations:
        print(violation)
    if schedule.violations:
        at = "" if crash_at is None else f" --crash-at {crash_at}"
        print(f"reproduce: python -m sim --seed {schedule.seed}{at}{' --kills' if kills else ''}")
    return 1 if schedule.violations else 0


def _many(
    schedules: Iterable[Schedule | tuple[int, Schedule]],
    keep_going: bool,
    seconds: float | None,
    wanted: int | None = None,
    *,
    kills: bool = False,
) -> int:
    """Run schedules until the first failure or the end of the time.

    Args:
        schedules: Schedules, or pairs of a crash step and a schedule.
        keep_going: Continue after a failure.
        seconds: Real seconds after which no schedule is started.
        wanted: How many schedules there are; None if unknown.
        kills: The SDK has a process.
    """
    began = time.perf_counter()
    done = steps = crashes = failures = 0
    for item in schedules:
        crash_at, schedule = item if isinstance(item, tuple) else (None, item)
        done += 1
        steps += schedule.steps
        crashes += schedule.crashes
        if schedule.violations:
            failures += 1
            if failures == 1:
                print(schedule.timeline)
            print_failure(schedule, crash_at, kills=kills)
            if not keep_going:
                break
        if seconds is not None and time.perf_counter() - began >= seconds and done != wanted:
            total = "all" if wanted is None else f"all {wanted}"
            print(f"stopped after {seconds:g} s, before {total} schedules were run")
            break
    took = max(time.perf_counter() - began, 1e-9)
    print(
        f"{done} schedules, {crashes} crash points, {steps} steps in {took:.1f} s: {done / took:.0f} schedules, "
        f"{crashes / took:.0f} crash points and {steps / took:.0f} steps a second; {failures} failed"
    )
    return 1 if failures else 0


def _swept(seed: int, kills: bool) -> Iterator[tuple[int, Schedule]]:
    """Run the seed with a crash at step 1, step 2 and so on, until the first machine ends before that step."""
    step = 1
    while True:
        schedule = simulate(seed, crash_at=step, kills=kills)
        if not any(moment.what == "dies (life 1)" for moment in schedule.timeline.moments):
            return
        yield step, schedule
        step += 1


def _in_processes(seeds: range, jobs: int, kills: bool) -> Iterator[Schedule]:
    """Run the schedules in worker processes; they are returned in the order of their seeds."""
    batches = [seeds[at : at + BATCH] for at in range(0, len(seeds), BATCH)]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        try:
            for schedules in pool.map(functools.partial(simulate_all, kills=kills), batches):
                yield from schedules
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


if __name__ == "__main__":
    sys.exit(main())
