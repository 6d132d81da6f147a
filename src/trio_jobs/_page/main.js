// The page as a whole: login, the connection, which screen is shown, the keyboard, what is announced.

import { activityScreen } from "./activity.js";
import { Client, Lost, foreseen } from "./client.js";
import { button, field, h, put, submitButton, visible } from "./dom.js";
import { opened, problem, show } from "./dialog.js";
import { doubtScreen } from "./doubt.js";
import { failedScreen } from "./failed.js";
import { Feed } from "./feed.js";
import { badge, number, tick } from "./format.js";
import { jobScreen } from "./job.js";
import { jobsScreen } from "./jobs.js";
import { overviewScreen } from "./overview.js";
import { STATES } from "./protocol.js";
import { submitScreen } from "./submit.js";
import { LoginRefused, quiet, session } from "./session.js";
import { COMMON, CONNECTION, HELP, LOGIN, MEANS, NAME, NAV, NOTICE } from "./text.js";

const HIDDEN_AFTER = 30000;
const BUILD = document.documentElement.dataset.build;
const SCREENS = {
	"": [overviewScreen, "overview", null],
	jobs: [jobsScreen, "jobs", null],
	job: [jobScreen, "jobs", null],
	doubt: [doubtScreen, "doubt", null],
	failed: [failedScreen, "failed", null],
	activity: [activityScreen, "activity", "queue.activity"],
	submit: [submitScreen, "submit", "jobs.submit"],
};
const GO = { o: "", j: "jobs", d: "doubt", f: "failed", a: "activity", n: "submit" };

const live = h("div", { class: "unseen", role: "status" });
const alerts = h("div", { class: "unseen", role: "alert" });
const toast = h("div", { class: "toast", "aria-hidden": "true", hidden: true });
const root = h("div", { id: "root" });
document.body.append(root, live, alerts, toast);

let toastTimer = null;
const url = new URL("ws", location.href);
url.protocol = url.protocol.replace("http", "ws");
url.hash = url.search = "";

class App {
	constructor(secret) {
		this.client = new Client(url.href, secret);
		this.screen = null;
		this.stats = null;
		this.health = null;
		this.paused = null;
		this.started = false;
		this.searches = false;
		this.doubts = null;
		this.feed = new Feed((news) => this.#news(news));
		this.client.onevent = (event) => this.feed.event(event);
		this.client.onprogress = (progress) => this.feed.progress(progress);
		this.client.addEventListener("status", ({ detail }) => this.#status(detail));
		this.client.addEventListener("followed", () => this.#followed());
		this.navLinks = new Map();
	}

	start() {
		this.client.follow({});
		this.client.start();
	}

	// What is said to everybody: shown for a while, and read out
	say(text, bad = false) {
		put(bad ? alerts : live, text);
		put(toast, text);
		toast.className = bad ? "toast bad" : "toast";
		toast.hidden = false;
		clearTimeout(toastTimer);
		toastTimer = setTimeout(() => { toast.hidden = true; live.replaceChildren(); alerts.replaceChildren(); }, 6000);
	}

	// Shows that something could not be loaded. Throws an error of this page
	failed(place, error) {
		foreseen(error);
		if (error instanceof Lost) return; // the bar says it, and the screen is loaded again afterwards
		place.replaceChildren(h("p", { class: "problem", role: "alert" }, COMMON.failed, problem(error)));
		place.hidden = false;
	}

	// What the server answers
	ask(method, params) {
		return this.client.ask(method, params);
	}

	navigate(path) {
		if (location.hash === path) this.route();
		else location.hash = path;
	}

	titled(name) {
		const count = this.doubts ?? 0;
		return `${count > 0 ? `(${number(count)}) ` : ""}${name} – ${NAME}`;
	}

	refresh() {
		this.screen?.load();
		this.look().catch(foreseen);
	}

	// The numbers of the queue
	async look() {
		const { client } = this;
		const [stats, health] = await client.inTime(Promise.all([client.ask("queue.statistics"), client.ask("queue.health")]));
		this.stats = stats;
		this.health = health;
		this.paused = health.paused ?? null;
		this.#count("doubt", stats.jobs.in_doubt ?? 0);
		this.#count("failed", stats.jobs.failed ?? 0);
		this.#doubts(stats.jobs.in_doubt ?? 0);
	}

	#count(name, count) {
		const link = this.navLinks.get(name);
		if (link === undefined) return;
		put(link, NAV[name], count > 0 ? h("span", { class: "count" }, number(count)) : null);
		if (count > 0) link.setAttribute("aria-label", NAV.count(NAV[name], count));
		else link.removeAttribute("aria-label");
	}

	#doubts(count) {
		const more = this.doubts !== null && count > this.doubts;
		this.doubts = count;
		if (this.screen !== null) document.title = this.titled(this.screenTitle ?? this.screen.title);
		if (!more) return;
		this.say(NOTICE.doubt(count), true);
		if (document.hidden && wantsNotices() && Notification.permission === "granted") {
			// the texts of jobs stay in the page
			const notice = new Notification(NOTICE.title, { body: NOTICE.doubt(count), tag: "trio-jobs-doubt" });
			notice.onclick = () => { focus(); this.navigate("#/doubt"); notice.close(); };
		}
	}

	#news(news) {
		for (const event of news.queue) {
			if (event.type === "paused") this.paused = { reason: event.reason, by: event.by, since: event.at, until: event.until };
			if (event.type === "resumed") this.paused = null;
		}
		if (document.hidden && news.count > 0) this.look().catch(foreseen);
		else if (news.lost || [...news.jobs.values()].some((events) => events.some(({ state }) => state === "in_doubt" || state === "failed"))) this.#lookSoon();
		else if (news.count > 0 && this.doubts > 0) this.#lookSoon();
		this.screen?.take(news);
	}

