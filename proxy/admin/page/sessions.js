// The sessions as they are now: what each leg is doing, has said, holds, and does not take.

import { age, bytes, count, el, plural, setText } from "./text.js";

export class Sessions {
  constructor(filter, show) {
    this.filter = filter;
    this.known = new Map(); // by row: its session
    this.byWorker = new Map();
    this.rows = new Map();
    this.total = 0;
    this.body = document.querySelector("#session-table tbody");
    this.note = document.querySelector("#sessions-note");
    this.empty = document.querySelector("#sessions-empty");
    this.panel = document.querySelector("#sessions");
    this.body.addEventListener("click", (event) => {
      if (event.target.closest("button")) show(this.known.get(event.target.closest("tr")));
    });
  }

  get all() {
    return [...this.byWorker.values()].flat();
  }

  take(worker, some) {
    this.byWorker.set(worker, some.map((session) => ({ ...session, worker })));
    this.draw();
  }

  gone(worker) {
    this.byWorker.delete(worker);
    this.draw();
  }

  draw() {
    if (this.panel.hidden) return;
    const all = this.all;
    const shown = all.filter((one) => this.filter.matches(one.route, [one.path, one.client_address, one.trace_id, one.client.state, one.upstream.state]));
    const known = new Map();
    for (const one of shown) {
      const key = `${one.worker}/${one.id}`;
      const row = this.rows.get(key) ?? el("tr", { role: "row" });
      fill(row, one);
      this.known.set(row, one);
      known.set(key, row);
    }
    for (const [key, row] of this.rows) {
      if (known.has(key)) continue;
      row.remove();
      this.known.delete(row);
    }
    let before = this.body.firstChild;
    for (const row of known.values()) {
      if (row === before) before = before.nextSibling;
      else this.body.insertBefore(row, before);
    }
    this.rows = known;
    const left = this.total - all.length;
    setText(this.note, left > 0 ? `${count(all.length)} of ${count(this.total)} sessions: those being opened first, then the newest. All are in /sessions.` : "");
    this.empty.hidden = shown.length > 0;
    setText(this.empty, all.length ? "No session is like that. Choose another route or another text." : "No session now. Each client shows here from its upgrade request until both legs are closed.");
  }
}

function fill(row, one) {
  const waits = (leg) => (leg.unsent_bytes ? bytes(leg.unsent_bytes) : "");
  const unsent = [waits(one.client) && `${waits(one.client)} by client`, waits(one.upstream) && `${waits(one.upstream)} by upstream`].filter(Boolean).join(", ");
  const held = one.client.early_bytes + one.upstream.early_bytes;
  const said = (leg) => (leg.messages || leg.bytes ? `${plural(leg.messages, "message")}, ${bytes(leg.bytes)}` : "–");
  const worker = one.worker ? `worker ${one.worker}` : "";
  cells(row, [
    ["id", one.id],
    ["who", one.path, [one.client_address || "local", one.route === "*" ? "" : one.route, worker].filter(Boolean).join(" · ")],
    ["number age", age(one.age_s)],
    [`state ${one.client.state}`, one.client.state],
    ["number", said(one.client)],
    [`state ${one.upstream.state}`, one.upstream.state],
    ["number", said(one.upstream)],
    ["number", held ? bytes(held) : "–"],
    [`number${unsent ? " warn" : ""}`, unsent || "–"],
    ["number", one.redials ? String(one.redials) : "–"],
    ["trace", `${one.trace_id.slice(0, 8)}…`],
  ]);
}

const NAMES = ["Session", "", "Age", "Client leg", "Client said", "Upstream leg", "Upstream said", "Held early", "Waits to be taken", "Redials", "Trace"];

// Cells are made once and only their text changes: a row that is being read stays put.
function cells(row, wanted) {
  if (!row.children.length) {
    row.append(...wanted.map((_, at) => el("td", { role: "cell", "data-name": NAMES[at] }, el(at ? "span" : "button"), at === 1 ? el("span", { class: "muted" }) : "")));
    row.querySelector("button").title = "its handshake, if it is one of the last 200";
  }
  wanted.forEach(([className, text, second], at) => {
    const cell = row.children[at];
    if (cell.className !== className) cell.className = className;
    setText(cell.firstChild, String(text));
    if (second !== undefined) setText(cell.lastChild, second);
  });
}
