// The screen Failed: jobs that failed or will be tried again, grouped by their error.

import * as actions from "./actions.js";
import { button, foreign, h, hint, offer, put } from "./dom.js";
import { calm } from "./feed.js";
import { number } from "./format.js";
import { JobTable, loading } from "./joblist.js";
import { path as jobsPath } from "./jobs.js";
import { term } from "./search.js";
import { ACT, FAILED } from "./text.js";

const PAGE = 50, MOST = 1000;

export function failedScreen(app, params) {
	const opened = params.get("error");
	const state = h("div", null, loading());
	const list = h("ul", { class: "groups" });
	const groups = new Map();

	async function load() {
		try {
			const [failed, retrying] = await Promise.all(["failed", "retrying"].map((each) => app.ask("jobs.count", { state: each, group: "error_type" })));
			if (again.ended) return;
			const names = new Map();
			for (const [name, count] of grouped(failed)) names.set(name, { failed: count, retrying: 0 });
			for (const [name, count] of grouped(retrying)) names.set(name, { failed: 0, ...names.get(name), retrying: count });
			put(state, names.size === 0 ? h("p", { class: "empty good" }, FAILED.none) : hint(FAILED.intro));
			for (const [name, group] of groups) if (!names.has(name)) { group.element.remove(); group.close(); groups.delete(name); }
			for (const [name, counts] of names) {
				if (!groups.has(name)) {
					const group = new Group(app, name, name === opened);
					groups.set(name, group);
					list.append(group.element);
				}
				groups.get(name).update(counts);
			}
		} catch (error) {
			app.failed(state, error);
		}
	}

	const again = calm(load, 1000);
	const focused = () => [...groups.values()].find((group) => group.table?.focused);
	const first = () => [...groups.values()].find((group) => group.table);
	return {
		title: FAILED.title,
		element: h("div", null, h("h1", null, FAILED.title), state, list),
		load: async () => { await load(); for (const group of groups.values()) group.refresh(); },
		take: (news) => {
			for (const group of groups.values()) group.take(news);
			if (news.lost || news.jobs.size > 0) again();
		},
		close: () => { again.end(); for (const group of groups.values()) group.close(); },
		keys: {
			j: () => (focused() ?? first())?.table.move(1), k: () => (focused() ?? first())?.table.move(-1), s: () => focused()?.table.toggle(),
			...actions.keys(app, () => focused()?.table.picked ?? [], () => focused()?.table.focused.job),
		},
	};
}

// A job can fail without an error, such as one that expired; it is in no group of the server
function grouped({ total, groups = {}, others = 0 }) {
	const rest = total - others - Object.values(groups).reduce((sum, count) => sum + count, 0);
	return [...Object.entries(groups), ...rest > 0 ? [["", rest]] : []];
}

class Group {
	constructor(app, name, open) {
		this.app = app;
		this.name = name;
		this.counts = { failed: 0, retrying: 0 };
		this.table = null;
		this.ended = false;
		this.numbers = h("span", { class: "numbers" });
		this.tools = h("div", { class: "toolbar" });
		this.content = h("div", { hidden: true });
		this.toggle = h("button", { type: "button", class: "fold", "aria-expanded": "false", onclick: () => this.#open(this.content.hidden) }, h("span", { class: "error-type" }, name ? foreign(name, 120) : FAILED.noError));
		this.element = h("li", { class: "group" }, h("div", { class: "group-head" }, h("h2", null, this.toggle), this.numbers, h("a", { href: jobsPath(`state:failed,retrying ${name ? term("error", name) : ""}`.trim(), null) }, FAILED.list)), this.content);
		this.refresh = calm(() => this.#load(), 1000);
		if (open) this.#open(true);
	}

	update(counts) {
		this.counts = counts;
		put(this.numbers, [counts.failed > 0 && FAILED.failed(number(counts.failed) === "1" ? 1 : number(counts.failed)), counts.retrying > 0 && FAILED.retrying(number(counts.retrying))].filter(Boolean).join(", "));
		this.#showTools();
	}

	#open(on) {
		this.content.hidden = !on;
		this.toggle.setAttribute("aria-expanded", String(on));
		if (on) this.#load();
		else { this.content.replaceChildren(); this.table = null; }
	}

	async #load() {
		if (this.content.hidden || this.ended) return;
		try {
			const states = ["failed", "retrying"];
			const page = this.name ? await this.app.ask("jobs.list", { states, order: "newest", limit: PAGE, error_type: this.name }) : { jobs: await this.#withoutError(states, PAGE) };
			if (this.ended) return;
			if (this.table === null) {
				this.table = new JobTable({
					caption: this.name, columns: ["state", "job", "kind", "attempts", "changed", "why"],
					selectable: actions.selectable(this.app),
					stale: (job) => !["failed", "retrying"].includes(job.state), onselect: () => this.#showTools(),
				});
				this.content.replaceChildren(this.tools, h("div", { class: "scroll" }, this.table.element));
			}
			const { jobs } = page;
			// what left the group stays in its place, dimmed, until the group is shut
			const known = this.table.rows;
			if (known.size === 0) this.table.show(jobs);
			else {
				for (const job of jobs) this.table.update(job);
				const fresh = jobs.filter((job) => !known.has(job.id));
				if (fresh.length > 0) this.table.show([...fresh, ...this.table.jobs].slice(0, 2 * PAGE));
			}
			this.#showTools();
		} catch (error) {
			this.app.failed(this.content, error);
		}
	}

	#showTools() {
		if (this.table === null) return;
		const chosen = this.table.chosen, again = chosen.filter((job) => actions.mayRetry(this.app, job)), open = chosen.filter((job) => actions.mayCancel(this.app, job));
		const { client } = this.app;
		offer(this.tools, [
			client.may("jobs.retry") && again.length > 0 && button(FAILED.retrySelected(again.length), () => actions.retry(this.app, again), "primary"),
			client.may("jobs.cancel") && open.length > 0 && button(FAILED.cancelSelected(open.length), () => actions.cancel(this.app, open), "danger"),
			chosen.length === 1 && actions.mayCorrect(this.app, chosen[0]) && button(ACT.correct, () => actions.correct(this.app, chosen[0])),
			client.may("jobs.retry") && this.counts.failed > 0 && button(FAILED.retryAll(number(Math.min(this.counts.failed, MOST))), () => this.#all("failed", actions.retryMany)),
			client.may("jobs.cancel") && this.counts.retrying > 0 && button(FAILED.cancelAll(number(Math.min(this.counts.retrying, MOST))), () => this.#all("retrying", actions.cancelMany), "danger"),
		], this.toggle, chosen.map((job) => job.id).join());
	}

	async #all(state, act) {
		try {
			if (this.name) await act(this.app, { state, error_type: this.name });
			else await act(this.app, { ids: (await this.#withoutError([state], MOST)).map((job) => job.id) });
		} catch (error) {
			this.app.failed(this.content, error);
		}
	}

	async #withoutError(states, most) {
		const jobs = [];
		for await (const page of this.app.client.pages({ states })) {
			jobs.push(...page.filter((job) => !job.error));
			if (jobs.length >= most) break;
		}
		return jobs.slice(0, most);
	}

	take(news) {
		if (this.table?.take(news)) this.refresh();
	}

	close() { this.ended = true; this.refresh.end(); }
}
