// @ts-check
// The one store: what the page knows. Views subscribe to names of fields; nothing else holds state of the page.

/**
 * @typedef {{label: string|null, note: string, rating: number|null, disputed: boolean}} Mine
 * @typedef {{id: string, key: string, kind: string, rank: number|null, score: number|null, score_name: string|null,
 *   reason: string|null, probability: number|null, mine: Mine|null, others: number, state: string,
 *   broken: string|null, text: string|null, carried: Record<string, any>, width: number|null, height: number|null}} Item
 * @typedef {{id: string, labels: Record<string, string>}} Conflict
 */

const state = {
  /** @type {any} */ run: null,
  annotator: "",
  view: "label", // label, browse, map, statistics
  mode: "gallery", // gallery, large, binary
  order: { label: "batch", browse: "likeliest" },
  /** what `browse` is narrowed to: neighbours of a key, or a set of ids @type {any} */ subject: null,
  /** @type {Map<string, Item>} */ items: new Map(),
  /** ids on show @type {string[]} */ page: [],
  pageNumber: 0,
  hasNext: false,
  total: /** @type {number|null} */ (null),
  end: /** @type {string|null} */ (null), // why no page follows: batch, pool
  /** who has the rest of the batch, and until when @type {{name: string, until: string}[]} */ others: [],
  loading: true,
  problem: /** @type {any} */ (null), // why the items could not be read
  fresh: false, // the page has been there for a moment only: nobody has looked at all of it
  cursor: 0,
  /** @type {Set<string>} */ marked: new Set(),
  /** @type {Set<string>} */ crossed: new Set(),
  /** @type {Map<string, Conflict>} */ conflicts: new Map(),
  /** answers not yet confirmed */ waiting: 0,
  /** why the server does not take answers just now @type {any} */ trouble: null,
  online: true,
  locked: false, // the token is no longer right
  /** what runs in the background @type {null|{stage: string, done: number, total: number}} */ busy: null,
  moved: false, // the head has moved since a ranking was read
  /** version of the head that the first page of a ranking was read with @type {number|null} */ readWith: null,
  /** version of the head that the server told of last @type {number|null} */ heard: null,
  hideLabelled: true,
  tileSize: "medium",
  yes: "",
  no: "",
  adjust: { brightness: 1, contrast: 1, invert: false, channel: "all" },
  keysOn: true,
};

/** @typedef {typeof state} State */

/** @type {{fields: Set<string>, call: (state: State, changed: Set<string>) => void}[]} */
const listeners = [];
/** @type {Set<string>} */
let changed = new Set();
let scheduled = false;

/** What is known now. Change it with `set` only. @returns {State} */
export function get() {
  return state;
}

/** Change fields; views hear of it once, before the next paint. @param {Partial<State>} fields */
export function set(fields) {
  for (const [name, value] of Object.entries(fields)) {
    const known = /** @type {any} */ (state);
    if (known[name] === value && typeof value !== "object") continue;
    known[name] = value;
    changed.add(name);
  }
  if (changed.size && !scheduled) {
    scheduled = true;
    queueMicrotask(flush);
  }
}

/** Call a view when one of the fields changes. @param {string[]} fields @param {(state: State, changed: Set<string>) => void} call */
export function watch(fields, call) {
  listeners.push({ fields: new Set(fields), call });
}

function flush() {
  scheduled = false;
  const now = changed;
  changed = new Set();
  for (const listener of listeners) if ([...now].some((name) => listener.fields.has(name))) listener.call(state, now);
}

/** Take in items as the server (or an answer given here) has them. @param {Item[]} items */
export function put(items) {
  if (!items.length) return;
  for (const item of items) state.items.set(item.id, { ...(state.items.get(item.id) || {}), ...item });
  set({ items: state.items });
}

/** Take in items that were read by their numbers. They have no place in an order: that on show stays. @param {Item[]} items */
export function putAgain(items) {
  put(/** @type {any} */ (items.map(({ rank, score, score_name, reason, ...rest }) => (state.items.has(rest.id) ? rest : { rank, score, score_name, reason, ...rest }))));
}

/** The item under the cursor. @returns {Item|null} */
export function current() {
  return state.items.get(state.page[state.cursor]) || null;
}

/** The items an answer is about: those marked, or else the one under the cursor. @returns {Item[]} */
export function subjects() {
  const marked = state.page.filter((id) => state.marked.has(id));
  const ids = marked.length ? marked : state.page.slice(state.cursor, state.cursor + 1);
  return ids.map((id) => state.items.get(id)).filter((item) => item !== undefined);
}

/** What is kept in this browser, and survives a reload. How a tab looks is its own first; a new tab begins as the last one. */
export const keep = {
  /** @param {string} name @param {any} otherwise */
  read(name, otherwise) {
    try {
      const text = sessionStorage.getItem(`raysal.${name}`) ?? localStorage.getItem(`raysal.${name}`);
      return text === null ? otherwise : JSON.parse(text);
    } catch {
      return otherwise;
    }
  },
  /** @param {string} name @param {any} value @param {boolean} [everywhere] the same in all tabs */
  write(name, value, everywhere = false) {
    try {
      if (!everywhere) sessionStorage.setItem(`raysal.${name}`, JSON.stringify(value));
      localStorage.setItem(`raysal.${name}`, JSON.stringify(value));
    } catch {
      // The choice holds until the page is left.
    }
  },
};
