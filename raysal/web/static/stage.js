// @ts-check
// The large view: one item, with zoom and pan, and the page as a strip below it.

import { move, setMode } from "./actions.js";
import { labelOf, own } from "./answers.js";
import { colourOf } from "./colours.js";
import { byId, button, fill, h, kbd, plural, speak } from "./dom.js";
import { upcoming } from "./feed.js";
import { large, small } from "./media.js";
import { warmWhole } from "./prefetch.js";
import { current, get, set, watch } from "./store.js";

const MOST = 32;
const SWIPE = 50;
let zoom = 1;
let x = 0;
let y = 0;
/** which item, in which state of health, is on the stage */
let shown = "";
/** @type {any} */ let view;
/** @type {any} */ let caption;
/** @type {any} */ let strip;
/** @type {any} */ let scale;

export function startStage() {
  view = h("div", { class: "view", tabindex: "-1", role: "group" });
  caption = h("div", { class: "caption" });
  strip = h("ol", { class: "strip", "aria-label": "Items of this page" });
  scale = h("output", { class: "zoom-is", text: "fit" });
  const controls = h("div", { class: "zoom" },
    button("−", () => zoomBy(1 / 1.5), { "aria-label": "Zoom out" }), scale,
    button("+", () => zoomBy(1.5), { "aria-label": "Zoom in" }),
    button("Fit", fit, { "aria-label": "Fit the picture" }));
  byId("stage").append(h("div", { class: "frame" }, view, controls), caption, strip);
  view.addEventListener("wheel", onWheel, { passive: false });
  view.addEventListener("pointerdown", onPointer);
  view.addEventListener("dblclick", () => (zoom === 1 ? zoomBy(4) : fit()));
  strip.addEventListener("click", (/** @type {MouseEvent} */ event) => {
    const thumb = /** @type {Element} */ (event.target).closest("button");
    if (thumb) set({ cursor: Number(thumb.dataset.at) });
  });
  watch(["page", "cursor", "mode", "items", "run", "conflicts", "view", "loading", "marked"], draw);
}

function draw() {
  const { mode, page, cursor } = get();
  const stage = byId("stage");
  const item = current();
  stage.hidden = mode !== "large" || !item;
  if (stage.hidden || !item) {
    shown = "";
    return;
  }
  const look = `${item.id}|${item.broken}`;
  if (look !== shown) {
    if (!shown.startsWith(`${item.id}|`)) fit();
    shown = look;
    view.setAttribute("aria-label", `${item.key}, ${cursor + 1} of ${page.length}`);
    fill(view, large(item));
    warmWhole(upcoming());
    speak(`${item.key}${own(item) ? `, ${own(item)}` : ""}`);
    const at = document.activeElement;
    if (!document.querySelector("dialog[open]") && (!at || at === document.body || byId("shown").contains(at))) (view.querySelector(".large-text") || view).focus({ preventScroll: true });
  }
  apply();
  drawCaption(item);
  drawStrip();
}

/** @param {import("./store.js").Item} item */
function drawCaption(item) {
  const { run, page, cursor, marked } = get();
  const words = own(item);
  const chip = words ? h("span", { class: "chip" }, h("i", { class: "dot" }), h("span", { class: "text", text: words })) : h("span", { class: "dim", text: "no answer yet" });
  const dot = chip.querySelector(".dot");
  if (dot) dot.style.background = colourOf(labelOf(item), run ? run.classes : []);
  fill(caption, h("span", { class: "where", text: `${cursor + 1} / ${page.length}` }), h("b", { class: "key", text: item.key }), chip,
    marked.size ? h("span", { class: "dim", text: `${plural(marked.size, "item")} marked` }) : null,
    button("Gallery ", () => setMode("gallery"), { class: "quiet" }, kbd("Esc")));
}

