// The states of a job and the way of one job through them. The arrows are the rows of the table of transitions.

import { h, svg } from "./dom.js";
import { MOVES, STATES } from "./protocol.js";
import { EVENT, JOB, STATE } from "./text.js";

const WIDTH = 66, HEIGHT = 18;
const PLACES = {
	scheduled: [95, 50], pending: [95, 165], retrying: [95, 280], processing: [340, 100], saving: [340, 235],
	in_doubt: [560, 165], completed: [790, 50], failed: [790, 165], cancelled: [790, 280],
};

// The arrows of the table, as "before>after": the events that take it, with their reasons
export const ARROWS = new Map();
for (const [before, event, after, , reason] of MOVES) {
	if (before === null || before === after) continue;
	const name = `${before}>${after}`;
	ARROWS.set(name, [...(ARROWS.get(name) ?? []), `${EVENT[event] ?? event}: ${reason}`]);
}

const AFTER = new Map(MOVES.map(([before, event, after]) => [`${before}/${event}`, after]));

// The states that a job went through, by its events in their order
export function pathOf(events) {
	const path = [];
	for (const { type, state } of events) {
		const now = path.at(-1) ?? null;
		const next = AFTER.get(`${now}/${type}`) ?? (now === null ? state : undefined);
		if (next !== undefined && next !== now) path.push(next);
	}
	return path;
}

function edge([x, y], [toX, toY]) {
	const dx = toX - x, dy = toY - y;
	const scale = Math.min(dx ? WIDTH / Math.abs(dx) : Infinity, dy ? HEIGHT / Math.abs(dy) : Infinity);
	return [x + dx * scale, y + dy * scale];
}

function curve(before, after) {
	const from = PLACES[before], to = PLACES[after];
	const start = edge(from, to), stop = edge(to, from);
	const dx = stop[0] - start[0], dy = stop[1] - start[1], length = Math.hypot(dx, dy);
	// the two directions of a pair, and arrows that would cross a state between, bend to their right
	const bend = from[0] === to[0] ? 26 : ARROWS.has(`${after}>${before}`) ? 14 : Math.abs(dx) > 500 ? 30 * Math.sign(dy || 1) : 0;
	const middle = [(start[0] + stop[0]) / 2 - dy / length * bend, (start[1] + stop[1]) / 2 + dx / length * bend];
	return { d: `M${start.map(Math.round)} Q${middle.map(Math.round)} ${stop.map(Math.round)}`, middle: [(start[0] + stop[0]) / 4 + middle[0] / 2, (start[1] + stop[1]) / 4 + middle[1] / 2] };
}

export function diagram(path) {
	const taken = new Map();
	path.forEach((state, at) => { if (at > 0) { const name = `${path[at - 1]}>${state}`; taken.set(name, [...(taken.get(name) ?? []), at]); } });
	const words = path.map((state) => STATE[state] ?? state);
	const shown = words.length > 24 ? [...words.slice(0, 8), "…", ...words.slice(-12)] : words;
	const said = shown.join(" → ");
	const lines = [], numbers = [];
	for (const [name, events] of [...ARROWS].sort(([a], [b]) => taken.has(a) - taken.has(b))) {
		const [before, after] = name.split(">");
		if (!(before in PLACES && after in PLACES)) continue;
		const { d, middle } = curve(before, after);
		const at = taken.get(name);
		lines.push(svg("path", { class: at ? "arrow taken" : "arrow", d, "marker-end": at ? "url(#tip-taken)" : "url(#tip)" }, svg("title", null, `${STATE[before]} → ${STATE[after]}\n${events.join("\n")}`)));
		if (at) {
			const text = at.length > 3 ? `${at[0]}…${at.at(-1)}` : at.join(" ");
			numbers.push(svg("rect", { class: "number", x: middle[0] - 6 - text.length * 3.5, y: middle[1] - 10, width: 12 + text.length * 7, height: 20, rx: 10 }), svg("text", { class: "number-text", x: middle[0], y: middle[1] + 4.5 }, text));
		}
	}
	const tip = (id, kind) => svg("marker", { id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto", markerUnits: "userSpaceOnUse" }, svg("path", { class: kind, d: "M0 0 8 4 0 8z" }));
	const picture = svg("svg", { viewBox: "0 0 890 325", role: "img", "aria-label": JOB.diagram(said), class: "diagram" },
		svg("defs", null, tip("tip", "tip"), tip("tip-taken", "tip taken")), lines,
		STATES.filter((state) => state in PLACES).map((state) => {
			const [x, y] = PLACES[state];
			const kind = `${state === path.at(-1) ? "here" : path.includes(state) ? "been" : "not"} state-${state}`;
			return svg("g", { class: kind }, svg("rect", { x: x - WIDTH, y: y - HEIGHT, width: 2 * WIDTH, height: 2 * HEIGHT, rx: 9 }), svg("text", { x, y: y + 5 }, STATE[state]));
		}), numbers);
	return h("figure", null, h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": JOB.path }, picture), h("figcaption", null, said));
}
