// The search of jobs: `kind:post_invoice state:failed,cancelled error:TimeoutError label:company=acme since:2d A-1`.

import { STATES } from "./protocol.js";
import { SEARCH } from "./text.js";

const UNITS = { s: 1, m: 60, h: 3600, d: 86400, w: 604800 };
const FIELDS = {
	key: (found, value) => { found.key_prefix = value; },
	kind: (found, value) => { found.kind = value; },
	state: (found, value) => {
		const states = value.split(",").map((name) => name.trim().toLowerCase().replace(/[ -]/g, "_")).filter(Boolean);
		const wrong = states.find((name) => !STATES.includes(name));
		if (wrong !== undefined || states.length === 0) throw new SearchError(SEARCH.noState(wrong ?? value, STATES));
		// the protocol takes at most eight; all of them are no condition
		if (new Set(states).size < STATES.length) found.states = [...new Set(states)];
	},
	error: (found, value) => { found.error_type = value; },
	label: (found, value) => {
		const [, name, text] = /^([^=]+)=(.+)$/.exec(value) ?? [];
		if (name === undefined) throw new SearchError(SEARCH.noLabel);
		found.labels = { ...found.labels, [name]: text };
	},
	by: (found, value) => { found.by = value; },
	acted: (found, value) => {
		if (!/^(yes|no)$/.test(value)) throw new SearchError(SEARCH.noActed);
		found.may_have_acted = value === "yes";
	},
	since: (found, value, now) => { found.since = moment(value, now); },
	until: (found, value, now) => { found.until = moment(value, now); },
};

export const NAMES = Object.keys(FIELDS);

export class SearchError extends Error {}

function moment(text, now) {
	const ago = /^(\d+(?:\.\d+)?)([smhdw])$/.exec(text);
	if (ago !== null) return now - Number(ago[1]) * UNITS[ago[2]];
	const at = /^\d{4}-\d\d-\d\d/.test(text) ? new Date(text.length === 10 ? text + "T00:00" : text).getTime() / 1000 : NaN;
	if (Number.isNaN(at)) throw new SearchError(SEARCH.noTime(text));
	return at;
}

// The conditions of jobs.list. A word without a name is the begin of a key, or the end of an id
export function parse(text, now = Date.now() / 1000) {
	const conditions = {};
	let word = null;
	for (const [, name, quoted, plain] of text.matchAll(/(?:([a-z]+):)?(?:"([^"]*)"?|(\S+))/g)) {
		const value = quoted ?? plain;
		if (name === undefined) {
			if (value.endsWith(":") && value.slice(0, -1) in FIELDS) throw new SearchError(SEARCH.noValue(value.slice(0, -1)));
			if (word !== null || conditions.key_prefix !== undefined) throw new SearchError(SEARCH.twoKeys);
			word = value;
		} else if (!(name in FIELDS)) {
			throw new SearchError(SEARCH.noField(name, NAMES));
		} else if (!value) {
			throw new SearchError(SEARCH.noValue(name));
		} else {
			FIELDS[name](conditions, value, now);
		}
	}
	if (word) conditions.key_prefix = word;
	return { conditions, id: word !== null && /^[0-9a-f-]{6,36}$/i.test(word) ? word.toLowerCase() : null };
}

export function term(name, value) {
	return /[\s"]/.test(value) ? `${name}:"${value.replaceAll('"', "")}"` : `${name}:${value}`;
}
