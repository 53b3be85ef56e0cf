// @ts-check
// Beside the items: the classes with their keys, and what is known of the current item.

import { answered, labelOf } from "./answers.js";
import { dispute, label, moreLikeThis, rate, sayYes, skip, undo } from "./actions.js";
import { colourOf } from "./colours.js";
import { byId, button, count, fill, h, kbd, short } from "./dom.js";
import { editNote, openPalette } from "./dialogs.js";
import { draftOf } from "./drafts.js";
import { asText } from "./media.js";
import { current, get, set, watch } from "./store.js";

const SHOWN = 10;

export function startSide() {
  const side = byId("side");
  side.append(h("section", { id: "classes", "aria-labelledby": "classes-title" }), h("section", { id: "facts", "aria-label": "Current item" }));
  // A click beside the items leaves the focus with the items: the keyboard goes on.
  side.addEventListener("mousedown", (/** @type {MouseEvent} */ event) => {
    if (/** @type {Element} */ (event.target).closest("#classes button")) event.preventDefault();
  });
  watch(["run", "marked", "page", "cursor", "items", "mode", "crossed", "yes", "no", "view", "fresh"], drawClasses);
  watch(["items", "cursor", "page", "conflicts", "run"], drawFacts);
}

let drawn = "";

function drawClasses() {
  const { run, marked, page, mode } = get();
  if (!run) return;
  if (mode === "binary") return drawSides();
  const item = current();
  const mine = labelOf(item);
  const look = JSON.stringify([run.classes, run.target, mine, marked.size, page.length > 0]);
  if (look === drawn) return;
  drawn = look;
  const classes = run.classes.slice(0, SHOWN);
  fill(
    byId("classes"),
    h("h2", { id: "classes-title" }, marked.size ? `Label ${count(marked.size)} marked` : "Label"),
    h("div", { class: "class-list" }, classes.map((/** @type {any} */ known, /** @type {number} */ i) => {
      const node = button("", () => label(known.name), { class: "class", "aria-pressed": String(known.name === mine), disabled: !page.length }, kbd(String((i + 1) % 10)),
        h("i", { class: "dot" }), h("span", { class: "name", text: known.name }),
        run.target.includes(known.name) ? h("span", { class: "aim", text: "target" }) : null,
        h("span", { class: "count", text: count(known.count) }));
      node.querySelector(".dot").style.background = colourOf(known.name, run.classes);
      return node;
    }), button(run.classes.length > SHOWN ? `All ${run.classes.length} classes, or a new one ` : "Another class ", openPalette, { class: "quiet wide" }, kbd("C"))),
    h("div", { class: "acts" },
      button("Skip ", skip, { disabled: !page.length }, kbd("S")),
      button("Dispute ", dispute, { disabled: !page.length }, kbd("D")),
      button("Undo ", undo, {}, kbd("U")), factsButton()),
  );
}

/** Yes or no: what the page becomes at one key. */
function drawSides() {
  const { page, items, crossed, yes, no, run, fresh } = get();
  const open = page.filter((id) => !answered(items.get(id)));
  const out = open.filter((id) => crossed.has(id)).length;
  const look = JSON.stringify(["binary", open.length, out, yes, no, run.classes, fresh]);
  if (look === drawn) return;
  drawn = look;
  const here = document.activeElement && byId("classes").contains(document.activeElement) ? document.activeElement.id : "";
  fill(
    byId("classes"),
    h("h2", { id: "classes-title", text: "Yes or no" }),
    h("div", { class: "sides" }, side("yes", "Yes is", yes), side("no", "Crossed out is", no)),
    button(`Yes to ${open.length - out}${out ? `, no to ${out}` : ""} `, () => void sayYes(), { id: "yes-all", class: "main wide", disabled: !yes || !no || !open.length || fresh }, kbd("Enter")),
    h("p", { class: "hint" }, kbd("Space"), " crosses out, or a click."),
    h("div", { class: "acts" }, button("Skip ", skip, { disabled: !page.length }, kbd("S")), button("Undo ", undo, {}, kbd("U")), factsButton()),
  );
  if (here) byId(here)?.focus();
}

