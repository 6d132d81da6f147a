// The protocol trio-jobs.v1 over one WebSocket that is opened again after a cut. What waits for an answer is bounded:
// at most 64 requests, and the server sends pages of at most 256 KiB.

import { encode, textAt } from "./json.js";
import { BEARER, METHODS, PROTOCOL } from "./protocol.js";

const RANKS = { watch: 0, operate: 1, control: 2 };
const GONE = -32010, TOO_MANY = -32016;
const ANSWER_TIME = 15000;
const HOPELESS = new Set([4400, 4401, 4403]);

export class RpcError extends Error {
	constructor({ code, message, data }) {
		super(message);
		this.code = code;
		this.data = data ?? {};
	}
}

// The connection was lost before the answer. `sent`: the request may have been done
export class Lost extends Error {
	constructor(sent) {
		super(sent ? "lost after it was sent" : "not connected");
		this.sent = sent;
	}
}

// Passes over what a connection and a server can answer; another error is one of this page
export function foreseen(error) {
	if (!(error instanceof Lost || error instanceof RpcError)) throw error;
}

// What a request takes of the rate, as docs/clients.md says
function cost(method, { limit = 0 }) {
	const fixed = { "jobs.count": 3, "jobs.history": 5, "jobs.retry_many": 10, "jobs.cancel_many": 10 }[method] ?? 1;
	return fixed + Math.floor(limit / 50);
}

const wait = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

export class Client extends EventTarget {
	#socket = null;
	#waiting = new Map();
	#last = 0;
	#failures = 0;
	#timer = null;
	#stopped = false;
	#follows = null;
	#position = null;
	#budget = Infinity;
	#paced = 0;

	constructor(url, secret) {
		super();
		this.url = url;
		this.secret = secret;
		this.hello = null;
		this.kinds = new Map();
		this.status = "connecting";
	}

	get scope() { return this.hello?.scope ?? "watch"; }

	// Whether the server has a method and the token may call it
	may(method, scope = METHODS[method]?.scope) {
		return method in METHODS && RANKS[this.scope] >= (RANKS[scope] ?? 2);
	}

