// JSON as text, so that no digit of a number is lost: JSON.parse turns 1.10 into 1.1, and 12345678901234567890 into another number.

const SPACE = /[ \t\n\r]*/y, STRING = /"(?:[^"\\]|\\.)*"/y, ATOM = /[^\s,:{}[\]"]+/y;

// A value that is sent as it was written
export class Raw {
	constructor(text) {
		JSON.parse(text);
		this.text = text.trim();
	}
}

function match(pattern, text, at) {
	pattern.lastIndex = at;
	const found = pattern.exec(text);
	return found === null ? at : pattern.lastIndex;
}

const skipSpace = (text, at) => match(SPACE, text, at);

// The end of the value that begins at `at`, in valid JSON
function end(text, at) {
	let depth = 0;
	for (;;) {
		at = skipSpace(text, at);
		const sign = text[at];
		if (sign === "{" || sign === "[") { depth += 1; at += 1; }
		else if (sign === "}" || sign === "]") { depth -= 1; at += 1; }
		else if (sign === "," || sign === ":") { at += 1; continue; }
		else if (sign === '"') at = match(STRING, text, at);
		else at = match(ATOM, text, at);
		if (depth === 0) return at;
	}
}

// The text of a member of an object of an object..., in valid JSON; undefined if there is none
export function textAt(text, names) {
	let at = 0;
	for (const name of names) {
		at = skipSpace(text, at);
		if (text[at] !== "{") return undefined;
		at = skipSpace(text, at + 1);
		let found = false;
		while (text[at] === '"') {
			const key = match(STRING, text, at);
			const value = skipSpace(text, skipSpace(text, key) + 1);
			if (JSON.parse(text.slice(at, key)) === name) { at = value; found = true; break; }
			at = skipSpace(text, end(text, value));
			if (text[at] === ",") at = skipSpace(text, at + 1);
		}
		if (!found) return undefined;
	}
	return text.slice(at, end(text, at));
}

// Valid JSON with a member a line
export function pretty(text) {
	const parts = [];
	let indent = "", at = 0;
	const line = () => "\n" + indent;
	while ((at = skipSpace(text, at)) < text.length) {
		const sign = text[at];
		if (sign === "{" || sign === "[") {
			const next = skipSpace(text, at + 1);
			if (text[next] === "}" || text[next] === "]") { parts.push(sign + text[next]); at = next + 1; continue; }
			indent += "  ";
			parts.push(sign, line());
			at += 1;
		} else if (sign === "}" || sign === "]") {
			indent = indent.slice(2);
			parts.push(line(), sign);
			at += 1;
		} else if (sign === ",") { parts.push(",", line()); at += 1; }
		else if (sign === ":") { parts.push(": "); at += 1; }
		else {
			const last = sign === '"' ? match(STRING, text, at) : match(ATOM, text, at);
			parts.push(text.slice(at, last));
			at = last;
		}
		if (indent.length > 400) return text; // so deep that the indents would be larger than the text
	}
	return parts.join("");
}

// The JSON text, or its beginning if it is long
export const begin = (text, most = 20000) => text.length < most ? pretty(text) : text.slice(0, most);

// A request, in which `Raw` values of its parameters stay as they are
export function encode(request) {
	const raws = [];
	// a name that no text of a request can contain by chance
	const mark = crypto.getRandomValues(new Uint32Array(4)).join("-");
	const text = JSON.stringify(request, (_, value) => value instanceof Raw ? `${mark}:${raws.push(value.text) - 1}` : value);
	return raws.length === 0 ? text : text.replace(new RegExp(`"${mark}:(\\d+)"`, "g"), (_, at) => raws[at]);
}
