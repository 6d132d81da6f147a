// The screen of one job.

import * as actions from "./actions.js";
import { save } from "./csv.js";
import { diagram, pathOf } from "./diagram.js";
import { button, foreign, foreignBlock, h, heads, hint, offer, put, rows, section } from "./dom.js";
import { problem } from "./dialog.js";
import { after, calm } from "./feed.js";
import { badge, called, duration, jobPath, number, shortId, size, time } from "./format.js";
import { loading, progressLine, reason, why } from "./joblist.js";
import { begin, pretty, textAt } from "./json.js";
import { doubtActions } from "./doubt.js";
import { path as jobsPath } from "./jobs.js";
import { term } from "./search.js";
import { ACT, ACTIVITY, EVENT, JOB, MEANS, OUTCOME, OVERVIEW } from "./text.js";

const SHOWN = 20000, MOST_EVENTS = 500;

export function jobScreen(app, params, id) {
	const title = h("h1", null, JOB.title);
	const head = h("div", { class: "job-head" });
	const toolbar = h("div", { class: "toolbar actions", role: "group", "aria-label": JOB.actions });
	const drawn = h("div");
	const facts = h("dl", { class: "facts" });
	const attempts = h("div", { class: "scroll attempts" });
	const events = h("div", { class: "scroll" });
	const payload = h("div"), result = h("div");
	const body = h("div", { hidden: true }, head, toolbar, section("path", JOB.path, drawn), section("facts", JOB.facts, facts), section("attempts", JOB.attempts, attempts), section("payload", JOB.payload, payload), section("result", JOB.result, result), section("events", JOB.events, events));
	const state = h("div", null, loading());
	let job = null, whole = null, log = [], logWhole = false, logSeq = 0, progress = null, resultSeq = -1;

	async function load() {
		try {
			whole = await app.ask("jobs.get", { job: id });
			job = { ...whole };
			await loadHistory();
			if (again.ended) return;
			state.replaceChildren();
			body.hidden = false;
			draw();
			drawOnce();
			await loadResult();
		} catch (error) {
			if (again.ended) return;
			body.hidden = job === null;
			if (error.code === -32004) put(state, h("p", { class: "empty" }, JOB.gone));
			else if (error.code === -32020) put(state, h("p", null, JOB.many), h("ul", null, error.data.jobs.map((each) => h("li", null, h("a", { href: jobPath(each) }, each)))));
			else app.failed(state, error);
		}
	}

	async function loadHistory() {
		// what is known already is not asked for again
		let answer = null;
		for (let page = 0; page < 20 && answer?.more !== false; page += 1) {
			answer = await app.ask("jobs.history", { job: job.id, after: logSeq || undefined });
			const fresh = answer.events.map(({ payload, ...event }) => event);
			if (fresh.length > 0) logSeq = fresh.at(-1).seq;
			log = [...log.filter((event) => event.seq <= (fresh[0]?.seq ?? Infinity) - 1), ...fresh].slice(-4 * MOST_EVENTS);
			if (page === 0 && !logWhole) logWhole = answer.complete;
		}
	}

	async function loadResult() {
		if (job.state !== "completed") { put(result, hint(JOB.noResult)); return; }
		if (resultSeq === job.seq) return;
		const answer = await app.ask("jobs.result", { job: job.id, wait: 0 });
		if (again.ended) return;
		resultSeq = job.seq;
		const text = answer.text("result");
		put(result, text === undefined ? hint(answer.problem ? foreign(answer.problem) : JOB.noResult) : data(text, "result"));
	}

	// JSON of any size: its beginning, and the rest on demand
	function data(raw, name) {
		const text = raw.length < 200000 ? pretty(raw) : raw;
		const holder = h("div");
		const file = button(JOB.save, () => save(`${name}-${shortId(job.id)}.json`, "application/json", [raw]), "small");
		if (text.length <= SHOWN) holder.append(foreignBlock(text, { "aria-label": name }), h("div", { class: "toolbar" }, file));
		else {
			const all = button(JOB.whole, () => { block.replaceWith(foreignBlock(text, { "aria-label": name })); all.remove(); told.remove(); }, "small");
			const block = foreignBlock(text.slice(0, SHOWN), { "aria-label": name });
			const told = hint(JOB.large(size(raw.length)));
			holder.append(told, block, h("div", { class: "toolbar" }, all, file));
		}
		return holder;
	}

	function drawOnce() {
		const text = whole.text("payload");
		const earlier = Object.keys(whole.earlier_payloads ?? {}).map((run) => h("details", null, h("summary", null, JOB.earlier(run)), foreignBlock(begin(textAt(whole.text("earlier_payloads"), [run])))));
		put(payload, text === undefined ? hint(JOB.hidden) : data(text, "payload"), earlier);
	}

	function draw() {
		put(title, called(job));
		document.title = app.titled(`${called(job).textContent}`);
		put(head, badge(job.state), " ", h("span", { class: "means" }, MEANS[job.state]), job.cancel_requested ? h("p", { class: "notice" }, JOB.cancelRequested) : null, job.inside ? h("p", { class: "notice" }, JOB.inside) : null, actions.claimed(job), job.state === "processing" ? progressLine(progress) : null);
		// the buttons act on the job as it is now
		offer(toolbar, [
			actions.mayRetry(app, job) && button(ACT.retry, () => actions.retry(app, [job])),
			actions.mayCorrect(app, job) && button(ACT.correct, () => actions.correct(app, job)),
			actions.mayCancel(app, job) && button(ACT.cancel, () => actions.cancel(app, [job]), "danger"),
			actions.mayReschedule(app, job) && button(ACT.runNow, () => actions.now(app, "jobs.reschedule", { job: job.id, now: true }, ACT.done.reschedule)),
			actions.mayForget(app, job) && button(ACT.forget, () => actions.forget(app, job), "danger"),
			actions.mayReschedule(app, job) && button(ACT.later, () => actions.reschedule(app, job)),
			...job.state === "in_doubt" ? doubtActions(app, job) : [actions.mayVerify(app, job) && button(ACT.verify, () => actions.verify(app, job)), ...actions.claims(app, job)],
		], title, job.seq);
		put(drawn, diagram(pathOf(log.length > 0 ? log : [{ type: "", state: job.state }])));
		put(facts, rows([
			[JOB.key, job.key && foreign(job.key, 500)],
			[JOB.kind, h("a", { href: jobsPath(term("kind", job.kind), null) }, foreign(job.kind, 200))],
			[JOB.id, h("span", { class: "id" }, job.id)],
			[JOB.submitted, time(job.submitted_at)],
			[JOB.by, job.by && foreign(job.by, 200)],
			[JOB.labels, job.labels && Object.entries(job.labels).map(([name, value]) => h("span", { class: "label" }, foreign(name, 64), "=", foreign(value, 64)))],
			[JOB.changed, time(job.changed_at)],
			[JOB.due, job.due_at && time(job.due_at)],
			[JOB.deadline, job.deadline_at && time(job.deadline_at)],
			[JOB.position, job.position ? number(job.position) : null],
			[JOB.expected, typeof job.expected_wait === "number" ? duration(job.expected_wait) : null],
			[JOB.run, (job.run ?? 1) > 1 && JOB.runs(job.run)],
			[JOB.retries, job.retries_used && number(job.retries_used)],
			[JOB.snoozes, job.snoozes && number(job.snoozes)],
			[JOB.acted, job.acted && JOB.actedYes],
			[JOB.reason, reason(job.reason) && foreign(reason(job.reason), 1000)],
			[JOB.error, job.error && why(job)],
		]));
		drawAttempts();
		drawEvents();
	}

	function drawAttempts() {
		const past = [...whole.history ?? []].reverse();
		if (past.length === 0) { put(attempts, hint(JOB.noAttempts)); return; }
		put(attempts, h("table", null,
			heads([JOB.number, JOB.started, JOB.took, JOB.outcome, JOB.entered]),
			h("tbody", null, past.map((attempt) => h("tr", null,
				h("th", { scope: "row" }, number(attempt.number), attempt.run > 1 ? ` (${JOB.run} ${attempt.run})` : ""),
				h("td", null, time(attempt.started_at)),
				h("td", null, attempt.ended_at === undefined ? JOB.running : duration(attempt.ended_at - attempt.started_at)),
				h("td", null, attempt.outcome ? OUTCOME[attempt.outcome] ?? attempt.outcome : JOB.running, attempt.ended_by ? `, ${JOB.endedBy(attempt.ended_by)}` : "", attempt.late ? `, ${JOB.late}` : "",
					attempt.error ? h("div", null, why({ error: attempt.error }), (attempt.error.code ?? null) !== null ? [" ", `(${JOB.code} `, foreign(attempt.error.code, 60), ")"] : null,
						attempt.error.traceback ? h("details", null, h("summary", null, JOB.traceback), foreignBlock(attempt.error.traceback)) : null) : null),
				h("td", null, attempt.entered ? JOB.yes : JOB.no))))));
	}

	function drawEvents() {
		const shown = log.slice(-MOST_EVENTS).reverse();
		put(events, logWhole ? log.length > MOST_EVENTS ? hint(JOB.cutEvents(MOST_EVENTS)) : null : hint(JOB.live),
			h("ol", { class: "events" }, shown.map((event) => h("li", null, time(event.at), " ", h("span", { class: "event" }, described(event)), event.by ? [` ${ACTIVITY.by} `, foreign(event.by, 100)] : null, event.note ? [" “", foreign(event.note, 500), "”"] : null, reason(event.reason) ? [" – ", foreign(reason(event.reason), 300)] : null, event.error ? [" – ", why({ error: event.error })] : null))));
	}

	const again = calm(load, 1000);
	return {
		title: JOB.title,
		element: h("div", null, h("p", { class: "crumbs" }, h("a", { href: jobsPath("", null) }, JOB.back)), title, state, body),
		load: async () => { if (job === null) await load(); else again(); },
		take: (news) => {
			if (job === null) return;
			progress = news.progress.get(job.id) ?? progress;
			const mine = news.jobs.get(job.id) ?? [];
			if (mine.length > 0) {
				job = mine.reduce(after, job);
				log = [...log, ...mine.filter((event) => event.seq > (log.at(-1)?.seq ?? whole.seq))].slice(-4 * MOST_EVENTS);
			}
			if (mine.length > 0 || news.progress.has(job.id)) draw();
			if (mine.length > 0 || news.lost) again();
		},
		close: again.end,
		keys: {
			...actions.keys(app, () => [job].filter(Boolean), () => job),
		},
	};
}

export function described(event) {
	let text = EVENT[event.type] ?? event.type;
	if (event.type === "in_doubt" && event.verifying) text = EVENT.verifying;
	else if (event.type === "in_doubt" && event.asked) text = EVENT.asked;
	const more = [event.attempt ? OVERVIEW.attempt(event.attempt) : null, event.outcome ? OUTCOME[event.outcome] ?? event.outcome : null].filter(Boolean).join(", ");
	return [more ? `${text} (${more})` : text, event.step ? [": ", foreign(event.step, 100)] : null];
}
