// @ts-check
// The map: two main directions of the pool. An outline drawn on it, or a circle moved by keys, opens its items.

import { showThese } from "./actions.js";
import { labelOf } from "./answers.js";
import { ask } from "./api.js";
import { colourOf, PLAIN } from "./colours.js";
import { button, byId, count, fill, h, kbd, plural, speak } from "./dom.js";
import { inside, ring } from "./lasso.js";
import { drawer } from "./points.js";
import { get, watch } from "./store.js";

const MOST = 20000;
const STEP = 0.04;

/** @type {any} */ let data = null;
/** @type {any} */ let drawing = null;
/** @type {any} */ const part = {};
let base = { cx: 0, cy: 0, sx: 1, sy: 1 };
let zoom = 1;
let centre = { x: 0, y: 0 }; // in the data
/** the outline, in clip units (−1 to 1) @type {[number, number][]} */
let outline = [];
/** the circle of the keyboard @type {{x: number, y: number, r: number}|null} */
let circle = null;
/** @type {number[]} */ let chosen = [];
let reading = false;

export function startMap() {
  part.points = h("canvas", { class: "points", "aria-hidden": "true" });
  part.over = h("canvas", { class: "over", tabindex: "0", role: "application", "aria-label": "Map of the pool. Arrows move a circle, plus and minus change its size, Enter opens the items inside.", "aria-describedby": "map-help" });
  part.chosen = h("div", { class: "chosen", role: "status" });
  part.legend = h("ul", { class: "legend" });
  part.note = h("p", { class: "dim" });
  part.field = h("div", { class: "field" }, part.points, part.over);
  byId("map").append(h("h2", { class: "unseen", text: "Map" }), h("div", { class: "map-head" }, part.note, part.chosen), part.field,
    h("div", { class: "map-foot" }, part.legend, h("p", { id: "map-help", class: "hint" }, "Draw around points to see them. ", h("span", { class: "for-keys" }, "Wheel zooms, ", kbd("⇧"), " drag moves. Keys: arrows, ", kbd("+"), " ", kbd("−"), " a circle, ", kbd("Enter"), " opens, ", kbd("0"), " all."))));
  part.over.addEventListener("pointerdown", onPointer);
  part.over.addEventListener("wheel", onWheel, { passive: false });
  part.over.addEventListener("keydown", onKey);
  new ResizeObserver(() => get().view === "map" && draw()).observe(part.field);
  window.addEventListener("theme", () => get().view === "map" && draw());
  watch(["view"], ({ view }) => {
    if (view !== "map") return;
    void read();
    part.over.focus({ preventScroll: true });
  });
  watch(["items", "run"], ({ view }) => view === "map" && !reading && data && load());
}

async function read() {
  reading = true;
  if (!data) part.note.textContent = "Reading the map …";
  try {
    const said = await ask(`api/map?n=${MOST}`);
    data = { ...said, x: Float32Array.from(said.x), y: Float32Array.from(said.y) };
    part.note.textContent = said.sampled ? `${plural(data.ids.length, "item")}: a uniform sample, and all that is labelled` : plural(data.ids.length, "item");
    home();
    load();
  } catch (error) {
    const { message, fix } = /** @type {any} */ (error);
    fill(part.note, `The map cannot be read: ${message}. ${fix || ""} `, button("Try again", () => void read()));
  }
  reading = false;
}

/** The view that holds all points. */
function home() {
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < data.x.length; i++) {
    [x0, x1] = [Math.min(x0, data.x[i]), Math.max(x1, data.x[i])];
    [y0, y1] = [Math.min(y0, data.y[i]), Math.max(y1, data.y[i])];
  }
  base = { cx: (x0 + x1) / 2 || 0, cy: (y0 + y1) / 2 || 0, sx: 1.88 / (x1 - x0 || 1), sy: 1.88 / (y1 - y0 || 1) };
  zoom = 1;
  centre = { x: base.cx, y: base.cy };
}

/** Colours and sizes: what is labelled is large, and drawn last. */
function load() {
  drawing = drawing || drawer(part.points);
  const classes = get().run ? get().run.classes : [];
  const names = data.ids.map((/** @type {string} */ id, /** @type {number} */ i) => {
    const item = get().items.get(String(id));
    return labelOf(item) ? labelOf(item) : data.labels[i] >= 0 ? data.classes[data.labels[i]] : null;
  });
  const order = [...names.keys()].sort((a, b) => Number(names[a] !== null) - Number(names[b] !== null) || a - b);
  drawing.load({
    x: Float32Array.from(order, (i) => data.x[i]),
    y: Float32Array.from(order, (i) => data.y[i]),
    colours: order.map((i) => (names[i] === null ? PLAIN : colourOf(names[i], classes))),
    sizes: Float32Array.from(order, (i) => (names[i] === null ? (order.length > 5000 ? 3 : 4) : 9)),
  });
  const seen = [...new Set(names.filter((/** @type {string|null} */ name) => name !== null))];
  fill(part.legend, [...seen, null].map((name) => {
    const dot = h("i", { class: "dot" });
    dot.style.background = name === null ? PLAIN : colourOf(name, classes);
    return h("li", {}, dot, name === null ? "not labelled" : name);
  }));
  part.field.dataset.drawn = drawing.kind;
  choose(); // an outline may have been drawn before the points were there
}

