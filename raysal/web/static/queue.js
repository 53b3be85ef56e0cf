// @ts-check
// Answers on their way. Each is kept in this browser under its own name until the server has it: a reload, a lost
// connection or a second tab loses none, and the server counts one nonce once.

import { applied } from "./answers.js";
import { ask, nonce, Refused } from "./api.js";
import { get, put, set } from "./store.js";

/** @typedef {{nonce: string, at: number, annotator: string, path: string, body: any, tried: boolean, shown: boolean}} Entry */

const WAITS = [300, 600, 1200, 2500, 5000, 10000];

/** @type {Entry[]} */
let entries = [];
let prefix = "";
let sending = false;
let failures = 0;
/** @type {ReturnType<typeof setTimeout>|undefined} */
let timer;
/** @type {{answered: (said: any, entry: Entry) => void, refused: (error: Refused, entry: Entry) => void}} */
let hooks = { answered: () => {}, refused: () => {} };

/**
 * Take up what an earlier page of this run left, and begin to send.
 * @param {string} run the run's id, so that answers never reach another run on the same port
 * @param {typeof hooks} calls
 */
export function openQueue(run, calls) {
  hooks = calls;
  prefix = `raysal.answer.${run}.`;
  entries = [];
  for (let i = 0; i < localStorage.length; i++) {
    const name = localStorage.key(i);
    if (!name || !name.startsWith(prefix)) continue;
    try {
      entries.push({ ...JSON.parse(localStorage.getItem(name) || ""), tried: true });
    } catch {
      localStorage.removeItem(name);
    }
  }
  entries.sort((a, b) => a.at - b.at);
  set({ waiting: entries.length });
  window.addEventListener("online", hurry);
  document.addEventListener("visibilitychange", () => document.hidden || hurry());
  void send();
}

/** Keep a request and send it. @param {string} path @param {any} body @param {boolean} [shown] the page shows already what becomes of it */
export function enqueue(path, body, shown = true) {
  const last = entries.length ? entries[entries.length - 1].at : 0;
  const name = nonce();
  const entry = {
    nonce: name,
    at: Math.max(Date.now(), last + 1),
    annotator: get().annotator,
    path,
    body: { ...body, nonce: name },
    tried: false,
    shown,
  };
  entries.push(entry);
  try {
    localStorage.setItem(prefix + name, JSON.stringify(entry));
  } catch {
    // The browser keeps nothing (a full or forbidden store): the answer is still sent from memory.
  }
  set({ waiting: entries.length });
  void send();
  return entry;
}

/** Take back the last answer if it never left this page. @returns {Entry|null} */
export function recall() {
  const entry = entries[entries.length - 1];
  if (!entry || entry.tried || entry.path !== "api/answers") return null;
  forget(entry);
  return entry;
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
  try {
    localStorage.removeItem(prefix + entry.nonce);
  } catch {
    // Nothing was kept.
  }
  set({ waiting: entries.length });
}

async function send() {
  if (sending || timer !== undefined) return;
  sending = true;
  while (entries.length) {
    const entry = entries[0];
    entry.tried = true;
    try {
      const said = await ask(entry.path, { body: entry.body, annotator: entry.annotator });
      failures = 0;
      forget(entry);
      put((said.items || []).filter((/** @type {any} */ item) => !pending(item.id)));
      hooks.answered(said, entry);
    } catch (error) {
      const refused = error instanceof Refused ? error : new Refused(0, { problem: String(error) });
      if (refused.passing || refused.status === 401) {
        const wait = WAITS[Math.min(failures, WAITS.length - 1)];
        failures += 1;
        timer = setTimeout(hurry, wait);
        break;
      }
      forget(entry);
      hooks.refused(refused, entry);
    }
  }
  sending = false;
}
