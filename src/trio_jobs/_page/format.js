// Times, durations, sizes and job names.

import { foreign, h } from "./dom.js";
import { STATE, TIME } from "./text.js";

const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;
const FULL = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const OFFSET = new Intl.DateTimeFormat("en-GB", { timeZoneName: "longOffset" });
const STEPS = [[60, 1, "second"], [3600, 60, "minute"], [86400, 3600, "hour"], [604800 * 2, 86400, "day"]];
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });

export function full(at) {
	const date = new Date(at * 1000);
	if (Number.isNaN(date.getTime())) return TIME.never;
	const offset = OFFSET.formatToParts(date).find(({ type }) => type === "timeZoneName").value;
	return `${FULL.format(date)} ${offset} (${ZONE})`;
}

export function relative(at, now = Date.now() / 1000) {
	const seconds = at - now, size = Math.abs(seconds);
	if (size < 5) return TIME.now;
	for (const [most, unit, name] of STEPS) {
		if (size < most) return RELATIVE.format(Math.trunc(seconds / unit), name);
	}
	return DAY.format(new Date(at * 1000));
}

// A time that is kept up to date by `tick`
export function time(at) {
	if (at === undefined || at === null) return h("span", { class: "none" }, "–");
	const date = new Date(at * 1000);
	if (Number.isNaN(date.getTime())) return h("span", null, TIME.never);
	return h("time", { datetime: date.toISOString(), title: full(at), "data-at": at }, relative(at));
}

export function tick(root) {
	const now = Date.now() / 1000;
	for (const element of root.querySelectorAll("time[data-at]")) {
		const text = relative(Number(element.dataset.at), now);
		if (element.textContent !== text) element.textContent = text;
	}
}

export function duration(seconds) {
	if (seconds < 0.0995) return `${Math.max(0, seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
	if (seconds < 59.95) return `${seconds.toFixed(seconds < 9.95 ? 1 : 0)} s`;
	if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
	if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
	return `${Math.floor(seconds / 86400)} days`;
}

// The time that a person has chosen
export const seconds = (control) => new Date(control.value).getTime() / 1000;

export function size(bytes) {
	return bytes < 1024 ? `${bytes} B` : bytes < 1048576 ? `${(bytes / 1024).toFixed(0)} KiB` : `${(bytes / 1048576).toFixed(1)} MiB`;
}

export const number = (value) => new Intl.NumberFormat("en").format(value);

export const shortId = (id) => id.slice(-8);

export const jobPath = (id) => `#/job/${encodeURIComponent(id)}`;

export function badge(state) {
	return h("span", { class: `badge ${state}` }, STATE[state] ?? state);
}

// How a job is called: its key, or else the end of its id
export function called(job) {
	return job.key === undefined || job.key === null ? h("span", { class: "id" }, "…" + shortId(job.id)) : foreign(job.key, 120);
}

export function jobLink(job, attributes = {}) {
	return h("a", { href: jobPath(job.id), class: "job", ...attributes }, called(job));
}
