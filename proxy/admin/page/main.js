// Follows the gate's events and hands them to the parts of the page.

import { Detail, isOf } from "./detail.js";
import { Handshakes, figures } from "./handshakes.js";
import { Sessions } from "./sessions.js";
import { bytes, count, el, ms, setText } from "./text.js";
import { Windows } from "./windows.js";

const AGAIN_MS = 2000;
const STALE_MS = 5000;
const SAY_EVERY_MS = 15_000;
const $ = (selector) => document.querySelector(selector);

// -- what is to be seen -------------------------------------------------------------------------------------

const filter = {
  route: "",
  text: "",
  matches(route, texts) {
    if (this.route && route !== this.route) return false;
    return !this.text || texts.some((text) => text && String(text).toLowerCase().includes(this.text));
  },
};
const handshakes = new Handshakes(filter, (one) => {
  detail.show(one);
  handshakes.mark(one.id);
  detail.sessions(sessions.all);
});
const sessions = new Sessions(filter, (session) => {
  const one = handshakes.all.find((each) => isOf(session, each));
  if (one) detail.show(one);
  handshakes.mark(one?.id);
  detail.sessions(sessions.all);
});
const windows = new Windows(filter);
const detail = new Detail((id) => {
  handshakes.mark(null);
  handshakes.focusOn(id);
});

$("#route").addEventListener("change", (event) => {
  filter.route = event.target.value;
  redraw();
});
$("#text").addEventListener("input", (event) => {
  filter.text = event.target.value.trim().toLowerCase();
  redraw();
});

function redraw() {
  handshakes.sift();
  handshakes.draw();
  sessions.draw();
  windows.draw();
}

function knowRoutes(names) {
  const select = $("#route");
  const known = new Set([...select.options].map((option) => option.value));
  for (const name of names) {
    if (known.has(name)) continue;
    known.add(name);
    select.append(el("option", { value: name }, name === "*" ? "* (default)" : name));
  }
}

// -- tabs ---------------------------------------------------------------------------------------------------

const tabs = [...document.querySelectorAll("[role=tab]")];

function choose(tab, focus) {
  for (const each of tabs) {
    const on = each === tab;
    each.setAttribute("aria-selected", String(on));
    each.tabIndex = on ? 0 : -1;
    $(`#${each.getAttribute("aria-controls")}`).hidden = !on;
  }
  if (focus) tab.focus();
  sessions.draw();
  windows.draw();
}

tabs.forEach((tab, at) => {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + tabs.length }[event.key];
    if (to !== undefined) choose(tabs[to % tabs.length], true);
  });
});

// -- pause: the lists hold still, the figures go on ---------------------------------------------------------

let paused = false;
const waiting = new Map();

$("#pause").addEventListener("click", () => {
  paused = !paused;
  $("#pause").setAttribute("aria-pressed", String(paused));
  if (!paused) {
    takeHandshakes([...waiting.values()]);
    waiting.clear();
  }
  tellPause();
});

function tellPause() {
  const news = waiting.size ? ` (${waiting.size} new)` : "";
  setText($("#pause"), paused ? `Resume${news}` : "Pause");
}

// -- what the gate tells ------------------------------------------------------------------------------------

const workers = new Map(); // by number, 0 without workers: {now, rate}

function hello(told) {
  detail.about = told;
  document.title = `readygate · ${told.upstream}`;
}

function takeHandshakes(some) {
  handshakes.take(some);
  for (const one of some) detail.update(one);
  knowRoutes(some.map((one) => one.route));
  const byWorker = Map.groupBy ? Map.groupBy(some, (one) => one.worker ?? 0) : new Map([[0, some]]);
  for (const [worker, own] of byWorker) windows.learnFrom(worker, own);
  tellFigures();
}

