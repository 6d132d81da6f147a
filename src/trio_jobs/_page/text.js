// All text of the page.

export const NAME = "trio-jobs";

export const STATE = {
	scheduled: "Scheduled", pending: "Pending", processing: "Processing", saving: "Saving", retrying: "Retrying",
	in_doubt: "In doubt", completed: "Completed", failed: "Failed", cancelled: "Cancelled",
};

export const MEANS = {
	scheduled: "waits until it is due", pending: "waits for its turn", processing: "an attempt is running",
	saving: "done, and not saved yet", retrying: "failed once, and will be tried again",
	in_doubt: "nobody knows whether its work was done", completed: "its work is done", failed: "ended without success",
	cancelled: "ended by a person or by its handler",
};

export const NAV = {
	label: "Screens", overview: "Overview", jobs: "Jobs", doubt: "In doubt", failed: "Failed", activity: "Activity", submit: "Submit",
	skip: "Skip to the content", help: "Help", logout: "Log out",
	signed: (name, scope) => `${name} (${scope})`,
	notify: "Notify", unnotify: "Notifying", notifyMeans: "Notify me when a job is in doubt", notifyRefused: "The browser does not allow notifications of this page.",
	count: (name, count) => `${name}, ${count} jobs`,
};

export const CONNECTION = {
	connecting: "Connecting …", open: "Live", waiting: "No connection. What you see may be out of date. Trying again …",
	retry: "Try now", restored: "The connection is back.", lost: "The connection is lost.",
	updated: "The server has another version than this page.", reload: "Reload the page",
};

const ADDRESS = "The server does not allow this page: start it with --allow-host, --origin or --public-url for the address that you use.";

export const LOGIN = {
	title: "Log in", token: "Token", button: "Log in",
	hint: "Paste the token of the server: trio-jobs serve prints where it is. Leave it empty for a server without tokens.",
	0: "The server cannot be reached. Try again.", 403: ADDRESS, 429: "Too many tries. Wait a minute.", 503: "The server cannot store the session now. Try again.",
	4401: "The server does not accept this token.",
	4403: ADDRESS,
	4400: "The server has refused the connection.",
	empty: "The server needs a token.", ended: "You are logged out: the server no longer accepts the token.",
	code: "The login link is used up or too old. Get another one, or paste a token.",
	working: "Connecting …",
};

export const TIME = { now: "now", never: "never" };

export const COMMON = {
	loading: "Loading …", more: "Labels, a later start", none: "None.", close: "Close", selected: (count) => `${count} selected`,
	failed: "This could not be loaded: ", first: "First page", next: "Next page", previous: "Previous page",
};

export const TABLE = { state: "State", job: "Job", kind: "Kind", attempts: "Attempts", submitted: "Submitted", changed: "Changed", why: "Why", progress: "Progress", select: "Select", selectAll: "Select all jobs of this page" };

export const OVERVIEW = {
	title: "Overview", well: "Everything works.", sdk: "SDK", session: "Session", busy: "In a call", idle: "Idle",
	running: "Running now", nothing: "No attempt is running.", attempt: (number) => `attempt ${number}`,
	slots: "Queue", used: (used, capacity) => `${used} of ${capacity} slots are taken`, waiting: (count) => count === 1 ? "1 submit waits for a slot" : `${count} submits wait for a slot`,
	again: (count) => `${count} jobs are due again and wait for a slot`, mean: "Mean attempt", states: "Jobs by state", newest: "Newest jobs", all: "All jobs",
	paused: "The queue is paused: no attempt starts.", pausedBy: "Paused by", pausedAt: "Paused", reason: "Reason",
	doubts: (count) => count === 1 ? "1 job is in doubt and waits for a decision." : `${count} jobs are in doubt and wait for a decision.`, decide: "Decide",
	until: "until", oldest: "Waits longest", closed: "Last closed", closedBadly: "with an error, ", held: "In strict order, this job blocks the others:", unhandled: (count) => `${count} open jobs have no handler here.`,
};

export const PROBLEMS = {
	stuck: "A call of the SDK does not return. Nothing else can run until it does.",
	overdue: "A call of the SDK has exceeded its limit and has not returned.",
	opening_sdk: "The SDK is being opened.",
	sessions_failing: "The last sessions of the SDK ended in errors. The queue waits before it opens another one.",
	close_failed: "The SDK could not be closed properly. Work of its last session may be lost; the log names the jobs.",
	store: "The journal cannot be written. Nothing is accepted until it can.",
	draining: "The queue accepts no new jobs and finishes those that it has.", stopping: "The server is stopping.",
	pump_failed: "The pump of the SDK raises errors.",
};

