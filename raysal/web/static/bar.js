// @ts-check
// The top of the page: where one is, what is saved, who labels; and the tools above the items.

import { answered } from "./answers.js";
import { lookAt, setMode, setOrder, setView, stop } from "./actions.js";
import { adjustPanel, isAdjusted } from "./adjust.js";
import { askName, openHelp } from "./dialogs.js";
import { button, byId, count, fill, h, kbd, plural } from "./dom.js";
import { go, open } from "./feed.js";
import { hurry } from "./queue.js";
import { get, keep, set, watch } from "./store.js";

const VIEWS = [["label", "Label"], ["browse", "Browse"], ["map", "Map"], ["statistics", "Statistics"]];

const STAGES = /** @type {Record<string, string>} */ ({ round: "Choosing a batch", ranking: "Ranking the pool", novelty: "Looking for novel items" });
/** On a narrow page there is room for a button alone: it says what it stops. */
const ENDS = /** @type {Record<string, string>} */ ({ round: "Stop choosing", ranking: "Stop ranking", novelty: "Stop looking" });

/** @type {Record<string, any>} */
const part = {};

export function startBar() {
  part.views = h("nav", { "aria-label": "Views" }, VIEWS.map(([name, title]) => button(title, () => void setView(name), { "data-view": name })));
  part.name = h("span", { class: "run-name" });
  part.work = h("div", { class: "work", role: "status" });
  part.saved = h("button", { type: "button", class: "saved", onclick: hurry });
  part.person = button("", () => askName(() => void open()), { class: "quiet person", title: "Change your name" });
  part.theme = button("", nextTheme, { class: "quiet icon theme", "aria-label": "Dark or light" });
  byId("bar").append(h("h1", { class: "brand" }, h("span", { class: "mark", "aria-hidden": "true" }), "raysal"), part.views, part.work, part.name, part.saved, part.person, part.theme,
    button("?", openHelp, { class: "quiet icon", "aria-label": "All keys", "aria-keyshortcuts": "?" }));
  // A click on a tool leaves the focus with the items: Enter and Space go on meaning them.
  for (const place of ["bar", "tools"]) {
    byId(place).addEventListener("mousedown", (/** @type {MouseEvent} */ event) => {
      if (/** @type {Element} */ (event.target).closest("button:not(#adjust button)")) event.preventDefault();
    });
  }
  part.left = h("div", { class: "tools-left" });
  part.place = h("div", { class: "place" });
  byId("tools").append(part.left, part.place, adjustPanel());
  watch(["view", "run", "annotator"], drawBar);
  watch(["waiting", "online", "locked", "run", "page", "trouble"], drawSaved);
  watch(["busy"], drawBusy);
  watch(["view", "mode", "order", "run", "subject", "tileSize", "hideLabelled", "adjust"], drawTools);
  watch(["page", "items", "pageNumber", "total", "hasNext", "view", "moved", "end", "order", "run", "conflicts"], drawPlace);
  drawTheme();
}

function drawBar() {
  const { view, run, annotator } = get();
  for (const node of part.views.children) {
    if (node.dataset.view === view) node.setAttribute("aria-current", "page");
    else node.removeAttribute("aria-current");
  }
  part.name.textContent = run ? run.name : "";
  part.name.title = run ? `${run.pool}: ${plural(run.items, "item")}` : "";
  part.person.textContent = annotator || "…";
  part.person.setAttribute("aria-label", annotator ? `You are ${annotator}; change your name` : "Say your name");
  document.title = run ? `${run.name} · raysal` : "raysal";
}

function drawSaved() {
  const { waiting, online, locked, run, trouble } = get();
  const words = online && !locked && trouble && waiting ? `${count(waiting)} not saved` : locked ? "Wrong token" : !online ? (waiting ? `Offline · ${count(waiting)} kept` : "Offline") : waiting ? `Saving ${count(waiting)}` : "Saved";
  part.saved.textContent = words;
  part.saved.dataset.is = locked || !online || (trouble && waiting) ? "lost" : waiting ? "waiting" : "well";
  part.saved.disabled = online && !waiting;
  const banner = byId("banner");
  const say = [];
  if (!online && !locked) {
    const kept = waiting ? `Your last ${plural(waiting, "answer")} ${waiting === 1 ? "is" : "are"} kept in this browser and ${waiting === 1 ? "goes" : "go"} out when it is back. ` : "Go on: answers are kept in this browser. ";
    say.push(h("p", {}, h("b", { text: "The connection is lost. " }), kept), button("Try now", hurry));
  } else if (trouble && waiting && !locked) {
    say.push(h("p", {}, h("b", { text: "Answers cannot be saved just now. " }), `${[trouble.message, trouble.fix].filter(Boolean).join("; ")}. ${plural(waiting, "answer")} ${waiting === 1 ? "is" : "are"} kept in this browser, and sent again. `), button("Try now", hurry));
  } else if (run && run.closed && get().page.length) say.push(h("p", {}, h("b", { text: "This run is closed. " }), `${run.closed} `, "What is labelled can still be looked at and corrected."));
  const look = say.length ? say[0].textContent : "";
  if (banner.dataset.says === look) return;
  banner.dataset.says = look;
  banner.className = (!online || (trouble && waiting)) && !locked ? "lost" : "";
  fill(banner, say);
  banner.hidden = !say.length;
}

function drawBusy() {
  const { busy } = get();
  if (!busy) return void fill(part.work);
  const known = busy.total > 0;
  const words = STAGES[busy.stage] || busy.stage;
  const bar = h("progress", known ? { max: String(busy.total), value: String(busy.done), "aria-label": words } : { "aria-label": words });
  fill(part.work, h("span", { class: "stage", text: words }), bar, button("", () => void stop(), { class: "small", title: words }, h("span", { class: "wide-only", text: "Stop" }), h("span", { class: "narrow-only", text: ENDS[busy.stage] || "Stop" })));
}