	#lookSoon() {
		this.lookTimer ??= setTimeout(() => { this.lookTimer = null; this.look().catch(foreseen); }, 700);
	}

	#status({ status, code }) {
		if (status === "refused") {
			const known = this.client.hello !== null;
			this.close();
			session.forget();
			login(code === 4401 && known ? LOGIN.ended : code === 4401 && !this.client.secret ? LOGIN.empty : LOGIN[code] ?? LOGIN[4400]);
			return;
		}
		if (status === "open" && !this.started) {
			this.started = true;
			session.keep(this.client.secret);
			this.#frame();
			addEventListener("hashchange", this.route);
			this.route();
			this.ticker = setInterval(() => { if (!document.hidden) tick(root); }, 5000);
			this.watcher = setInterval(() => { if (!document.hidden && this.client.status === "open") this.look().catch(foreseen); }, 10000);
		} else if (status === "open" && this.lost) {
			this.say(CONNECTION.restored);
			checkBuild();
		}
		if (status === "open") {
			this.lost = false;
			this.look().catch(foreseen);
		}
		if (status === "waiting" && this.started && !this.lost) {
			this.lost = true;
			this.say(CONNECTION.lost, true);
		}
		this.#bar();
		if (!this.started && status === "waiting") login(CONNECTION.waiting, this);
	}

	// The stream goes on: what is shown is asked for again, since it may have changed in between
	#followed() {
		if (this.started) this.screen?.load();
	}

	#frame() {
		const { client } = this;
		const { name, scope } = client.hello;
		this.navLinks.clear();
		const links = ["overview", "jobs", "doubt", "failed", "activity", "submit"]
			.filter((each) => { const needs = SCREENS[each]?.[2]; return !needs || client.may(needs); })
			.map((each) => { const link = h("a", { href: each === "overview" ? "#/" : `#/${each}` }, NAV[each]); this.navLinks.set(each, link); return h("li", null, link); });
		this.status = h("span", { class: "live" });
		this.bar = h("div", { class: "bar", hidden: true });
		this.content = h("main", { id: "content", tabindex: "-1" });
		const notify = h("button", { type: "button", class: "small", title: NAV.notifyMeans, "aria-pressed": "false", onclick: async () => {
			if (!wantsNotices() && await Notification.requestPermission() !== "granted") this.say(NAV.notifyRefused, true);
			else store("notices", wantsNotices() ? "" : "on");
			label();
		} });
		const label = () => { notify.textContent = wantsNotices() ? NAV.unnotify : NAV.notify; notify.setAttribute("aria-pressed", String(wantsNotices())); };
		label();
		root.replaceChildren(
			h("a", { href: "#content", class: "skip", onclick: (event) => { event.preventDefault(); this.content.focus(); } }, NAV.skip),
			h("header", null,
				h("div", { class: "top" }, h("a", { href: "#/", class: "brand" }, NAME), this.status, h("span", { class: "who" }, visible(NAV.signed(name, scope))), h("div", { class: "tools" }, typeof Notification === "undefined" ? null : notify, button(NAV.help, help, "small"), client.secret ? button(NAV.logout, () => { session.end(client.secret); this.close(); login(); }, "small") : null)),
				h("nav", { "aria-label": NAV.label }, h("ul", null, links))),
			this.bar, this.content);
	}

	#bar() {
		if (!this.started) return;
		const { status } = this.client;
		put(this.status, status === "open" ? CONNECTION.open : status === "connecting" && !this.lost ? CONNECTION.connecting : "");
		this.status.className = `live ${status}`;
		const gone = this.lost === true;
		if (gone && this.bar.hidden) this.bar.replaceChildren(h("p", null, CONNECTION.waiting), button(CONNECTION.retry, () => this.client.hurry(), "small"));
		this.bar.hidden = !gone;
		root.classList.toggle("offline", gone);
	}

	route = () => {
		const [, name = "", rest = "", query = ""] = /^#\/([a-z]*)(?:\/([^?]*))?(?:\?(.*))?$/.exec(location.hash) ?? [];
		const [make, part, needs] = SCREENS[name] ?? SCREENS[""];
		if (needs && !this.client.may(needs)) { this.navigate("#/"); return; }
		const id = quiet(() => decodeURIComponent(rest)) ?? rest;
		opened()?.close();
		this.screen?.close();
		const screen = this.screen = make(this, new URLSearchParams(query), id.slice(0, 64));
		document.title = this.titled(screen.title);
		for (const [each, link] of this.navLinks) {
			if (each === part) link.setAttribute("aria-current", "page");
			else link.removeAttribute("aria-current");
		}
		const moved = this.content.childElementCount > 0;
		this.content.replaceChildren(screen.element);
		if (moved) { this.content.focus({ preventScroll: true }); scrollTo(0, 0); }
		if (this.searches) screen.keys["/"]?.();
		this.searches = false;
		screen.load();
	};

	// Nobody looks: events of doubts alone, for the title and the notification
	hide() { if (this.started) this.client.follow({ states: ["in_doubt"] }).catch(foreseen); }

	unhide() { if (this.started) this.client.follow({}).catch(foreseen); }

	close() {
		opened()?.close();
		this.screen?.close();
		this.screen = null;
		removeEventListener("hashchange", this.route);
		clearInterval(this.ticker);
		clearInterval(this.watcher);
		clearTimeout(this.lookTimer);
		this.client.stop();
		if (app === this) app = null;
	}
}

