// Dialogs. Each says what follows, before it is done; what goes wrong is said in it, and it stays open.

import { button, h, submitButton, visible } from "./dom.js";
import { Lost, foreseen } from "./client.js";
import { ACT, COMMON, ERRORS } from "./text.js";

export function problem(error) {
	if (error instanceof Lost) return error.sent ? ERRORS.lostSent : ERRORS.lostNot;
	const known = ERRORS[error.code];
	if (known === undefined) return visible(error.message);
	return known.endsWith(": ") ? known + visible(error.message) : known;
}

export const opened = () => document.querySelector("dialog[open]");

// Something is wrong with a field, which says it
export class Refusal extends Error {}

// Resolves with what `run` returned, or undefined if the person went back
export function ask({ title, means = [], fields = [], go, danger = false, run, wide = false }) {
	return new Promise((done) => {
		const trouble = h("p", { class: "problem", role: "alert", hidden: true });
		const submit = submitButton(go, danger ? "danger" : "primary");
		const progress = h("p", { class: "working", role: "status" });
		let answer, working = false;
		const back = button(ACT.close, () => dialog.close());
		const form = h(
			"form",
			{
				onsubmit: async (event) => {
					event.preventDefault();
					if (working) return;
					working = true;
					submit.disabled = true;
					trouble.hidden = true;
					progress.textContent = ACT.working;
					try {
						answer = await run((text) => { progress.textContent = text; });
						dialog.close();
					} catch (error) {
						if (error instanceof Refusal) return;
						foreseen(error);
						trouble.textContent = problem(error);
						trouble.hidden = false;
					} finally {
						working = false;
						submit.disabled = false;
						progress.textContent = "";
					}
				},
			},
			means.filter(Boolean).map((text) => h("p", null, text)),
			fields,
			trouble,
			progress,
			h("div", { class: "buttons" }, back, submit),
		);
		const dialog = open(title, wide ? "wide" : "", form, () => done(answer));
		(form.querySelector("textarea, input:not([type=checkbox]), select") ?? submit).focus();
	});
}

export function show(title, content) {
	const dialog = open(title, "", [content, h("div", { class: "buttons" }, button(COMMON.close, () => dialog.close(), "primary"))]);
}

function open(title, kind, content, onclose = () => {}) {
	const before = document.activeElement;
	const dialog = h("dialog", { "aria-labelledby": "dialog-title", class: kind, onclose: () => {
		dialog.remove();
		if (before?.isConnected) before.focus();
		onclose();
	} }, h("h2", { id: "dialog-title" }, title), content);
	document.body.append(dialog);
	dialog.showModal();
	return dialog;
}
