// The list of the last handshakes: kept in the order in which they ended, filtered, walked by keyboard.

import { clock, el, ms, plural, setText } from "./text.js";
import { KINDS, lanes, opened, reason, span } from "./waterfall.js";

export const MOST = 200;
const OUTCOMES = {
  ready: "ready",
  ready_unproven: "unproven",
  rejected: "rejected",
  abandoned: "abandoned",
  timeout: "timeout",
  failed: "failed",
};

export class Handshakes {
  constructor(filter, show) {
    this.filter = filter;
    this.show = show; // called with a handshake that is to be seen in detail
    this.entries = []; // {one, row, endedAt}, the newest first
    this.byId = new Map();
    this.chosen = new Set(); // outcomes; none: all
    this.body = document.querySelector("#handshake-table tbody");
    this.empty = document.querySelector("#handshakes-empty");
    this.scale = document.querySelector("#scale");
    this.scale.addEventListener("change", () => this.draw());
    this.chips();
    this.legend();
    this.body.addEventListener("click", (event) => this.open(event.target.closest("tr")));
    this.body.addEventListener("keydown", (event) => this.key(event));
  }

  get all() {
    return this.entries.map((entry) => entry.one);
  }

  get(id) {
    return this.byId.get(id)?.one;
  }

  take(some) {
    for (const one of some) {
      const known = this.byId.get(one.id);
      if (known) {
        known.one = one;
        this.fill(known);
      } else {
        this.insert(one);
      }
    }
    for (const entry of this.entries.splice(MOST)) {
      this.byId.delete(entry.one.id);
      entry.row.remove();
    }
    if (this.scale.value === "same") this.draw();
    this.sift();
  }

  insert(one) {
    const entry = { one, row: el("tr", { role: "row" }), endedAt: Date.parse(one.began) + one.ms };
    entry.row.dataset.id = one.id;
    let at = this.entries.findIndex((other) => other.endedAt <= entry.endedAt);
    if (at < 0) at = this.entries.length;
    this.body.insertBefore(entry.row, this.entries[at]?.row ?? null);
    this.entries.splice(at, 0, entry);
    this.byId.set(one.id, entry);
    this.fill(entry);
  }

  fill(entry) {
    const { one, row } = entry;
    const hadFocus = row.contains(document.activeElement);
    const began = new Date(one.began);
    const button = el("button", { class: "open", tabindex: "-1", "aria-haspopup": "dialog", title: began.toISOString() }, clock(began));
    const cell = (className, ...children) => el("td", { role: "cell", class: className }, ...children);
    row.className = one.outcome;
    row.replaceChildren(
      cell("time", button),
      cell("outcome", el("span", { class: `badge ${one.outcome}` }, OUTCOMES[one.outcome] ?? one.outcome), one.redials ? el("span", { class: "muted" }, plural(one.redials, "redial")) : ""),
      cell("who", el("span", { class: "path", title: one.path }, one.path), el("span", { class: "muted" }, who(one))),
      cell("wide", lanes(one, this.width(one))),
      cell("number took", ms(one.ms)),
      cell("number reply", one.first_reply_ms === null ? "–" : `+${ms(one.first_reply_ms)}`),
      cell("why", reason(one)),
    );
    if (hadFocus) button.focus();
  }

  width(one) {
    return this.scale.value === "same" ? this.common() : span(one);
  }

  // Most fit: the few that took far longer would make lines of all others.
  common() {
    const spans = this.entries.filter((entry) => this.matches(entry.one)).map((entry) => span(entry.one)).sort((a, b) => a - b);
    return spans[Math.min(Math.floor(spans.length * 0.9), spans.length - 1)] ?? 1;
  }

  draw() {
    const common = this.scale.value === "same" ? this.common() : 0;
    for (const { one, row } of this.entries) row.querySelector(".wide").replaceChildren(lanes(one, common || span(one)));
  }

  matches(one) {
    if (this.chosen.size && !this.chosen.has(one.outcome)) return false;
    return this.filter.matches(one.route, [one.path, one.client_address, one.trace_id, one.user_agent, reason(one), OUTCOMES[one.outcome]]);
  }

