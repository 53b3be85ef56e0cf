// @ts-check
// The gallery: one tile for each item of the page. A tile is made once; an answer changes only what it says.

import { cross, mark, setMode } from "./actions.js";
import { answered, labelOf, own } from "./answers.js";
import { colourOf } from "./colours.js";
import { byId, h, short } from "./dom.js";
import { small } from "./media.js";
import { get, set, watch } from "./store.js";

/** @typedef {import("./store.js").Item} Item */

/** @type {Map<string, {node: any, look: string}>} */
let tiles = new Map();

export function startGallery() {
  const gallery = byId("gallery");
  gallery.addEventListener("click", onClick);
  gallery.addEventListener("dblclick", (/** @type {MouseEvent} */ event) => {
    if (tileAt(event) && get().mode === "gallery") setMode("large");
  });
  gallery.addEventListener("focusin", (/** @type {FocusEvent} */ event) => {
    const at = get().page.indexOf(tileAt(event) || "");
    if (at >= 0 && at !== get().cursor) set({ cursor: at });
  });
  watch(["page", "mode", "items", "marked", "crossed", "conflicts", "run", "loading", "tileSize", "view", "problem"], draw);
  watch(["cursor", "page", "mode", "view", "loading"], follow);
}

/** @param {Event} event @returns {string|null} */
function tileAt(event) {
  const tile = /** @type {Element} */ (event.target).closest(".tile");
  return tile instanceof HTMLElement ? tile.dataset.id || null : null;
}

/** @param {MouseEvent} event */
function onClick(event) {
  const id = tileAt(event);
  if (!id) return;
  if (get().mode === "binary") return cross(id);
  if (event.shiftKey) return mark(id, true);
  if (event.ctrlKey || event.metaKey) return mark(id);
  set({ cursor: get().page.indexOf(id), marked: new Set() });
}

function draw() {
  const { page, mode, loading, tileSize, items } = get();
  const gallery = byId("gallery");
  gallery.hidden = mode === "large" || (!page.length && !loading);
  gallery.dataset.size = tileSize;
  gallery.dataset.mode = mode;
  gallery.setAttribute("aria-busy", String(loading && !page.length));
  if (loading && !page.length) {
    beList(gallery, false);
    gallery.replaceChildren(...Array.from({ length: 18 }, () => h("div", { class: "tile waiting", "aria-hidden": "true" })));
    tiles = new Map();
    return;
  }
  beList(gallery, page.length > 0);
  const next = new Map();
  for (const [i, id] of page.entries()) {
    const item = items.get(id);
    if (!item) continue;
    const kept = tiles.get(id) || { node: make(id), look: "" };
    dress(kept, item, i);
    next.set(id, kept);
  }
  const nodes = [...next.values()].map((tile) => tile.node);
  if (nodes.length !== gallery.children.length || nodes.some((node, i) => gallery.children[i] !== node)) {
    gallery.replaceChildren(...nodes);
  }
  tiles = next;
}

/** Why an item was picked, in a word: scores of a batch of shares mean different things. @param {Item} item */
function shownScore(item) {
  if (item.reason) return item.reason.split(/[:;]/, 1)[0];
  const value = item.score ?? item.probability;
  return value === null || value === undefined ? "" : short(value);
}

/** A listbox must have options; until then the gallery is a group. @param {HTMLElement} gallery @param {boolean} list */
function beList(gallery, list) {
  gallery.setAttribute("role", list ? "listbox" : "group");
  if (list) gallery.setAttribute("aria-multiselectable", "true");
  else gallery.removeAttribute("aria-multiselectable");
}

/** @param {string} id */
function make(id) {
  return h("div", { class: "tile", role: "option", tabindex: "-1", "data-id": id });
}

/** Make a tile say what its item is now. @param {{node: any, look: string}} tile @param {Item} item @param {number} i */
function dress(tile, item, i) {
  const { node } = tile;
  const { marked, crossed, conflicts, run, mode, page, yes } = get();
  const look = `${item.kind}|${item.broken}|${item.text}`;
  if (look !== tile.look) {
    node.replaceChildren(h("span", { class: "unseen" }), h("div", { class: `pic ${item.kind}` }, small(item)), h("div", { class: "says", "aria-hidden": "true" }));
    tile.look = look;
  }
  const out = mode === "binary" && crossed.has(item.id);
  const words = own(item);
  node.classList.toggle("marked", marked.has(item.id));
  node.classList.toggle("crossed", out);
  node.classList.toggle("answered", answered(item));
  node.classList.toggle("conflict", conflicts.has(item.id));
  node.setAttribute("aria-selected", String(marked.has(item.id)));
  node.setAttribute("aria-posinset", String(i + 1));
  node.setAttribute("aria-setsize", String(page.length));
  node.title = item.key;
  const score = item.score === null ? "" : `${item.score_name || "score"} ${short(item.score)}`;
  // What a screen reader says of the tile: these words, then what is in the picture's place (a text, or why there is none).
  node.firstElementChild.textContent = [
    item.key,
    out ? "crossed out" : words || (mode === "binary" ? `will be ${yes}` : "no answer yet"),
    conflicts.has(item.id) ? "somebody else answered otherwise" : "",
    item.mine && item.mine.note ? "has a note" : "",
    item.mine && item.mine.rating !== null ? `rated ${item.mine.rating}` : "",
    score,
  ].filter(Boolean).join(", ");
  const chip = words
    ? h("span", { class: "chip" }, h("i", { class: "dot" }), h("span", { class: "text", text: words }))
    : h("span", { class: "score", text: shownScore(item) });
  const dot = chip.querySelector(".dot");
  if (dot) dot.style.background = colourOf(labelOf(item), run ? run.classes : []);
  const marks = [
    conflicts.has(item.id) ? h("span", { class: "flag", title: "Somebody else answered otherwise", text: "≠" }) : null,
    item.mine && item.mine.note ? h("span", { class: "flag", title: "Has a note", text: "✎" }) : null,
    item.mine && item.mine.rating !== null ? h("span", { class: "flag", title: "Rating", text: `★${item.mine.rating}` }) : null,
    item.others ? h("span", { class: "flag", title: "Answers of others", text: `+${item.others}` }) : null,
  ].filter(Boolean);
  node.lastElementChild.replaceChildren(chip, ...marks);
}

/** Keep the focus on the tile of the cursor, unless the person is elsewhere (a field, a dialog). */
function follow() {
  const { page, cursor, mode, view } = get();
  for (const [id, tile] of tiles) {
    const here = id === page[cursor];
    tile.node.tabIndex = here ? 0 : -1;
    tile.node.classList.toggle("here", here);
  }
  const tile = tiles.get(page[cursor]);
  if (!tile || mode === "large" || (view !== "label" && view !== "browse")) return;
  const at = document.activeElement;
  if (!document.querySelector("dialog[open]") && (!at || at === document.body || at.id === "main" || byId("shown").contains(at))) {
    tile.node.focus({ preventScroll: true });
  }
  tile.node.scrollIntoView({ block: "nearest" });
}

/** How many tiles stand side by side. */
export function columns() {
  const nodes = [...tiles.values()].map((tile) => tile.node);
  const top = nodes.length ? nodes[0].offsetTop : 0;
  const second = nodes.findIndex((node) => node.offsetTop > top);
  return second < 0 ? Math.max(1, nodes.length) : second;
}
