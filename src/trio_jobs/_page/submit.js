// The screen Submit: a job by hand, from the schema of its kind if the server has one.

import * as actions from "./actions.js";
import { button, field, h, submitButton, visible } from "./dom.js";
import { Refusal, problem } from "./dialog.js";
import { foreseen } from "./client.js";
import { jobPath, seconds } from "./format.js";
import { COMMON, SUBMIT } from "./text.js";

export function submitScreen(app, params) {
	const choice = h("select", { id: "kind", onchange: draw });
	const key = h("input", { type: "text", maxlength: 500, autocomplete: "off" });
	const keyField = field(SUBMIT.key, key, SUBMIT.keyHint);
	const raw = h("textarea", { rows: 12, class: "code", spellcheck: "false" });
	const rawField = field(SUBMIT.payload, raw);
	const labels = h("textarea", { rows: 2 });
	const later = h("input", { type: "datetime-local" });
	const form = h("fieldset", { class: "payload" }, h("legend", null, SUBMIT.hint));
	const mode = button("", () => { asForm = !asForm; draw(); }, "small");
	const trouble = h("p", { class: "problem", role: "alert", hidden: true });
	const { kinds } = app.client, forms = new Map();
	let asForm = true, parts = null, busy = false;

	function draw() {
		const kind = choice.value;
		if (!forms.has(kind)) forms.set(kind, objectForm(kinds.get(kind)?.schema));
		parts = asForm ? forms.get(kind) : null;
		form.replaceChildren(h("legend", null, SUBMIT.hint), ...parts === null ? [rawField] : parts.map(({ element }) => element));
		mode.hidden = forms.get(kind) === null;
		mode.textContent = asForm ? SUBMIT.json : SUBMIT.form;
	}

	async function go(event) {
		event.preventDefault();
		if (busy) return;
		busy = true;
		trouble.hidden = true;
		rawField.refuse("");
		try {
			const kind = choice.value;
			const payload = actions.json(parts === null ? raw.value.trim() || "null" : gather(parts), rawField);
			const asked = { kind, payload };
			if (key.value) asked.key = key.value;
			const pairs = [...labels.value.matchAll(/^([^=\n]*)=(.*)$/gm)].map(([, name, text]) => [name.trim(), text.trim()]);
			if (pairs.length > 0) asked.labels = Object.fromEntries(pairs);
			if (later.value) asked.due_at = seconds(later);
			const receipt = await app.ask("jobs.submit", asked);
			app.say(receipt.created ? SUBMIT.created : SUBMIT.known);
			app.navigate(jobPath(receipt.job));
		} catch (error) {
			if (error instanceof Refusal) return;
			foreseen(error);
			if (error.code === -32602 && blame(error.message)) return;
			trouble.textContent = problem(error);
			trouble.hidden = false;
		} finally {
			busy = false;
		}
	}

	// The server names the place of what is wrong: `$.total_cents`
	function blame(message) {
		const name = /\$\.([A-Za-z0-9_]+)/.exec(message)?.[1];
		const part = parts === null ? { element: rawField } : parts.find((each) => each.name === name);
		part?.element.refuse(message);
		return part !== undefined;
	}

	choice.append(...[...kinds.keys()].map((name) => h("option", { value: name }, visible(name))));
	if (kinds.has(params.get("kind"))) choice.value = params.get("kind");
	draw();
	return {
		title: SUBMIT.title,
		element: h("div", { class: "narrow" }, h("h1", null, SUBMIT.title), h("form", { onsubmit: go }, h("div", { class: "field" }, h("label", { for: "kind" }, SUBMIT.kind), choice), keyField, form, h("div", null, mode), h("details", null, h("summary", null, COMMON.more), field(SUBMIT.labels, labels), field(SUBMIT.later, later)), trouble, h("div", { class: "buttons" }, submitButton(SUBMIT.go)))),
		load: () => {}, take: () => {}, close: () => {}, keys: {},
	};
}

const PLAIN = new Set(["string", "integer", "number", "boolean"]);

function resolved(schema, root) {
	const name = /^#\/\$defs\/(.+)$/.exec(schema?.$ref ?? "")?.[1];
	return name === undefined ? schema : root.$defs?.[name] ?? schema;
}

// A field for each member of an object; null if the payload is something else
function objectForm(root) {
	const schema = resolved(root, root);
	if (schema?.type !== "object" || schema.properties === undefined) return null;
	return Object.entries(schema.properties).map(([name, given]) => {
		const options = given.anyOf?.map((each) => resolved(each, root)).filter((each) => each.type !== "null");
		const each = options?.length === 1 ? options[0] : resolved(given, root);
		const needed = schema.required?.includes(name) ?? false;
		const type = PLAIN.has(each.type) ? each.type : each.enum ? "enum" : "json";
		const control = type === "boolean" ? h("select", null, needed ? null : h("option", { value: "" }, ""), h("option", { value: "true" }, "true"), h("option", { value: "false" }, "false"))
			: type === "enum" ? h("select", null, needed ? null : h("option", { value: "" }, ""), each.enum.map((value) => h("option", { value: JSON.stringify(value) }, visible(value))))
			: type === "json" ? h("textarea", { rows: 3, class: "code", spellcheck: "false" })
			: h("input", { type: "text", autocomplete: "off", inputmode: type === "string" ? "text" : "decimal" });
		if (needed) control.setAttribute("aria-required", "true");
		return { name, type, needed, control, element: field(`${name}${needed ? "" : ` (${SUBMIT.optional})`}`, control, given.description ?? each.description ?? (type === "json" ? "JSON" : type === "string" || type === "enum" || type === "boolean" ? null : SUBMIT.value(type))) };
	});
}

// The JSON text of the payload; numbers as they were typed, with all digits
function gather(parts) {
	const members = [];
	for (const { name, type, needed, control, element } of parts) {
		const text = type === "string" ? control.value : control.value.trim();
		element.refuse("");
		if (text === "" && !needed) continue;
		let value = text;
		if (type === "string") value = JSON.stringify(text);
		else if (type === "integer" || type === "number") {
			const good = type === "integer" ? /^-?(0|[1-9]\d*)$/ : /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
			if (!good.test(text)) refuse(element, SUBMIT.bad(type === "integer" ? "a whole number" : "a number"));
		} else if (text === "") refuse(element, SUBMIT.bad("filled in"));
		else value = actions.json(text, element).text;
		members.push(`${JSON.stringify(name)}: ${value}`);
	}
	return `{${members.join(", ")}}`;
}

function refuse(element, why) {
	element.refuse(why);
	throw new Refusal();
}
