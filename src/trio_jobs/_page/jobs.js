// The screen Jobs: pages of jobs by cursor, a search, CSV of what matches.

import * as actions from "./actions.js";
import { foreseen } from "./client.js";
import { saveCsv } from "./csv.js";
import { button, foreign, h, put } from "./dom.js";
import { calm } from "./feed.js";
import { jobLink, number } from "./format.js";
import { JobTable, loading } from "./joblist.js";
import { STATES } from "./protocol.js";
import { SearchError, parse, term } from "./search.js";
import { ACT, COMMON, JOBS, STATE } from "./text.js";

const PAGE = 50, LOOKED = 2000;
// where each page of a list came from, so that there is a way back; bounded by what a person can click
const before = new Map();

export function jobsScreen(app, params) {
	const query = params.get("q") ?? "", cursor = params.get("after");
	const input = h("input", { type: "search", id: "search", value: query, autocomplete: "off", spellcheck: "false", "aria-describedby": "search-hint search-problem", maxlength: 2000 });
	const wrong = h("p", { class: "problem", id: "search-problem", role: "alert", hidden: true });
	const direct = h("p", { class: "direct", hidden: true });
	const count = h("p", { class: "count" });
	const fresh = button("", () => { app.navigate(path(query, null)); load(); scrollTo(0, 0); }, "fresh");
	const freshBar = h("div", { class: "fresh-bar", role: "status" });
	const chosen = h("div", { class: "chosen" });
	const list = h("div", { class: "scroll" }, loading());
	const paging = h("nav", { class: "paging", "aria-label": JOBS.title });
	const csv = button(JOBS.csv, () => saveCsv(app, conditions, (text) => { csv.textContent = text ?? JOBS.csv; csv.disabled = text !== null; }));
	const chips = h("div", { class: "chips", role: "group", "aria-label": JOBS.label }, STATES.map((state) => {
		const on = conditionsOf(query).states?.includes(state) ?? false;
		const others = query.replace(/(^|\s)state:\S*/g, "").trim();
		return h("a", { class: "chip", href: path(on ? others : `${term("state", state)} ${others}`.trim(), null), "aria-current": on ? "true" : null }, STATE[state]);
	}));
	let conditions = null, key = "", shown = false, last = null, matched = null;

	const table = new JobTable({
		caption: JOBS.title,
		columns: ["state", "job", "kind", "attempts", "submitted", "changed", "why"],
		selectable: actions.selectable(app),
		stale: (job) => conditions?.states !== undefined && !conditions.states.includes(job.state),
		onselect: showChosen,
	});

	try {
		const found = parse(query);
		({ conditions, key } = found);
		if (found.id !== null) findId(found.id);
	} catch (error) {
		if (!(error instanceof SearchError)) throw error;
		wrong.textContent = error.message;
		wrong.hidden = false;
		input.setAttribute("aria-invalid", "true");
		list.replaceChildren();
	}

	async function findId(id) {
		try {
			const job = await app.ask("jobs.get", { job: id });
			if (again.ended) return;
			put(direct, JOBS.opened, " ", jobLink(job), " ", foreign(job.kind, 80));
			direct.hidden = false;
		} catch (error) {
			foreseen(error);
		}
	}

	function showChosen(size) {
		const jobs = table.chosen;
		const again = jobs.filter((job) => actions.mayRetry(app, job)), open = jobs.filter((job) => actions.mayCancel(app, job));
		chosen.replaceChildren(...size === 0 ? [] : [
			h("span", { role: "status" }, COMMON.selected(size)),
			again.length > 0 ? button(`${ACT.retry} ${again.length}`, () => actions.retry(app, again)) : null,
			jobs.length === 1 && actions.mayCorrect(app, jobs[0]) ? button(ACT.correct, () => actions.correct(app, jobs[0])) : null,
			open.length > 0 ? button(`${ACT.cancel} ${open.length}`, () => actions.cancel(app, open), "danger") : null,
		].filter(Boolean));
	}

	async function fetchPage() {
		const page = await app.ask("jobs.list", { ...conditions, order: "newest", limit: PAGE, ...(cursor === null ? {} : { after: cursor }) });
		// a search that takes long answers with what it has
		while (page.jobs.length === 0 && page.more && page.next && !again.ended) {
			Object.assign(page, await app.ask("jobs.list", { ...conditions, order: "newest", limit: PAGE, after: page.next }));
		}
		return page;
	}

	async function load() {
		if (conditions === null) return;
		try {
			const [page] = await Promise.all([fetchPage(), counted()]);
			if (again.ended) return;
			last = page;
			if (page.jobs.length === 0 && key && cursor === null) { await within(); return; }
			shown = true;
			table.show(page.jobs);
			freshBar.replaceChildren();
			list.replaceChildren(page.jobs.length > 0 ? table.element : h("p", { class: "empty" }, query ? JOBS.empty : JOBS.none));
			showPaging();
		} catch (error) {
			if (error.code === -32021) {
				app.say(JOBS.expired);
				app.navigate(path(query, null));
			} else app.failed(list, error);
		}
	}

	// No key begins so: look within the keys of the newest jobs
	async function within() {
		const found = [], others = { ...conditions, key_prefix: undefined };
		let looked = 0;
		for await (const jobs of app.client.pages(others)) {
			looked += jobs.length;
			found.push(...jobs.filter((job) => job.key?.toLowerCase().includes(key.toLowerCase())));
			if (looked >= LOOKED) break;
		}
		if (again.ended) return;
		csv.hidden = true;
		count.textContent = JOBS.count(found.length);
		table.show(found);
		list.replaceChildren(h("p", { class: found.length > 0 ? "hint" : "empty" }, looked > 0 ? JOBS.within(number(found.length), number(looked)) : JOBS.empty), found.length > 0 ? table.element : "");
	}

	async function counted() {
		const { total } = await app.ask("jobs.count", conditions);
		matched = total;
		if (!again.ended) count.textContent = JOBS.count(number(total) === "1" ? 1 : number(total));
	}

	function showPaging() {
		const next = last.more && last.next ? path(query, last.next) : null;
		if (next !== null && before.size < 1000) before.set(last.next, cursor);
		const previous = cursor === null ? null : path(query, before.get(cursor) ?? null);
		put(paging, previous && [h("a", { href: path(query, null) }, COMMON.first), h("a", { href: previous, rel: "prev" }, COMMON.previous)], next && h("a", { href: next, rel: "next" }, COMMON.next));
	}

	// At most once a second: what is shown is corrected in place, what is new is announced
	const again = calm(async () => {
		if (!shown || conditions === null) return;
		try {
			const [page] = await Promise.all([fetchPage(), counted()]);
			if (again.ended) return;
			const added = page.jobs.filter((job) => !table.rows.has(job.id));
			for (const job of page.jobs) table.update(job);
			if (table.rows.size === 0 && added.length > 0) { await load(); return; }
			if (cursor !== null || added.length === 0) { freshBar.replaceChildren(); return; }
			fresh.textContent = JOBS.fresh(added.length === PAGE ? `${PAGE}+` : added.length);
			if (!fresh.isConnected) freshBar.replaceChildren(fresh);
		} catch (error) {
			foreseen(error);
		}
	}, 1000);

	const form = h("form", { class: "search", role: "search", onsubmit: (event) => {
		event.preventDefault();
		if (input.value.trim() === query.trim()) load();
		else app.navigate(path(input.value.trim(), null));
	} }, h("label", { for: "search" }, JOBS.search), input, h("button", { type: "submit" }, JOBS.search), h("p", { class: "hint", id: "search-hint" }, JOBS.hint), wrong);

	return {
		title: JOBS.title,
		element: h("div", null, h("h1", null, JOBS.title), form, chips, direct, h("div", { class: "toolbar" }, count, chosen, csv), freshBar, list, paging),
		load: async () => { if (shown) again(); else await load(); },
		take: (news) => {
			const touched = table.take(news);
			if (touched || news.count > 0 && (cursor === null || matched === null)) again();
		},
		close: again.end,
		keys: {
			"/": () => input.focus(),
			j: () => table.move(1), k: () => table.move(-1), s: () => table.toggle(),
			...actions.keys(app, () => table.picked, () => table.focused?.job),
		},
	};
}

function conditionsOf(query) {
	try {
		return parse(query).conditions;
	} catch (error) {
		if (!(error instanceof SearchError)) throw error;
		return {};
	}
}

export function path(query, cursor) {
	const params = new URLSearchParams();
	if (query) params.set("q", query);
	if (cursor) params.set("after", cursor);
	const text = params.toString();
	return text ? `#/jobs?${text}` : "#/jobs";
}
