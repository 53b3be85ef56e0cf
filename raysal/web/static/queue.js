// @ts-check
// Answers on their way. Each is kept in this browser under its own name until the server has it: a reload, a lost
// connection or a second tab loses none, and the server counts one nonce once.

import { applied } from "./answers.js";
import { ask, Refused } from "./api.js";
import { nonce } from "./nonce.js";
import { get, put, putAgain, set } from "./store.js";
import { tab } from "./tab.js";

/**
 * `tab` is where it was given. Another tab shows it too, and sends it only if it stays for long: then its own is gone.
 * @typedef {{nonce: string, at: number, annotator: string, tab: string, path: string, body: any, tried: boolean, shown: boolean}} Entry
 */

const WAITS = [300, 600, 1200, 2500, 5000, 10000];
const ABANDONED_MS = 4000;

/** @type {Entry[]} */
let entries = [];
let prefix = "";
let sending = false;
let failures = 0;
let moves = 0;
/** @type {ReturnType<typeof setTimeout>|undefined} */
let timer;
/** @type {{answered: (said: any, entry: Entry) => void, refused: (error: Refused, entry: Entry) => void, elsewhere: () => void}} */
let hooks = { answered: () => {}, refused: () => {}, elsewhere: () => {} };

/**
 * Take up what an earlier page of this run left, and begin to send.
 * @param {string} run the run's id, so that answers never reach another run on the same port
 * @param {typeof hooks} calls
 */
export function openQueue(run, calls) {
  hooks = calls;
  prefix = `raysal.answer.${run}.`;
  entries = [];
  for (const name of names()) {
    const entry = kept(name);
    if (entry) entries.push({ ...entry, tried: true });
  }
  entries.sort((a, b) => a.at - b.at);
  if (entries.some((entry) => entry.tab !== tab)) setTimeout(hurry, ABANDONED_MS + 100);
  set({ waiting: entries.length });
  window.addEventListener("online", hurry);
  window.addEventListener("storage", hear);
  document.addEventListener("visibilitychange", () => document.hidden || hurry());
  void send();
}

function names() {
  try {
    return Object.keys(localStorage).filter((name) => name.startsWith(prefix));
  } catch {
    return [];
  }
}

/** What the browser keeps under a name. @param {string} name @returns {Entry|null} */
function kept(name) {
  try {
    return parsed(localStorage.getItem(name));
  } catch {
    return null;
  }
}

/** @param {string|null} text @returns {Entry|null} */
function parsed(text) {
  try {
    return JSON.parse(text || "");
  } catch {
    return null;
  }
}

/** Another tab has taken an answer, or is done with one. @param {StorageEvent} event */
function hear(event) {
  if (!event.key || !event.key.startsWith(prefix)) return;
  const entry = parsed(event.newValue || event.oldValue);
  if (!entry) return;
  const known = entries.some((other) => other.nonce === entry.nonce);
  moves += 1;
  if (event.newValue && !known) {
    entries = [...entries, { ...entry, tried: true }].sort((a, b) => a.at - b.at);
    const ids = (entry.body.answers || []).map((/** @type {any} */ answer) => answer.id);
    put(withPending(ids.map((/** @type {string} */ id) => get().items.get(id)).filter(Boolean)));
    setTimeout(hurry, ABANDONED_MS + 100);
  } else if (!event.newValue && known) {
    entries = entries.filter((other) => other.nonce !== entry.nonce);
    hooks.elsewhere();
  }
  set({ waiting: entries.length });
}

/**
 * Keep a request and send it.
 * @param {string} path @param {any} body
 * @param {boolean} [shown] the page shows already what becomes of it
 * @param {string} [annotator] in whose name
 */
export function enqueue(path, body, shown = true, annotator = get().annotator) {
  const last = entries.length ? entries[entries.length - 1].at : 0;
  const name = nonce();
  const entry = {
    nonce: name,
    at: Math.max(Date.now(), last + 1),
    annotator,
    tab,
    path,
    body: { ...body, nonce: name },
    tried: false,
    shown,
  };
  entries.push(entry);
  moves += 1;
  store(entry);
  set({ waiting: entries.length });
  void send();
  return entry;
}

/** @param {Entry} entry */
function store(entry) {
  try {
    localStorage.setItem(prefix + entry.nonce, JSON.stringify(entry));
  } catch {
    // The browser keeps nothing (a full or forbidden store): the answer is still sent from memory.
  }
}

/** Take back an answer if it never left this browser; whether it did not. @param {Entry} entry */
export function recall(entry) {
  if (!entries.includes(entry) || entry.tried) return false;
  const there = kept(prefix + entry.nonce);
  if (there && there.tried) return false; // another tab has sent it
  forget(entry);
  return true;
}

/** Grows with each answer that is given or taken: what was asked for before may be older than what the page shows. */
export function queueMoves() {
  return moves;
}

/** Whether an answer about the item is on its way. @param {string} id */
export function pending(id) {
  return entries.some((entry) => (entry.body.answers || []).some((/** @type {any} */ answer) => answer.id === id));
}

/** Items as they are with what is on its way: after a reload the server does not know it yet. @param {import("./store.js").Item[]} items */
export function withPending(items) {
  return items.map((item) => {
    let now = item;
    for (const entry of entries) for (const answer of entry.body.answers || []) if (answer.id === item.id) now = applied(now, answer);
    return now;
  });
}

/** Send again now, not when the wait is over. */
export function hurry() {
  clearTimeout(timer);
  timer = undefined;
  void send();
}

/** @param {Entry} entry */
function forget(entry) {
  entries = entries.filter((other) => other !== entry);
  moves += 1;
  try {
    localStorage.removeItem(prefix + entry.nonce);
  } catch {
    // Nothing was kept.
  }
  set({ waiting: entries.length });
}

/** The entry to send next: this tab's, or one that another tab left behind. @returns {Entry|undefined} */
function nextEntry() {
  const gone = entries.filter((entry) => entry.tab !== tab && Date.now() - entry.at > ABANDONED_MS && !kept(prefix + entry.nonce));
  for (const entry of gone) forget(entry);
  return entries.find((entry) => entry.tab === tab || Date.now() - entry.at > ABANDONED_MS);
}

async function send() {
  if (sending || timer !== undefined) return;
  sending = true;
  for (let entry = nextEntry(); entry; entry = nextEntry()) {
    entry.tried = true;
    if (entry.tab !== tab) store(entry);
    try {
      const said = await ask(entry.path, { body: entry.body, annotator: entry.annotator });
      failures = 0;
      set({ trouble: null });
      forget(entry);
      putAgain((said.items || []).filter((/** @type {any} */ item) => !pending(item.id)));
      hooks.answered(said, entry);
    } catch (error) {
      const refused = error instanceof Refused ? error : new Refused(0, { problem: String(error) });
      // Everything is kept that may be taken one day: while a disk is full, a file busy, another pool bound, a token old.
      if (!refused.final && !(refused.status === 409 && entry.path === "api/undo")) {
        set({ trouble: refused.status === 0 || refused.status === 401 ? null : refused });
        const wait = WAITS[Math.min(failures, WAITS.length - 1)];
        failures += 1;
        timer = setTimeout(hurry, wait);
        break;
      }
      set({ trouble: null });
      forget(entry);
      for (const undo of entries.filter((other) => other.path === "api/undo" && other.body.of === entry.nonce)) forget(undo);
      hooks.refused(refused, entry);
    }
  }
  sending = false;
}
