// One handshake beside the list, or over it where there is no room: all that is known of it.

import { bytes, el, ms, plural, setText, tally } from "./text.js";
import { reason, table } from "./waterfall.js";

const NARROW = window.matchMedia("(max-width: 60rem)");

// Clients may share a trace, and hardly a path and an address, too.
export function isOf(session, one) {
  return session.trace_id === one.trace_id && session.path === one.path && session.client_address === one.client_address;
}

export class Detail {
  constructor(closed) {
    this.closed = closed; // called with the id of the handshake that was shown
    this.panel = document.querySelector("#detail");
    this.title = document.querySelector("#detail-title");
    this.body = document.querySelector("#detail-body");
    this.about = { trace_url: "" };
    this.one = null;
    this.session = null;
    document.querySelector("#detail-close").addEventListener("click", () => this.close());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.one) this.close();
    });
    NARROW.addEventListener("change", () => this.cover());
  }

  show(one) {
    const first = this.one === null;
    this.one = one;
    this.panel.hidden = false;
    document.body.classList.add("with-detail");
    this.cover();
    this.draw();
    if (first && NARROW.matches) document.querySelector("#detail-close").focus();
  }

  // The first reply may come while it is shown.
  update(one) {
    if (this.one && one.id === this.one.id) {
      this.one = one;
      this.draw();
    }
  }

  close() {
    const id = this.one?.id;
    this.one = null;
    this.panel.hidden = true;
    document.body.classList.remove("with-detail");
    this.cover();
    this.closed(id);
  }

  // Over the list, it is all that there is.
  cover() {
    const covers = this.one !== null && NARROW.matches;
    document.querySelector("#main").inert = covers;
    this.panel.setAttribute("aria-modal", String(covers));
  }

  draw() {
    const one = this.one;
    setText(this.title, one.path);
    this.body.replaceChildren(
      el("p", { class: "verdict" }, el("span", { class: `badge ${one.outcome}` }, one.outcome.replaceAll("_", " ")), ` ${reason(one)}`),
      this.trace(one),
      table(one),
      facts(one),
      (this.session = el("div", { class: "session" })),
    );
  }

  trace(one) {
    const id = el("code", { id: "trace-id" }, one.trace_id);
    const copy = el("button", { class: "copy" }, "Copy");
    copy.addEventListener("click", async () => setText(copy, (await copied(id)) ? "Copied" : "Select and copy"));
    const url = this.about.trace_url;
    const link = url && one.sampled ? el("a", { href: url.replaceAll("{trace_id}", one.trace_id), target: "_blank", rel: "noreferrer" }, "Open trace") : "";
    return el("p", { class: "trace" }, "trace ", id, " ", copy, " ", link, one.sampled ? "" : el("span", { class: "muted" }, " not exported"));
  }

  // Its session, if it is one of those that are shown.
  sessions(all) {
    if (!this.one || !this.session) return;
    const mine = all.find((session) => isOf(session, this.one));
    this.session.replaceChildren(...(mine ? [el("h3", {}, "Its session now"), list([
      ["session", mine.id],
      ["client leg", `${mine.client.state}, said ${plural(mine.client.messages, "message")}, ${bytes(mine.client.bytes)}`],
      ["upstream leg", `${mine.upstream.state}, said ${plural(mine.upstream.messages, "message")}, ${bytes(mine.upstream.bytes)}`],
    ])] : []));
  }
}

function facts(one) {
  const early = ([messages, size]) => (messages || size ? `${plural(messages, "message")}, ${bytes(size)}` : "");
  return list([
    ["began", new Date(one.began).toLocaleString("en", { dateStyle: "medium", timeStyle: "medium" })],
    ["took", ms(one.ms)],
    ["gate open after", one.open_ms === null ? "it did not open" : ms(one.open_ms)],
    ["first reply", one.first_reply_ms === null ? "" : `${ms(one.first_reply_ms)} after the gate opened`],
    ["client got", got(one)],
    ["redials", one.redials ? `${one.redials}: ${tally(one.redial_causes)}` : ""],
    ["client said early", early(one.early_client)],
    ["upstream said early", early(one.early_upstream)],
    ["path", one.path],
    ["client", one.client_address],
    ["route", one.route],
    ["policy", one.policy],
    ["subprotocols", one.subprotocols],
    ["user agent", one.user_agent],
    ["worker", one.worker ? String(one.worker) : ""],
  ]);
}

function got(one) {
  const status = one.status === null ? "no answer: it was gone" : `HTTP ${one.status}`;
  return one.close_code === null ? status : `${status}, then Close ${one.close_code}`;
}

function list(pairs) {
  const rows = pairs.filter(([, value]) => value).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));
  return el("dl", { class: "facts" }, ...rows);
}

// The clipboard is there for pages of this machine or over TLS; elsewhere the text is selected.
async function copied(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    window.getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }
}
