// @ts-check
// Texts that were typed and not sent: kept in this browser until they are, so that no key and no reload loses them.

import { get } from "./store.js";

/** @param {string[]} ids the items that a text is about */
function place(ids) {
  const { run, annotator } = get();
  return `raysal.draft.${run ? run.id : ""}.${encodeURIComponent(annotator)}.${ids.join(" ")}`;
}

/** What was typed about these items, or null. @param {string[]} ids @returns {string|null} */
export function draftOf(ids) {
  try {
    return localStorage.getItem(place(ids));
  } catch {
    return null;
  }
}

/** @param {string[]} ids @param {string|null} text null: it was sent, or thrown away */
export function keepDraft(ids, text) {
  try {
    if (text === null) localStorage.removeItem(place(ids));
    else localStorage.setItem(place(ids), text);
  } catch {
    // A browser that keeps nothing: the text lives as long as its dialog.
  }
}
