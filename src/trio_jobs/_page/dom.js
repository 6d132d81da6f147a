// Builds elements one by one: no text ever becomes markup. What comes from jobs is shown by `foreign`.

const SVG = "http://www.w3.org/2000/svg";

// Control characters, and those that change the direction or the place of what follows
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

export function visible(text) {
	return String(text).replace(HIDDEN, (found) => "\\u" + found.charCodeAt(0).toString(16).padStart(4, "0"));
}

export function oneLine(text, most = 300) {
	let short = String(text).slice(0, most);
	if (short.length < String(text).length) short = short.replace(/[\ud800-\udbff]$/, "") + "…";
	return visible(short.replace(/\s*\n\s*/g, " ⏎ "));
}

const isGiven = (value) => (value ?? false) !== false;

function fill(element, attributes, children) {
	for (const [name, value] of Object.entries(attributes ?? {})) {
		if (!isGiven(value)) continue;
		if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
		else if (name === "class") element.setAttribute("class", value);
		else if (name in { value: 1, checked: 1, disabled: 1, open: 1, indeterminate: 1 }) element[name] = value;
		else element.setAttribute(name, value === true ? "" : String(value));
	}
	element.append(...children.flat(Infinity).filter(isGiven));
	return element;
}

export function h(tag, attributes, ...children) {
	return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
	return fill(document.createElementNS(SVG, tag), attributes, children);
}

// Replaces the children, unless they would look the same: a selection and a screen reader's place stay
export function put(element, ...children) {
	const fresh = h("div", null, children);
	if (element.childNodes.length === fresh.childNodes.length && [...fresh.childNodes].every((node, at) => node.isEqualNode(element.childNodes[at]) && !listens(node))) return;
	element.replaceChildren(...fresh.childNodes);
}

function listens(node) {
	return node.nodeType === Node.ELEMENT_NODE && (node.matches("button, input, select, textarea") || node.querySelector("button, input, select, textarea") !== null);
}

// The text of a stranger: isolated in its direction, with control characters as escapes, on one line
export function foreign(text, most = 300) {
	return h("bdi", { class: "foreign" }, oneLine(text, most));
}

// The same for several lines, in a block
export function foreignBlock(text, attributes = {}) {
	return h("pre", { class: "foreign block", dir: "auto", tabindex: "0", ...attributes }, visible(text));
}

// Buttons that are replaced only if others are offered; the focus stays in their place, or goes to `otherwise`
export function offer(toolbar, buttons, otherwise, mark = "") {
	const fresh = buttons.filter(Boolean);
	const shows = fresh.map((each) => each.textContent).join("|") + mark;
	if (toolbar.dataset.shows === shows) return;
	const focused = [...toolbar.children].indexOf(document.activeElement);
	toolbar.replaceChildren(...fresh);
	if (focused >= 0) (toolbar.children[Math.min(focused, fresh.length - 1)] ?? otherwise)?.focus();
	toolbar.dataset.shows = shows;
}

// The rows of a list of facts that have a value
export function rows(pairs) {
	return pairs.filter(([, value]) => value && [value].flat(9).some(Boolean)).map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)));
}

export function section(name, heading, content, kind = null) {
	return h("section", { class: kind, "aria-labelledby": name }, h("h2", { id: name }, heading), content);
}

// The head of a table
export function heads(names) {
	return h("thead", null, h("tr", null, names.map((name) => h("th", { scope: "col" }, name))));
}

export function button(label, onclick, kind = "") {
	return h("button", { type: "button", class: kind, onclick }, label);
}

let last = 0;

export const hint = (...children) => h("p", { class: "hint" }, children);

export const submitButton = (label, kind = "primary") => h("button", { type: "submit", class: kind }, label);

// A labelled control; what is wrong with it is said beside it
export function field(label, control, more = null) {
	control.id ||= `field-${++last}`;
	const problem = h("p", { class: "problem", id: `${control.id}-problem`, role: "alert", hidden: true });
	const told = more === null ? null : h("p", { class: "hint", id: `${control.id}-hint` }, more);
	control.setAttribute("aria-describedby", [problem.id, told?.id].filter(Boolean).join(" "));
	const element = h("div", { class: "field" }, h("label", { for: control.id }, label), told, control, problem);
	element.refuse = (why) => {
		problem.hidden = !why;
		problem.textContent = why ? visible(why) : "";
		if (why) {
			control.setAttribute("aria-invalid", "true");
			control.focus();
		} else control.removeAttribute("aria-invalid");
	};
	return element;
}