function view() {
  return { cx: centre.x, cy: centre.y, sx: base.sx * zoom, sy: base.sy * zoom };
}

function draw() {
  if (!drawing || !data) return;
  const box = part.field.getBoundingClientRect();
  for (const canvas of [part.points, part.over]) {
    const [w, hh] = [Math.round(box.width * devicePixelRatio), Math.round(box.height * devicePixelRatio)];
    if (canvas.width !== w || canvas.height !== hh) [canvas.width, canvas.height] = [w, hh];
  }
  drawing.draw(view());
  const pen = part.over.getContext("2d");
  const { width, height } = part.over;
  pen.clearRect(0, 0, width, height);
  const shape = circle ? ring(circle.x, circle.y, circle.r * Math.min(1, height / width), circle.r * Math.min(1, width / height)) : outline;
  if (shape.length < 2) return;
  pen.beginPath();
  shape.forEach(([x, y], i) => pen[i ? "lineTo" : "moveTo"](((x + 1) / 2) * width, ((1 - y) / 2) * height));
  pen.closePath();
  pen.fillStyle = "rgba(47, 134, 209, 0.18)";
  pen.strokeStyle = "#2f86d1";
  pen.lineWidth = 2 * devicePixelRatio;
  pen.fill();
  pen.stroke();
}

/** Which points the outline or the circle holds. */
function choose() {
  if (!data) return;
  const { cx, cy, sx, sy } = view();
  const box = part.field.getBoundingClientRect();
  const shape = circle ? ring(circle.x, circle.y, circle.r * Math.min(1, box.height / box.width), circle.r * Math.min(1, box.width / box.height)) : outline;
  chosen = inside(data.x, data.y, shape.map(([x, y]) => [x / sx + cx, y / sy + cy]));
  fill(part.chosen, chosen.length ? [h("span", { text: `${plural(chosen.length, "item")} inside ` }), button("Show them ", () => void show(), { class: "main" }, kbd("Enter"))] : shape.length > 2 ? h("span", { class: "dim", text: "No item inside" }) : null);
  draw();
}

async function show() {
  if (!chosen.length) return;
  await showThese(chosen.map((i) => String(data.ids[i])), `${count(chosen.length)} from the map`);
  speak(`${plural(chosen.length, "item")} from the map`);
}

/** @param {MouseEvent} event @returns {[number, number]} */
function clip(event) {
  const box = part.over.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * 2 - 1, 1 - ((event.clientY - box.top) / box.height) * 2];
}

/** @param {PointerEvent} event */
function onPointer(event) {
  if (event.button !== 0 && event.button !== 1) return;
  part.over.setPointerCapture(event.pointerId);
  const pan = event.shiftKey || event.button === 1;
  let last = clip(event);
  circle = null;
  if (!pan) outline = [last];
  const drag = (/** @type {PointerEvent} */ moved) => {
    const now = clip(moved);
    if (pan) {
      centre = { x: centre.x - (now[0] - last[0]) / (base.sx * zoom), y: centre.y - (now[1] - last[1]) / (base.sy * zoom) };
      last = now;
      outline = [];
    } else outline.push(now);
    draw();
  };
  part.over.addEventListener("pointermove", drag);
  part.over.addEventListener("lostpointercapture", () => (part.over.removeEventListener("pointermove", drag), choose()), { once: true });
}

/** @param {WheelEvent} event */
function onWheel(event) {
  event.preventDefault();
  const [x, y] = clip(event);
  const next = Math.max(1, Math.min(200, zoom * Math.exp(-event.deltaY / 300)));
  centre = { x: centre.x + (x / base.sx) * (1 / zoom - 1 / next), y: centre.y + (y / base.sy) * (1 / zoom - 1 / next) };
  zoom = next;
  outline = [];
  choose();
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  const steps = /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] });
  const step = steps[event.key];
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Enter") void show();
  else if (event.key === "0") {
    home();
    [circle, outline] = [null, []];
    choose();
  } else if (step || ["+", "=", "-"].includes(event.key)) {
    circle = circle || { x: 0, y: 0, r: 0.2 };
    outline = [];
    if (step) circle = { ...circle, x: Math.max(-1, Math.min(1, circle.x + step[0] * STEP)), y: Math.max(-1, Math.min(1, circle.y + step[1] * STEP)) };
    else circle = { ...circle, r: Math.max(0.02, Math.min(1.5, circle.r * (event.key === "-" ? 1 / 1.25 : 1.25))) };
    choose();
  } else return;
  event.preventDefault();
  event.stopPropagation();
}