function takeNow(worker, told) {
  const before = workers.get(worker);
  const total = Object.values(told.outcomes).reduce((a, b) => a + b, 0);
  const at = performance.now();
  const samples = [...(before?.samples ?? []), [at, total]].slice(-6);
  const [[firstAt, first]] = samples;
  workers.set(worker, { told, samples, rate: at > firstAt ? ((total - first) * 1000) / (at - firstAt) : 0 });
  sessions.total = sum((one) => one.told.sessions + one.told.pending);
  setText($("#tab-sessions .count"), count(sessions.total));
  setText($("#about"), `${detail.about.version} · to ${detail.about.upstream} · policy ${told.policy}`);
  if (!paused) windows.take(worker, told.windows);
  knowRoutes(told.windows.map((window) => window.route));
  tellFigures();
}

function sum(of) {
  return [...workers.values()].reduce((total, one) => total + of(one), 0);
}

const FIGURES = ["Open sessions", "Being opened", "Handshakes a second", "Opened", "Time to open, p50", "Time to open, p99", "Redialled", "Early bytes held"];
$("#now").append(...FIGURES.map((name) => el("div", {}, el("dt", {}, name), el("dd", {}, "–"), el("dd", { class: "muted" }))));
let saidAt = 0;

function tellFigures() {
  const seen = figures(handshakes.all);
  const share = (part, whole) => (whole ? `${((part / whole) * 100).toFixed(part === whole ? 0 : 1)} %` : "–");
  const of = handshakes.all.length ? `of the last ${handshakes.all.length}` : "no handshake yet";
  const told = [
    [count(sum((one) => one.told.sessions))],
    [count(sum((one) => one.told.pending))],
    [sum((one) => one.rate).toFixed(1), `${count(sum((one) => one.samples.at(-1)[1]))} in all`],
    [share(seen.opened, seen.judged), seen.judged ? `${seen.opened} of ${seen.judged}` : of],
    [ms(seen.p50), of],
    [ms(seen.p99), of],
    [share(seen.redialled, handshakes.all.length), of],
    [bytes(sum((one) => one.told.early_bytes))],
  ];
  [...$("#now").children].forEach((figure, at) => {
    setText(figure.children[1], told[at][0]);
    setText(figure.children[2], told[at][1] ?? "");
  });
  if (Date.now() - saidAt > SAY_EVERY_MS && workers.size) {
    saidAt = Date.now();
    setText($("#summary"), `${told[0][0]} sessions open, ${told[1][0]} being opened, ${told[3][0]} opened, half of them within ${told[4][0]}`);
  }
}

// -- the connection -----------------------------------------------------------------------------------------

let heardAt = 0;
let source = null;

function state(kind, text) {
  $("#connection").className = `connection ${kind}`;
  setText($("#connection"), text);
  document.body.classList.toggle("stale", kind === "off");
}

function connect() {
  source?.close();
  const mine = (source = new EventSource("page/events"));
  const on = (kind, take) => mine.addEventListener(kind, (event) => {
    heardAt = Date.now();
    state("on", "live");
    take(JSON.parse(event.data));
  });
  on("hello", hello);
  on("handshakes", ({ worker, handshakes: some }) => {
    const all = worker ? some.map((one) => ({ ...one, worker })) : some;
    if (!paused) return takeHandshakes(all);
    for (const one of all) waiting.set(one.id, one);
    for (const id of [...waiting.keys()].slice(0, -200)) waiting.delete(id);
    return tellPause();
  });
  on("now", ({ worker = 0, ...told }) => takeNow(worker, told));
  on("sessions", ({ worker = 0, sessions: some }) => {
    if (paused) return;
    sessions.take(worker, some);
    detail.sessions(sessions.all);
  });
  on("gone", ({ worker }) => {
    workers.delete(worker);
    sessions.gone(worker);
  });
  on("lost", connect); // too slow for all of it: what counts is told anew
  mine.onerror = () => {
    state("off", "disconnected, trying again");
    if (mine.readyState === EventSource.CLOSED && mine === source) setTimeout(connect, AGAIN_MS);
  };
}

setInterval(() => {
  const silent = Date.now() - heardAt;
  if (heardAt && silent > STALE_MS) state("off", `no news for ${Math.round(silent / 1000)} s`);
}, 1000);
handshakes.sift();
sessions.draw();
connect();