/** @param {"yes"|"no"} which @param {string} title @param {string} value */
function side(which, title, value) {
  const names = get().run.classes.map((/** @type {any} */ known) => known.name);
  if (value && !names.includes(value)) names.push(value);
  const pick = h("select", { id: `side-${which}` }, value ? null : h("option", { value: "", text: "choose" }), names.map((/** @type {string} */ name) => h("option", { value: name, text: name })));
  pick.value = value;
  pick.addEventListener("change", () => set({ [which]: pick.value }));
  return h("label", { for: `side-${which}` }, `${title} `, pick);
}


/** On a narrow page the facts wait behind this button. */
function factsButton() {
  const side = byId("side");
  const node = button("Facts", () => {
    side.dataset.open = side.dataset.open === "yes" ? "no" : "yes";
    node.setAttribute("aria-expanded", String(side.dataset.open === "yes"));
  }, { class: "facts-button", "aria-controls": "facts", "aria-expanded": String(side.dataset.open === "yes") });
  return node;
}

function drawFacts() {
  const item = current();
  const { conflicts } = get();
  const place = byId("facts");
  if (!item) return void fill(place);
  const at = document.activeElement && place.contains(document.activeElement) ? document.activeElement.id : "";
  const conflict = conflicts.get(item.id);
  const draft = draftOf([item.id]);
  const rating = item.mine ? item.mine.rating : null;
  const facts = [
    item.score === null || item.score_name === "probability" || item.reason ? null : [item.score_name || "score", short(item.score)],
    item.probability === null ? null : ["probability", short(item.probability)],
    item.rank === null ? null : ["rank", count(item.rank)],
    item.reason ? ["picked because", item.reason] : null,
    item.width && item.height ? ["size", `${item.width} × ${item.height}`] : null,
    item.others ? ["answers of others", count(item.others)] : null,
    ...((item.kind === "table" || item.kind === "vector") && !item.text ? [] : Object.entries(item.carried || {}).slice(0, 8).map(([name, value]) => [name, asText(value)])),
  ].filter((fact) => fact !== null);
  fill(
    place,
    h("h2", { class: "key", text: item.key }),
    conflict ? conflictBox(item, conflict) : null,
    item.probability === null ? null : h("div", { class: "meter", "aria-hidden": "true" }, meter(item.probability)),
    h("dl", {}, facts.map(([name, value]) => [h("dt", { text: name }), h("dd", { text: value })])),
    h("div", { class: "rating", role: "group", "aria-label": "Rating, shift and a digit" },
      h("span", { class: "dim" }, "Rating ", kbd("⇧")),
      [0, 1, 2, 3, 4, 5].map((n) => button(String(n), () => rate(n), { id: `rate-${n}`, "aria-pressed": String(rating === n), "aria-label": `Rate ${n}` }))),
    item.mine && item.mine.note ? h("blockquote", { class: "note", text: item.mine.note }) : null,
    draft ? h("p", { class: "hint draft" }, "A note is not saved yet. ", kbd("N"), " goes on with it.") : null,
    h("div", { class: "acts" },
      button("Note ", editNote, { id: "note-button" }, kbd("N")),
      button("More like this ", () => void moreLikeThis(), { id: "more-button" }, kbd("M"))),
  );
  if (at) byId(at)?.focus();
}

/** @param {number} part */
function meter(part) {
  const bar = h("i", {});
  bar.style.width = `${Math.round(1000 * part) / 10}%`;
  return bar;
}

/** @param {import("./store.js").Item} item @param {import("./store.js").Conflict} conflict */
function conflictBox(item, conflict) {
  const close = () => set({ conflicts: new Map([...get().conflicts].filter(([id]) => id !== item.id)) });
  const others = [...new Set(Object.values(conflict.labels).filter((name) => name !== labelOf(item)))];
  return h("div", { class: "conflict-box", role: "group", "aria-label": "Different answers" },
    h("b", { text: "Different answers" }),
    h("dl", {}, Object.entries(conflict.labels).map(([who, what]) => [h("dt", { text: who }), h("dd", { text: what })])),
    h("div", { class: "row" },
      button("Keep mine", close, { id: "keep-mine" }),
      others.slice(0, 2).map((name, i) => button(`Say ${name}`, () => (close(), label(name)), { id: `say-${i}` })),
      button("Dispute", () => (close(), dispute()), { id: "say-dispute" })));
}