let drawnTools = "";

function drawTools() {
  const { view, mode, order, run, subject, tileSize, hideLabelled } = get();
  byId("tools").hidden = view !== "label" && view !== "browse";
  if (!run || byId("tools").hidden) return void (drawnTools = "");
  const look = JSON.stringify([view, mode, order, run.orders, subject && (subject.title || subject.key), tileSize, hideLabelled, isAdjusted()]);
  if (look === drawnTools) return; // a list that is open must not be made anew under the hand
  drawnTools = look;
  const at = document.activeElement && byId("tools").contains(document.activeElement) ? document.activeElement.id : "";
  const pick = h("select", { id: "order", "aria-label": "Order" },
    run.orders.filter((/** @type {any} */ one) => one.name !== "nearest").map((/** @type {any} */ one) => h("option", { value: one.name, disabled: !canTake(one, view), title: one.why || "" }, one.title + (canTake(one, view) ? "" : " (not yet)"))));
  pick.value = order[/** @type {"label"|"browse"} */ (view)];
  pick.addEventListener("change", () => void setOrder(pick.value));
  const isBrowsing = view === "browse";
  fill(part.left,
    isBrowsing && subject
      ? h("span", { class: "subject" }, h("span", { class: "text", text: subject.title || `Like ${subject.key}` }), button("×", () => void setOrder(order.browse), { id: "subject-off", class: "quiet", "aria-label": "Back to the whole pool" }))
      : h("label", { class: "order", for: "order" }, h("span", { class: "dim", text: isBrowsing ? "Order" : "Next" }), pick),
    h("div", { class: "segments", role: "group", "aria-label": "How items show" },
      modeButton("gallery", "Gallery", "G", mode), modeButton("large", "Large", "F", mode), isBrowsing ? null : modeButton("binary", "Yes / no", "Y", mode)),
    h("div", { class: "segments sizes", role: "group", "aria-label": "Size of tiles" }, ["small", "medium", "large"].map((size) =>
      button(size[0].toUpperCase(), () => (set({ tileSize: size }), keep.write("tileSize", size)), { id: `size-${size}`, "aria-pressed": String(size === tileSize), "aria-label": `${size[0].toUpperCase()}: ${size} tiles` }))),
    run.modality === "image" || run.modality === "vector" ? adjustButton() : null,
    isBrowsing && !subject ? check("hide", "Hide labelled", hideLabelled, (on) => (set({ hideLabelled: on }), keep.write("hideLabelled", on), void open())) : null);
  if (at) byId(at)?.focus();
  drawPlace();
}

/** Whether an order can be asked for. Where there is no batch, one can be chosen. @param {any} order @param {string} view */
function canTake(order, view) {
  return order.ready || (order.name === "batch" && view === "label");
}

function adjustButton() {
  const adjusted = isAdjusted();
  return button(adjusted ? "Adjusted" : "Adjust", () => {}, { id: "adjust-open", popovertarget: "adjust", class: adjusted ? "on" : "" });
}

/** @param {string} name @param {string} title @param {string} key @param {string} mode */
function modeButton(name, title, key, mode) {
  return button(`${title} `, () => setMode(name), { id: `mode-${name}`, "aria-pressed": String(mode === name) }, kbd(key));
}

/** @param {string} id @param {string} title @param {boolean} on @param {(on: boolean) => void} then */
function check(id, title, on, then) {
  const input = h("input", { type: "checkbox", id });
  input.checked = on;
  input.addEventListener("change", () => then(input.checked));
  return h("label", { class: "check", for: id }, input, title);
}

function drawPlace() {
  const { page, items, pageNumber, total, hasNext, view, moved, run, conflicts } = get();
  if (!run) return;
  const done = page.filter((id) => answered(items.get(id))).length;
  const words = !page.length ? "" : view === "label" ? `${done} of ${page.length} answered` : total === null ? plural(page.length, "item") : plural(total, "item");
  const here = document.activeElement && part.place.contains(document.activeElement) ? document.activeElement.id : "";
  fill(part.place,
    conflicts.size ? button(plural(conflicts.size, "conflict"), () => void lookAt([...conflicts.keys()][0]), { id: "conflicts", class: "alarm" }) : null,
    moved ? button("", () => void open(), { id: "moved", class: "on", title: "The order has changed: read it again" }, h("span", { class: "wide-only", text: "The order has changed" }), h("span", { class: "narrow-only", text: "New order" }), kbd("R")) : null,
    view === "label" && get().order.label === "batch" && run.batch && run.batch.size ? h("span", { class: "dim batch", text: `Batch ${run.batch.round + 1}: ${count(run.batch.waiting)} left` }) : null,
    h("span", { class: "progress-words", text: words }),
    h("span", { class: "pages" },
      button("‹", () => void go(-1), { id: "page-back", "aria-label": "Previous page", disabled: pageNumber === 0 }),
      h("span", { class: "page-number", text: page.length ? String(pageNumber + 1) : "–" }),
      button("›", () => void go(1), { id: "page-on", "aria-label": "Next page", disabled: !hasNext })));
  if (here) byId(here)?.focus();
}

// -- dark and light --------------------------------------------------------------------------------------------

function nextTheme() {
  const dark = isDark();
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("raysal.theme", dark ? "light" : "dark");
  } catch {
    // The choice holds until the page is left.
  }
  drawTheme();
  window.dispatchEvent(new Event("theme"));
}

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function drawTheme() {
  part.theme.textContent = isDark() ? "☀" : "☾";
  part.theme.setAttribute("aria-label", isDark() ? "Light colours" : "Dark colours");
}

