"""The parts shared by all questions: contestants, interleaved rounds, medians with spread, ratios, tables, targets.

A round runs each contestant once, each in a new process. The rounds alternate, so that a disturbance of the machine
affects all contestants. The result of a contestant is the median of its rounds, with the lowest and the highest; the
result of a comparison is the median of the ratios in each round.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Literal

import attrs

from benchmarks import environment, servers, slow_sync, valgrind
from benchmarks.environment import ROOT, NotHere

Kind = Literal["ours", "limit", "peer"]

ROUNDS: Final = 5  #: the default number of rounds
TIMEOUT: Final = 90.0  #: seconds one process may take; the slowest needs ten on a machine that does other things too

ENVIRONMENTS: Final[dict[str, Callable[..., Path]]] = {
    "own": environment.own,
    "peers": environment.peers,
    "oban": environment.peers_oban,
}


@attrs.frozen(eq=False)
class Contestant:
    """What is measured, and its setup.

    asked: the module in peers/ and its action. arguments: of the action, besides `jobs`. size: how many jobs (calls,
    updates) a round has, so that it takes about 1 s. setting: the setup, shown in the table. package: the package to
    install. server: the server that it needs. keeps_state: the state of each job can be queried. timeout: seconds that
    its process may take. sync_wait: milliseconds by which each sync of a file is made to take longer. is_counted: the
    answer is the number of instructions of its process.
    """

    name: str
    kind: Kind
    asked: tuple[str, str]
    size: int
    setting: str = ""
    arguments: Mapping[str, Any] = attrs.field(factory=dict)
    environment: str = "own"
    package: str = ""
    server: str = ""
    keeps_state: bool = True
    timeout: float = TIMEOUT
    sync_wait: float = 0.0
    is_counted: bool = False


@attrs.frozen
class Row:
    """One row of a table.

    values: one for each round, empty if it did not run; `skipped` then says why. extra: further columns, such as other
    quantiles, each a median over the rounds.
    """

    name: str
    kind: Kind
    values: Sequence[float]
    setting: str = ""
    version: str = ""
    skipped: str = ""
    keeps_state: bool = True
    extra: Mapping[str, float] = attrs.field(factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@attrs.frozen
class Table:
    """A table of rows.

    unit: of the values. better: whether higher or lower values are. against: the rows to which ratios are shown, if
    they ran. whole: the rows are parts of a whole.
    """

    title: str
    unit: str
    rows: Sequence[Row]
    better: Literal["higher", "lower"] = "higher"
    against: Sequence[str] = ()
    notes: Sequence[str] = ()
    whole: bool = False

    def row(self, name: str) -> Row | None:
        """The row of that name, if it ran."""
        return next((row for row in self.rows if row.name == name and row.values), None)


@attrs.frozen
class Target:
    """A target of the project.

    measured: None if it could not be measured. reached: in this run. why: the known reason why it is not reached, and
    what would be needed.
    """

    what: str
    wanted: str
    measured: str | None
    reached: bool | None
    why: str = ""


@attrs.frozen
class Curve:
    """A curve of growth: points of (size, value), and the slope of the regression line of their logarithms."""

    name: str
    unit: str
    points: Sequence[tuple[float, float]]
    exponent: float | None = None


@attrs.frozen
class Answer:
    """The answer to a question."""

    question: str
    title: str
    tables: Sequence[Table] = ()
    targets: Sequence[Target] = ()
    curves: Sequence[Curve] = ()


@attrs.frozen
class Run:
    """How to measure.

    quick: once, with small numbers. install: peers can be installed. huge: also a million jobs. folder: for files that
    must be on a disk.
    """

    quick: bool = False
    install: bool = True
    rounds: int = ROUNDS
    huge: bool = False
    folder: str = attrs.field(factory=lambda: disk_folder())

    def size(self, size: int) -> int:
        return max(size // 50, 20) if self.quick else size

    def times(self) -> int:
        return 1 if self.quick else self.rounds

    def measure(
        self, contestants: Sequence[Contestant], rounds: int | None = None
    ) -> list[tuple[Contestant, list[Any], str]]:
        """Run interleaved rounds. Returns each contestant's answers, or none and the reason why it did not run."""
        why: dict[str, str] = {}
        answers: dict[str, list[Any]] = {contestant.name: [] for contestant in contestants}
        with ExitStack() as stack:
            server_arguments = self._start_servers(stack, contestants, why)
            for number in range(self.times() if rounds is None else rounds):
                for contestant in contestants:
                    if contestant.name in why:
                        continue
                    progress(f"round {number + 1}: {contestant.name}")
                    try:
                        answers[contestant.name].append(
                            self.ask(contestant, server_arguments.get(contestant.server, {}))
                        )
                    except NotHere as problem:
                        why[contestant.name] = str(problem)
                        answers[contestant.name].clear()
        progress("")
        return [(one, answers[one.name], why.get(one.name, "")) for one in contestants]

    def _start_servers(
        self, stack: ExitStack, contestants: Sequence[Contestant], why: dict[str, str]
    ) -> dict[str, dict[str, object]]:
        arguments: dict[str, dict[str, object]] = {}
        for server in {contestant.server for contestant in contestants if contestant.server}:
            concerned = [contestant for contestant in contestants if contestant.server == server]
            try:
                for contestant in concerned:  # without its Python there is no need of a server
                    self.python(contestant)
                arguments[server] = stack.enter_context(servers.serve(server))
            except NotHere as problem:
                why.update((contestant.name, str(problem)) for contestant in concerned)
        return arguments

    def python(self, contestant: Contestant) -> Path:
        """The Python of a contestant. Raises `NotHere`."""
        where = ENVIRONMENTS[contestant.environment]
        return where(contestant.package) if contestant.environment == "own" else where(
            contestant.package, install=self.install
        )  # fmt: skip

    def ask(self, contestant: Contestant, more: Mapping[str, object]) -> Any:
        """Run a contestant's process and return its answer. Raises `NotHere`."""
        module, action = contestant.asked
        arguments = {**contestant.arguments, **more}
        if contestant.size:
            arguments["jobs"] = self.size(contestant.size)
        if "folder" in arguments and arguments["folder"] == "":
            arguments["folder"] = self.folder
        command = [str(self.python(contestant)), "-m", f"benchmarks.peers.{module}", action, json.dumps(arguments)]
        paths = [str(ROOT), *([str(ROOT / "src")] if contestant.environment == "own" else [])]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        if contestant.sync_wait:
            environ["LD_PRELOAD"] = str(slow_sync.library(contestant.sync_wait))
        if contestant.is_counted:
            command, environ = valgrind.counting(command), {**environ, **valgrind.ENVIRONMENT}
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=contestant.timeout
            )
        except subprocess.TimeoutExpired:
            raise NotHere(f"it did not end within {contestant.timeout:g} s") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it failed without a word"])[-1]
            raise NotHere(last[:200])
        if contestant.is_counted:
            return valgrind.instructions(done.stderr)
        return json.loads(done.stdout.strip().splitlines()[-1])

    def race(self, contestants: Sequence[Contestant]) -> list[Row]:
        """Measure contestants whose answers are numbers, and return their rows."""
        rows = []
        for contestant, values, problem in self.measure(contestants):
            rows.append(
                Row(
                    contestant.name, contestant.kind, values, contestant.setting,
                    self.version(contestant) if values else "", problem, contestant.keeps_state,
                )
            )  # fmt: skip
        return rows

    def version(self, contestant: Contestant) -> str:
        """The installed version of the contestant's package; "" if it has none."""
        package = contestant.package
        return environment.versions(self.python(contestant), [package]).get(package, "") if package else ""


