// A handshake as bars: one lane a leg in the list, one row a step in the detail.

import { bytes, el, ms, plural, tally, words } from "./text.js";

export const KINDS = ["auth", "connect", "upgrade", "accept", "propagation", "validation", "stabilization", "announcement"];
const OPENED = new Set(["ready", "ready_unproven"]);
const PERCENT = 100;

export function opened(one) {
  return OPENED.has(one.outcome);
}

// When the upstream first spoke, in ms after the upgrade request; null if it has not.
export function repliedAt(one) {
  return one.first_reply_ms === null || one.open_ms === null ? null : one.open_ms + one.first_reply_ms;
}

// How many ms the bars of this handshake span: the reply counts, unless it came much later.
export function span(one) {
  const replied = repliedAt(one);
  return Math.max(replied !== null && replied < one.ms * 1.5 ? replied : 0, one.ms, 0.001);
}

function place(element, from, to, scale) {
  const left = Math.min(from / scale, 1) * PERCENT;
  element.style.left = `${left}%`;
  element.style.width = `${Math.max(Math.min(to / scale, 1) * PERCENT - left, 0)}%`;
  return element;
}

function bar(step, scale) {
  return place(el("span", { class: `step ${step.name} ${step.outcome}` }), step.start_ms, step.end_ms, scale);
}

function mark(name, at, scale) {
  const line = el("span", { class: `mark ${name}` });
  line.style.left = `${Math.min(at / scale, 1) * PERCENT}%`;
  return line;
}

function isRedial(step, ended) {
  return step.name === "connect" && step.attempt > 1 && step.start_ms > ended;
}

// Two lanes and what a screen reader hears instead.
export function lanes(one, scale) {
  const upstream = el("span", { class: "lane" });
  const client = el("span", { class: "lane" });
  let ended = 0;
  for (const step of one.steps) {
    if (step.outcome === "skipped" || step.name === "flush") continue;
    if (isRedial(step, ended)) upstream.append(place(el("span", { class: "step wait" }), ended, step.start_ms, scale));
    (step.leg === "upstream" ? upstream : client).append(bar(step, scale));
    if (step.leg === "upstream") ended = Math.max(ended, step.end_ms);
  }
  const all = el("span", { class: "lanes", role: "img", "aria-label": spoken(one) }, upstream, client);
  if (one.open_ms !== null && one.open_ms <= scale) all.append(mark("gate", one.open_ms, scale));
  const replied = repliedAt(one);
  if (replied !== null && replied <= scale) all.append(mark("reply", replied, scale));
  if (one.ms > scale * 1.01) all.append(el("span", { class: "beyond" }, "›"));
  return all;
}

export function spoken(one) {
  const steps = one.steps.filter((step) => step.outcome !== "skipped" && step.name !== "flush");
  const told = steps.map((step) => `${label(step)} ${ms(step.end_ms - step.start_ms)}${ending(step)}`);
  if (one.open_ms !== null) told.push(`gate open after ${ms(one.open_ms)}`);
  return told.join("; ") || "no step was begun";
}

function ending(step) {
  if (step.error) return `, ${words(step.error)}`;
  return step.outcome === "expired" || step.outcome === "failed" ? `, ${step.outcome}` : "";
}

export function label(step) {
  const nth = again(step) ? `, try ${step.attempt}` : "";
  return `${step.leg} ${step.name}${nth}`;
}

// Only the upstream is tried again; the client's stages belong to the last try, and are the first of their kind.
function again(step) {
  return step.leg === "upstream" && step.attempt > 1;
}

// One sentence: what made it fail, or what took longest.
export function reason(one) {
  const redialled = one.redials ? `${tally(one.redial_causes)}` : "";
  if (one.limit) return `limit ${one.limit}: refused with ${one.status}`;
  if (one.guard) return `guard ${one.guard}: refused with ${one.status}`;
  if (one.auth) return `token: ${words(one.auth)}`;
  if (one.outcome === "abandoned") return redialled ? `the client left; before that ${redialled}` : "the client left";
  if (one.outcome === "timeout") return `not ready in time${redialled ? `: ${redialled}` : unready(one)}`;
  if (one.outcome === "failed" || one.outcome === "rejected") return failure(one, redialled);
  const expired = one.steps.find((step) => step.outcome === "expired");
  const unproven = expired ? `${label(expired)}: no ${expired.evidence} within ${ms(expired.budget_ms)}` : "";
  if (redialled || unproven) return [redialled && `${redialled}, then ready`, unproven].filter(Boolean).join("; ");
  return longest(one);
}

