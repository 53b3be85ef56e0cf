// @ts-check
// The name of this tab. Each tab of a person holds items of its own, so no item is asked twice; a reload keeps the name.

import { nonce } from "./nonce.js";

const PLACE = "raysal.tab";

/** The name waits in the session only between leaving and loading: a tab that is duplicated gets another one. */
function taken() {
  try {
    const kept = sessionStorage.getItem(PLACE);
    sessionStorage.removeItem(PLACE);
    return kept;
  } catch {
    return null;
  }
}

export const tab = taken() || nonce().slice(0, 12);

window.addEventListener("pagehide", () => {
  try {
    sessionStorage.setItem(PLACE, tab);
  } catch {
    // After a reload this is another tab: what it held comes back to people when it expires.
  }
});
window.addEventListener("pageshow", () => taken());
