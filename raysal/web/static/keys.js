// @ts-check
// From a key to what it does. Fields and dialogs keep their own keys; so do single letters when they are switched off.

import * as actions from "./actions.js";
import { asIs, closePanel, invert, nextChannel, nudge } from "./adjust.js";
import { editNote, isAsking, openHelp, openPalette } from "./dialogs.js";
import { go, open } from "./feed.js";
import { columns } from "./gallery.js";
import { KEYS } from "./keymap.js";
import { fit, panBy, play, zoomBy } from "./stage.js";
import { acceptProposal } from "./states.js";
import { current, get, keep, set } from "./store.js";

const ARROWS = /** @type {Record<string, [number, number]>} */ ({
  arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1],
});
const SIZES = ["small", "medium", "large"];

/** What a row of the table does. `key` is the key that was pressed, `digit` its number. */
const DO = /** @type {Record<string, (key: string, digit: number, event: KeyboardEvent) => any>} */ ({
  digit: (_, digit) => actions.labelNumber((digit + 9) % 10),
  rate: (_, digit) => digit <= 5 && actions.rate(digit),
  palette: openPalette,
  skip: actions.skip,
  dispute: actions.dispute,
  undo: actions.undo,
  withdraw: actions.withdraw,
  note: editNote,
  arrow: (key, _, event) => {
    const [dx, dy] = ARROWS[key];
    return actions.move(get().mode === "large" ? dx + dy : dx + dy * columns(), event.shiftKey);
  },
  edge: (key) => set({ cursor: key === "home" ? 0 : Math.max(0, get().page.length - 1) }),
  page: (key) => go(key === "pageup" ? -1 : 1),
  more: actions.moreLikeThis,
  reload: open,
  mark: () => {
    const item = current();
    if (item) (get().mode === "binary" ? actions.cross : actions.mark)(item.id);
  },
  markAll: actions.markAll,
  enter: () => (!get().page.length ? acceptProposal() : get().mode === "binary" ? actions.sayYes() : actions.setMode(get().mode === "large" ? "gallery" : "large")),
  escape: () => {
    if (closePanel()) return;
    if (get().marked.size) set({ marked: new Set() });
    else if (get().mode === "large") actions.setMode("gallery");
    else if (get().crossed.size) set({ crossed: new Set() });
  },
  mode: (key) => {
    if (key === "y" && get().view !== "label") return;
    actions.setMode(key === "g" ? "gallery" : key === "f" ? "large" : "binary");
  },
  size: () => {
    const tileSize = SIZES[(SIZES.indexOf(get().tileSize) + 1) % SIZES.length];
    set({ tileSize });
    keep.write("tileSize", tileSize);
  },
  view: (key) => actions.setView({ l: "label", b: "browse", k: "map", j: "statistics" }[key] || "label"),
  help: openHelp,
  zoom: (key) => (key === "z" ? fit() : zoomBy(key === "+" || key === "=" ? 1.5 : 1 / 1.5)),
  pan: (key) => {
    const [dx, dy] = ARROWS[key.slice(5)];
    panBy(-dx / 5, -dy / 5);
  },
  brightness: (key) => nudge("brightness", key === "]" ? 0.1 : -0.1),
  contrast: (key) => nudge("contrast", key === "." ? 0.1 : -0.1),
  invert,
  channel: nextChannel,
  asIs,
  play,
});

const EVERYWHERE = new Set(["view", "help"]);
const SCROLLS = new Set(["arrowup", "arrowdown", "pageup", "pagedown", "home", "end"]);
const NEEDS_ITEMS_OFF = new Set(["map", "statistics"]);

export function startKeys() {
  document.addEventListener("keydown", onKey);
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (event.defaultPrevented || event.isComposing || event.altKey || isAsking()) return;
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.closest("input:not([type=checkbox]), textarea, select, audio, [contenteditable], [popover]")) return;
  const name = nameOf(event);
  if (SCROLLS.has(name) && target.closest(".large-text, .large-table, .scroll")) return; // a long text is read by these
  if (target.closest("button, a, summary, label, input") && [" ", "enter"].includes(name)) return;
  const row = KEYS.find((known) => known.keys.includes(name));
  if (!row || !get().run) return;
  if (NEEDS_ITEMS_OFF.has(get().view) && !EVERYWHERE.has(row.act)) return;
  const single = name.length === 1 || name.endsWith("digit");
  if (single && name !== "?" && name !== " " && !get().keysOn) return;
  if (event.repeat && !["arrow", "page", "pan", "zoom", "brightness", "contrast"].includes(row.act)) return;
  event.preventDefault();
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code);
  DO[row.act](name, digit ? Number(digit[1]) : -1, event);
}

/** The name of a key in the table. Digits go by their place: French keyboards write them with shift. @param {KeyboardEvent} event */
function nameOf(event) {
  const control = event.ctrlKey || event.metaKey;
  if (/^(?:Digit|Numpad)\d$/.test(event.code) && /^(?:\d|[^a-zA-Z])$/.test(event.key)) {
    return control ? "" : event.shiftKey ? "shift+digit" : "digit";
  }
  return `${control ? "ctrl+" : ""}${event.key.toLowerCase()}`;
}
