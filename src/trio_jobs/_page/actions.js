// What a person can do, each with its consequence in words. Only what the token may do is offered; the server decides.

import { field, foreign, h } from "./dom.js";
import { Lost } from "./client.js";
import { Raw, pretty } from "./json.js";
import { Refusal, ask, problem } from "./dialog.js";
import { FINAL, METHODS } from "./protocol.js";
import { ACT, DOUBT } from "./text.js";

const OPEN = new Set(["scheduled", "pending", "processing", "saving", "retrying"]);
const takes = (method, param) => METHODS[method]?.params.includes(param) ?? false;

export const mayRetry = (app, job) => app.client.may("jobs.retry") && FINAL.includes(job.state) && job.state !== "completed";
export const mayCancel = (app, job) => app.client.may("jobs.cancel") && OPEN.has(job.state) && !job.cancel_requested;
export const mayResolve = (app, job) => app.client.may("jobs.resolve") && job.state === "in_doubt";
export const mayCorrect = (app, job) => app.client.may("jobs.correct") && ["failed", "cancelled"].includes(job.state) && !job.acted;
export const mayVerify = (app, job) => app.client.may("jobs.verify") && (job.state === "in_doubt" || ["failed", "cancelled"].includes(job.state) && job.acted === true);
export const mayClaim = (app, job) => app.client.may("jobs.claim") && job.state === "in_doubt";

function note(required) {
  const control = h("textarea", { rows: 2, maxlength: 500, autocomplete: "off" });
  const element = field(ACT.note, control, required ? ACT.noteNeeded : null);
  if (required) control.setAttribute("aria-required", "true");
  return { element, read: () => {
    const text = control.value.trim();
    if (required && !text) {
      element.refuse(ACT.noteMissing);
      control.focus();
      throw new Refusal(ACT.noteMissing);
    }
    element.refuse("");
    return text;
  } };
}

const named = (job) => h("p", { class: "subject" }, foreign(job.kind, 100), " ", job.key ? foreign(job.key, 200) : foreign(job.id));

async function one(app, method, params) {
  const answer = await app.client.ask(method, params);
  app.refresh();
  return answer;
}

// One job after the other; what is refused does not stop the others
async function each(app, jobs, run, told) {
  const refused = [];
  let done = 0;
  for (const job of jobs) {
    told(ACT.progress(done + refused.length, jobs.length));
    try {
      await run(job);
      done += 1;
    } catch (error) {
      if (error instanceof Lost || error.code === undefined) throw error;
      refused.push(problem(error));
    }
  }
  app.refresh();
  if (refused.length > 0) throw new Refusal(`${ACT.partly(done, refused.length)} ${[...new Set(refused)].slice(0, 3).join(" ")}`);
  return done;
}

export async function retry(app, jobs) {
  const acted = jobs.filter((job) => job.acted).length;
  const even = h("input", { type: "checkbox", id: "even" });
  const offer = acted > 0 && app.client.may("jobs.retry", "control");
  const done = await ask({
    title: ACT.retryTitle(jobs.length),
    means: [ACT.retryMeans(jobs.length), acted > 0 && ACT.retryActed(acted)],
    fields: [jobs.length === 1 ? named(jobs[0]) : null, offer ? h("div", { class: "check" }, even, h("label", { for: "even" }, ACT.even)) : null],
    go: jobs.length === 1 ? ACT.retryGo : ACT.retryAllGo,
    danger: acted > 0,
    run: (told) => each(app, jobs, (job) => app.client.ask("jobs.retry", { job: job.id, ...(even.checked ? { even_if_acted: true } : {}) }), told),
  });
  if (done !== undefined) app.say(jobs.length === 1 ? ACT.done.retry : ACT.all(done));
  return done;
}

