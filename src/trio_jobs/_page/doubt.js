// The screen In doubt: what nobody knows, and the three answers.

import * as actions from "./actions.js";
import { button, foreign, foreignBlock, h, hint, put, rows } from "./dom.js";
import { calm } from "./feed.js";
import { jobLink, time } from "./format.js";
import { loading, reason, why } from "./joblist.js";
import { begin } from "./json.js";
import { COMMON, DOUBT, OUTCOME, JOB } from "./text.js";

const PAGE = 20;

export function doubtActions(app, job) {
	if (!actions.mayResolve(app, job)) return [];
	return [
		button(DOUBT.done, () => actions.resolve(app, job, "done"), "primary"),
		button(DOUBT.notDone, () => actions.resolve(app, job, "not_done")),
		button(DOUBT.failed, () => actions.resolve(app, job, "failed")),
		actions.mayVerify(app, job) && button(DOUBT.ask, () => actions.verify(app, job)),
		...actions.claims(app, job),
	].filter(Boolean);
}

export function doubtScreen(app, params) {
	const cursor = params.get("after");
	const cards = h("ol", { class: "cards" });
	const state = h("div", null, loading());
	const paging = h("nav", { class: "paging", "aria-label": DOUBT.title });
	const known = new Map();
	let at = null;

	async function load() {
		try {
			const page = await app.ask("jobs.list", { state: "in_doubt", limit: PAGE, after: cursor ?? undefined });
			const jobs = await Promise.all(page.jobs.map(async (brief) => {
				const card = known.get(brief.id);
				if (card?.job.seq === brief.seq) return card.job;
				const [job, log] = await Promise.all([
					app.ask("jobs.get", { job: brief.id }),
					// for others than those who decide, its steps are withheld
					app.client.may("jobs.resolve") ? app.ask("jobs.history", { job: brief.id }) : { events: null },
				]);
				return Object.assign(job, { log: log.events });
			}));
			if (again.ended) return;
			draw(jobs.filter((job) => job.state === "in_doubt"), page);
		} catch (error) {
			if (error.code === -32004) again(); // decided and removed in between
			else if (error.code === -32021) app.navigate("#/doubt");
			else app.failed(state, error);
		}
	}

	function draw(jobs, page) {
		put(state, jobs.length === 0 ? h("p", { class: "empty good" }, DOUBT.none) : hint(DOUBT.intro, app.client.may("jobs.resolve") ? "" : ` ${DOUBT.watch}`));
		const ids = new Set(jobs.map((job) => job.id));
		for (const [id, { element }] of known) {
			if (ids.has(id)) continue;
			const lost = element.contains(document.activeElement);
			element.remove();
			known.delete(id);
			if (lost) (cards.querySelector("a, button") ?? document.querySelector("h1"))?.focus();
		}
		for (const job of jobs) {
			const old = known.get(job.id);
			if (old?.job === job) continue;
			const element = card(job);
			if (old) {
				const focused = [...old.element.querySelectorAll("a, button")].indexOf(document.activeElement);
				old.element.replaceWith(element);
				if (focused >= 0) element.querySelectorAll("a, button")[focused]?.focus();
			} else cards.append(element);
			known.set(job.id, { job, element });
		}
		put(paging, cursor && h("a", { href: "#/doubt" }, COMMON.first), page.more && h("a", { href: `#/doubt?after=${encodeURIComponent(page.next)}` }, COMMON.next));
	}

	function card(job) {
		const attempt = job.history?.at(-1);
		const log = job.log ?? [], payload = job.text("payload");
		const asked = log.some((event) => event.type === "in_doubt" && event.asked && event.attempt === (attempt?.number ?? event.attempt));
		const facts = [
			[DOUBT.why, [attempt?.outcome ? DOUBT.attempt(attempt.number, OUTCOME[attempt.outcome] ?? attempt.outcome) : null, reason(job.reason) && job.reason !== attempt?.outcome ? [attempt?.outcome ? "; " : "", foreign(reason(job.reason), 300)] : null]],
			[JOB.error, attempt?.error ? why({ error: attempt.error }) : job.error ? why(job) : null],
			[DOUBT.verify, asked ? DOUBT.verifyUnknown : !actions.hasVerify(app, job) ? DOUBT.verifyNone : job.log && DOUBT.verifyNever],
			[DOUBT.doing, steps(log, attempt)],
			[DOUBT.since, time(job.changed_at)],
		];
		return h("li", { class: "card doubt", "data-job": job.id },
			h("h2", null, jobLink(job), " ", h("span", { class: "kind" }, foreign(job.kind, 80))),
			h("p", { class: "question" }, DOUBT.question(attempt?.number)),
			job.inside ? h("p", { class: "notice" }, DOUBT.inside) : null,
			actions.claimed(job),
			h("dl", { class: "facts" }, rows(facts)),
			h("div", { class: "toolbar", role: "group", "aria-label": JOB.actions }, doubtActions(app, job)),
			payload && h("details", null, h("summary", null, JOB.payload), foreignBlock(begin(payload))));
	}

	function steps(log, attempt) {
		const names = new Map();
		for (const event of log) {
			if (event.type === "step_started") names.set(event.step, names.get(event.step) ?? false);
			if (event.type === "step_finished") names.set(event.step, true);
		}
		if (names.size === 0) return null;
		return h("ul", null, [...names].map(([name, finished]) => h("li", null, foreign(name, 100), ` – ${finished ? DOUBT.finished : DOUBT.begun}`)));
	}

	const again = calm(load, 1000);
	const links = () => [...cards.querySelectorAll("h2 a.job")];
	const move = (by) => {
		const all = links(), now = document.activeElement?.closest?.("li.card")?.querySelector("h2 a.job");
		at = Math.min(Math.max((now ? all.indexOf(now) : by > 0 ? -1 : all.length) + by, 0), all.length - 1);
		all[at]?.focus();
	};
	return {
		title: DOUBT.title,
		element: h("div", null, h("h1", { tabindex: "-1" }, DOUBT.title), state, cards, paging),
		load,
		take: (news) => {
			if (news.lost || [...news.jobs].some(([id, events]) => known.has(id) || events.some((event) => event.state === "in_doubt"))) again();
		},
		close: again.end,
		keys: { j: () => move(1), k: () => move(-1) },
	};
}
