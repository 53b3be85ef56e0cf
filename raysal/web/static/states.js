// @ts-check
// What stands in place of the items: nothing yet, all done, an error. Each says what to do next.

import { chooseBatch, setOrder, setView } from "./actions.js";
import { button, byId, fill, h, kbd, plural } from "./dom.js";
import { open } from "./feed.js";
import { get, watch } from "./store.js";

const INSTEAD = ["likeliest", "uncertain", "novel"];

export function startStates() {
  watch(["page", "loading", "end", "others", "problem", "run", "view", "busy", "order", "pageNumber"], draw);
  watch(["run", "online", "busy"], again);
}

/** What could not be read is read as soon as it can be: the connection is back, or the order is ready. */
function again() {
  const { problem, run, order, view, loading, online } = get();
  if (loading || !problem || !run) return;
  if (problem.status === 503 && !get().busy) return void open();
  if (problem.status === 0 && online) return void open();
  if (problem.status !== 409) return;
  const one = run.orders.find((/** @type {any} */ known) => known.name === order[/** @type {"label"|"browse"} */ (view)]);
  if (one && one.ready) void open();
}

const GLANCE_MS = 500;

let drawn = "";
let proposed = "";
/** when the page began to propose this; that more is offered beside it meanwhile begins nothing anew */
let since = 0;

/** Do what the page proposes where no items are: Enter. A key that was pressed twice in a hurry does nothing. */
export function acceptProposal() {
  const proposal = byId("nothing").querySelector("button.main");
  if (!byId("nothing").hidden && proposal && performance.now() - since > GLANCE_MS) proposal.click();
}

function draw() {
  const { page, loading, view, run } = get();
  const place = byId("nothing");
  place.hidden = page.length > 0 || loading || !run || (view !== "label" && view !== "browse");
  if (page.length) proposed = "";
  if (place.hidden) return void (drawn = "");
  const { title, words, actions } = say();
  const look = JSON.stringify([title, words, actions.length]);
  if (look === drawn) return;
  drawn = look;
  if (title !== proposed) since = performance.now();
  proposed = title;
  fill(place, h("div", { class: "empty" }, h("h2", { text: title }), words.map((text) => h("p", { text })),
    h("div", { class: "row" }, actions)));
}

/** Who has the rest of the batch, and when it comes back at the latest. */
function withWhom() {
  const { others, annotator } = get();
  if (!others.length) return "with other people, or in another tab. What nobody answers comes back in five minutes.";
  const named = others.slice(0, 3).map((one) => (one.name === annotator ? "in another tab of yours" : `with ${one.name}`));
  const more = others.length > 3 ? ` and ${plural(others.length - 3, "other")}` : "";
  const last = new Date(Math.max(...others.map((one) => Date.parse(one.until)))).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return `${named.join(", ")}${more}. What is not answered comes back by ${last} at the latest, unless a page with it stays open.`;
}

/** @returns {{title: string, words: string[], actions: any[]}} */
function say() {
  const { problem, view, run, order, end, subject, busy } = get();
  if (problem) {
    return { title: problem.status === 409 ? "Not ready yet" : problem.status === 503 ? "Not just now" : "The items cannot be read", words: [problem.message, problem.fix].filter(Boolean), actions: [button("Try again ", () => void open(), { class: "main" }, kbd("R"))] };
  }
  if (view === "browse") {
    const why = run.orders.find((/** @type {any} */ one) => one.name === order.browse);
    if (subject) return { title: "Nothing here", words: ["No item of the pool is left in this choice."], actions: [button("Back to the whole pool", () => void setOrder(order.browse))] };
    return { title: "Nothing to show", words: [why && why.why ? why.why : "Every item has a label. Switch “Hide labelled” off to see them."], actions: [button("Label", () => void setView("label"))] };
  }
  const choosing = busy !== null && busy.stage === "round";
  const choose = button(run.batch && run.batch.size ? "Choose the next batch " : "Choose a batch ", () => void chooseBatch(), { class: "main", disabled: Boolean(run.closed) }, kbd("Enter"));
  const others = run.orders.filter((/** @type {any} */ one) => INSTEAD.includes(one.name) && one.ready && one.name !== order.label)
    .map((/** @type {any} */ one) => button(`Label the ${one.title.toLowerCase()}`, () => void setOrder(one.name)));
  if (choosing) return { title: "The next batch is being chosen", words: ["It appears here by itself."], actions: [] };
  if (run.closed) return { title: "This run is closed", words: [run.closed], actions: [button("Browse what was found", () => void setView("browse")), button("Statistics", () => void setView("statistics")), ...others] };
  if (order.label === "batch" && end === "batch") {
    if (!run.batch || run.batch.round === null || run.batch.round < 0 || !run.batch.size) {
      return { title: "No batch yet", words: [`${plural(run.items, "item")} wait. raysal chooses those that are worth a label.`], actions: [choose, ...others] };
    }
    const waiting = run.batch.waiting
      ? `${plural(run.batch.waiting, "item")} of it ${run.batch.waiting === 1 ? "is" : "are"} ${withWhom()}`
      : "Every item of it is answered.";
    return { title: run.batch.waiting ? "The rest is with others" : "This batch is done", words: [waiting], actions: [choose, ...others] };
  }
  return { title: "All done", words: ["Every item that may be labelled has an answer, or is with other people or in another tab just now."], actions: [button("Look again ", () => void open(), {}, kbd("R")), button("Browse", () => void setView("browse"))] };
}
