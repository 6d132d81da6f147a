"""The results: a JSON file of raw values and a chart for each question, and the page made from them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import attrs
import msgspec

from benchmarks import machine, pictures, text
from benchmarks.frame import ROUNDS, Answer, Run, Table, Target, figure


@attrs.frozen
class Saved:
    """An answer with its command, date (UTC), machine and duration in seconds."""

    date: str
    command: str
    commit: str | None
    quick: bool
    rounds: int
    seconds: float
    machine: dict[str, str]
    answer: Answer


def save(folder: Path, answer: Answer, run: Run, seconds: float) -> None:
    rounds = max((len(row.values) for table in answer.tables for row in table.rows), default=run.times())
    saved = Saved(
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),  # noqa: TID251 - when it was measured, for a person
        f"./run bench {answer.question}" + (" --quick" if run.quick else "") + (" --huge" if run.huge else "")
        + (f" --rounds {run.rounds}" if run.rounds != ROUNDS and not run.quick else ""),
        machine.commit(), run.quick, rounds, round(seconds, 1), machine.describe(), answer,
    )  # fmt: skip
    data = msgspec.json.format(msgspec.json.encode(saved), indent=1)
    (folder / f"{answer.question}.json").write_bytes(data + b"\n")
    (folder / f"{answer.question}.svg").write_text(pictures.draw(answer), encoding="utf-8")


def load(folder: Path, question: str) -> Saved | None:
    try:
        return msgspec.json.decode((folder / f"{question}.json").read_bytes(), type=Saved)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def answered(folder: Path, question: str, commit: str | None) -> bool:
    saved = load(folder, question)
    return saved is not None and commit is not None and saved.commit == commit and not saved.quick


def write(folder: Path) -> None:
    """Write the page from all answers in the folder."""
    from benchmarks.__main__ import QUESTIONS

    found = [saved for name in QUESTIONS if (saved := load(folder, name)) is not None]
    parts = [HEAD, targets(found), *(question(saved) for saved in found), environments(found)]
    (folder / "README.md").write_text("\n".join(parts), encoding="utf-8")


HEAD = """# Measured

This page is made by `./run bench`; do not edit it. Trust ratios within a table: all rows of a table were measured in
one run, in interleaved rounds, each contestant in a process of its own. A figure is the median of its rounds, with the
lowest and the highest beside it; a ratio is the median of the ratios in each round. Raw values are in the JSON files here. What each contestant does stands at the head of
its file in [benchmarks/peers](../peers).

In pictures and tables: ◆ trio-jobs, □ a limit (what is possible at all), ● others.
"""

MARKS = {"ours": "◆", "limit": "□", "peer": "●"}


def targets(found: list[Saved]) -> str:
    lines = ["## What we set ourselves", "", "| | wanted | measured | |", "| --- | --- | --- | --- |"]
    for saved in found:
        lines += [target(one) for one in saved.answer.targets]
    missed = [one for saved in found for one in saved.answer.targets if one.reached is False and one.why]
    if missed:
        lines += ["", "Where it is not reached, why, and what it would take:", ""]
        reasons: dict[str, list[str]] = {}
        for one in missed:
            reasons.setdefault(one.why, []).append(f"{one.what} ({one.measured})")
        lines += [f"- {'; '.join(whats)}: {why}" for why, whats in reasons.items()]
    lines += ["", f"All questions together took {sum(saved.seconds for saved in found) / 60:.0f} minutes."]
    return "\n".join(lines) + "\n"


def target(one: Target) -> str:
    verdict = {True: "reached", False: "**not reached**", None: "not measured"}[one.reached]
    return f"| {one.what} | {one.wanted} | {one.measured or ''} | {verdict} |"


def question(saved: Saved) -> str:
    answer = saved.answer
    parts = [
        f"## {answer.title}\n",
        f"`{saved.command}`, {saved.date} UTC, commit {saved.commit or 'unknown'}, "
        f"{saved.rounds} round{'s' if saved.rounds > 1 else ''}, {saved.seconds:.0f} s.\n",
        f"![{answer.title}]({answer.question}.svg)\n",
        *(table(one) for one in answer.tables),
    ]
    if answer.curves:
        parts.append(curves(answer))
    return "\n".join(parts)


def table(one: Table) -> str:
    there = [name for name in one.against if one.row(name) is not None]
    more = list(dict.fromkeys(name for row in one.rows for name in row.extra))
    head = ["", one.title, one.unit, "lowest to highest", *more, *(f"of {name}" for name in there), "set up"]
    lines = [head, ["---", "---", "---:", "---:", *("---:" for _ in more + there), "---"]]
    skipped = []
    for row in one.rows:
        name = f"{row.name} {row.version}".strip() if row.kind == "peer" else row.name
        if not row.values:
            skipped.append(f"- {name}, no figure: {row.skipped}")
            continue
        bold = "**" if row.kind == "ours" else ""
        lines.append([
            MARKS[row.kind], f"{bold}{name}{bold}", figure(row.median), f"{figure(min(row.values))} to {figure(max(row.values))}",
            *(figure(row.extra[name]) if name in row.extra else "" for name in more),
            *(text.ratio(row, one.row(other)) for other in there), row.setting,
        ])  # fmt: skip
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
    return "\n".join([table, *([*skipped, ""] if skipped else []), *(f"{note}\n" for note in one.notes)])


def curves(answer: Answer) -> str:
    lines = ["| grows with the number of jobs | with the power | from | to |", "| --- | ---: | ---: | ---: |"]
    for curve in answer.curves:
        (low, first), (high, last) = curve.points[0], curve.points[-1]
        lines.append(
            f"| {curve.name} | {text.power(curve.exponent)} | {figure(first)} {curve.unit} at {low:,.0f} "
            f"| {figure(last)} {curve.unit} at {high:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def environments(found: list[Saved]) -> str:
    lines = ["## On what", ""]
    by_facts: dict[str, list[str]] = {}
    for saved in found:
        facts = "; ".join(f"{name} {value}" for name, value in shown(saved.machine).items())
        by_facts.setdefault(facts, []).append(
            f"{saved.answer.question} (load before: {saved.machine.get('load before', '?')})"
        )
    lines += [f"- {', '.join(questions)}: {facts}" for facts, questions in by_facts.items()]
    return "\n".join(lines) + "\n"


def shown(facts: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in facts.items() if name not in ("load before", "commit")}