def disk_folder() -> str:
    """A folder on a disk: on some machines /tmp is in memory, where a sync costs nothing."""
    there = ROOT / "benchmarks" / ".scratch"
    there.mkdir(exist_ok=True)
    return str(there)


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:100]}", end="", file=sys.stderr, flush=True)


# figures


def exponent(points: Iterable[tuple[float, float]]) -> float | None:
    """The slope of the regression line of the logarithms: 0 is constant, 1 linear. None for too few points."""
    logs = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len({x for x, _ in logs}) < 2:
        return None
    return statistics.linear_regression(*zip(*logs, strict=True)).slope


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least a share (0 to 1) of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def figure(value: float) -> str:
    """Format with three significant digits and thousands separators."""
    if value == 0:
        return "0"
    digits = max(2 - math.floor(math.log10(abs(value))), 0)
    return f"{round(value, digits):,.{digits}f}"


def at_least(what: str, ratio: float | None, wanted: float, why: str = "") -> Target:
    measured = None if ratio is None else f"{ratio:.2f}"
    return Target(what, f"at least {wanted:g}", measured, None if ratio is None else ratio >= wanted, why)


def at_most(what: str, value: float | None, wanted: float, unit: str = "", why: str = "") -> Target:
    measured = None if value is None else f"{figure(value)}{unit}"
    return Target(what, f"at most {wanted:g}{unit}", measured, None if value is None else value <= wanted, why)


def of(row: Row, other: Row) -> float:
    """The ratio of two rows: the median of the ratios in each round, since a disturbance affects both contestants of a
    round; the ratio of the medians if the numbers of rounds differ."""
    if len(row.values) != len(other.values):
        return row.median / other.median
    return statistics.median(one / two for one, two in zip(row.values, other.values, strict=True))


def ratio(table: Table, name: str, to: str) -> float | None:
    """None if one of them did not run."""
    one, other = table.row(name), table.row(to)
    return None if one is None or other is None else of(one, other)


def times(ratio: float) -> str:
    """Format a ratio."""
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:,.0f}"


def stopwatch() -> Callable[[], float]:
    began = time.perf_counter()
    return lambda: time.perf_counter() - began