let app = null, pending = null;

function enter(secret) {
	app?.close();
	app = new App(secret);
	app.start();
}

function login(why = null, waiting = null) {
	if (pending !== null && root.contains(pending)) {
		pending.tell(why);
		return;
	}
	const token = h("input", { type: "password", autocomplete: "off", spellcheck: "false", autocapitalize: "off", maxlength: 4096 });
	const told = h("p", { class: "problem", role: "alert" });
	const form = h("form", { class: "login card", onsubmit: async (event) => {
		event.preventDefault();
		told.textContent = LOGIN.working;
		const given = token.value.trim();
		// what no server accepts as a token cannot be sent as one
		if (given && !/^[\x21-\x7e]+$/.test(given)) told.textContent = LOGIN[4401];
		else await begin({ token: given });
	} }, h("h1", null, NAME), h("h2", null, LOGIN.title), field(LOGIN.token, token, LOGIN.hint), told, h("div", { class: "buttons" }, submitButton(LOGIN.button)));
	form.tell = (text) => { told.textContent = text ?? ""; };
	form.tell(why);
	pending = h("main", { class: "login" }, form);
	pending.tell = form.tell;
	root.replaceChildren(pending);
	document.title = NAME;
	if (waiting === null) token.focus();
}

const store = (name, value) => quiet(() => localStorage.setItem(`trio-jobs.${name}`, value));
const stored = (name) => quiet(() => localStorage.getItem(`trio-jobs.${name}`));

