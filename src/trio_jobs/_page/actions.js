// What a person can do, each with its consequence in words. Only what the token may do is offered; the server decides.

import { button, field, foreign, h } from "./dom.js";
import { foreseen } from "./client.js";
import { seconds } from "./format.js";
import { Raw, pretty } from "./json.js";
import { Refusal, ask, problem } from "./dialog.js";
import { FINAL } from "./protocol.js";
import { ACT, DOUBT, JOB, SUBMIT } from "./text.js";

export const hasVerify = (app, job) => app.client.kinds.get(job.kind)?.verify === true;

const OPEN = new Set(["scheduled", "pending", "processing", "saving", "retrying"]);

const may = (method, fits) => (app, job) => app.client.may(method) && fits(job, app);
export const mayRetry = may("jobs.retry", (job) => FINAL.includes(job.state) && job.state !== "completed");
export const mayCancel = may("jobs.cancel", (job) => OPEN.has(job.state) && !job.cancel_requested);
export const mayResolve = may("jobs.resolve", (job) => job.state === "in_doubt");
export const mayCorrect = may("jobs.correct", (job) => ["failed", "cancelled"].includes(job.state) && !job.acted);
export const mayVerify = may("jobs.verify", (job, app) => hasVerify(app, job) && (job.state === "in_doubt" || ["failed", "cancelled"].includes(job.state) && job.acted === true));
export const mayReschedule = may("jobs.reschedule", (job) => ["scheduled", "retrying"].includes(job.state));
export const mayClaim = may("jobs.claim", (job) => ["in_doubt", "failed"].includes(job.state));

// Whether a job can be selected; null if the token may do nothing with several
export const selectable = (app) => app.client.may("jobs.retry") || app.client.may("jobs.cancel") ? (job) => mayRetry(app, job) || mayCancel(app, job) : null;

// The keys of a screen. picked(): the jobs that they act on; focused(): the one that is corrected
export function keys(app, picked, focused) {
	const many = (may, run) => () => {
		const jobs = picked().filter((job) => may(app, job));
		if (jobs.length > 0) run(app, jobs);
	};
	return {
		r: many(mayRetry, retry), x: many(mayCancel, cancel),
		c: () => { const job = focused(); if (job && mayCorrect(app, job)) correct(app, job); },
	};
}

function note(required) {
	const control = h("textarea", { rows: 2, maxlength: 500, autocomplete: "off" });
	const element = field(ACT.note, control, required ? ACT.noteNeeded : null);
	if (required) control.setAttribute("aria-required", "true");
	return { element, read: () => {
		const text = control.value.trim();
		if (required && !text) {
			element.refuse(ACT.noteMissing);
			throw new Refusal();
		}
		element.refuse("");
		return text;
	}, get params() { const text = control.value.trim(); return text ? { note: text } : {}; } };
}

const named = (job) => h("p", { class: "subject" }, foreign(job.kind, 100), " ", job.key ? foreign(job.key, 200) : foreign(job.id));

async function one(app, method, params) {
	const answer = await app.ask(method, params);
	app.refresh();
	return answer;
}

// Ask, do it, and say that it is done
async function act(app, question, said) {
	const answer = await ask(question);
	if (answer !== undefined) app.say(said(answer));
}

const MOST = 1000;

// A new run of a job, or of several
export async function retry(app, jobs) {
	if (jobs.length > 1) return retryMany(app, { ids: jobs.slice(0, MOST).map((job) => job.id) });
	const [job] = jobs;
	const even = choice(app, job.acted && !hasVerify(app, job));
	await act(app, {
		title: ACT.retryTitle(1), means: [ACT.retryMeans(1), job.acted && (hasVerify(app, job) ? ACT.retryAsks : ACT.retryActed)], fields: [named(job), even.element], go: ACT.retryGo, danger: job.acted,
		run: () => one(app, "jobs.retry", { job: job.id, ...even.params }),
	}, () => ACT.done.retry);
}