	start() {
		const offered = [PROTOCOL];
		if (this.secret) offered.push(BEARER + btoa(this.secret).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", ""));
		const socket = this.#socket = new WebSocket(this.url, offered);
		this.#tell("connecting");
		this.#timer = setTimeout(() => this.#cut(socket), ANSWER_TIME);
		socket.onopen = () => this.#greet(socket);
		socket.onmessage = ({ data }) => { if (socket === this.#socket) this.#take(JSON.parse(data), data); };
		socket.onclose = ({ code, reason }) => { if (socket === this.#socket) this.#ended(code, reason); };
	}

	stop() {
		this.#stopped = true;
		clearTimeout(this.#timer);
		const socket = this.#socket;
		this.#socket = null;
		this.#forget();
		socket?.close();
	}

	// Try again now instead of after the wait
	hurry() {
		if (this.status !== "waiting") return;
		clearTimeout(this.#timer);
		this.start();
	}

	async #greet(socket) {
		try {
			this.hello = await this.#send("server.hello", {});
			const { kinds } = await this.#send("kinds.list", {});
			this.kinds = new Map(kinds.map((each) => [each.kind, each]));
			if (socket !== this.#socket) return;
			await this.#subscribe(socket);
		} catch (error) {
			if (!(error instanceof Lost)) throw error;
			return;
		}
		clearTimeout(this.#timer);
		this.#failures = 0;
		this.#tell("open");
	}

	// A network that is gone does not say so: what should have answered long ago is lost
	#cut(socket) {
		if (socket !== this.#socket) return;
		this.#ended();
		socket.close();
	}

	async inTime(answer) {
		const socket = this.#socket;
		const timer = setTimeout(() => this.#cut(socket), ANSWER_TIME);
		try {
			return await answer;
		} finally {
			clearTimeout(timer);
		}
	}

	#ended(code, reason) {
		clearTimeout(this.#timer);
		this.#socket = null;
		this.#forget();
		if (this.#stopped) return;
		if (HOPELESS.has(code)) {
			this.#tell("refused", { code, reason });
			return;
		}
		this.#failures += 1;
		const seconds = Math.min(0.3 * 2 ** Math.min(this.#failures, 5), 10) * (0.5 + Math.random());
		this.#tell("waiting", { seconds });
		this.#timer = setTimeout(() => this.start(), seconds * 1000);
	}

	#forget() {
		const waiting = [...this.#waiting.values()];
		this.#waiting.clear();
		for (const { failed } of waiting) failed(new Lost(true));
	}

	#tell(status, detail = {}) {
		this.status = status;
		this.dispatchEvent(new CustomEvent("status", { detail: { status, ...detail } }));
	}

	#send(method, params) {
		const id = ++this.#last;
		return new Promise((done, failed) => {
			if (this.#socket?.readyState !== WebSocket.OPEN || this.#waiting.size >= 64) {
				failed(new Lost(false));
				return;
			}
			this.#waiting.set(id, { done, failed });
			this.#socket.send(encode({ jsonrpc: "2.0", id, method, params }));
		});
	}

	// The answer of a method. A request that the server refuses because of its rate was not done, and is repeated
	async ask(method, params = {}) {
		await this.#pace(cost(method, params));
		for (let tries = 0; ; tries += 1) {
			try {
				return await this.#send(method, params);
			} catch (error) {
				if (error.code !== TOO_MANY || tries >= 6) throw error;
				await wait((error.data.retry_after ?? 0.5) + 0.5 * Math.random() + tries);
			}
		}
	}

	// Jobs, the newest first, in pages
	async *pages(conditions) {
		for (let page = { more: true }; page.more;) {
			page = await this.ask("jobs.list", { ...conditions, order: "newest", limit: 500, after: page.next });
			yield page.jobs;
		}
	}

	// Stay within the rate of the connection: after too many refusals the server closes it
	async #pace(units) {
		const { messages: burst = 40, messages_per_second: rate = 20 } = this.hello?.limits ?? {};
		const now = performance.now() / 1000;
		this.#budget = Math.min(burst * 0.7, this.#budget + (now - this.#paced) * rate * 0.9) - units;
		this.#paced = now;
		if (this.#budget < 0) await wait(-this.#budget / (rate * 0.9));
	}

	// Follow the events of all jobs that fit the filter, from now on; null ends it
	async follow(filter) {
		const before = this.#follows;
		this.#follows = filter === null ? null : { filter, name: `page-${++this.#last}` };
		this.#position = null;
		const socket = this.#socket;
		if (socket?.readyState !== WebSocket.OPEN || this.hello === null) return;
		if (before !== null) await this.ask("jobs.unsubscribe", { subscription: before.name });
		if (socket === this.#socket) await this.#subscribe(socket);
	}

	async #subscribe(socket) {
		const follows = this.#follows;
		if (follows === null) return;
		const begin = (place) => this.ask("jobs.subscribe", { subscription: follows.name, ...follows.filter, ...place });
		let gap = this.#position === null;
		let answer;
		try {
			answer = await begin(gap ? {} : { after: this.#position.seq, epoch: this.#position.epoch });
		} catch (error) {
			if (error.code !== GONE) throw error;
			gap = true;
			answer = await begin({});
		}
		if (socket !== this.#socket || follows !== this.#follows) return;
		if (this.#position === null || gap) this.#position = { seq: answer.seq, epoch: answer.epoch };
		this.dispatchEvent(new CustomEvent("followed", { detail: { gap } }));
	}

	// The answer has `text(name)`: the JSON text of a member, with all digits of its numbers
	#take(message, data) {
		if (message.method === undefined) {
			const waiting = this.#waiting.get(message.id);
			this.#waiting.delete(message.id);
			if (message.error === undefined) {
				Object.defineProperty(message.result, "text", { value: (name) => textAt(data, ["result", name]) });
				waiting?.done(message.result);
			}
			else if (waiting !== undefined) waiting.failed(new RpcError(message.error));
			return;
		}
		const { method, params } = message;
		if (params.subscription !== this.#follows?.name) return;
		if (method === "jobs.lagged") this.#lagged();
		if (params.seq !== undefined && method !== "jobs.snapshot") {
			this.#position = { seq: Math.max(params.seq, this.#position?.seq ?? 0), epoch: this.hello.epoch };
		}
		if (method === "jobs.event") this.onevent?.(params);
		if (method === "jobs.progress") this.onprogress?.(params);
	}

	// A snapshot would follow. The page lists what it shows instead, so it begins another stream
	async #lagged() {
		try {
			await this.follow(this.#follows.filter);
		} catch (error) {
			if (!(error instanceof Lost)) throw error;
		}
	}
}