export async function cancel(app, jobs) {
  let last;
  const done = await ask({
    title: ACT.cancelTitle(jobs.length),
    means: [ACT.cancelMeans(jobs.length)],
    fields: [jobs.length === 1 ? named(jobs[0]) : null],
    go: jobs.length === 1 ? ACT.cancelGo : ACT.cancelAllGo,
    danger: true,
    run: (told) => each(app, jobs, async (job) => { last = await app.client.ask("jobs.cancel", { job: job.id }); }, told),
  });
  if (done !== undefined) app.say(jobs.length === 1 ? ACT.done[last.answer] : ACT.all(done));
  return done;
}

const RESOLUTIONS = {
  done: [ACT.doneTitle, ACT.doneMeans, ACT.doneGo, false],
  not_done: [ACT.notDoneTitle, ACT.notDoneMeans, ACT.notDoneGo, true],
  failed: [ACT.failedTitle, ACT.failedMeans, ACT.failedGo, false],
};

export async function resolve(app, job, resolution) {
  const [title, means, go, danger] = RESOLUTIONS[resolution];
  const text = note(true);
  const control = h("textarea", { rows: 2, class: "code", spellcheck: "false" });
  const result = resolution === "done" ? field(DOUBT.result, control) : null;
  const done = await ask({
    title,
    means: [means],
    fields: [named(job), text.element, result],
    go,
    danger,
    run: () => {
      const params = { job: job.id, resolution };
      const said = text.read();
      if (takes("jobs.resolve", "note")) params.note = said;
      if (result !== null && control.value.trim()) params.result = json(control.value, result);
      return one(app, "jobs.resolve", params);
    },
  });
  if (done !== undefined) app.say(ACT.done.resolve);
  return done;
}

// A text in JSON, to be sent with all its digits. What is wrong is said beside the field
export function json(text, element) {
  try {
    const value = new Raw(text);
    element.refuse("");
    return value;
  } catch (error) {
    element.refuse(error.message);
    throw new Refusal(error.message);
  }
}

export async function pause(app) {
  const control = h("input", { type: "text", maxlength: 500, autocomplete: "off" });
  const done = await ask({
    title: ACT.pauseTitle, means: [ACT.pauseMeans], fields: [field(ACT.reason, control)], go: ACT.pauseGo,
    run: () => one(app, "queue.pause", { reason: control.value.trim() }),
  });
  if (done !== undefined) app.say(ACT.done.pause);
}

export async function drain(app) {
  const done = await ask({
    title: ACT.drainTitle, means: [ACT.drainMeans], go: ACT.drainGo, danger: true,
    // the answer comes when the last job is done, which may take hours: the next look shows what has begun
    run: async () => { app.client.ask("queue.drain").then(() => app.refresh(), () => {}); app.refresh(); return true; },
  });
  if (done !== undefined) app.say(ACT.done.drain);
}

// What needs no question
export async function now(app, method, params, said) {
  try {
    await one(app, method, params);
    app.say(said);
  } catch (error) {
    if (!(error instanceof Lost) && error.code === undefined) throw error;
    app.say(problem(error), true);
  }
}

export async function correct(app, job) {
  const whole = await app.client.ask("jobs.get", { job: job.id });
  const control = h("textarea", { rows: 14, class: "code", spellcheck: "false", value: pretty(whole.text("payload") ?? "null") });
  const payload = field(ACT.correctTitle, control);
  const text = note(false);
  const done = await ask({
    title: ACT.correctTitle, means: [ACT.correctMeans], fields: [named(job), payload, takes("jobs.correct", "note") ? text.element : null], go: ACT.correctGo, wide: true,
    run: async () => {
      const params = { job: job.id, payload: json(control.value, payload) };
      if (takes("jobs.correct", "note") && text.read()) params.note = text.read();
      try {
        return await one(app, "jobs.correct", params);
      } catch (error) {
        if (error.code === -32602) payload.refuse(error.message);
        throw error;
      }
    },
  });
  if (done !== undefined) app.say(ACT.done.correct);
  return done;
}
