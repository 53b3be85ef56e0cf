// @ts-check
// What an answer makes of an item: the same on the page, before the server has it, as on the server.

export const SKIP = "!skip"; // what the ledger writes for a skip

/**
 * @typedef {import("./store.js").Item} Item
 * @typedef {{label?: string, skip?: true, dispute?: true, withdraw?: true, note?: string, rating?: number}} Answer
 * @param {Item} item @param {Answer} answer
 * @returns {Item}
 */
export function applied(item, answer) {
  const mine = { label: null, note: "", rating: null, disputed: false, ...item.mine };
  if (answer.note !== undefined) mine.note = answer.note;
  if (answer.rating !== undefined) mine.rating = answer.rating;
  if (answer.label !== undefined) Object.assign(mine, { label: answer.label, disputed: false });
  if (answer.skip || answer.dispute) Object.assign(mine, { label: SKIP, disputed: Boolean(answer.dispute) });
  if (answer.withdraw) Object.assign(mine, { label: null, disputed: false });
  return { ...item, mine };
}

/** What the person at this page said of an item, in a word; "" for nothing yet. @param {Item|null|undefined} item */
export function own(item) {
  const mine = item ? item.mine : null;
  if (!mine || !mine.label) return "";
  return mine.label === SKIP ? (mine.disputed ? "disputed" : "skipped") : mine.label;
}

/** The class that the person at this page gave. @param {Item|null|undefined} item */
export function labelOf(item) {
  const mine = item ? item.mine : null;
  return mine && mine.label && mine.label !== SKIP ? mine.label : "";
}

/** Whether the person at this page has said all that is asked of the item. @param {Item|undefined} item */
export function answered(item) {
  return !item || own(item) !== "";
}
