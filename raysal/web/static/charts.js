// @ts-check
// Charts as SVG, each with its numbers in a table for those who cannot see it.

import { fill, h, short } from "./dom.js";

const W = innerWidth < 720 ? 360 : 560; // letters are read at their size on a narrow page too
const H = 220;
const LEFT = 46;
const BOTTOM = 34;
const TOP = 12;
const RIGHT = 14;

/** Nice places for an axis. @param {number} low @param {number} high @param {number} n @param {boolean} [whole] */
function ticks(low, high, n, whole = false) {
  const span = high - low || 1;
  const raw = span / n;
  const size = 10 ** Math.floor(Math.log10(raw));
  let step = [1, 2, 5, 10].map((m) => m * size).find((s) => s >= raw) || 10 * size;
  if (whole) step = Math.max(1, Math.round(step));
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) found.push(Number(at.toPrecision(12)));
  return found;
}

/**
 * @typedef {{name: string, colour: string, points: [number, number][], low?: number[], high?: number[], dashed?: boolean}} Line
 * @param {{title: string, x: string, y: string, lines: Line[], yLow?: number, yHigh?: number, wholeX?: boolean, fromX?: boolean}} spec `fromX`: the axis begins where the line does
 */
export function lineChart(spec) {
  const all = spec.lines.flatMap((line) => line.points);
  const ys = [...all.map((p) => p[1]), ...spec.lines.flatMap((line) => [...(line.low || []), ...(line.high || [])])];
  const [x0, x1] = range(all.map((p) => p[0]), spec.fromX ? undefined : 0);
  let [y0, y1] = range(ys, spec.yLow);
  if (spec.yHigh !== undefined) y1 = Math.max(spec.yHigh, y1);
  const { svg, sx, sy } = frame(spec, x0, x1, y0, y1, spec.wholeX ?? true);
  for (const line of spec.lines) {
    if (line.low && line.high) {
      const there = line.points.map((p, i) => `${sx(p[0])},${sy(line.high ? line.high[i] : 0)}`);
      const back = line.points.map((p, i) => `${sx(p[0])},${sy(line.low ? line.low[i] : 0)}`).reverse();
      svg.append(h("svg:polygon", { points: [...there, ...back].join(" "), fill: line.colour, opacity: "0.18" }));
    }
    svg.append(h("svg:polyline", { points: line.points.map((p) => `${sx(p[0])},${sy(p[1])}`).join(" "), fill: "none", stroke: line.colour, "stroke-width": "2", "stroke-dasharray": line.dashed ? "5 4" : null }));
    if (line.points.length <= 60) for (const p of line.points) svg.append(h("svg:circle", { cx: sx(p[0]), cy: sy(p[1]), r: "3", fill: line.colour }, h("svg:title", { text: `${line.name}: ${short(p[1])} at ${short(p[0])}` })));
  }
  const head = [spec.x, ...spec.lines.map((line) => line.name)];
  const xs = [...new Set(all.map((p) => p[0]))].sort((a, b) => a - b);
  const rows = xs.map((x) => [short(x), ...spec.lines.map((line) => short((line.points.find((p) => p[0] === x) || [0, NaN])[1]))]);
  return figure(spec.title, svg, spec.lines.length > 1 ? spec.lines : [], head, rows);
}

/**
 * Stacked bars over edges.
 * @param {{title: string, x: string, y: string, edges: number[], stacks: {name: string, colour: string, counts: number[]}[], root?: boolean}} spec
 */
export function histogram(spec) {
  const n = spec.edges.length - 1;
  const totals = Array.from({ length: n }, (_, i) => spec.stacks.reduce((sum, stack) => sum + stack.counts[i], 0));
  const size = (/** @type {number} */ value) => (spec.root ? Math.sqrt(value) : value);
  const most = Math.max(1, ...totals.map(size));
  const { svg, sx, sy } = frame(spec, spec.edges[0], spec.edges[n], 0, most, false, (value) => short(spec.root ? value * value : value));
  for (let i = 0; i < n; i++) {
    let below = 0;
    const [left, right] = [sx(spec.edges[i]), sx(spec.edges[i + 1])];
    for (const stack of spec.stacks) {
      if (!stack.counts[i]) continue;
      const [from, to] = [sy(size(below)), sy(size(below + stack.counts[i]))];
      below += stack.counts[i];
      svg.append(h("svg:rect", { x: left + 0.5, y: to, width: Math.max(1, right - left - 1), height: Math.max(0.8, from - to), fill: stack.colour },
        h("svg:title", { text: `${stack.name}: ${stack.counts[i]} from ${short(spec.edges[i])} to ${short(spec.edges[i + 1])}` })));
    }
  }
  const rows = totals.map((_, i) => [`${short(spec.edges[i])} – ${short(spec.edges[i + 1])}`, ...spec.stacks.map((stack) => String(stack.counts[i]))]);
  return figure(spec.title, svg, spec.stacks, [spec.x, ...spec.stacks.map((stack) => stack.name)], rows);
}

