// @ts-check
// Where the search stands: what was found, how good the head is by its own tests, whether people agree, when to stop.

import { ask } from "./api.js";
import { bars, histogram, lineChart } from "./charts.js";
import { COLOURS, colourOf, PLAIN } from "./colours.js";
import { button, byId, count, fill, h, plural, short } from "./dom.js";
import { get, watch } from "./store.js";

let score = "probability";
let metric = "";
let reading = 0;
/** @type {any} */ let curve = null;
/** @type {any} */ let shape = null;
/** @type {string} */ let problem = "";

export function startStatistics() {
  watch(["view"], ({ view }) => void (view === "statistics" && read()));
  watch(["run"], ({ view }) => void (view === "statistics" && read()));
}

async function read() {
  reading += 1;
  const mine = reading;
  if (!curve) draw();
  try {
    const [said, counted] = await Promise.all([ask("api/curve"), ask(`api/histogram?score=${score}`).catch((error) => ({ problem: error.message }))]);
    if (mine !== reading) return;
    [curve, shape, problem] = [said, counted, ""];
  } catch (error) {
    if (mine !== reading) return;
    problem = String(/** @type {any} */ (error).message);
  }
  draw();
}

function draw() {
  const { run } = get();
  const place = byId("statistics");
  if (!run) return;
  const at = document.activeElement && place.contains(document.activeElement) ? document.activeElement.id : "";
  const open = [...place.querySelectorAll("details")].map((node) => node.open);
  fill(place, h("h2", { class: "unseen", text: "Statistics" }), cards(run), hints(run),
    problem ? h("p", { class: "problem", text: problem }) : null,
    !curve && !problem ? h("p", { class: "dim", role: "status", text: "Reading …" }) : null,
    curve ? h("div", { class: "charts" }, search(run), found(), precision(), quality(), tests(), scores(run)) : null, agreement(run), people(run));
  [...place.querySelectorAll("details")].forEach((node, i) => (node.open = open[i] || false));
  if (at) byId(at)?.focus();
}

const FEWEST_DRAWS = 10;

/** Whether an evaluation goes by so few test draws that its numbers mislead. @param {any} said */
function isThin(said) {
  return said.known_by === "test draws" && said.items < FEWEST_DRAWS;
}

const NAMES = /** @type {Record<string, string>} */ ({
  auprc: "AUPRC", auroc: "AUROC", accuracy: "accuracy", precision_at_k: "precision of the first k", recall_at_k: "recall of the first k",
  precision_in_top: "precision of the top 1 %", recall_in_top: "recall of the top 1 %", attained_at_k: "of what the first k could hold",
  attained_in_top: "of what the top 1 % could hold", negative_log_likelihood: "negative log likelihood", expected_calibration_error: "calibration error",
});

/** A measure as people call it. @param {string} name */
function titleOf(name) {
  return (NAMES[name] || name.replaceAll("_", " ")).replace("first k", `first ${get().run.k}`);
}

/** A share in percent. @param {number} value */
function percent(value) {
  const size = 100 * value;
  return `${size >= 10 || size === 0 ? Math.round(size) : Number(size.toPrecision(2))} %`;
}

/** A number and its interval. @param {number} value @param {number[]|null|undefined} ends @param {(value: number) => string} words */
function within(value, ends, words) {
  return ends ? [h("b", { text: words(value) }), " ", h("span", { class: "dim interval", text: `${words(ends[0])} to ${words(ends[1])}` })] : h("b", { text: words(value) });
}

/** @param {any} run */
function cards(run) {
  const labels = run.classes.reduce((/** @type {number} */ sum, /** @type {any} */ one) => sum + one.count, 0);
  const target = run.classes.filter((/** @type {any} */ one) => run.target.includes(one.name)).reduce((/** @type {number} */ sum, /** @type {any} */ one) => sum + one.count, 0);
  const search = run.search;
  const known = search && target > search.found ? `, and ${count(target - search.found)} at the start` : "";
  const rows = [[count(labels), labels === 1 ? "label" : "labels"], run.target.length ? [count(search ? search.found : target), `found: ${run.target.join(", ")}${known}`] : null,
    search && search.precision !== null ? [percent(search.precision), `of ${plural(search.labels, "label")} since the first batch ${search.labels === 1 ? "is a hit" : "are hits"}`] : null,
    [count(run.rounds), run.rounds === 1 ? "round" : "rounds"], [count(run.items), `${run.items === 1 ? "item" : "items"} in the pool`]];
  return h("ul", { class: "cards" }, rows.filter((row) => row !== null).map((row) => h("li", {}, h("b", { text: row[0] }), h("span", { text: row[1] }))));
}

