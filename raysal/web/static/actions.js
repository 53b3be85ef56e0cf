// @ts-check
// What a person can do: one function each, used by keys and buttons alike. An answer shows at once and is sent behind.

import { answered, applied } from "./answers.js";
import { ask } from "./api.js";
import { plural, speak } from "./dom.js";
import { go, goTo, lookAhead, open } from "./feed.js";
import { enqueue, recall, withPending } from "./queue.js";
import { current, get, keep, put, set, subjects } from "./store.js";
import { toast } from "./toast.js";

/**
 * @typedef {import("./store.js").Item} Item
 * @typedef {import("./answers.js").Answer} Answer
 */

/** what was so before each answer of this page @type {{entry: any, before: Item[], words: string, crossed: Set<string>|null}[]} */
const done = [];

/**
 * Send one answer for each item, and show it.
 * @param {Item[]} items
 * @param {Answer | ((item: Item) => Answer)} say
 * @param {string} words for the screen reader
 * @param {Set<string>|null} [crossed] the crosses that the answer stands for: undo puts them back
 */
function answer(items, say, words, crossed = null) {
  if (!items.length) return;
  const answers = items.map((item) => (typeof say === "function" ? say(item) : say));
  const found = get().view !== "label"; // what somebody else has before them is refused there
  const entry = enqueue("api/answers", { answers: items.map((item, i) => ({ id: item.id, key: item.key, ...answers[i] })), found });
  done.push({ entry, before: items.map((item) => ({ ...item })), words, crossed });
  put(items.map((item, i) => applied(item, answers[i])));
  speak(items.length === 1 ? `${items[0].key}: ${words}` : `${plural(items.length, "item")}: ${words}`);
}

/** Label what is marked, or the current item. @param {string} label */
export function label(label) {
  const items = subjects();
  if (!items.length) return;
  knowClass(label);
  answer(items, { label }, label);
  after();
}

/** Label by the number of a class. @param {number} index */
export function labelNumber(index) {
  const known = get().run ? get().run.classes : [];
  if (known[index]) label(known[index].name);
  else toast(`There is no class ${index + 1} yet: press C to name one`);
}

/** A class that is typed for the first time has a place at once. @param {string} name */
function knowClass(name) {
  const { run } = get();
  if (!run.classes.some((/** @type {any} */ known) => known.name === name)) {
    set({ run: { ...run, classes: [...run.classes, { name, count: 0 }] } });
  }
}

export function skip() {
  answer(subjects(), { skip: true }, "skipped");
  after();
}

export function dispute() {
  answer(subjects(), { dispute: true }, "disputed");
  after();
}

export function withdraw() {
  answer(subjects().filter((item) => answered(item)), { withdraw: true }, "answer taken back");
}

/** @param {number} rating 0 to 5 */
export function rate(rating) {
  answer(subjects(), { rating }, `rated ${rating}`);
}

/** @param {Item[]} items @param {string} note */
export function writeNote(items, note) {
  answer(items, { note }, note ? "note kept" : "note taken away");
}

/** Binary mode: all of the page that is unanswered gets a class: what is crossed out the other one. */
export async function sayYes() {
  const { page, items, crossed, yes, no, fresh } = get();
  if (!yes || !no || fresh) return; // a second Enter in a hurry must not answer a page that nobody saw
  const open = page.map((id) => /** @type {Item} */ (items.get(id))).filter((item) => item && !answered(item));
  if (open.length) {
    const out = open.filter((item) => crossed.has(item.id)).length;
    knowClass(yes);
    knowClass(no);
    answer(open, (item) => ({ label: crossed.has(item.id) ? no : yes }), `${open.length - out} ${yes}, ${out} ${no}`, crossed);
  }
  set({ crossed: new Set() });
  lookAhead();
  await go(1);
}

/** Take back the last answer of this person: here at once if it was given on this page. */
export function undo() {
  const last = done.pop();
  if (!last) return void enqueue("api/undo", {}, false);
  if (!recall(last.entry)) enqueue("api/undo", { of: last.entry.nonce }, true, last.entry.annotator);
  put(last.before);
  if (!goTo(last.before[0].id)) speak("taken back");
  else if (last.crossed && get().mode === "binary") set({ crossed: last.crossed });
  set({ conflicts: new Map([...get().conflicts].filter(([id]) => !last.before.some((item) => item.id === id))) });
  toast(`Taken back: ${last.words}${last.before.length > 1 ? ` of ${last.before.length} items` : ""}`);
}

/** An answer was refused: the page is as it was before, and undo does not mean it. @param {any} entry */
export function takeFromPage(entry) {
  const place = done.findIndex((one) => one.entry === entry);
  if (place >= 0) put(withPending(done.splice(place, 1)[0].before));
}

