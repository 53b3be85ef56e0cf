// @ts-check
// Pages of items: handed out to this person (label), or looked at in any order (browse). The next page is asked for
// while this one is answered, and its pictures are fetched, so that turning a page waits for nothing.

import { answered } from "./answers.js";
import { ask, Refused } from "./api.js";
import { plural } from "./dom.js";
import { warm } from "./prefetch.js";
import { pending, queueMoves, withPending } from "./queue.js";
import { get, put, putAgain, set } from "./store.js";
import { toast } from "./toast.js";

const HANDED = 25;
const BROWSED = 60;
const MOST_HELD = 200;
const RENEW_MS = 60_000;
const SURE_MS = 3000;
const AGAIN_MS = 1000;
const GLANCE_MS = 500;

/** @type {string[][]} */
let pages = [];
/** @type {ReturnType<typeof setTimeout>|undefined} */
let seen;
/** @type {Promise<void>|null} */
let ahead = null;
let more = false; // whether an order that is looked at has another page
let asked = 0; // of a set of ids: how many were asked for
let turn = 0; // answers to questions of an earlier turn are dropped
/** @type {Set<string>} */
const held = new Set();
/** @type {Promise<any>} */
let taking = Promise.resolve(); // the last request for items to label, and all before it

/** Show the items of the view, from its first page. */
export async function open() {
  turn += 1;
  const mine = turn;
  pages = [];
  ahead = null;
  more = true;
  asked = 0;
  set({ page: [], pageNumber: 0, cursor: 0, marked: new Set(), crossed: new Set(), end: null, total: null });
  set({ loading: true, problem: null, moved: false, readWith: null, hasNext: false });
  if (get().view === "browse" && !get().subject) takeReadyOrder();
  await fetchPage(mine);
  if (mine !== turn) return;
  set({ loading: false });
  if (pages.length) show(0);
}

/** Browsing begins with an order that is ready: a run without a target has no likeliest items. */
function takeReadyOrder() {
  const { run, order } = get();
  const ready = run.orders.filter((/** @type {any} */ one) => one.ready && one.name !== "nearest" && one.name !== "batch");
  const wanted = run.orders.find((/** @type {any} */ one) => one.name === order.browse);
  if (ready.length && !(wanted && wanted.ready)) set({ order: { ...order, browse: ready[0].name } });
}

/** Go to another page. @param {number} by @param {"first"|"last"} [where] @returns {Promise<boolean>} whether there is one */
export async function go(by, where = "first") {
  const to = get().pageNumber + by;
  if (to < 0) return false;
  const mine = turn;
  if (to >= pages.length && (get().end === null || get().view === "label")) {
    set({ loading: !ahead });
    await (ahead || fetchPage(mine));
    if (mine !== turn) return false;
    set({ loading: false });
  }
  if (to >= pages.length) {
    if (get().view === "label" && pages.length && pages[get().pageNumber].every(isAnswered)) {
      set({ page: [], pageNumber: pages.length, cursor: 0, hasNext: false });
    }
    return false;
  }
  show(to, where);
  return true;
}

/** Show the page that has the item, with the cursor on it. @param {string} id @returns {boolean} */
export function goTo(id) {
  const number = pages.findIndex((page) => page.includes(id));
  if (number < 0) return false;
  if (number !== get().pageNumber || get().page !== pages[number]) show(number);
  set({ cursor: pages[number].indexOf(id) });
  return true;
}

/** Ask for the next page once half of this one is answered; take fresh pages from the newest head. */
export function lookAhead() {
  const { page, pageNumber, view, end } = get();
  if (ahead || end !== null || pageNumber < pages.length - 1 || !page.length) return;
  const left = page.filter((id) => !isAnswered(id)).length;
  if (view === "label" ? left <= page.length / 2 : more) {
    const mine = turn;
    ahead = fetchPage(mine).finally(() => {
      if (mine === turn) ahead = null;
    });
  }
}

/** The ids that come after the cursor, on the pages that are here; in front of them the one before. */
export function upcoming() {
  const { page, pageNumber, cursor } = get();
  const next = [...page.slice(cursor + 1), ...(pages[pageNumber + 1] || [])].filter((id) => get().view !== "label" || !isAnswered(id));
  return cursor > 0 ? [...next.slice(0, 3), page[cursor - 1]] : next;
}

/** @param {number} number @param {"first"|"last"} [where] */
function show(number, where = "first") {
  const page = pages[number];
  const start = where === "last" ? page.length - 1 : Math.max(0, get().view === "label" ? page.findIndex((id) => !isAnswered(id)) : 0);
  const hasNext = number < pages.length - 1 || (get().view === "label" ? get().end === null : more);
  set({ page, pageNumber: number, cursor: start, marked: new Set(), crossed: new Set(), hasNext, fresh: true });
  clearTimeout(seen);
  seen = setTimeout(() => set({ fresh: false }), GLANCE_MS);
  warm(page);
  lookAhead();
}

/** @param {number} mine the turn that asks */
async function fetchPage(mine) {
  try {
    await (get().view === "label" ? take(mine) : read(mine));
  } catch (error) {
    if (mine !== turn) return;
    set({ problem: error instanceof Refused ? error : new Refused(0, { problem: String(error) }) });
  }
}

/**
 * One request after the other: the server holds items for the order that it was asked for last, so one of an earlier
 * order that arrives late would give back what is on show.
 * @param {number} mine
 */
