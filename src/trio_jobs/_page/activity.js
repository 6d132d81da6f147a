// The screen Activity: what people did.

import { foreign, h, heads, put, visible } from "./dom.js";
import { calm } from "./feed.js";
import { jobPath, shortId, time } from "./format.js";
import { loading } from "./joblist.js";
import { ACTIONS, ACTIVITY, COMMON, DETAIL } from "./text.js";

const PAGE = 100;

export function activityScreen(app, params) {
	const state = h("div", null, loading());
	const list = h("div", { class: "scroll" });
	const paging = h("nav", { class: "paging", "aria-label": ACTIVITY.title });
	const cursor = params.get("before");

	async function load() {
		try {
			const page = await app.ask("queue.activity", { limit: PAGE, before: cursor === null ? undefined : Number(cursor) });
			if (again.ended) return;
			const events = page.actions;
			put(state, h("p", { class: events.length === 0 ? "empty" : "hint" }, events.length === 0 ? ACTIVITY.none : ACTIVITY.intro));
			put(list, events.length === 0 ? null : h("table", { class: "activity" },
				h("caption", { class: "unseen" }, ACTIVITY.title),
				heads([ACTIVITY.when, ACTIVITY.who, ACTIVITY.what, ACTIVITY.job, ACTIVITY.note]),
				h("tbody", null, events.map((event) => h("tr", null,
					h("td", null, time(event.at)), h("td", null, event.by ? foreign(event.by, 100) : ACTIVITY.queue), h("td", null, ACTIONS[event.action] ?? foreign(event.action, 60), event.detail ? `: ${DETAIL[event.detail] ?? visible(event.detail)}` : ""),
					h("td", null, event.job ? h("a", { href: jobPath(event.job) }, event.key ? foreign(event.key, 100) : "…" + shortId(event.job)) : "–"),
					h("td", null, event.note ? foreign(event.note, 500) : "–"))))));
			put(paging, cursor === null ? null : h("a", { href: "#/activity" }, COMMON.first), page.more ? h("a", { href: `#/activity?before=${events.at(-1).seq}` }, COMMON.next) : null);
		} catch (error) {
			app.failed(state, error);
		}
	}

	const again = calm(load, 2000);
	return {
		title: ACTIVITY.title,
		element: h("div", null, h("h1", null, ACTIVITY.title), state, list, paging),
		load,
		take: (news) => { if (news.queue.length > 0 || news.lost || [...news.jobs.values()].some((events) => events.some((event) => event.by || event.action))) again(); },
		close: again.end,
		keys: {},
	};
}