/** What follows an answer: marks are gone, and the cursor is on the next unanswered item. */
function after() {
  if (get().marked.size) set({ marked: new Set() });
  lookAhead();
  if (get().view === "label") advance();
  else void move(1);
}

/** The next item without an answer: after the cursor, then before it, then on the next page. */
function advance() {
  const { page, cursor, items } = get();
  const isOpen = (/** @type {string} */ id) => !answered(items.get(id));
  let next = page.findIndex((id, i) => i > cursor && isOpen(id));
  if (next < 0) next = page.findIndex(isOpen);
  if (next >= 0) set({ cursor: next });
  else void go(1);
}

// -- moving ----------------------------------------------------------------------------------------------------

/** @param {number} by @param {boolean} [extend] mark what is passed over */
export async function move(by, extend = false) {
  const { page, cursor, marked } = get();
  const to = cursor + by;
  if (to >= 0 && to < page.length) {
    if (extend) set({ marked: new Set([...marked, page[cursor], page[to]]) });
    return void set({ cursor: to });
  }
  if (extend || Math.abs(by) > 1) return void set({ cursor: Math.max(0, Math.min(page.length - 1, to)) });
  await go(Math.sign(by), by < 0 ? "last" : "first");
}

/** @param {string} id @param {boolean} range from the cursor to the item */
export function mark(id, range = false) {
  const { page, cursor } = get();
  const marked = new Set(get().marked);
  const at = page.indexOf(id);
  if (range) for (let i = Math.min(at, cursor); i <= Math.max(at, cursor); i++) marked.add(page[i]);
  else if (!marked.delete(id)) marked.add(id);
  set({ marked, cursor: at });
  speak(`${plural(marked.size, "item")} marked`);
}

/** Cross out, or take the cross away. @param {string} id */
export function cross(id) {
  const crossed = new Set(get().crossed);
  if (!crossed.delete(id)) crossed.add(id);
  set({ crossed, cursor: get().page.indexOf(id) });
  speak(crossed.has(id) ? "crossed out" : "not crossed out");
}

export function markAll() {
  set({ marked: new Set(get().page) });
  speak(`${plural(get().page.length, "item")} marked`);
}

/** @param {string} mode */
export function setMode(mode) {
  if (mode === "binary") chooseSides();
  set({ mode, marked: new Set(), crossed: new Set() });
  keep.write("mode", mode);
}

/** The two classes of binary mode: the target and, of two classes, the other one. */
function chooseSides() {
  const { run, yes, no } = get();
  const names = run.classes.map((/** @type {any} */ known) => known.name);
  const target = yes || run.target[0] || names[0] || "";
  const others = names.filter((/** @type {string} */ name) => name !== target && !run.target.includes(name));
  set({ yes: target, no: no && no !== target ? no : others[0] || "" });
}

/** @param {string} view */
export async function setView(view) {
  if (get().view === view) return;
  set({ view, conflicts: get().conflicts });
  if (view === "browse" && get().mode === "binary") set({ mode: "gallery" });
  if (view === "label" || view === "browse") await open();
}

/** @param {string} order */
export async function setOrder(order) {
  const { view } = get();
  set({ order: { ...get().order, [view]: order }, subject: null });
  keep.write("order", get().order);
  await open();
}

/** The items nearest to the current one. */
export async function moreLikeThis() {
  const item = current();
  if (!item) return;
  set({ subject: { key: item.key, id: item.id }, view: "browse", mode: "gallery" });
  speak(`Items like ${item.key}`);
  await open();
}

/** Put the cursor on an item, wherever it is. @param {string} id */
export async function lookAt(id) {
  if (get().view !== "map" && get().view !== "statistics" && goTo(id)) return;
  await showThese([id], "Different answers");
}

/** @param {string[]} ids @param {string} title */
export async function showThese(ids, title) {
  set({ subject: { ids, title }, view: "browse", mode: "gallery" });
  await open();
}

// -- the run ---------------------------------------------------------------------------------------------------

export async function chooseBatch() {
  const after = newestRound(get().run);
  try {
    set({ busy: { stage: "round", done: 0, total: 0 } });
    await ask("api/round", { body: { after } });
  } catch (error) {
    set({ busy: null });
    // Somebody else was quicker: their batch is the one that was wished for.
    if (/** @type {any} */ (error).status === 409 && newestRound(await refreshRun()) > after) return void (await open());
    toast(String(/** @type {any} */ (error).message), { fix: /** @type {any} */ (error).fix, bad: true });
  }
}

/** The number of the newest round, -1 for none. @param {any} run */
function newestRound(run) {
  return run ? run.rounds - 1 : -1;
}

export async function stop() {
  await ask("api/stop", { body: {} }).catch((error) => toast(error.message, { bad: true }));
}

export async function refreshRun() {
  try {
    const run = await ask("api/run");
    set({ run });
    return run;
  } catch {
    return null; // The bar says that the connection is lost.
  }
}
