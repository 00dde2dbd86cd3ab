// Learned windows over time: steps of a line for each, from the handshakes listed and from what is told each second.

import { el, ms, setText, svg } from "./text.js";

const LINES = [
  ["upstream_ms", "Upstream window", 1],
  ["client_ms", "Client window", 0],
  ["quiet_ms", "Quiet time", 2],
];
const KEPT_MS = 30 * 60_000;
const [WIDTH, HEIGHT] = [300, 56];

export class Windows {
  constructor(filter) {
    this.filter = filter;
    this.routes = new Map(); // by worker and route: {worker, route, lines: name -> [[at, ms]], most}
    this.panel = document.querySelector("#windows");
    this.cards = document.querySelector("#window-cards");
    this.empty = document.querySelector("#windows-empty");
  }

  // A stabilization by `quiet` had the window of its moment as its budget.
  learnFrom(worker, handshakes) {
    for (const one of handshakes) {
      for (const step of one.steps) {
        if (step.name !== "stabilization" || step.evidence !== "quiet" || step.outcome === "skipped") continue;
        this.add(worker, one.route, `${step.leg}_ms`, Date.parse(one.began) + step.start_ms, step.budget_ms);
      }
    }
    this.draw();
  }

  take(worker, windows) {
    const at = Date.now();
    for (const told of windows) {
      const route = this.route(worker, told.route);
      route.most = told.most_ms;
      for (const [name] of LINES) if (told[name] !== null) this.add(worker, told.route, name, at, told[name]);
    }
    this.draw();
  }

  route(worker, name) {
    const key = `${worker} ${name}`;
    if (!this.routes.has(key)) this.routes.set(key, { worker, route: name, lines: {}, most: [0, 0, 0], card: null });
    return this.routes.get(key);
  }

  add(worker, name, line, at, value) {
    const route = this.route(worker, name);
    const points = (route.lines[line] ??= []);
    const last = points.at(-1);
    if (last && at <= last[0]) return; // known already
    if (last && points.length > 1 && last[1] === value && points.at(-2)[1] === value) last[0] = at;
    else points.push([at, value]);
    while (points.length > 2 && points[1][0] < at - KEPT_MS) points.shift();
  }

  draw() {
    if (this.panel.hidden) return;
    let shown = 0;
    for (const route of this.routes.values()) {
      route.card ??= this.cards.appendChild(el("article", { class: "card" }));
      route.card.hidden = !this.filter.matches(route.route, [route.route]);
      if (route.card.hidden) continue;
      shown += 1;
      const title = route.worker ? `${route.route} · worker ${route.worker}` : route.route;
      route.card.replaceChildren(el("h3", {}, title), ...LINES.map(([name, label, at]) => line(label, route.lines[name], route.most[at])));
    }
    this.empty.hidden = shown > 0;
    setText(this.empty, this.routes.size ? "No route is like that." : "Nothing learned yet: a route shows here after its first handshake.");
  }
}

function line(label, points, most) {
  if (!points?.length) return el("p", { class: "muted line" }, el("span", { class: "name" }, label), "nothing to learn");
  const now = Date.now();
  const from = Math.min(points[0][0], now - 60_000);
  const top = Math.max(most, ...points.map(([, value]) => value), 1);
  const x = (at) => (((at - from) / (now - from)) * WIDTH).toFixed(1);
  const y = (value) => (HEIGHT - 4 - (value / top) * (HEIGHT - 8)).toFixed(1);
  const steps = points.map(([at, value], index) => (index ? `H${x(at)}V${y(value)}` : `M${x(at)} ${y(value)}`)).join("") + `H${WIDTH}`;
  const last = points.at(-1)[1];
  const values = points.map(([, value]) => value);
  const spoken = `${label}: now ${ms(last)}, between ${ms(Math.min(...values))} and ${ms(Math.max(...values))} in the last ${Math.round((now - from) / 60_000) || 1} min`;
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": spoken },
    svg("path", { class: "area", d: `${steps}V${HEIGHT}H${x(points[0][0])}Z` }),
    svg("path", { class: "curve", d: steps }));
  return el("div", { class: "line" },
    el("span", { class: "name" }, label),
    el("span", { class: "value" }, ms(last), el("span", { class: "muted" }, ` at most ${ms(top)}`)),
    picture,
    el("span", { class: "muted ends" }, el("span", {}, `${Math.max(1, Math.round((now - from) / 60_000))} min ago`), el("span", {}, "now")));
}