export const JOBS = {
	title: "Jobs", search: "Search", hint: "The begin of a key, such as an invoice number; or conditions: state:failed since:2d kind: error: label: by: until: acted:",
	fresh: (count) => count === 1 ? "1 new job – show it" : `${count} new jobs – show them`, count: (count) => count === 1 ? "1 job" : `${count} jobs`,
	empty: "No job matches.", within: (count, most) => `No key begins so. Of the newest ${most} jobs, ${count} have it within their key.`, none: "There are no jobs yet.", csv: "Save as CSV", csvBusy: (count) => `Saving … ${count}`, csvCut: (most) => `Only the first ${most} jobs are in the file.`,
	opened: "This is the end of the id of a job:", expired: "The list was of an earlier state of the server; it begins anew.",
	stale: "no longer matches", label: "Conditions that can be added",
};

export const SEARCH = {
	noField: (name, names) => `There is no condition “${name}:”. There are: ${names.map((each) => each + ":").join(" ")}. For a key with a colon, write key:${name}:…`,
	noState: (name, states) => `There is no state “${name}”. There are: ${states.join(", ")}.`,
	noValue: (name) => `What should follow “${name}:” is missing.`, noLabel: "A label is written label:name=value.", noActed: "Write acted:yes or acted:no.",
	noTime: (text) => `“${text}” is no time. Write 2d, 3h, 2026-11-29 or 2026-11-29T14:30.`, twoKeys: "There can be one key only.",
};

export const JOB = {
	title: "Job", facts: "Details", gone: "There is no such job. It may have been removed because of its age.", many: "Several jobs end like that:", path: "The way of this job", diagram: (path) => `The states of a job. This job: ${path}`, key: "Key", kind: "Kind", id: "Id", by: "Submitted by", labels: "Labels",
	submitted: "Submitted", changed: "Last change", due: "Due", deadline: "Expires", run: "Run", runs: (run) => `${run} (a person has retried or corrected the job)`, retries: "Retries used", reason: "Reason", acted: "May have acted", actedYes: "Yes: the SDK was entered, and it is not known what that left behind",
	error: "Last error", code: "code", traceback: "Traceback", attempts: "Attempts", payload: "Payload", result: "Result", events: "What happened", cancelRequested: "A cancel is requested.", inside: "The call into the SDK has not returned.", noAttempts: "No attempt has started.", number: "No.", started: "Started", took: "Took", outcome: "Outcome", entered: "Entered the SDK", yes: "yes", no: "no", late: "after its limit", endedBy: (limit) => `ended by the ${limit} limit`, running: "running", snoozes: "Snoozed", position: "Position", expected: "Starts in about",
	hidden: "A token of scope operate or control is needed to see it.", large: (size) => `It has ${size}; this is the beginning.`, whole: "Show all", noResult: "There is no result.", save: "Save as a file", back: "All jobs", live: "Events of before this page was opened are not shown.", claimed: "is working on it", earlier: (run) => `Payload of run ${run}`, actions: "Actions",
	cutEvents: (count) => `The newest ${count} events are shown.`,
};

export const OUTCOME = {
	completed: "returned", already_done: "was found done", error: "raised an error", fail: "gave up", cancel: "cancelled itself", snooze: "postponed itself", retry_after: "asked for a retry", timed_out: "exceeded its limit", expired: "was ended by the deadline of the job", cancelled: "was cancelled by a person", stopped: "was ended by a stop", crashed: "was cut short: the process died", killed: "was killed with the process of the SDK", died: "was cut short: the process of the SDK died", unverified: "was not begun: verify does not know", unsaved: "returned, and its work was not saved", inside: "has not returned",
};

// Why a job is in its state, where the reason is one of the queue's own words
export const REASON = {
	returned: "", saved: "", error: "", fail: "", cancelled: "a person cancelled it", crashed: "the process died", expired: "its deadline has passed", not_done: "its work was found not done", on_doubt: "the rule of its handler for doubts", open_step: "a step was begun and not finished", poison: "its attempts ended the process too often", resolved: "a person decided", retry_after: "its handler asked for a retry", snooze: "its handler postponed it", stopped: "the queue was stopped", too_many_snoozes: "it was postponed too often", unverified: "verify does not know", verified: "verify found its work done", timed_out: "its attempt exceeded its limit",
};