  sift() {
    const counts = {};
    let shown = 0;
    for (const { one, row } of this.entries) {
      counts[one.outcome] = (counts[one.outcome] ?? 0) + 1;
      row.hidden = !this.matches(one);
      shown += row.hidden ? 0 : 1;
    }
    for (const chip of this.group.children) setText(chip.lastElementChild, String(counts[chip.dataset.outcome] ?? 0));
    setText(document.querySelector("#tab-handshakes .count"), String(shown));
    this.empty.hidden = shown > 0;
    setText(this.empty, this.entries.length
      ? "No handshake of the last 200 is like that. Choose other outcomes, another route or another text."
      : "No handshake yet. As soon as a client asks this gate for a WebSocket, each stage of both legs shows here.");
    this.rove();
  }

  // One row can be reached by Tab; the others from there.
  rove(to) {
    const rows = this.rows();
    const current = to ?? rows.find((row) => row.querySelector("button").tabIndex === 0) ?? rows[0];
    for (const { row } of this.entries) row.querySelector("button").tabIndex = row === current ? 0 : -1;
  }

  rows() {
    return this.entries.map((entry) => entry.row).filter((row) => !row.hidden);
  }

  key(event) {
    const rows = this.rows();
    const at = rows.indexOf(event.target.closest("tr"));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1, PageDown: at + 10, PageUp: at - 10 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    this.focus(rows[Math.max(0, Math.min(to, rows.length - 1))]);
  }

  focus(row) {
    this.rove(row);
    row.querySelector("button").focus();
    if (document.querySelector("tr.shown")) this.open(row); // the panel follows
  }

  focusOn(id) {
    const entry = this.byId.get(id);
    if (entry && !entry.row.hidden) {
      this.rove(entry.row);
      entry.row.querySelector("button").focus();
    } else {
      document.querySelector("#view").focus();
    }
  }

  open(row) {
    if (!row) return;
    this.rove(row);
    this.show(this.byId.get(row.dataset.id).one);
  }

  mark(id) {
    for (const row of this.body.querySelectorAll("tr.shown")) row.classList.remove("shown");
    this.byId.get(id)?.row.classList.add("shown");
  }

  chips() {
    this.group = document.querySelector("#outcomes");
    for (const [outcome, name] of Object.entries(OUTCOMES)) {
      const chip = el("button", { class: `chip ${outcome}`, "aria-pressed": "false", "data-outcome": outcome }, el("span", {}, name), " ", el("span", { class: "count" }, "0"));
      chip.addEventListener("click", () => {
        const on = !this.chosen.delete(outcome) && Boolean(this.chosen.add(outcome));
        chip.setAttribute("aria-pressed", String(on));
        this.sift();
        this.draw();
      });
      this.group.append(chip);
    }
  }

  legend() {
    const legend = document.querySelector("#legend");
    for (const kind of KINDS) legend.append(el("span", { class: "key" }, el("span", { class: `step ${kind}` }), kind));
    for (const [kind, name] of [["expired", "expired"], ["failed", "failed"]]) legend.append(el("span", { class: "key" }, el("span", { class: `step ${kind}` }), name));
    legend.append(el("span", { class: "key" }, el("span", { class: "mark gate" }), "gate opens"));
    legend.append(el("span", { class: "key" }, el("span", { class: "mark reply" }), "first reply"));
  }
}

function who(one) {
  const worker = one.worker ? `worker ${one.worker}` : "";
  return [one.client_address || "local", one.route === "*" ? "" : one.route, worker].filter(Boolean).join(" · ");
}

// What the figures say of these handshakes.
export function figures(all) {
  const opens = all.filter(opened).map((one) => one.open_ms ?? one.ms).sort((a, b) => a - b);
  const judged = all.filter((one) => one.outcome !== "abandoned").length;
  const at = (part) => (opens.length ? opens[Math.min(Math.floor(opens.length * part), opens.length - 1)] : null);
  return { judged, opened: opens.length, p50: at(0.5), p99: at(0.99), redialled: all.filter((one) => one.redials).length };
}
