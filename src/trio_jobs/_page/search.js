// The search of jobs: `kind:post_invoice state:failed,cancelled error:TimeoutError label:company=acme since:2d A-1`.

import { STATES } from "./protocol.js";
import { SEARCH } from "./text.js";

const UNITS = { s: 1, m: 60, h: 3600, d: 86400, w: 604800 };
const FIELDS = {
	key: (found, value) => { found.key_prefix = value; },
	kind: (found, value) => { found.kind = value; },
	state: (found, value) => {
		const states = value.split(",").map((name) => name.trim().toLowerCase().replace(/[ -]/g, "_")).filter(Boolean);
		const other = states.find((name) => !STATES.includes(name));
		if (other !== undefined || states.length === 0) wrong(SEARCH.noState(other ?? value, STATES));
		// the protocol takes at most eight; all of them are no condition
		if (new Set(states).size < STATES.length) found.states = [...new Set(states)];
	},
	error: (found, value) => { found.error_type = value; },
	label: (found, value) => {
		const [, name, text] = /^([^=]+)=(.+)$/.exec(value) ?? [];
		if (name === undefined) wrong(SEARCH.noLabel);
		found.labels = { ...found.labels, [name]: text };
	},
	by: (found, value) => { found.by = value; },
	acted: (found, value) => {
		if (!/^(yes|no)$/.test(value)) wrong(SEARCH.noActed);
		found.may_have_acted = value === "yes";
	},
	since: (found, value, now) => { found.since = moment(value, now); },
	until: (found, value, now) => { found.until = moment(value, now); },
};

export const NAMES = Object.keys(FIELDS);

export class SearchError extends Error {}

function wrong(why) {
	throw new SearchError(why);
}

function moment(text, now) {
	const ago = /^(\d+(?:\.\d+)?)([smhdw])$/.exec(text);
	if (ago !== null) return now - Number(ago[1]) * UNITS[ago[2]];
	const at = /^\d{4}-\d\d-\d\d/.test(text) ? new Date(text.length === 10 ? text + "T00:00" : text).getTime() / 1000 : NaN;
	if (Number.isNaN(at)) wrong(SEARCH.noTime(text));
	return at;
}

// The conditions of jobs.list. Words without a name are the begin of a key, or the end of an id
export function parse(text, now = Date.now() / 1000) {
	const conditions = {};
	const words = [];
	for (const [, name, quoted, plain] of text.matchAll(/(?:([a-z]+):)?(?:"([^"]*)"?|(\S+))/g)) {
		const value = quoted ?? plain;
		if (name === undefined) {
			if (value.endsWith(":") && value.slice(0, -1) in FIELDS) wrong(SEARCH.noValue(value.slice(0, -1)));
			words.push(value);
		} else if (!(name in FIELDS)) {
			wrong(SEARCH.noField(name, NAMES));
		} else if (!value) {
			wrong(SEARCH.noValue(name));
		} else {
			FIELDS[name](conditions, value, now);
		}
	}
	const key = words.join(" ");
	if (key && conditions.key_prefix !== undefined) wrong(SEARCH.twoKeys);
	if (key) conditions.key_prefix = key;
	return { conditions, key, id: /^[0-9a-f-]{6,36}$/i.test(key) ? key.toLowerCase() : null };
}

export function term(name, value) {
	return /[\s"]/.test(value) ? `${name}:"${value.replaceAll('"', "")}"` : `${name}:${value}`;
}