function choice(app, acted) {
	const box = h("input", { type: "checkbox", id: "even" });
	const offered = acted && app.client.may("jobs.retry", "control");
	return { element: offered ? h("div", { class: "check" }, box, h("label", { for: "even" }, ACT.even)) : null, get params() { return box.checked ? { even_if_acted: true } : {}; } };
}

// All that match. The server says first what it would do, so that the question names it
export async function retryMany(app, conditions) {
	const plan = await app.ask("jobs.retry_many", { ...conditions, limit: MOST, dry_run: true });
	const even = choice(app, plan.refused.length > 0);
	const text = note(false);
	await act(app, {
		title: ACT.retryTitle(plan.jobs.length),
		means: [
			ACT.retryMeans(plan.jobs.length), plan.jobs.length === MOST && ACT.most(MOST),
			plan.verified_first.length > 0 && ACT.verifiedFirst(plan.verified_first.length), plan.refused.length > 0 && ACT.refused(plan.refused.length),
		],
		fields: [even.element, text.element], go: plan.jobs.length === 1 ? ACT.retryGo : ACT.retryAllGo, danger: plan.may_have_acted.length > 0,
		run: () => one(app, "jobs.retry_many", { ...conditions, limit: MOST, ...even.params, ...text.params }),
	}, (answer) => [ACT.all(answer.jobs.length), answer.refused.length > 0 && ACT.refused(answer.refused.length)].filter(Boolean).join(" "));
}

export async function cancel(app, jobs) {
	if (jobs.length > 1) return cancelMany(app, { ids: jobs.slice(0, MOST).map((job) => job.id) });
	const text = note(false);
	await act(app, {
		title: ACT.cancelTitle(1), means: [ACT.cancelMeans(1)], fields: [named(jobs[0]), text.element], go: ACT.cancelGo, danger: true,
		run: () => one(app, "jobs.cancel", { job: jobs[0].id, ...text.params }),
	}, ({ answer }) => ACT.done[answer]);
}

export async function cancelMany(app, conditions) {
	const plan = await app.ask("jobs.cancel_many", { ...conditions, limit: MOST, dry_run: true });
	const text = note(false);
	await act(app, {
		title: ACT.cancelTitle(plan.jobs.length), means: [ACT.cancelMeans(plan.jobs.length), plan.jobs.length === MOST && ACT.most(MOST)], fields: [text.element], go: ACT.cancelAllGo, danger: true,
		run: () => one(app, "jobs.cancel_many", { ...conditions, limit: MOST, ...text.params }),
	}, ({ jobs }) => ACT.all(jobs.length));
}

// When a waiting job is due
export async function reschedule(app, job) {
	const when = h("input", { type: "datetime-local" });
	const due = field(ACT.due, when);
	const text = note(false);
	await act(app, {
		title: ACT.rescheduleTitle, means: [ACT.rescheduleMeans], fields: [named(job), due, text.element], go: ACT.rescheduleGo,
		run: () => {
			if (!when.value) due.refuse(ACT.dueMissing);
			if (!when.value) throw new Refusal();
			return one(app, "jobs.reschedule", { job: job.id, due_at: seconds(when), ...text.params });
		},
	}, () => ACT.done.reschedule);
}

export const mayForget = may("jobs.forget", (job) => FINAL.includes(job.state) && !job.inside);

export async function forget(app, job) {
	const text = note(false);
	await act(app, {
		title: ACT.forgetTitle, means: [ACT.forgetMeans], fields: [named(job), text.element], go: ACT.forgetGo, danger: true,
		run: () => app.ask("jobs.forget", { job: job.id, ...text.params }),
	}, () => {
		app.navigate("#/jobs");
		return ACT.done.forget;
	});
}

export async function verify(app, job) {
	await act(app, {
		title: ACT.verifyTitle, means: [ACT.verifyMeans], fields: [named(job)], go: ACT.verify,
		run: () => one(app, "jobs.verify", { job: job.id }),
	}, ({ answer }) => ACT.verified[answer]);
}

const isClaimed = (job) => (job.claimed_until ?? 0) > Date.now() / 1000;

