// @ts-check
// What happens elsewhere, as it happens: the head moves, others label, a batch is being chosen, the connection is lost.

import { refreshRun } from "./actions.js";
import { plural } from "./dom.js";
import { lookAgain, lookWhetherMoved, open } from "./feed.js";
import { hurry } from "./queue.js";
import { get, set, watch } from "./store.js";
import { toast } from "./toast.js";

const AGAIN_MS = 2000;
const REFRESH_MS = 300;
const SETTLED_MS = 1600; // the server counts once a second at most

let seq = -1;
let standing = "";
/** @type {number|null} */
let round = null;
let trouble = "";
/** @type {ReturnType<typeof setTimeout>|undefined} */
let refreshing;
/** @type {ReturnType<typeof setTimeout>|undefined} */
let settling;

/** @type {EventSource|null} */
let source = null;

/** Hear of changes while the page is looked at: a browser has six connections to a server, for all of its tabs. */
export function startLive() {
  document.addEventListener("visibilitychange", () => (document.hidden ? deafen() : listen()));
  watch(["online"], ({ online }) => online || setTimeout(knock, AGAIN_MS));
  listen();
}

/** Ask until the server answers: the browser's own patience with a stream of events grows too long. */
async function knock() {
  if (get().online) return;
  await refreshRun();
  if (!get().online) setTimeout(knock, AGAIN_MS);
  else listen();
}

function deafen() {
  if (source) source.close();
  source = null;
}

function listen() {
  if (source || document.hidden) return;
  const opened = new EventSource("api/events");
  source = opened;
  opened.addEventListener("open", () => {
    set({ online: true });
    hurry();
    refreshSoon();
  });
  opened.addEventListener("state", (event) => hear(JSON.parse(event.data)));
  opened.addEventListener("error", () => {
    set({ online: false });
    if (opened.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    deafen();
    setTimeout(listen, AGAIN_MS);
    void refreshRun(); // says whether it is the connection or the token
  });
}

/** @param {any} said */
function hear(said) {
  const before = get();
  set({ online: true, busy: said.busy || null });
  if (said.head) set({ heard: said.head.version });
  lookWhetherMoved();
  if (said.problem && said.problem !== trouble) toast(said.problem, { bad: true });
  trouble = said.problem || "";
  const fresh = said.batch && said.batch.round !== null ? said.batch.round : -1;
  const newBatch = round !== null && fresh > round;
  round = fresh;
  const now = JSON.stringify([said.seq, said.head, said.batch, said.rounds, said.ready]);
  if (now !== standing) refreshSoon();
  standing = now;
  if (said.seq !== seq && seq >= 0) lookAgain();
  seq = said.seq;
  const idle = before.view === "label" && before.order.label === "batch" && !before.page.length && !before.loading;
  if (newBatch) {
    toast(`A new batch of ${plural(said.batch.size, "item")} is there`);
    if (idle) void open();
  }
}

/** The counts of classes, soon: many labels in a row ask once. */
export function refreshSoon() {
  refreshing = refreshing || setTimeout(() => {
    refreshing = undefined;
    void refreshRun();
  }, REFRESH_MS);
  clearTimeout(settling);
  settling = setTimeout(refreshRun, SETTLED_MS);
}
