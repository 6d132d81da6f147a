// Folds events: between two frames only the newest state of each job is kept, however many events there were.

const MOST_JOBS = 2000, MOST_QUEUE_EVENTS = 200, HIDDEN_PAUSE = 1000;

export class Feed {
	#jobs = new Map();
	#queue = [];
	#progress = new Map();
	#count = 0;
	#lost = false;
	#planned = false;

	constructor(flush) {
		this.flush = flush;
	}

	event(event) {
		this.#count += 1;
		if (event.job === undefined) {
			if (this.#queue.length < MOST_QUEUE_EVENTS) this.#queue.push(event);
			else this.#lost = true;
		} else {
			const known = this.#jobs.get(event.job);
			if (known !== undefined) known.push(event);
			else if (this.#jobs.size < MOST_JOBS) this.#jobs.set(event.job, [event]);
			else this.#lost = true;
			if (known?.length > 50) known.splice(0, 25);
		}
		this.#plan();
	}

	progress(progress) {
		if (this.#progress.size < MOST_JOBS) this.#progress.set(progress.job, progress);
		this.#plan();
	}

	#plan() {
		if (this.#planned) return;
		this.#planned = true;
		const run = () => this.#run();
		// a hidden tab has no frames
		if (document.hidden) setTimeout(run, HIDDEN_PAUSE);
		else requestAnimationFrame(run);
	}

	#run() {
		this.#planned = false;
		const news = { jobs: this.#jobs, queue: this.#queue, progress: this.#progress, count: this.#count, lost: this.#lost };
		this.#jobs = new Map();
		this.#queue = [];
		this.#progress = new Map();
		this.#count = 0;
		this.#lost = false;
		this.flush(news);
	}
}

const KEPT = ["state", "due_at", "deadline_at", "reason", "error", "key", "labels", "by"];

// A job after an event, which may be older than the job
export function after(job, event) {
	if (event.seq <= job.seq) return job;
	const changed = { ...job, seq: event.seq, changed_at: event.at };
	if (event.state !== undefined && event.state !== job.state) {
		Object.assign(changed, { state: event.state, due_at: undefined, reason: "", inside: false });
	}
	for (const name of KEPT) if (event[name] !== undefined && !(name === "by" && job.by !== undefined)) changed[name] = event[name];
	if (event.type === "started") changed.attempts = event.attempt;
	if (event.type === "retried") Object.assign(changed, { run: (job.run ?? 1) + 1, error: undefined });
	if (event.acted !== undefined) changed.acted = event.acted;
	if (event.inside !== undefined) changed.inside = event.inside;
	return changed;
}

// Calls `run` at once, and again no sooner than `pause` milliseconds after its end
export function calm(run, pause) {
	let timer = null, busy = false, again = false;
	const start = async () => {
		again = false;
		busy = true;
		try {
			await run();
		} finally {
			busy = false;
			timer = setTimeout(() => { timer = null; if (again && !call.ended) start(); }, pause);
		}
	};
	const call = () => { if (timer === null && !busy) start(); else again = true; };
	call.ended = false;
	call.end = () => { call.ended = true; clearTimeout(timer); };
	return call;
}