export const EVENT = {
	submitted: "Submitted", scheduled: "Submitted for later", due: "Due", started: "Attempt started", entered: "Entered the SDK", step_started: "Step started", step_finished: "Step finished", cancel_requested: "Cancel requested", overdue: "Limit exceeded", returned: "Returned, not saved yet", completed: "Completed", retrying: "Will be retried", snoozed: "Snoozed", interrupted: "Interrupted", in_doubt: "In doubt", released: "Doubt resolved", failed: "Failed", cancelled: "Cancelled", retried: "Retried by a person", corrected: "Corrected", claimed: "Claimed", rescheduled: "Rescheduled", verified: "Verified",
	verifying: "verify is being called", asked: "verify does not know", paused: "Queue paused", resumed: "Queue resumed", draining: "Drain started", drained: "Drain ended",
	session_opening: "SDK is being opened", session_opened: "SDK opened", session_closed: "SDK closed", stuck: "SDK call does not return",
};

export const DOUBT = {
	attempt: (number, outcome) => `Attempt ${number} ${outcome}`,
	title: "In doubt", none: "No job is in doubt.", intro: "Nobody knows whether the work of these jobs was done. Look it up in the other system, then decide.",
	question: (attempt) => attempt ? `Did attempt ${attempt} do its work?` : "Was its work done?", why: "Why it is in doubt", verify: "What verify said", verifyUnknown: "It was asked, and does not know.", verifyNever: "It has not been asked.", verifyNone: "There is no verify for this kind of job.", inside: "The call into the SDK has not returned yet. If it returns, the doubt resolves itself.", doing: "What the SDK was doing", finished: "finished", begun: "begun", done: "It was done", notDone: "It was not done", failed: "It failed", ask: "Ask verify now", claim: "I work on it", takeOver: "Take it over", unclaim: "I no longer work on it",
	since: "Since", watch: "A token of scope operate or control is needed to decide.", result: "Result (JSON, optional)",
};

export const FAILED = {
	title: "Failed", none: "No job has failed.", intro: "Jobs that failed, or failed and will be tried again, by the error.", failed: (count) => count === 1 ? "1 failed" : `${count} failed`, retrying: (count) => `${count} will be retried`, noError: "without an error", retryAll: (count) => `Retry all ${count}`, retrySelected: (count) => `Retry ${count} selected`, cancelSelected: (count) => `Cancel ${count} selected`, cancelAll: (count) => `Cancel all ${count}`, list: "In the list of jobs",
};

export const ACTIONS = {
	submit: "Submitted", cancel: "Cancelled", retry: "Retried", resolve: "Decided", correct: "Corrected", verify: "Asked verify", reschedule: "Rescheduled", claim: "Claimed", release: "Gave back", forget: "Forgotten", pause: "Paused the queue", resume: "Resumed the queue", drain: "Started a drain", undrain: "Ended a drain",
};

export const DETAIL = { done: "it was done", not_done: "it was not done", failed: "it failed", requested: "requested while an attempt was running", even_if_acted: "although it may have done its work" };

export const ACTIVITY = { title: "Activity", none: "Nobody has done anything yet.", who: "Who", what: "What", job: "Job", when: "When", note: "Note", queue: "the queue itself", intro: "What people did, the newest first.", by: "by" };

export const SUBMIT = {
	title: "Submit a job", kind: "Kind", key: "Key (recommended)", keyHint: "Such as the invoice number. The same key and payload give the same job.", payload: "Payload (JSON)", go: "Submit", form: "As a form", json: "As JSON", created: "The job is accepted.", known: "There was such a job already; this is it.", labels: "Labels (name=value, one a line)", optional: "optional", value: (type) => `${type}`, bad: (what) => `This must be ${what}.`, hint: "Payload of the job", later: "Not before (optional)",
};