// The buttons of a claim: to take it, to take it from somebody else, or to end it
export function claims(app, job) {
	if (!mayClaim(app, job)) return [];
	const by = isClaimed(job) ? job.claimed_by : null, mine = by !== null && by === app.client.hello.name;
	const act = (params, said) => now(app, "jobs.claim", { job: job.id, ...params }, said);
	if (mine) return [button(DOUBT.unclaim, () => act({ release: true }, ACT.done.unclaim))];
	return [button(by === null ? DOUBT.claim : DOUBT.takeOver, () => act(by === null ? {} : { take_over: true }, ACT.done.claim))];
}

export function claimed(job) {
	return isClaimed(job) && job.claimed_by ? h("p", { class: "notice claimed" }, foreign(job.claimed_by, 100), " ", JOB.claimed) : null;
}

const RESOLUTIONS = {
	done: [ACT.doneTitle, ACT.doneMeans, DOUBT.done, false],
	not_done: [ACT.notDoneTitle, ACT.notDoneMeans, DOUBT.notDone, true],
	failed: [ACT.failedTitle, ACT.failedMeans, DOUBT.failed, false],
};

export async function resolve(app, job, resolution) {
	const [title, means, go, danger] = RESOLUTIONS[resolution];
	const text = note(true);
	const control = h("textarea", { rows: 2, class: "code", spellcheck: "false" });
	const result = resolution === "done" ? field(DOUBT.result, control) : null;
	await act(app, {
		title,
		means: [means],
		fields: [named(job), text.element, result],
		go,
		danger,
		run: () => {
			const params = { job: job.id, resolution, note: text.read(), if_seq: job.seq };
			if (result !== null && control.value.trim()) params.result = json(control.value, result);
			return one(app, "jobs.resolve", params);
		},
	}, () => ACT.done.resolve);
}

// A text in JSON, to be sent with all its digits. What is wrong is said beside the field
export function json(text, element) {
	try {
		const value = new Raw(text);
		element.refuse("");
		return value;
	} catch (error) {
		element.refuse(error.message);
		throw new Refusal();
	}
}

export async function pause(app) {
	const control = h("input", { type: "text", maxlength: 500, autocomplete: "off" });
	const until = h("input", { type: "datetime-local" });
	await act(app, {
		title: ACT.pauseTitle, means: [ACT.pauseMeans], fields: [field(ACT.reason, control), field(ACT.until, until)], go: ACT.pause,
		run: () => one(app, "queue.pause", { reason: control.value.trim(), ...(until.value ? { until: seconds(until) } : {}) }),
	}, () => ACT.done.pause);
}

export async function drain(app) {
	await act(app, {
		title: ACT.drainTitle, means: [ACT.drainMeans], go: ACT.drain, danger: true,
		// the answer comes when the last job is done, which may take hours: the next look shows what has begun
		run: async () => { app.ask("queue.drain").then(() => app.refresh(), () => {}); app.refresh(); return true; },
	}, () => ACT.done.drain);
}

// What needs no question
export async function now(app, method, params, said) {
	try {
		await one(app, method, params);
		app.say(said);
	} catch (error) {
		foreseen(error);
		app.say(problem(error), true);
	}
}

export async function correct(app, job) {
	const whole = await app.ask("jobs.get", { job: job.id });
	const control = h("textarea", { rows: 14, class: "code", spellcheck: "false", value: pretty(whole.text("payload") ?? "null") });
	const payload = field(SUBMIT.payload, control);
	const text = note(false);
	await act(app, {
		title: ACT.correctTitle, means: [ACT.correctMeans], fields: [named(job), payload, text.element], go: ACT.correctGo, wide: true,
		run: async () => {
			const params = { job: job.id, payload: json(control.value, payload), if_seq: whole.seq, ...text.params };
			try {
				return await one(app, "jobs.correct", params);
			} catch (error) {
				if (error.code !== -32602) throw error;
				payload.refuse(error.message);
				throw new Refusal();
			}
		},
	}, () => ACT.done.correct);
}