/** @param {any} run */
function hints(run) {
  const said = [...run.hints, ...(run.search ? run.search.hints : [])];
  if (!said.length) return null;
  return h("section", { class: "hints", "aria-labelledby": "hints-title" }, h("h3", { id: "hints-title", text: "When to stop" }),
    h("ul", {}, said.map((/** @type {string} */ text) => h("li", { text: `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}` }))));
}

/** What the run's test draws say: without bias, from the labels of the run itself. @param {any} run */
function search(run) {
  const said = run.search;
  if (!said) return null;
  const whole = (/** @type {number} */ value) => count(Math.round(value));
  const rows = [["Items left to find", said.left, said.left_interval, whole], ["Share of the pool that is looked for", said.prevalence, said.prevalence_interval, percent]].filter((row) => row[1] !== null && row[1] !== undefined);
  if (!rows.length) return null;
  const wide = said.left_interval && said.left_interval[1] > 4 * Math.max(25, said.left);
  return h("figure", {}, h("figcaption", { text: "What is left" }),
    h("table", {}, h("tbody", {}, rows.map(([name, value, ends, words]) => h("tr", {}, h("th", { scope: "row", text: name }), h("td", {}, within(value, ends, words)))))),
    h("p", { class: "hint", text: `${count(said.answered)} of ${plural(said.drawn, "test draw")} have an answer. The intervals hold with 95 %.${wide ? " More test draws make them narrower." : ""}` }));
}

function found() {
  if (!curve.found || curve.found.length < 2) return null;
  const last = curve.found[curve.found.length - 1];
  const ideal = Math.min(last[0], Math.ceil(1.25 * last[1])); // the line of hits alone, no higher than the curve needs
  return lineChart({ title: "Found", x: "labels", y: "found", yLow: 0, lines: [
    { name: "found", colour: COLOURS[0], points: curve.found },
    { name: "every label a hit", colour: PLAIN, dashed: true, points: [[0, 0], [ideal, ideal]] }] });
}

function quality() {
  const rounds = (curve.rounds || []).filter((/** @type {any} */ round) => round.evaluation && !isThin(round.evaluation));
  const names = [...new Set(rounds.flatMap((/** @type {any} */ round) => Object.keys(measures(round)).filter((name) => Number.isFinite(measures(round)[name]))))];
  if (rounds.length < 2 || !names.length) return null;
  const name = names.includes(metric) ? metric : rounds[rounds.length - 1].evaluation.metric || names[0];
  const pick = h("select", { id: "metric", "aria-label": "Measure" }, names.map((one) => h("option", { value: one, text: titleOf(one) })));
  pick.value = name;
  pick.addEventListener("change", () => ((metric = pick.value), draw()));
  const known = rounds.filter((/** @type {any} */ round) => Number.isFinite(measures(round)[name]));
  const isShare = (/** @type {any} */ round) => measures(round)[name] >= 0 && measures(round)[name] <= 1 && name !== "negative_log_likelihood";
  const ends = known.map((/** @type {any} */ round) => (round.evaluation.intervals || {})[name]);
  const band = ends.every(Boolean) ? { low: ends.map((/** @type {any} */ pair) => pair[0]), high: ends.map((/** @type {any} */ pair) => pair[1]) } : {};
  const chart = lineChart({ title: "Learning curve", x: "labels", y: titleOf(name), fromX: true, ...(known.every(isShare) ? { yLow: 0, yHigh: 1 } : {}), lines: [{ name: titleOf(name), colour: COLOURS[0], points: known.map((/** @type {any} */ round) => [round.labels, measures(round)[name]]), ...band }] });
  chart.querySelector("figcaption").append(" ", pick);
  return chart;
}

/** @param {any} round @returns {Record<string, number>} */
function measures(round) {
  return round.evaluation.measures || {};
}

function precision() {
  const values = curve.precision && curve.precision.batch ? curve.precision.batch.map((/** @type {any} */ one) => (typeof one === "number" ? one : one === null ? NaN : one.precision)) : [];
  const known = values.map((/** @type {number} */ value, /** @type {number} */ i) => ({ value, i })).filter((/** @type {any} */ one) => Number.isFinite(one.value));
  if (!known.length) return null;
  return bars({ title: "Found in each batch", x: "batch", y: "part of its labels", yHigh: 1, names: known.map((/** @type {any} */ one) => String(one.i + 1)), values: known.map((/** @type {any} */ one) => one.value), colour: COLOURS[2] });
}

