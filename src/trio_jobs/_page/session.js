// The secret of this session, in sessionStorage; a new tab asks the others for it. There are no cookies.

const KEY = "trio-jobs.session", ASK_TIME = 250;

const others = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel("trio-jobs");

// A browser may keep nothing
export function quiet(act) {
	try { return act(); } catch { return null; }
}

export class LoginRefused extends Error {
	constructor(status) {
		super(`HTTP ${status}`);
		this.status = status;
	}
}

export function post(path, body, secret) {
	const headers = { "Content-Type": "application/json", ...(secret ? { Authorization: `Bearer ${secret}` } : {}) };
	return fetch(path, { method: "POST", headers, body: JSON.stringify(body), credentials: "omit", keepalive: true });
}

class Session {
	onend = () => {};

	constructor() {
		if (others !== null) others.onmessage = ({ data }) => this.#hear(data);
	}

	#hear(data) {
		const kept = this.#kept();
		if (data?.wants === true && kept !== null) others.postMessage({ secret: kept });
		if (data?.ended === true && kept !== null) { this.forget(); this.onend(); }
		if (typeof data?.secret === "string") this.#take?.(data.secret);
	}

	#take = null;

	#kept() {
		return quiet(() => sessionStorage.getItem(KEY));
	}

	// Whether the address is a login link
	link() {
		return /^#login=./.test(location.hash);
	}

	// The secret of a session, from the login link, from this tab or from another one; null if there is none
	async find() {
		const [, code] = /^#login=(.+)$/.exec(location.hash) ?? [];
		if (code !== undefined) {
			history.replaceState(null, "", location.pathname + location.search);
			return await this.start({ code });
		}
		const kept = this.#kept();
		if (kept !== null) return kept;
		if (others === null) return null;
		const secret = await new Promise((done) => {
			this.#take = done;
			others.postMessage({ wants: true });
			setTimeout(() => done(null), ASK_TIME);
		});
		this.#take = null;
		return secret;
	}

	// A new session, by the code of a link or by a token. Throws `LoginRefused`
	async start({ code = null, token = null }) {
		let answer;
		try {
			answer = await post("page/login", code === null ? {} : { code }, token);
		} catch {
			throw new LoginRefused(0);
		}
		if (!answer.ok) throw new LoginRefused(answer.status);
		return (await answer.json()).secret;
	}

	keep(secret) {
		quiet(() => sessionStorage.setItem(KEY, secret));
	}

	forget() {
		quiet(() => sessionStorage.removeItem(KEY));
	}

	// Log out, in all tabs
	end(secret) {
		this.forget();
		post("page/logout", {}, secret).catch(() => {});
		others?.postMessage({ ended: true });
	}
}

export const session = new Session();
