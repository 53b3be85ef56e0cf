// @ts-check
// The beginning: what is kept in this browser, the parts of the page, the run, its first items.

import { lookAt, refreshRun, takeFromPage } from "./actions.js";
import { startAdjust } from "./adjust.js";
import { startBar } from "./bar.js";
import { askName, sayLocked } from "./dialogs.js";
import { button, byId, fill, h } from "./dom.js";
import { keepDraft } from "./drafts.js";
import { giveBack, keepHandedOut, lookAgain, open } from "./feed.js";
import { startGallery } from "./gallery.js";
import { startKeys } from "./keys.js";
import { refreshSoon, startLive } from "./live.js";
import { startMap } from "./map.js";
import { openQueue } from "./queue.js";
import { startSide } from "./side.js";
import { startStage } from "./stage.js";
import { startStates } from "./states.js";
import { startStatistics } from "./statistics.js";
import { get, keep, set, watch } from "./store.js";
import { toast } from "./toast.js";

const AGAIN_MS = 1500;
const NAMED = 3; // refused answers that a message names

set({
  annotator: keep.read("annotator", ""),
  order: { ...get().order, ...keep.read("order", {}) },
  tileSize: keep.read("tileSize", "medium"),
  hideLabelled: keep.read("hideLabelled", true),
  keysOn: keep.read("keysOn", true),
  mode: keep.read("mode", "gallery") === "large" ? "large" : "gallery",
});

// First of all views: what a view draws must be on the page already.
watch(["view"], ({ view }) => {
  byId("label").hidden = view !== "label" && view !== "browse";
  byId("map").hidden = view !== "map";
  byId("statistics").hidden = view !== "statistics";
  byId("main").dataset.view = view;
});
startAdjust();
startBar();
startGallery();
startStage();
startSide();
startStates();
startMap();
startStatistics();
startKeys();

watch(["locked"], ({ locked }) => void (locked && sayLocked()));

void begin();

async function begin() {
  const run = await refreshRun();
  if (!run) {
    if (get().locked) return;
    set({ loading: false });
    byId("nothing").hidden = false;
    fill(byId("nothing"), h("div", { class: "empty" }, h("h2", { text: "The server cannot be reached" }),
      h("p", { text: "Is raysal serve still running? This page tries again by itself." }), button("Try now", () => void begin(), { class: "main" })));
    setTimeout(() => get().run || void begin(), AGAIN_MS);
    return;
  }
  openQueue(run.id || run.name, { answered, refused, elsewhere: lookAgain });
  window.addEventListener("storage", (event) => {
    if (event.key !== "raysal.annotator" || !event.newValue || keep.read("annotator", "") === get().annotator) return;
    const given = giveBack(get().annotator);
    set({ annotator: keep.read("annotator", "") }); // one browser, one person: the name was changed in another tab
    void given.then(() => open());
  });
  startLive();
  keepHandedOut();
  if (!get().annotator) askName(() => void open());
  else await open();
}

/** The server has an answer: what others said, and what the head is now. @param {any} said @param {any} entry */
function answered(said, entry) {
  refreshSoon();
  for (const warning of said.warnings || []) toast(warning);
  if (entry.path === "api/undo" && said.undone === null) {
    toast("There is nothing to take back");
    lookAgain();
  }
  if (entry.path === "api/undo" && said.undone !== null && !entry.shown) toast(`Taken back: your answer to ${named(said.items)}`, { actions: [["Look", () => void lookAt(said.items[0].id)]] });
  if (!said.conflicts || !said.conflicts.length) return;
  const conflicts = new Map(get().conflicts);
  for (const conflict of said.conflicts) conflicts.set(conflict.id, conflict);
  set({ conflicts });
  const first = said.conflicts[0];
  const item = get().items.get(first.id);
  const others = Object.entries(first.labels).filter(([who]) => who !== entry.annotator).map(([who, what]) => `${who} says ${what}`).join(", ");
  const more = said.conflicts.length > 1 ? ` and ${said.conflicts.length - 1} more` : "";
  toast(`Different answers on ${item ? item.key : first.id}${more}: ${others}`, { actions: item && get().page[get().cursor] !== first.id ? [["Look", () => void lookAt(first.id)]] : [] });
}

/** @param {import("./store.js").Item[]} items */
function named(items) {
  return items.length === 1 ? items[0].key : `${items.length} items`;
}

/** The server said no for good: what the page showed is not so. The message says what was answered. @param {any} error @param {any} entry */
function refused(error, entry) {
  /** @type {any[]} */
  const answers = entry.body.answers || [];
  const notes = answers.filter((answer) => answer.note);
  if (notes.length) keepDraft(notes.map((answer) => answer.id), notes[0].note);
  takeFromPage(entry);
  lookAgain();
  refreshSoon();
  const n = answers.length;
  const some = answers.slice(0, NAMED).map((answer) => `${answer.key}${answer.label === undefined ? "" : ` as “${answer.label}”`}`);
  const what = n ? ` (${some.join(", ")}${n > NAMED ? ` and ${n - NAMED} more` : ""})` : "";
  const look = /** @type {[string, () => void][]} */ (n ? [["Look", () => void lookAt(answers[0].id)]] : []);
  toast(`${n === 1 ? "An answer was" : n ? `${n} answers were` : "Undo was"} refused${what}: ${error.message}`, { fix: error.fix, bad: true, actions: look });
}
