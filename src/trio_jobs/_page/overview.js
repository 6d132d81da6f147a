// The screen Overview: whether all is well, what runs, what waits.

import * as actions from "./actions.js";
import { button, foreign, h, hint, offer, put, rows, section } from "./dom.js";
import { after, calm } from "./feed.js";
import { badge, duration, jobLink, number, time } from "./format.js";
import { JobTable, loading, progressLine } from "./joblist.js";
import { path as jobsPath } from "./jobs.js";
import { STATES } from "./protocol.js";
import { ACT, COMMON, MEANS, OVERVIEW, PROBLEMS, STATE } from "./text.js";

export function overviewScreen(app) {
	const health = h("div", { class: "health" });
	const tools = h("div", { class: "toolbar" });
	const doubts = h("div");
	const running = h("div", { class: "running" });
	const sdk = h("dl", { class: "facts" }), slots = h("div");
	const states = h("ul", { class: "tiles" });
	const newest = h("div", { class: "scroll" }, loading());
	const table = new JobTable({ caption: OVERVIEW.newest, columns: ["state", "job", "kind", "submitted", "why"] });
	let job = null, progress = null, trouble = null;

	async function load() {
		try {
			const { client } = app;
			const [, current, latest] = await Promise.all([
				app.look(),
				client.ask("jobs.list", { states: ["processing", "saving"], limit: 1 }),
				client.ask("jobs.list", { order: "newest", limit: 10 }),
			]);
			if (again.ended) return;
			if (job?.id !== current.jobs[0]?.id) progress = null;
			job = current.jobs[0] ?? null;
			const ids = latest.jobs.map((each) => each.id).join();
			if (ids === [...table.rows.keys()].join()) latest.jobs.forEach((each) => table.update(each));
			else if (!table.element.contains(document.activeElement)) table.show(latest.jobs);
			put(newest, latest.jobs.length === 0 ? h("p", { class: "empty" }, COMMON.none) : null);
			if (latest.jobs.length > 0) newest.replaceChildren(table.element);
			trouble?.remove();
			trouble = null;
			draw();
		} catch (error) {
			trouble ??= h("div");
			app.failed(trouble, error);
			health.after(trouble);
		}
	}

	function draw() {
		const { stats, client } = app;
		if (stats === null) return;
		const paused = app.paused, now = app.health ?? {};
		const more = (name) => {
			const said = name === "close_failed" ? now.last_close?.problem : name === "store" ? now.store : null;
			return said ? [" ", foreign(said, 300)] : [];
		};
		const problems = stats.problems.filter((name) => name !== "paused");
		const lines = [
			paused === null ? null : h("li", null, OVERVIEW.paused, paused.reason ? [" ", OVERVIEW.reason, ": ", foreign(paused.reason, 300), "."] : null, " ", paused.by ? [OVERVIEW.pausedBy, " ", foreign(paused.by, 100), ", "] : [OVERVIEW.pausedAt, " "], time(paused.since), paused.until ? [", ", OVERVIEW.until, " ", time(paused.until)] : null, "."),
			...problems.map((name) => h("li", null, PROBLEMS[name] ?? foreign(name, 300), ...more(name))),
			now.held_by ? h("li", null, OVERVIEW.held, " ", jobLink({ id: now.held_by }), " ", time(now.held_since)) : null,
			now.without_handler ? h("li", null, OVERVIEW.unhandled(number(now.without_handler))) : null,
		].filter(Boolean);
		health.className = `health ${problems.length > 0 ? "bad" : paused === null ? "good" : "warn"}`;
		put(health, lines.length === 0 ? h("p", null, OVERVIEW.well) : h("ul", null, lines));
		const draining = problems.includes("draining");
		offer(tools, [
			client.may("queue.pause") && (paused === null ? button(ACT.pause, () => actions.pause(app)) : button(ACT.resume, () => actions.now(app, "queue.resume", {}, ACT.done.resume), "primary")),
			client.may("queue.drain") && !draining && button(ACT.drain, () => actions.drain(app)),
			client.may("queue.undrain") && draining && button(ACT.undrain, () => actions.now(app, "queue.undrain", {}, ACT.done.undrain)),
		]);
		const count = stats.jobs.in_doubt ?? 0;
		put(doubts, count === 0 ? null : h("p", { class: "alert" }, OVERVIEW.doubts(count), " ", h("a", { href: "#/doubt" }, OVERVIEW.decide)));
		drawRunning();
		put(sdk, rows([
			[OVERVIEW.session, `${number(stats.session)}, ${stats.inside ? OVERVIEW.busy.toLowerCase() : OVERVIEW.idle.toLowerCase()}`],
			[OVERVIEW.mean, typeof stats.mean_run === "number" ? duration(stats.mean_run) : null],
			[OVERVIEW.closed, now.last_close ? [now.last_close.failed && OVERVIEW.closedBadly, time(now.last_close.at)] : null],
			[OVERVIEW.oldest, now.oldest_waiting ? [jobLink({ id: now.oldest_waiting }), " ", time(now.waiting_since)] : null],
		]));
		const used = stats.capacity - stats.free;
		put(slots, h("meter", { max: stats.capacity, value: used, high: stats.capacity * 0.9, "aria-label": OVERVIEW.used(used, stats.capacity) }), h("p", null, OVERVIEW.used(number(used), number(stats.capacity)), stats.waiting_callers ? [". ", OVERVIEW.waiting(stats.waiting_callers)] : null, stats.waiting_jobs ? [". ", OVERVIEW.again(stats.waiting_jobs)] : null, "."));
		put(states, STATES.map((state) => h("li", null, h("a", { class: `tile ${state} ${stats.jobs[state] ? "some" : "zero"}`, href: state === "in_doubt" ? "#/doubt" : jobsPath(`state:${state}`, null), title: MEANS[state] }, h("span", { class: "amount" }, number(stats.jobs[state] ?? 0)), " ", h("span", { class: "name" }, STATE[state])))));
	}

	function drawRunning() {
		if (job === null || !["processing", "saving"].includes(job.state)) { put(running, hint(OVERVIEW.nothing)); return; }
		put(running,
			h("p", null, badge(job.state), " ", jobLink(job), " ", h("span", { class: "kind" }, foreign(job.kind, 80)), `, ${OVERVIEW.attempt(job.attempts || 1)}, `, time(job.changed_at)),
			progressLine(progress));
	}

	const again = calm(load, 1000);
	return {
		title: OVERVIEW.title,
		element: h("div", null,
			h("h1", null, OVERVIEW.title), health, doubts, tools,
			h("div", { class: "columns" },
				section("running", OVERVIEW.running, running, "card"),
				section("sdk", OVERVIEW.sdk, sdk, "card"),
				section("slots", OVERVIEW.slots, slots, "card")),
			section("states", OVERVIEW.states, states),
			section("newest", OVERVIEW.newest, [newest, h("p", null, h("a", { href: jobsPath("", null) }, OVERVIEW.all))])),
		load: async () => again(),
		take: (news) => {
			table.take(news);
			if (job !== null) {
				job = (news.jobs.get(job.id) ?? []).reduce(after, job);
				progress = news.progress.get(job.id) ?? progress;
				if (news.progress.has(job.id)) drawRunning();
			}
			if (news.count > 0) again();
		},
		close: again.end,
		keys: { j: () => table.move(1), k: () => table.move(-1) },
	};
}
