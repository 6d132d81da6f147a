"""The drawings of the documentation: docs/assets/states.svg, from the table of transitions, and architecture.svg.

`python -m tools.pictures --write` writes them; without an argument it lists them. The states are placed by hand; the
arrows are those of the table: where all states of a group have the same arrow it is drawn once, for the group.
Events that leave a state as it is are not drawn.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Final

from trio_jobs._engine.jobs import State
from trio_jobs._engine.transitions import TABLE

__all__ = ["PICTURES", "arrows", "main"]

Point = tuple[float, float]

STYLE: Final = """\
<style>
text { font: 14px system-ui, sans-serif; fill: #1f2933; text-anchor: middle; }
.small { font-size: 12px; fill: #52606d; }
.name { font-weight: 600; }
.box { fill: #e0f2f1; stroke: #00796b; stroke-width: 1.5; }
.doubt { fill: #fff3e0; stroke: #e65100; stroke-width: 1.5; }
.final { fill: #eceff1; stroke: #546e7a; stroke-width: 1.5; }
.outside { fill: #fff; stroke: #52606d; stroke-width: 1.5; }
.group { fill: none; stroke: #9aa5b1; stroke-dasharray: 5 4; }
.arrow { fill: none; stroke: #3e4c59; stroke-width: 1.5; marker-end: url(#tip); }
.ground { fill: #fff; opacity: .9; }
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0 8 4 0 8z" fill="#3e4c59"/></marker></defs>
"""

# The states: centre, and half of the width and height, of a box

WAITING: Final = "waiting"
OVER: Final = "over"
GROUPS: Final = {
    WAITING: (State.SCHEDULED, State.PENDING, State.RETRYING),
    OVER: (State.FAILED, State.CANCELLED),
}
PLACES: Final[dict[str, tuple[float, float, float, float]]] = {
    State.SCHEDULED: (125, 95, 60, 20),
    State.PENDING: (125, 225, 60, 20),
    State.RETRYING: (125, 355, 60, 20),
    State.PROCESSING: (410, 225, 65, 20),
    State.SAVING: (540, 345, 60, 20),
    State.IN_DOUBT: (660, 225, 60, 20),
    State.COMPLETED: (890, 95, 60, 20),
    State.FAILED: (890, 225, 60, 20),
    State.CANCELLED: (890, 355, 60, 20),
    WAITING: (125, 225, 95, 175),
    OVER: (890, 290, 85, 110),
}
#: How an arrow leaves the straight line: how far its middle lies to the right of it, and where its ends are, if not
#: where the line meets the boxes
BENDS: Final[dict[tuple[str, str], tuple[float, Point | None, Point | None]]] = {
    (State.PROCESSING, State.PENDING): (-16, (365, 245), (170, 245)),
    (State.PROCESSING, State.RETRYING): (-24, (400, 245), (185, 345)),
    (State.PROCESSING, State.SCHEDULED): (0, (360, 205), (185, 100)),
    (State.PROCESSING, State.COMPLETED): (0, (430, 205), (830, 85)),
    (State.PENDING, State.IN_DOUBT): (-105, (150, 205), (645, 205)),
    (State.PROCESSING, State.SAVING): (0, (430, 245), (505, 325)),
    (State.SAVING, State.COMPLETED): (30, (600, 340), (865, 115)),
    (State.SAVING, State.PENDING): (14, (480, 335), (180, 245)),
    (State.SAVING, State.RETRYING): (-4, (480, 356), (185, 368)),
    (State.SAVING, State.IN_DOUBT): (0, (598, 330), (712, 245)),
    (State.IN_DOUBT, State.SAVING): (0, (622, 245), (520, 325)),
    (State.SAVING, OVER): (0, (600, 355), (805, 355)),
    (State.IN_DOUBT, State.COMPLETED): (0, (690, 205), (850, 115)),
    (State.IN_DOUBT, State.PENDING): (62, (630, 205), (170, 205)),
    (State.IN_DOUBT, State.RETRYING): (-26, (605, 245), (185, 358)),
    (State.PROCESSING, OVER): (22, (460, 245), (805, 322)),
    (WAITING, OVER): (0, (220, 392), (805, 392)),
    (OVER, State.PENDING): (0, None, None),
}


def arrows() -> dict[tuple[str, str], list[str]]:
    """The arrows of the drawing, with their events: those of the table, merged where a group shares them."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in TABLE:
        if row.before is not None and row.before != row.after:
            found.setdefault((row.before, row.after), []).append(row.event.__name__)
    for name, members in GROUPS.items():
        for after in State:
            _merge(found, (name, after), [(str(member), str(after)) for member in members])
    for before in (*State, *GROUPS):
        _merge(found, (before, OVER), [(str(before), str(member)) for member in GROUPS[OVER]], alike=False)
    return found


def _merge(
    found: dict[tuple[str, str], list[str]],
    merged: tuple[str, str],
    pairs: list[tuple[str, str]],
    *,
    alike: bool = True,
) -> None:
    """Replace several arrows by one, if there are all of them, with the same events where that is asked for."""
    events = [found.get(pair, []) for pair in pairs]
    if all(events) and (not alike or all(each == events[0] for each in events)):
        for pair in pairs:
            del found[pair]
        found[merged] = sorted({event for each in events for event in each})


def states() -> str:
    """docs/assets/states.svg."""
    drawn = [f'<rect class="group" {_rect(*PLACES[name])} rx="12"/>' for name in GROUPS]
    for (before, after), events in arrows().items():
        bend, start, end = BENDS.get((before, after), (0.0, None, None))
        if (before, after) == (OVER, State.PENDING):
            drawn.append('<path class="arrow" d="M890 400 V445 H15 V225 H65"/>')
            drawn.append(_label((470, 445), events))
            continue
        start = start or _border(before, PLACES[after][:2])
        end = end or _border(after, PLACES[before][:2])
        drawn.append(_arrow(start, end, bend))
        drawn.append(_label(_middle(start, end, bend), events))
    for state in State:
        kind = "doubt" if state is State.IN_DOUBT else "final" if state in (State.COMPLETED, *GROUPS[OVER]) else "box"
        x, y, *_ = PLACES[state]
        drawn.append(f'<rect class="{kind}" {_rect(*PLACES[state])} rx="10"/>')
        drawn.append(f'<text class="name" x="{x:g}" y="{y + 5:g}">{state}</text>')
    drawn.append('<text class="small" x="150" y="36">a submit begins here: pending or scheduled</text>')
    return _svg(1000, 470, "The states of a job and the events that lead from one to another", drawn)


def architecture() -> str:
    """docs/assets/architecture.svg."""
    boxes: list[tuple[str, float, float, float, float, str, str]] = [
        ("outside", 95, 70, 85, 26, "Trio tasks, threads", "queue.submit"),
        ("outside", 95, 170, 85, 26, "network clients", "WebSocket"),
        ("box", 290, 120, 70, 30, "admission", "check, decide"),
        ("box", 480, 120, 70, 30, "channel", "100 slots"),
        ("box", 670, 120, 70, 30, "consumer", "one job at a time"),
        ("box", 860, 120, 70, 30, "executor", "the SDK's thread"),
        ("outside", 860, 260, 70, 30, "your SDK", "open … close"),
        ("box", 480, 260, 70, 30, "event log", "append, apply"),
        ("box", 290, 260, 70, 30, "projection", "all jobs as they are"),
        ("box", 670, 260, 70, 30, "store", "memory, or a journal"),
        ("box", 480, 380, 70, 30, "feed", "committed events"),
        ("outside", 95, 380, 85, 30, "subscribers", "in process, network"),
    ]
    lines: list[tuple[Point, Point, str]] = [
        ((180, 78), (220, 108), ""),
        ((180, 162), (220, 132), ""),
        ((360, 120), (410, 120), ""),
        ((550, 120), (600, 120), ""),
        ((740, 120), (790, 120), ""),
        ((860, 150), (860, 230), "calls"),
        ((330, 150), (440, 230), "events"),
        ((640, 150), (520, 230), "events"),
        ((410, 260), (360, 260), ""),
        ((550, 260), (600, 260), ""),
        ((670, 290), (550, 372), "committed"),
        ((410, 380), (180, 380), ""),
    ]
    drawn = ['<rect class="group" x="205" y="60" width="740" height="365" rx="14"/>']
    drawn.append('<text class="small" x="575" y="52">one running queue: async with service.open() as queue</text>')
    for start, end, label in lines:
        drawn.append(_arrow(start, end, 0))
        if label:
            drawn.append(_label(_middle(start, end, 0), [label]))
    for kind, x, y, half_width, half_height, name, note in boxes:
        drawn.append(f'<rect class="{kind}" {_rect(x, y, half_width, half_height)} rx="8"/>')
        drawn.append(f'<text class="name" x="{x:g}" y="{y - 2:g}">{name}</text>')
        drawn.append(f'<text class="small" x="{x:g}" y="{y + 16:g}">{note}</text>')
    return _svg(960, 440, "The parts of a queue", drawn)


PICTURES: Final = {"docs/assets/architecture.svg": architecture, "docs/assets/states.svg": states}


def _svg(width: int, height: int, title: str, drawn: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
    ground = f'<rect width="{width}" height="{height}" fill="#fff"/>'
    return "\n".join([head, f"<title>{title}</title>", STYLE + ground, *drawn, "</svg>", ""])


def _rect(x: float, y: float, half_width: float, half_height: float) -> str:
    return f'x="{x - half_width:g}" y="{y - half_height:g}" width="{2 * half_width:g}" height="{2 * half_height:g}"'


def _border(name: str, towards: Sequence[float]) -> Point:
    """Where the line from a box's centre to a point leaves the box."""
    x, y, half_width, half_height = PLACES[name]
    dx, dy = towards[0] - x, towards[1] - y
    scale = min(half_width / abs(dx) if dx else math.inf, half_height / abs(dy) if dy else math.inf)
    return x + dx * scale, y + dy * scale


def _control(start: Point, end: Point, bend: float) -> Point:
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    return (start[0] + end[0]) / 2 - 2 * bend * dy / length, (start[1] + end[1]) / 2 + 2 * bend * dx / length


def _middle(start: Point, end: Point, bend: float) -> Point:
    x, y = _control(start, end, bend)
    return ((start[0] + end[0]) / 2 + x) / 2, ((start[1] + end[1]) / 2 + y) / 2


def _arrow(start: Point, end: Point, bend: float) -> str:
    x, y = _control(start, end, bend)
    return f'<path class="arrow" d="M{start[0]:.0f} {start[1]:.0f} Q{x:.0f} {y:.0f} {end[0]:.0f} {end[1]:.0f}"/>'


def _label(at: Point, words: Sequence[str]) -> str:
    text = ", ".join(words)
    half = len(text) * 3.4 + 3
    ground = f'<rect class="ground" x="{at[0] - half:.0f}" y="{at[1] - 9:.0f}" width="{2 * half:.0f}" height="18"/>'
    return f'{ground}<text class="small" x="{at[0]:.0f}" y="{at[1] + 4:.0f}">{text}</text>'


def main(arguments: Sequence[str]) -> int:
    """List the drawings, or write them with --write; from the top of the repository. Returns the exit code."""
    if list(arguments) not in ([], ["--write"]):
        print("usage: python -m tools.pictures [--write]", file=sys.stderr)
        return 2
    for path, draw in PICTURES.items():
        if arguments:
            with open(path, "w", encoding="utf-8", newline="\n") as file:  # noqa: PTH123 - as in tools.diagram
                file.write(draw())
        else:
            print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
