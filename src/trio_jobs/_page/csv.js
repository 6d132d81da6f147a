// The jobs that match as CSV. A spreadsheet runs a cell that begins with = + - or @ as a formula, so such a cell begins
// with an apostrophe.

import { foreseen } from "./client.js";
import { problem } from "./dialog.js";
import { JOBS } from "./text.js";

const MOST = 100000;
const COLUMNS = ["id", "kind", "key", "state", "submitted_at", "changed_at", "due_at", "attempts", "run", "acted", "error_type", "error_message", "reason", "by", "labels"];

export function cell(value) {
	if (value === undefined || value === null) return "";
	let text = String(value);
	if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
	return /[",\r\n;\t]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const moment = (at) => at === undefined ? undefined : new Date(at * 1000).toISOString();

export function line(job) {
	return [
		job.id, job.kind, job.key, job.state, moment(job.submitted_at), moment(job.changed_at), moment(job.due_at), job.attempts ?? 0, job.run ?? 1, job.acted ? "yes" : "no",
		job.error?.type, job.error?.message, job.reason, job.by, job.labels ? Object.entries(job.labels).map(([name, text]) => `${name}=${text}`).join(" ") : undefined,
	].map(cell).join(",");
}

export function save(name, type, parts) {
	const url = URL.createObjectURL(new Blob(parts, { type }));
	const link = document.createElement("a");
	link.href = url;
	link.download = name;
	link.click();
	setTimeout(() => URL.revokeObjectURL(url), 60000);
}

export async function saveCsv(app, conditions, told) {
	if (conditions === null) return;
	const parts = ["\ufeff", COLUMNS.join(","), "\r\n"];
	let count = 0;
	told(JOBS.csvBusy(0));
	try {
		for await (const jobs of app.client.pages(conditions)) {
			if (count >= MOST) { app.say(JOBS.csvCut(count)); break; }
			parts.push(jobs.map((job) => line(job) + "\r\n").join(""));
			count += jobs.length;
			told(JOBS.csvBusy(count));
		}
		save(`jobs-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.csv`, "text/csv;charset=utf-8", parts);
	} catch (error) {
		foreseen(error);
		app.say(problem(error), true);
	} finally {
		told(null);
	}
}