function failure(one, redialled) {
  const last = [...one.steps].reverse().find((step) => step.outcome === "failed");
  const why = one.error ? words(one.error) : one.status ? `answered ${one.status}` : "";
  const told = last?.status ? `upstream answered ${last.status}` : why || (last ? `${label(last)} failed` : "failed");
  return redialled ? `${told}; before that ${redialled}` : told;
}

function unready(one) {
  const last = one.steps.at(-1);
  return last ? `: ${label(last)} was under way` : "";
}

function longest(one) {
  const took = (step) => step.end_ms - step.start_ms;
  const steps = one.steps.filter((step) => step.outcome !== "skipped");
  if (!steps.length) return "";
  const slowest = steps.reduce((a, b) => (took(b) > took(a) ? b : a));
  return `${label(slowest)} ${ms(took(slowest))}`;
}

// All steps, one a row, in the order in which they began; pauses before a redial are rows, too.
export function table(one) {
  const scale = span(one);
  const head = el("tr", {}, el("th", { scope: "col" }, "Step"), axis(scale), el("th", { scope: "col", class: "number" }, "Took"));
  const body = el("tbody");
  let ended = 0;
  for (const step of one.steps) {
    if (isRedial(step, ended)) body.append(pause(ended, step.start_ms, scale));
    body.append(row(step, one, scale));
    if (step.leg === "upstream") ended = Math.max(ended, step.end_ms);
  }
  const replied = repliedAt(one);
  if (replied !== null) body.append(replyRow(one, replied, scale));
  return el("table", { class: "steps" }, el("caption", { class: "unseen" }, "Steps in order"), el("thead", {}, head), body);
}

function axis(scale) {
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const tick = el("span", { class: "tick" }, ms(part * scale));
    tick.style.left = `${part * PERCENT}%`;
    return tick;
  });
  return el("th", { scope: "col", class: "axis" }, el("span", { class: "unseen" }, "Evidence"), ...ticks);
}

function row(step, one, scale) {
  const track = el("span", { class: "track", "aria-hidden": "true" });
  if (step.budget_ms) track.append(place(el("span", { class: "budget" }), step.start_ms, step.start_ms + step.budget_ms, scale));
  if (step.outcome !== "skipped") track.append(bar(step, scale));
  for (const [name, at] of step.marks ?? []) track.append(mark(name, at, scale));
  if (one.open_ms !== null) track.append(mark("gate", one.open_ms, scale));
  const took = step.outcome === "skipped" ? "skipped" : ms(step.end_ms - step.start_ms);
  return el("tr", { class: `${step.leg} ${step.outcome}` },
    el("th", { scope: "row" }, el("span", { class: "leg" }, step.leg), ` ${step.name}${again(step) ? ` (try ${step.attempt})` : ""}`),
    el("td", { class: "bars" }, track, el("span", { class: "evidence" }, evidence(step))),
    el("td", { class: "number" }, took));
}

function evidence(step) {
  const at = `at ${ms(step.start_ms)}`;
  if (step.evidence === undefined) return step.error ? `${at}: ${words(step.error)}` : step.status ? `${at}: answered ${step.status}` : at;
  const budget = step.budget_ms ? `, budget ${ms(step.budget_ms)}` : "";
  if (step.outcome === "proved") return `${at}: proved (${step.evidence})${budget}`;
  if (step.outcome === "expired") return `${at}: no ${step.evidence} in ${ms(step.budget_ms)}`;
  if (step.outcome === "failed") return `${at}: lost while waiting for ${step.evidence}${budget}`;
  return "no budget, or nothing that could prove it";
}

function pause(from, to, scale) {
  const track = el("span", { class: "track", "aria-hidden": "true" }, place(el("span", { class: "step wait" }), from, to, scale));
  return el("tr", { class: "wait" }, el("th", { scope: "row" }, "pause before a redial"),
    el("td", { class: "bars" }, track),
    el("td", { class: "number" }, ms(to - from)));
}

function replyRow(one, replied, scale) {
  const track = el("span", { class: "track", "aria-hidden": "true" }, mark("gate", one.open_ms, scale));
  if (replied <= scale) track.append(mark("reply", replied, scale));
  const told = one.first_reply_ms === 0 && one.early_upstream[0]
    ? `held until the gate opened: ${plural(one.early_upstream[0], "message")}, ${bytes(one.early_upstream[1])}`
    : "the upstream's first message, after the gate opened";
  return el("tr", { class: "reply" }, el("th", { scope: "row" }, "first reply"),
    el("td", { class: "bars" }, track, el("span", { class: "evidence" }, told)),
    el("td", { class: "number" }, `+${ms(one.first_reply_ms)}`));
}
