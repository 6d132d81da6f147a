// A table of jobs that changes in place: rows do not jump, and the focus stays where it is.

import { foreign, h, put } from "./dom.js";
import { after } from "./feed.js";
import { badge, called, jobLink, number, time } from "./format.js";
import { COMMON, JOBS, REASON, TABLE } from "./text.js";

export function why(job) {
	if (job.error) return [h("span", { class: "error-type" }, foreign(job.error.type, 80)), job.error.message ? [" ", foreign(job.error.message, 200)] : null];
	const words = reason(job.reason);
	return words ? foreign(words, 200) : null;
}

export const reason = (text) => (Object.hasOwn(REASON, text) ? REASON[text] : text);

const CELLS = {
	state: (job) => badge(job.state),
	job: (job) => jobLink(job),
	kind: (job) => foreign(job.kind, 80),
	attempts: (job) => number(job.attempts ?? 0),
	submitted: (job) => time(job.submitted_at),
	changed: (job) => time(job.changed_at),
	why,
};

export class JobTable {
	// selectable: (job) => whether a person can select it. stale: (job) => whether it no longer matches
	constructor({ caption, columns, selectable = null, stale = () => false, onselect = () => {} }) {
		this.columns = columns;
		this.selectable = selectable;
		this.stale = stale;
		this.onselect = onselect;
		this.rows = new Map();
		this.selected = new Set();
		this.all = h("input", { type: "checkbox", "aria-label": TABLE.selectAll, onchange: () => this.#selectAll() });
		this.body = h("tbody");
		this.element = h("table", { class: "jobs" },
			h("caption", { class: "unseen" }, caption),
			h("thead", null, h("tr", null,
				selectable ? h("th", { class: "select", scope: "col" }, this.all) : null,
				columns.map((name) => h("th", { scope: "col", class: name }, TABLE[name])))),
			this.body);
	}

	get jobs() { return [...this.rows.values()].map(({ job }) => job); }

	show(jobs) {
		const focused = this.focused?.job.id;
		this.rows.clear();
		for (const job of jobs) this.rows.set(job.id, this.#row(job));
		this.body.replaceChildren(...[...this.rows.values()].map(({ row }) => row));
		for (const id of this.selected) if (!this.rows.has(id)) this.selected.delete(id);
		if (focused !== undefined) this.rows.get(focused)?.link.focus();
		this.#tellSelected();
	}

	#row(job) {
		const cells = Object.fromEntries(this.columns.map((name) => [name, h("td", { class: name }, CELLS[name](job))]));
		const box = this.selectable ? h("input", { type: "checkbox", checked: this.selected.has(job.id), onchange: () => this.#select(job.id, box.checked) }) : null;
		if (box) box.setAttribute("aria-label", `${TABLE.select} ${called(job).textContent}`);
		const row = h("tr", { "data-job": job.id }, box ? h("td", { class: "select" }, box) : null, this.columns.map((name) => cells[name]));
		const entry = { job, row, cells, box, link: cells.job.querySelector("a") };
		this.#mark(entry);
		return entry;
	}

	#mark({ job, row, box }) {
		const stale = this.stale(job);
		row.classList.toggle("stale", stale);
		row.title = stale ? JOBS.stale : "";
		if (box) {
			box.disabled = !this.selectable(job);
			if (box.disabled && box.checked) this.#select(job.id, box.checked = false);
		}
	}

	update(job) {
		const entry = this.rows.get(job.id);
		if (entry === undefined || job.seq < entry.job.seq) return;
		entry.job = job;
		for (const name of this.columns) if (name !== "job") put(entry.cells[name], CELLS[name](job));
		this.#mark(entry);
	}

	// Returns whether a shown job has changed
	take(news) {
		let touched = news.lost;
		// the smaller of the two, which is the rows when there are many events
		for (const [id, { job }] of this.rows) {
			const events = news.jobs.get(id);
			if (events === undefined) continue;
			touched = true;
			this.update(events.reduce(after, job));
		}
		return touched;
	}

	#select(id, on) {
		this.selected[on ? "add" : "delete"](id);
		this.#tellSelected();
	}

	#selectAll() {
		for (const { job, box } of this.rows.values()) {
			if (box.disabled) continue;
			box.checked = this.all.checked;
			this.selected[box.checked ? "add" : "delete"](job.id);
		}
		this.#tellSelected();
	}

	#tellSelected() {
		this.all.checked = this.selected.size > 0 && [...this.rows.values()].every(({ box }) => !box || box.disabled || box.checked);
		this.all.indeterminate = this.selected.size > 0 && !this.all.checked;
		this.onselect(this.selected.size);
	}

	get chosen() { return [...this.selected].map((id) => this.rows.get(id)?.job).filter(Boolean); }

	// What a key acts on: the selected jobs, or else the one with the focus
	get picked() { return this.selected.size > 0 ? this.chosen : [this.focused?.job].filter(Boolean); }

	get focused() {
		const row = document.activeElement?.closest?.("tr[data-job]");
		return row && this.body.contains(row) ? this.rows.get(row.dataset.job) : undefined;
	}

	move(by) {
		const entries = [...this.rows.values()];
		const at = entries.indexOf(this.focused);
		const next = entries[at < 0 ? (by > 0 ? 0 : entries.length - 1) : Math.min(Math.max(at + by, 0), entries.length - 1)];
		next?.link.focus();
		next?.row.scrollIntoView({ block: "nearest" });
	}

	toggle() {
		const { box, job } = this.focused ?? {};
		if (box && !box.disabled) this.#select(job.id, box.checked = !box.checked);
	}
}

export function progressLine(progress) {
	if (progress === null) return null;
	const { done, total, message } = progress;
	return h("p", { class: "progress" }, total ? h("progress", { max: total, value: Math.min(done, total), "aria-label": TABLE.progress }) : null, " ", number(done), total ? ` / ${number(total)}` : "", message ? [" ", foreign(message, 200)] : null);
}

export function loading() {
	return h("p", { class: "loading" }, COMMON.loading);
}