async function take(mine) {
  const before = taking;
  let done = () => {};
  taking = new Promise((resolve) => { done = () => resolve(undefined); });
  try {
    await before;
    if (mine === turn) await takeNow(mine);
  } finally {
    done();
  }
}

/** @param {number} mine */
async function takeNow(mine) {
  // The server is told how many to hold in all, and answers with what is held already, in front of what is new. What is
  // answered here, and still on its way, counts as held there.
  const open = pages.flat().filter((id) => !isAnswered(id) || pending(id));
  const said = await ask("api/next", { body: { n: Math.min(open.length + HANDED, MOST_HELD), order: get().order.label } });
  if (mine !== turn) return;
  const known = new Set(pages.flat());
  const fresh = said.items.filter((/** @type {any} */ item) => !known.has(item.id) && !pending(item.id));
  const ids = fresh.map((/** @type {any} */ item) => item.id);
  if (!pages.length) held.clear(); // what was held for another order went back
  for (const id of ids) held.add(id);
  put(fresh);
  set({ end: ids.length ? null : said.end || (get().order.label === "batch" ? "batch" : "pool"), others: said.others || [], problem: null });
  if (ids.length) add(ids);
}

/** @param {number} mine */
async function read(mine) {
  const { order, subject, hideLabelled } = get();
  if (!more) return void set({ end: "pool" });
  let said;
  if (subject && subject.ids) {
    said = await ask(`api/items?ids=${subject.ids.slice(asked, asked + BROWSED).join(",")}`);
    if (mine !== turn) return;
    asked += BROWSED;
    said = { ...said, more: asked < subject.ids.length, total: subject.ids.length };
  } else {
    // An order moves with every label: what comes next is what was not seen yet, whatever its place is by now.
    const which = subject ? { order: "nearest", key: subject.key } : { order: order.browse };
    said = await ask("api/items", { body: { ...which, n: BROWSED, seen: pages.flat(), hide_labelled: hideLabelled } });
  }
  if (mine !== turn) return;
  const ids = said.items.map((/** @type {any} */ item) => item.id);
  more = said.more;
  put(withPending(said.items));
  set({ total: said.total, end: more ? null : "pool", problem: null });
  if (get().readWith === null) set({ readWith: said.head });
  lookWhetherMoved();
  if (ids.length) add(ids);
}

/** Say so if the order on show is one of an older head, whichever of the two was heard of first. */
export function lookWhetherMoved() {
  const { view, subject, readWith, heard } = get();
  if (view === "browse" && !subject && readWith !== null && heard !== null && heard > readWith) set({ moved: true });
}

/** @type {ReturnType<typeof setTimeout>|undefined} */
let looking;

/** Read the items on show once more, soon: another tab, or somebody else, has said something. */
export function lookAgain() {
  looking = looking || setTimeout(async () => {
    looking = undefined;
    const ids = get().page.slice(0, MOST_HELD);
    if (!ids.length || document.hidden) return;
    const before = queueMoves();
    const said = await ask(`api/items?ids=${ids.join(",")}`).catch(() => null);
    if (queueMoves() !== before) lookAgain(); // an answer went out meanwhile: this one may not know it
    else if (said) putAgain(withPending(said.items));
  }, AGAIN_MS);
}

/** @param {string[]} ids */
function add(ids) {
  pages.push(ids);
  warm(ids.slice(0, 12));
  set({ hasNext: get().pageNumber < pages.length - 1 || get().end === null });
}

/** @param {string} id */
function isAnswered(id) {
  return answered(get().items.get(id));
}

// -- what is handed out to this page ---------------------------------------------------------------------------

/** Keep the hand-outs while the page is open, and give them back when it is left. */
export function keepHandedOut() {
  const renew = async () => {
    const ids = [...held].filter((id) => !isAnswered(id)).slice(0, MOST_HELD);
    if (!ids.length || document.hidden) return;
    const said = await ask("api/renew", { body: { ids } }).catch(() => null);
    const lost = said ? said.lost.filter((/** @type {string} */ id) => held.has(id) && !isAnswered(id)) : [];
    if (lost.length) drop(lost);
  };
  setInterval(renew, RENEW_MS);
  setTimeout(renew, SURE_MS); // what the page before a reload gave back may have reached the server late
  document.addEventListener("visibilitychange", renew);
  window.addEventListener("pagehide", () => void giveBack());
  window.addEventListener("pageshow", (event) => event.persisted && void open());
}

/** Give back what was handed out to this tab and is not answered. @param {string} [annotator] to whom, if the name was changed */
export async function giveBack(annotator) {
  const ids = [...held].filter((id) => !isAnswered(id));
  if (ids.length) await ask("api/release", { body: { ids }, keepalive: true, annotator }).catch(() => {});
}

/** Items that went to somebody else after a long pause leave the pages. @param {string[]} lost */
function drop(lost) {
  const gone = new Set(lost);
  for (const id of lost) held.delete(id);
  toast(`${plural(lost.length, "item")} went to somebody else, or to another tab, meanwhile`);
  pages = pages.map((page) => page.filter((id) => !gone.has(id)));
  const { pageNumber, cursor } = get();
  if (get().view !== "label" || !pages[pageNumber]) return;
  set({ page: pages[pageNumber], cursor: Math.max(0, Math.min(cursor, pages[pageNumber].length - 1)) });
}
