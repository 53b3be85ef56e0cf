// @ts-check
// Requests to the server: the header that shows they come from this page, who asks, and errors with their fix.

import { get, set } from "./store.js";
import { tab } from "./tab.js";

/** An answer that says no. `status` 0: the server was not reached. */
export class Refused extends Error {
  /** @param {number} status @param {{what?: string, problem?: string, fix?: string}} error */
  constructor(status, error) {
    super([error.what, error.problem].filter(Boolean).join(": ") || `answer ${status}`);
    this.status = status;
    this.fix = error.fix || "";
    this.ours = Boolean(error.problem); // a proxy, or another server at this port, does not say what is wrong
  }

  /** Whether the same request can never succeed: what was sent is at fault. */
  get final() {
    return this.ours && (this.status === 404 || this.status === 413 || this.status === 422);
  }
}

/**
 * Ask the server.
 * @param {string} path under the page's own address
 * @param {{method?: string, body?: any, annotator?: string, signal?: AbortSignal, keepalive?: boolean}} [options]
 * @returns {Promise<any>}
 */
export async function ask(path, options = {}) {
  const headers = /** @type {Record<string, string>} */ ({ Accept: "application/json", "X-Raysal": "1", "X-Tab": tab });
  const annotator = options.annotator || get().annotator; // a kept answer goes out in the name of who gave it
  if (annotator) headers["X-Annotator"] = encodeURIComponent(annotator);
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: options.method || (options.body === undefined ? "GET" : "POST"),
      headers,
      body: options.body === undefined ? undefined : JSON.stringify(options.body),
      signal: options.signal,
      keepalive: options.keepalive,
      credentials: "same-origin",
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    set({ online: false });
    throw new Refused(0, { problem: "the server cannot be reached", fix: "is `raysal serve` still running?" });
  }
  set({ online: true });
  if (response.status === 401) set({ locked: true });
  else if (get().locked) set({ locked: false });
  let said = null;
  try {
    said = await response.json();
  } catch {
    if (response.ok) {
      set({ online: false });
      throw new Refused(0, { problem: "the answer broke off" });
    }
  }
  if (!response.ok) throw new Refused(response.status, (said && said.error) || {});
  return said;
}

/** The address of a part of an item. @param {string} id @param {string} part */
export function partOf(id, part) {
  return `api/item/${encodeURIComponent(id)}/${part}`;
}