/** @param {any} run */
function scores(run) {
  const names = ["probability", "novelty"];
  const choose = h("span", { class: "segments", role: "group", "aria-label": "Score" }, names.map((name) => button(name, () => ((score = name), void read()), { id: `score-${name}`, "aria-pressed": String(name === score) })));
  if (!shape || shape.problem || !shape.counts || !shape.counts.length) {
    return h("figure", {}, h("figcaption", {}, "Scores ", choose), h("p", { class: "dim", text: shape && shape.problem ? shape.problem : "No score yet: a label or a round gives one." }));
  }
  const labelled = shape.labelled || {};
  const rest = shape.counts.map((/** @type {number} */ n, /** @type {number} */ i) => Math.max(0, n - Object.values(labelled).reduce((sum, counts) => sum + counts[i], 0)));
  const stacks = [...Object.entries(labelled).map(([name, counts]) => ({ name, colour: colourOf(name, run.classes), counts })), { name: "not labelled", colour: PLAIN, counts: rest }];
  const chart = histogram({ title: "Scores", x: score, y: "items (root scale)", edges: shape.edges, stacks, root: true });
  chart.querySelector("figcaption").append(" ", choose);
  return chart;
}

/** The measures of the last round, without bias, each with its interval. */
function tests() {
  const said = (curve.rounds || []).map((/** @type {any} */ round) => round.evaluation).filter(Boolean).pop();
  const names = said ? Object.keys(NAMES).filter((name) => Number.isFinite((said.measures || {})[name])) : [];
  if (!names.length) return null;
  if (isThin(said)) {
    return h("figure", {}, h("figcaption", { text: "How good the head is" }),
      h("p", { class: "dim", text: `Too few test draws yet (${count(said.items)}): from ${FEWEST_DRAWS} answered ones on, measures are shown here.` }));
  }
  const ends = said.intervals || {};
  return h("figure", {}, h("figcaption", { text: "How good the head is" }),
    h("table", {}, h("tbody", {}, names.map((name) => h("tr", {}, h("th", { scope: "row", text: titleOf(name) }), h("td", {}, within(said.measures[name], ends[name], (value) => value.toFixed(3))))))),
    h("p", { class: "hint", text: said.known_by === "test draws"
      ? `At the last batch, by ${plural(said.items, "test draw")}: held-out items that were drawn with a known probability, so that the numbers have no bias.`
      : `At the last batch, on ${plural(said.items, "held-out item")}.` }));
}

/** A value, or a value with its interval. @param {any} value @returns {string} */
function measured(value) {
  if (typeof value === "number") return short(value);
  if (Array.isArray(value)) return value.map(measured).join(" – ");
  if (value && typeof value === "object") {
    const middle = value.value ?? value.estimate ?? value.mean;
    if (middle !== undefined && value.low !== undefined) return `${short(middle)} (${short(value.low)} – ${short(value.high)})`;
    return Object.entries(value).map(([name, one]) => `${name} ${measured(one)}`).join(", ");
  }
  return String(value);
}

/** @param {any} run */
function agreement(run) {
  const said = run.agreement;
  if (!said) return null;
  const rows = [["Items with two answers or more", count(said.items)], ["All agree", `${Math.round(100 * said.all_agree)} %`],
    ["Krippendorff’s α", measured(said.krippendorff_alpha)], ["Fleiss’ κ", measured(said.fleiss_kappa)],
    ...said.cohen_kappa.map((/** @type {any} */ pair) => [`Cohen’s κ, ${pair.annotators.map(nameOf).join(" and ")}`, `${measured(pair.kappa)} on ${plural(pair.items, "item")}`])];
  return h("section", { class: "agreement", "aria-labelledby": "agreement-title" }, h("h3", { id: "agreement-title", text: "Agreement" }),
    h("table", {}, h("tbody", {}, rows.map(([name, value]) => h("tr", {}, h("th", { scope: "row", text: name }), h("td", { text: value }))))));
}

/** @param {string} annotator */
function nameOf(annotator) {
  return annotator || "no name (files, programs)";
}

/** @param {any} run */
function people(run) {
  if (!run.annotators || !run.annotators.length) return null;
  return h("section", { "aria-labelledby": "people-title" }, h("h3", { id: "people-title", text: "Who labelled" }),
    h("table", {}, h("tbody", {}, run.annotators.map((/** @type {any} */ one) => h("tr", {}, h("th", { scope: "row", text: nameOf(one.name) }), h("td", { text: count(one.labels) }))))));
}
