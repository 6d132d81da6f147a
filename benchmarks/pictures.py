"""Charts as SVG, one for each question, without dependencies; the same figures give the same bytes.

Each table is a panel: dots on a logarithmic axis if the values differ widely, otherwise bars from zero; a thin line
from the lowest to the highest round; the median as a figure. Contestants are distinguished by name and shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

import attrs

from benchmarks.frame import Answer, Curve, Kind, Row, Table, figure, of, times

WIDTH, LEFT, RIGHT, LINE = 1000, 290, 260, 22
INK, PALE, GRID = "#1b1f24", "#5c6670", "#d8dde3"
COLOURS: dict[Kind, str] = {"ours": "#0b5cad", "limit": "#5c6670", "peer": "#b3541e"}
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4", "10 4")


def draw(answer: Answer) -> str:
    parts: list[str] = []
    y = 46.0
    for table in answer.tables:
        drawn, height = panel(table, y)
        parts += drawn
        y += height
    if answer.curves:
        drawn, height = lines(answer.curves, y)
        parts += drawn
        y += height
    height = y + 6
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" font-family="Helvetica, Arial, sans-serif" font-size="13">'
    )
    title = words(16, 28, answer.title, size=18, bold=True)
    parts[:0] = legend(WIDTH - 16, 28)
    return (
        "\n".join([head, f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>', title, *parts, "</svg>"])
        + "\n"
    )


def panel(table: Table, top: float) -> tuple[list[str], float]:
    rows = [attrs.evolve(row, extra={}) if table.whole else row for row in table.rows if row.values]
    if not rows:
        return [words(16, top + 16, f"{table.title}: nothing ran", fill=PALE)], 30
    values = [value for row in rows for value in (*row.values, *row.extra.values()) if value > 0] or [1.0]
    axis = Axis(min(values), max(values), LEFT, WIDTH - RIGHT, log=False if table.whole else None)
    better = "more is better" if table.better == "higher" else "less is better"
    scale = ", logarithmic" if axis.log else ""
    out = [
        words(16, top + 16, table.title, bold=True),
        words(max(LEFT, 24 + 8 * len(table.title)), top + 16, f"{table.unit}, {better}{scale}", fill=PALE, size=12),
    ]
    if table.against and table.row(table.against[0]) is not None:
        out.append(words(WIDTH - 16, top + 16, f"of {table.against[0]}", anchor="end", fill=PALE, size=12))
    start = top + 28
    bottom = start + LINE * len(rows)
    for mark in axis.marks():
        x = axis(mark)
        out.append(f'<line x1="{x:.1f}" y1="{start:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="{GRID}"/>')
        out.append(words(x, bottom + 14, short(mark), anchor="middle", fill=PALE, size=11))
    reference = table.row(table.against[0]) if table.against else None
    if reference is not None:
        x = axis(reference.median)
        out.append(
            f'<line x1="{x:.1f}" y1="{start:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="{PALE}" stroke-dasharray="4 3"/>'
        )
    for i, row in enumerate(rows):
        out += one_row(row, axis, start + LINE * i + LINE / 2, reference)
    legend = extras_legend(rows)
    if legend:
        out.append(words(LEFT, bottom + 30, legend, fill=PALE, size=11))
    skipped = [row.name for row in table.rows if not row.values]
    height = bottom - top + (48 if legend else 32)
    if skipped:
        out.append(
            words(
                16,
                bottom + (46 if legend else 30),
                f"no figure (why: see the table): {', '.join(skipped)}",
                fill=PALE,
                size=11,
            )
        )
        height += 16
    return out, height


def one_row(row: Row, axis: Axis, y: float, reference: Row | None) -> list[str]:
    colour = COLOURS[row.kind]
    x = axis(row.median)
    out = [words(LEFT - 12, y + 4, row.name, anchor="end", bold=row.kind == "ours", italic=row.kind == "limit")]
    if not axis.log:
        start = axis(0)
        fill = "none" if row.kind == "limit" else colour
        out.append(
            f'<rect x="{start:.1f}" y="{y - 5:.1f}" width="{max(x - start, 0.5):.1f}" height="10" fill="{fill}" '
            f'fill-opacity="0.35" stroke="{colour}"/>'
        )
    low, high = axis(min(row.values)), axis(max(row.values))
    far = [axis(value) for value in row.extra.values() if value > 0]
    for a, b, width in ((low, high, 3), (min([x, *far]), max([x, *far]), 1)):
        if b - a > 0.5:
            out.append(
                f'<line x1="{a:.1f}" y1="{y:.1f}" x2="{b:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-width="{width}"/>'
            )
    if axis.log:
        out.append(shape(row.kind, x, y))
    for i, at in enumerate(far):
        out.append(
            f'<line x1="{at:.1f}" y1="{y - 5:.1f}" x2="{at:.1f}" y2="{y + 5:.1f}" stroke="{colour}" stroke-width="2"/>'
            if i == 0
            else f'<circle cx="{at:.1f}" cy="{y:.1f}" r="3" fill="#ffffff" stroke="{colour}"/>'
        )
    bold = row.kind == "ours"
    out.append(words(WIDTH - RIGHT + 90, y + 4, figure(row.median), anchor="end", bold=bold))
    if reference is not None and min(reference.values) > 0:
        out.append(words(WIDTH - 16, y + 4, times(of(row, reference)), anchor="end", bold=bold))
    return out


def extras_legend(rows: Iterable[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row.extra))
    shapes = ("|", "○", "○", "○")
    return "   ".join(f"{mark} {name}" for mark, name in zip(shapes, names, strict=False))


def shape(kind: Kind, x: float, y: float) -> str:
    colour = COLOURS[kind]
    if kind == "ours":
        return f'<path d="M{x:.1f} {y - 7:.1f} l7 7 l-7 7 l-7 -7 z" fill="{colour}"/>'
    if kind == "limit":
        return f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" fill="#ffffff" stroke="{colour}" stroke-width="2"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'


def legend(right: float, y: float) -> list[str]:
    """The legend, with its right end at `right`."""
    out = [words(right, y, "line: lowest to highest round", anchor="end", fill=PALE, size=11)]
    kinds: tuple[tuple[Kind, str, float], ...] = (("peer", "others", 220), ("limit", "what is possible", 340), ("ours", "trio-jobs", 420))  # fmt: skip
    for kind, name, back in kinds:
        out += [shape(kind, right - back, y - 4), words(right - back + 11, y, name, fill=PALE, size=11)]
    return out


def lines(curves: Sequence[Curve], top: float) -> tuple[list[str], float]:
    """A panel for each unit with logarithmic axes, so that the slope is the power of growth."""
    out: list[str] = []
    y = top
    for unit in dict.fromkeys(curve.unit for curve in curves):
        drawn, height = line_panel([curve for curve in curves if curve.unit == unit], unit, y)
        out += drawn
        y += height
    return out, y - top


def line_panel(curves: Sequence[Curve], unit: str, top: float) -> tuple[list[str], float]:
    start, bottom, right = top + 28, top + 218, WIDTH - 370
    across = Axis(
        min(x for c in curves for x, _ in c.points), max(x for c in curves for x, _ in c.points), 90, right, log=True
    )  # fmt: skip
    values = [v for c in curves for _, v in c.points if v > 0] or [1.0]
    up = Axis(min(values), max(values), bottom, start, log=True)
    out = [words(16, top + 16, f"{unit}, by the number of jobs; both logarithmic", bold=True)]
    for mark in across.marks():
        out.append(
            f'<line x1="{across(mark):.1f}" y1="{start}" x2="{across(mark):.1f}" y2="{bottom}" stroke="{GRID}"/>'
        )
        out.append(words(across(mark), bottom + 14, short(mark), anchor="middle", fill=PALE, size=11))
    for mark in up.marks():
        out.append(f'<line x1="90" y1="{up(mark):.1f}" x2="{right}" y2="{up(mark):.1f}" stroke="{GRID}"/>')
        out.append(words(82, up(mark) + 4, short(mark), anchor="end", fill=PALE, size=11))
    ends: list[float] = []
    for i, curve in sorted(enumerate(curves), key=lambda pair: up(max(pair[1].points[-1][1], values[0]))):
        path = " ".join(f"{across(x):.1f},{up(v):.1f}" for x, v in curve.points if v > 0)
        out.append(
            f'<polyline points="{path}" fill="none" stroke="{COLOURS["ours"]}" stroke-width="2" stroke-dasharray="{DASHES[i % len(DASHES)]}"/>'
        )
        out += [
            f'<circle cx="{across(x):.1f}" cy="{up(v):.1f}" r="3" fill="{COLOURS["ours"]}"/>'
            for x, v in curve.points
            if v > 0
        ]
        at = up(max(curve.points[-1][1], min(values)))
        at = max(at, ends[-1] + 15) if ends else at
        ends.append(at)
        power = "" if curve.exponent is None else f", power {curve.exponent:.2f}"
        out.append(words(right + 10, at + 4, f"{curve.name}{power}", size=12))
    return out, max(bottom, *ends) - top + 34


class Axis:
    """Maps values to pixels: logarithmic if they differ by more than a factor of 8, otherwise from zero."""

    def __init__(self, low: float, high: float, start: float, end: float, log: bool | None = None) -> None:
        self.log = high / low > 8 if log is None else log
        if self.log:
            self.low, self.high = low / 1.15, high * 1.15
        else:
            self.low, self.high = 0.0, high * 1.05
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = value / self.high
        return self.start + (self.end - self.start) * share

    def marks(self) -> list[float]:
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1,) if self.high / self.low > 100 else (1, 2, 5)
            return [m * 10.0**p for p in powers for m in steps if self.low <= m * 10.0**p <= self.high]
        step = 10 ** math.floor(math.log10(self.high))
        step = next(s for s in (step / 5, step / 2, step, step * 2) if self.high / s <= 6)
        return [i * step for i in range(int(self.high / step) + 1)]


def short(value: float) -> str:
    """Format a number, such as 1.5k for 1,500."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:.4g}"


def words(
    x: float, y: float, text: str, *, anchor: str = "start", fill: str = INK, size: int = 13, bold: bool = False, italic: bool = False
) -> str:  # fmt: skip
    style = (' font-weight="bold"' if bold else "") + (' font-style="italic"' if italic else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" font-size="{size}"{style}>{escape(text)}</text>'