export const ACT = {
	retry: "Retry", cancel: "Cancel", correct: "Correct", resolve: "Decide", pause: "Pause", resume: "Resume", drain: "Accept no new jobs", undrain: "Accept new jobs again", verify: "Ask verify now", verifyTitle: "Ask verify now?", verifyMeans: "verify looks whether the work was done. If it was, the job becomes completed; if not, a job in doubt is attempted again.", note: "Note", noteNeeded: "Say how you know. It is kept with the job.", noteMissing: "A note is needed.", reason: "Reason", close: "Back", working: "Working …",
	retryTitle: (count) => count === 1 ? "Retry this job?" : `Retry ${count} jobs?`,
	retryMeans: (count) => count === 1 ? "A new run begins: the job is attempted again, with all its retries." : `A new run of each of the ${count} jobs begins: they are attempted again, with all their retries.`,
	retryAsks: "It may have done its work already, so verify is asked first.", retryActed: "It may have done its work already, and there is no verify that could be asked. Repeating it needs a token of scope control.", verifiedFirst: (count) => `Of ${count} of them verify is asked first whether their work was done.`, refused: (count) => count === 1 ? "One more is left as it is: it may have done its work, and has no verify." : `${count} more are left as they are: they may have done their work, and have no verify.`, most: (most) => `These are the first ${most}; repeat it for the others.`,
	forget: "Forget", forgetTitle: "Forget this job?", forgetMeans: "Its payload, result, errors and notes are removed now and cannot be restored. Its key stays known.", forgetGo: "Forget it",
	rescheduleTitle: "When is this job due?", rescheduleMeans: "It does not start before.", rescheduleGo: "Change", due: "Due", dueMissing: "Say when.", later: "Change when it is due", runNow: "Run it now", until: "Until (optional; it then resumes by itself)",
	verified: { done: "verify says that its work was done.", not_done: "verify says that its work was not done.", unknown: "verify does not know." },
	even: "Repeat also what may have done its work and has no verify. Its work may then be done twice.",
	cancelTitle: (count) => count === 1 ? "Cancel this job?" : `Cancel ${count} jobs?`,
	cancelMeans: (count) => count === 1 ? "It will not be attempted again. If an attempt is running, its end is awaited or interrupted." : `They will not be attempted again. If an attempt is running, its end is awaited or interrupted.`,
	cancelGo: "Cancel it", cancelAllGo: "Cancel them", retryGo: "Retry it", retryAllGo: "Retry them",
	doneTitle: "It was done?", doneMeans: "The job becomes completed. It is not attempted again.",
	notDoneTitle: "It was not done?", notDoneMeans: "The job is attempted again. If its work was done after all, it is done twice.",
	failedTitle: "It failed?", failedMeans: "The job becomes failed. It is not attempted again, unless somebody retries it.",
	pauseTitle: "Pause the queue?", pauseMeans: "The attempt that is running continues. No other one starts until the queue is resumed. Jobs are accepted.",
	drainTitle: "Accept no new jobs?", drainMeans: "Submits are refused. The jobs that the queue has are finished.",
	correctTitle: "Correct this job", correctMeans: "A new run begins with the new payload. The old payload is kept in the history of the job.", correctGo: "Correct and run",
	all: (done) => done === 1 ? "Done." : `${done} done.`,
	done: { retry: "The job starts again.", cancelled: "The job is cancelled.", requested: "The cancel is requested; the running attempt ends first.", too_late: "Too late: the job has ended.", resolve: "Decided.", pause: "The queue is paused.", resume: "The queue is resumed.", claim: "The others see that you work on it.", unclaim: "The others see that you no longer work on it.", reschedule: "It is changed.", forget: "The job is forgotten.", correct: "The corrected job starts.", drain: "No new jobs are accepted.", undrain: "New jobs are accepted." },
};

export const ERRORS = {
	lostSent: "The connection was lost before the answer. It may have been done: look before you repeat it.", lostNot: "There is no connection. Nothing was done.",
	[-32004]: "There is no such job.", [-32009]: "The job has changed since: ", [-32011]: "The queue is full. Try again later.", [-32012]: "The queue accepts no new jobs.", [-32013]: "There is a job with this key and another payload.", [-32014]: "This token may not do that.", [-32015]: "It is not known whether it was done. Look before you repeat it.", [-32016]: "Too many requests. Try again in a moment.", [-32017]: "The journal could not be written. Nothing has changed.", [-32019]: "It may have done its work, and cannot be asked: find out first.", [-32022]: "The job has changed since you opened this. Close it and look again.", [-32023]: "Somebody else works on it.",
	[-32603]: "The server has failed; its log has the details.",
};

export const HELP = {
	title: "Keyboard", on: "Use these keys", rows: [["/", "search"], ["j k", "next, previous job"], ["Enter", "open the job"], ["s", "select the job"], ["r", "retry"], ["c", "correct"], ["x", "cancel"], ["g then o j d f a n", "Overview, Jobs, In doubt, Failed, Activity, Submit"], ["?", "this help"], ["Esc", "close"]],
	states: "The states of a job",
};

export const NOTICE = { doubt: (count) => count === 1 ? "A job is in doubt." : `${count} jobs are in doubt.`, title: "trio-jobs: a job is in doubt" };