function drawStrip() {
  const { page, items, cursor, run } = get();
  const kept = new Map([...strip.children].map((node) => [node.dataset.id, node]));
  const nodes = page.map((id, i) => {
    const item = items.get(id);
    if (!item) return null;
    const node = kept.get(id) || h("li", { "data-id": id }, h("button", { type: "button", tabindex: "-1" }, h("span", { class: "unseen" }), h("span", { class: `pic ${item.kind}`, "aria-hidden": "true" }, small(item)), h("i", { class: "bar" })));
    const thumb = node.firstElementChild;
    thumb.dataset.at = String(i);
    thumb.firstElementChild.textContent = [item.key, own(item), item.broken ? "cannot be shown" : ""].filter(Boolean).join(", ");
    if (i === cursor) thumb.setAttribute("aria-current", "true");
    else thumb.removeAttribute("aria-current");
    thumb.lastElementChild.style.background = own(item) ? colourOf(labelOf(item), run ? run.classes : []) : "transparent";
    return node;
  }).filter(Boolean);
  if (nodes.length !== strip.children.length || nodes.some((node, i) => strip.children[i] !== node)) strip.replaceChildren(...nodes);
  const here = nodes[cursor];
  if (here) strip.scrollLeft = here.offsetLeft - strip.clientWidth / 2 + here.clientWidth / 2;
}

// -- zoom and pan ----------------------------------------------------------------------------------------------

export function fit() {
  zoom = 1;
  x = y = 0;
  apply();
}

/** @param {number} by @param {number} [atX] from the centre of the view @param {number} [atY] */
export function zoomBy(by, atX = 0, atY = 0) {
  const next = Math.max(1, Math.min(MOST, zoom * by));
  x = atX - ((atX - x) * next) / zoom;
  y = atY - ((atY - y) * next) / zoom;
  zoom = next;
  apply();
}

/** @param {number} dx parts of the view @param {number} dy */
export function panBy(dx, dy) {
  x += dx * view.clientWidth;
  y += dy * view.clientHeight;
  apply();
}

function apply() {
  const picture = view.querySelector(".large-picture");
  scale.textContent = zoom === 1 ? "fit" : `${Math.round(zoom * 100)} %`;
  if (!picture) return;
  const far = (zoom - 1) / 2;
  x = Math.max(-far * view.clientWidth, Math.min(far * view.clientWidth, x));
  y = Math.max(-far * view.clientHeight, Math.min(far * view.clientHeight, y));
  picture.style.transform = zoom === 1 ? "" : `translate(${x}px, ${y}px) scale(${zoom})`;
  view.classList.toggle("zoomed", zoom > 1);
}

/** @param {WheelEvent} event */
function onWheel(event) {
  if (!view.querySelector(".large-picture")) return;
  event.preventDefault();
  const box = view.getBoundingClientRect();
  zoomBy(Math.exp(-event.deltaY / 300), event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2);
}

/** fingers and the pen or mouse that are down, where they are @type {Map<number, {x: number, y: number}>} */
const down = new Map();

/** One pointer moves a zoomed picture, or swipes to the next item; two pinch. @param {PointerEvent} event */
function onPointer(event) {
  if (event.button !== 0 || !view.querySelector(".large-picture")) return;
  view.setPointerCapture(event.pointerId);
  down.set(event.pointerId, { x: event.clientX, y: event.clientY });
  const from = event.clientX;
  const drag = (/** @type {PointerEvent} */ moved) => {
    const before = down.get(moved.pointerId);
    if (moved.pointerId !== event.pointerId || !before) return;
    const other = [...down].find(([id]) => id !== moved.pointerId);
    const now = { x: moved.clientX, y: moved.clientY };
    if (other) {
      const box = view.getBoundingClientRect();
      const far = (/** @type {{x: number, y: number}} */ p) => Math.hypot(p.x - other[1].x, p.y - other[1].y) || 1;
      zoomBy(far(now) / far(before), (now.x + other[1].x) / 2 - box.left - box.width / 2, (now.y + other[1].y) / 2 - box.top - box.height / 2);
    } else if (zoom > 1) {
      x += now.x - before.x;
      y += now.y - before.y;
      apply();
    }
    down.set(moved.pointerId, now);
  };
  const end = (/** @type {PointerEvent} */ lifted) => {
    if (lifted.pointerId !== event.pointerId) return;
    view.removeEventListener("pointermove", drag);
    view.removeEventListener("lostpointercapture", end);
    const alone = down.size === 1;
    down.delete(event.pointerId);
    const far = lifted.clientX - from;
    if (alone && zoom === 1 && event.pointerType === "touch" && Math.abs(far) > SWIPE) void move(far < 0 ? 1 : -1);
  };
  view.addEventListener("pointermove", drag);
  view.addEventListener("lostpointercapture", end);
}

/** Play or stop the sound on the stage. */
export function play() {
  const player = view.querySelector("audio");
  if (player instanceof HTMLAudioElement) void (player.paused ? player.play().catch(() => speak("The sound cannot be played")) : player.pause());
}