/** Bars side by side. @param {{title: string, x: string, y: string, names: string[], values: number[], colour: string, yHigh?: number}} spec */
export function bars(spec) {
  const n = spec.values.length;
  const { svg, sx, sy } = frame(spec, 0.5, n + 0.5, 0, spec.yHigh ?? Math.max(1e-9, ...spec.values), true);
  const width = Math.min(40, ((W - LEFT - RIGHT) / n) * 0.7);
  spec.values.forEach((value, i) => {
    svg.append(h("svg:rect", { x: sx(i + 1) - width / 2, y: sy(value), width, height: Math.max(1, sy(0) - sy(value)), fill: spec.colour, rx: 2 },
      h("svg:title", { text: `${spec.names[i]}: ${short(value)}` })));
  });
  return figure(spec.title, svg, [], [spec.x, spec.y], spec.values.map((value, i) => [spec.names[i], short(value)]));
}

/** @param {number[]} values @param {number} [low] */
function range(values, low) {
  const known = values.filter(Number.isFinite);
  const from = low !== undefined ? Math.min(low, ...known) : Math.min(...known);
  const to = Math.max(...known);
  if (!known.length) return [0, 1];
  return from === to ? [from - (low === undefined ? 0.5 : 0), to + 0.5] : [from, to];
}

/** @param {any} spec @param {number} x0 @param {number} x1 @param {number} y0 @param {number} y1 @param {boolean} wholeX @param {(value: number) => string} [words] */
function frame(spec, x0, x1, y0, y1, wholeX, words = short) {
  const sx = (/** @type {number} */ x) => Number((LEFT + ((x - x0) / (x1 - x0)) * (W - LEFT - RIGHT)).toFixed(2));
  const sy = (/** @type {number} */ y) => Number((H - BOTTOM - ((y - y0) / (y1 - y0)) * (H - BOTTOM - TOP)).toFixed(2));
  const svg = h("svg:svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${spec.title}: ${spec.y} over ${spec.x}`, class: "chart" });
  for (const at of ticks(y0, y1, 4)) {
    svg.append(h("svg:line", { x1: LEFT, x2: W - RIGHT, y1: sy(at), y2: sy(at), class: "grid" }),
      h("svg:text", { x: LEFT - 6, y: sy(at) + 4, "text-anchor": "end", text: words(at) }));
  }
  for (const at of ticks(x0, x1, 6, wholeX)) svg.append(h("svg:text", { x: sx(at), y: H - BOTTOM + 16, "text-anchor": "middle", text: short(at) }));
  svg.append(h("svg:text", { x: (LEFT + W - RIGHT) / 2, y: H - 3, "text-anchor": "middle", class: "axis", text: spec.x }));
  // At the axis itself: no number on it says that its steps are not even.
  if (spec.root) svg.append(h("svg:text", { x: LEFT, y: TOP - 2, class: "axis", text: spec.y }));
  return { svg, sx, sy };
}

/** @param {string} title @param {any} svg @param {{name: string, colour: string}[]} legend @param {string[]} head @param {string[][]} rows */
function figure(title, svg, legend, head, rows) {
  const table = h("details", {}, h("summary", { text: "Numbers" }));
  table.addEventListener("toggle", () => {
    if (table.open && table.children.length < 2) {
      table.append(h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, numbers` }, h("table", {},
        h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col", text: name })))),
        h("tbody", {}, rows.map((row) => h("tr", {}, row.map((value, i) => h(i ? "td" : "th", { scope: i ? null : "row", text: value }))))))));
    }
  });
  const key = h("ul", { class: "legend" }, legend.map((entry) => {
    const dot = h("i", { class: "dot" });
    dot.style.background = entry.colour;
    return h("li", {}, dot, entry.name);
  }));
  const node = h("figure", {});
  fill(node, h("figcaption", { text: title }), svg, legend.length ? key : null, table);
  return node;
}
