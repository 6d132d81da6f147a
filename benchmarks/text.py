"""An answer as text tables for a terminal."""

from __future__ import annotations

from benchmarks.frame import Answer, Row, Table, Target, figure, of, times

HEAVY = {"ours": "*", "limit": "-", "peer": " "}


def render(answer: Answer) -> str:
    parts = [f"{answer.title}\n{'=' * len(answer.title)}"]
    parts += [table(one) for one in answer.tables]
    if answer.curves:
        parts.append("\n".join(f"{one.name}: grows with the power {power(one.exponent)}" for one in answer.curves))
    parts += ["\n".join(target(one) for one in answer.targets)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(one: Table) -> str:
    """A table: * is trio-jobs, - a limit; with the ratio of each median to those of the rows named in the head."""
    there = [name for name in one.against if one.row(name) is not None]
    more = list(dict.fromkeys(name for row in one.rows for name in row.extra))
    lines = [["", one.title, one.unit, "lowest", "highest", *more, *(f"of {name}" for name in there), "set up"]]
    lines += [line(one, row, more, there) for row in one.rows]
    widths = [max(len(cells[i]) for cells in lines) for i in range(len(lines[0]))]
    left = {1, len(widths) - 1}
    parts = [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in lines
    ]
    return "\n".join(text.rstrip() for text in parts)


def line(one: Table, row: Row, more: list[str], there: list[str]) -> list[str]:
    name = f"{row.name} {row.version}".strip() if row.kind == "peer" else row.name
    if not row.values:
        return [HEAVY[row.kind], name, "", "", "", *("" for _ in more + there), f"no figure: {row.skipped}"]
    return [
        HEAVY[row.kind], name, figure(row.median), figure(min(row.values)), figure(max(row.values)),
        *(figure(row.extra[name]) if name in row.extra else "" for name in more),
        *(ratio(row, one.row(other)) for other in there), row.setting,
    ]  # fmt: skip


def ratio(row: Row, other: Row | None) -> str:
    return "" if other is None or not min(other.values) else times(of(row, other))


def target(one: Target) -> str:
    verdict = {True: "reached", False: "NOT reached", None: "not measured"}[one.reached]
    return f"{verdict:12}  {one.what}: {one.wanted}" + (f", measured {one.measured}" if one.measured else "")


def power(exponent: float | None) -> str:
    return "unknown (too few sizes)" if exponent is None else f"{exponent:.2f}"