const wantsNotices = () => stored("notices") === "on" && typeof Notification !== "undefined" && Notification.permission === "granted";

// The files of another version may not fit the server: load them, once
async function checkBuild() {
	let build;
	try {
		const answer = await fetch("page/build.json", { cache: "no-store" });
		if (!answer.ok) return;
		({ build } = await answer.json());
	} catch { return; }
	if (build === BUILD || app === null) return;
	const writes = [...document.querySelectorAll("textarea, input[type=text]")].some((each) => each.value);
	if (!opened() && !writes && sessionStorage.getItem("trio-jobs.reloaded") !== build) {
		sessionStorage.setItem("trio-jobs.reloaded", build);
		location.reload();
		return;
	}
	app.bar.replaceChildren(h("p", null, CONNECTION.updated), button(CONNECTION.reload, () => location.reload(), "small"));
	app.bar.hidden = false;
}

function help() {
	const keys = h("input", { type: "checkbox", id: "keys", checked: stored("keys") !== "off", onchange: () => store("keys", keys.checked ? "" : "off") });
	show(HELP.title, h("div", null,
		h("div", { class: "check" }, keys, h("label", { for: "keys" }, HELP.on)),
		h("dl", { class: "keys" }, HELP.rows.map(([key, does]) => h("div", null, h("dt", null, h("kbd", null, key)), h("dd", null, does)))),
		h("h3", null, HELP.states),
		h("dl", { class: "states" }, STATES.map((state) => h("div", null, h("dt", null, badge(state)), h("dd", null, MEANS[state]))))));
}

let prefix = false;
addEventListener("keydown", (event) => {
	if (event.ctrlKey || event.metaKey || event.altKey || app?.screen == null || opened() || stored("keys") === "off" && event.key !== "?") return;
	if (event.target.matches("input:not([type=checkbox]), textarea, select, [contenteditable]")) return;
	const went = prefix;
	prefix = false;
	if (went && event.key in GO) app.navigate(`#/${GO[event.key]}`);
	else if (event.key === "g") prefix = true;
	else if (event.key === "?") help();
	else if (event.key in app.screen.keys) app.screen.keys[event.key]();
	else if (event.key === "/") { app.searches = true; app.navigate("#/jobs"); }
	else return;
	event.preventDefault();
});

let hiding = null;
document.addEventListener("visibilitychange", () => {
	clearTimeout(hiding);
	if (document.hidden) {
		hiding = setTimeout(() => { hiding = "hidden"; app?.hide(); }, HIDDEN_AFTER);
	} else {
		if (hiding === "hidden") app?.unhide();
		hiding = null;
		app?.client.hurry();
		app?.look().catch(foreseen);
		tick(root);
	}
});
addEventListener("online", () => app?.client.hurry());

session.onend = () => { app?.close(); login(); };
addEventListener("hashchange", () => { if (session.link()) { app?.close(); begin(); } });

// A session: that of a token or of a login link, or one that there is already
async function begin(given = null) {
	try {
		if (given === null) root.replaceChildren(h("p", { class: "loading" }, COMMON.loading));
		const secret = given === null ? await session.find() : await session.start(given);
		if (secret === null) login();
		else enter(secret);
	} catch (error) {
		if (!(error instanceof LoginRefused)) throw error;
		login(error.status === 401 ? given === null ? LOGIN.code : given.token ? LOGIN[4401] : LOGIN.empty : LOGIN[error.status] ?? LOGIN[0]);
	}
}
begin();

// An action that failed before its question; and what is wrong in the page itself, which must not look as if all were well
addEventListener("unhandledrejection", (event) => {
	const { reason } = event;
	app?.say(problem(reason instanceof Error ? reason : new Error(String(reason))), true);
	try { foreseen(reason); event.preventDefault(); } catch { /* the console has it */ }
});
addEventListener("error", ({ message }) => { app?.say(visible(message), true); });
