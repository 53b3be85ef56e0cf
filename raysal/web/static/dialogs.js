// @ts-check
// Questions to the person: a class by typing, a note, a name; and the page of all keys. Native dialogs keep the focus.

import { label, writeNote } from "./actions.js";
import { colourOf } from "./colours.js";
import { button, byId, count, fill, h, kbd } from "./dom.js";
import { draftOf, keepDraft } from "./drafts.js";
import { KEYS } from "./keymap.js";
import { giveBack } from "./feed.js";
import { get, keep, set, subjects } from "./store.js";
import { toast } from "./toast.js";

/**
 * Open a dialog; it is gone from the page when it is closed.
 * @param {string} title @param {any[]} children
 * @param {{class?: string, required?: boolean, closed?: () => void}} [options]
 */
function dialog(title, children, options = {}) {
  const node = h("dialog", { class: options.class || "", "aria-labelledby": "dialog-title" });
  const head = h("header", {}, h("h2", { id: "dialog-title", text: title }),
    options.required ? null : button("×", () => node.close(), { class: "quiet close", "aria-label": "Close" }));
  node.append(head, ...children.filter((child) => child !== null));
  if (options.required) node.addEventListener("cancel", (/** @type {Event} */ event) => event.preventDefault());
  else node.addEventListener("click", (/** @type {MouseEvent} */ event) => event.target === node && node.close());
  node.addEventListener("close", () => {
    node.remove();
    if (options.closed) options.closed();
  });
  document.body.append(node);
  node.showModal();
  return node;
}

/** Whether a dialog is open: keys are then the dialog's. */
export function isAsking() {
  return document.querySelector("dialog[open]") !== null;
}

// -- a class by typing -----------------------------------------------------------------------------------------

/** what was typed last, and about which items: there again after Esc */
let typed = { ids: "", text: "" };

export function openPalette() {
  const items = subjects();
  if (!items.length || isAsking()) return;
  let names = /** @type {string[]} */ ([]);
  let at = 0;
  const input = h("input", { type: "text", id: "palette-input", role: "combobox", "aria-expanded": "true", "aria-controls": "palette-list",
    "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false", "aria-label": "Class", placeholder: "Type a class" });
  const list = h("ul", { id: "palette-list", role: "listbox", "aria-label": "Classes" });
  const node = dialog(items.length === 1 ? `Label ${items[0].key}` : `Label ${items.length} items`, [input, list,
    h("p", { class: "hint" }, kbd("↑"), " ", kbd("↓"), " choose  ", kbd("Enter"), " label  ", kbd("Esc"), " close")], { class: "palette" });
  input.value = typed.ids === items.map((item) => item.id).join(" ") ? typed.text : "";
  const choose = (/** @type {string|undefined} */ name) => {
    if (!name) return;
    typed = { ids: "", text: "" };
    node.close();
    label(name);
  };
  const draw = () => {
    const wanted = input.value.trim();
    const known = get().run.classes;
    names = matches(wanted, known.map((/** @type {any} */ one) => one.name));
    const isNew = wanted !== "" && !known.some((/** @type {any} */ one) => one.name === wanted);
    const rows = isNew ? [...names, wanted] : names;
    at = Math.max(0, Math.min(at, rows.length - 1));
    fill(list, rows.map((name, i) => {
      const fresh = isNew && i === rows.length - 1;
      const dot = h("i", { class: "dot" });
      dot.style.background = colourOf(name, known);
      const place = known.findIndex((/** @type {any} */ one) => one.name === name);
      return h("li", { id: `palette-${i}`, role: "option", "aria-selected": String(i === at), onclick: () => choose(name) },
        dot, h("span", { class: "name", text: fresh ? `New class “${name}”` : name }),
        fresh ? null : h("span", { class: "count", text: count(known[place].count) }), place >= 0 && place < 10 ? kbd(String((place + 1) % 10)) : null);
    }), rows.length ? null : h("li", { role: "option", "aria-selected": "false", "aria-disabled": "true", class: "dim", text: "No class yet: type its name" }));
    names = rows;
    input.setAttribute("aria-activedescendant", rows.length ? `palette-${at}` : "");
    list.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  };
  input.addEventListener("input", () => {
    at = 0;
    typed = { ids: items.map((item) => item.id).join(" "), text: input.value };
    draw();
  });
  input.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (step) {
      at = (at + step + names.length) % Math.max(1, names.length);
      draw();
    } else if (event.key === "Enter" && !event.isComposing) choose(names[at]);
    else return;
    event.preventDefault();
  });
  draw();
  input.focus();
  input.select();
}

/** Names that hold the typed letters in their order; those that begin with them first. @param {string} typed @param {string[]} names */
export function matches(typed, names) {
  const wanted = typed.toLocaleLowerCase();
  /** @param {string} name */
  const rank = (name) => {
    const text = name.toLocaleLowerCase();
    if (text.startsWith(wanted)) return 0;
    if (text.includes(wanted)) return 1;
    let from = 0;
    for (const letter of wanted) {
      from = text.indexOf(letter, from) + 1;
      if (!from) return 3;
    }
    return 2;
  };
  return names.map((name, i) => ({ name, i, rank: rank(name) })).filter((row) => row.rank < 3)
    .sort((a, b) => a.rank - b.rank || a.i - b.i).map((row) => row.name);
}

// -- a note, a name --------------------------------------------------------------------------------------------

/** A note is typed. What was typed and not saved is a draft: it is there again when the dialog opens again. */
export function editNote() {
  const items = subjects();
  if (!items.length || isAsking()) return;
  const ids = items.map((item) => item.id);
  const notes = items.map((item) => (item.mine ? item.mine.note : ""));
  const saved = notes.every((note) => note === notes[0]) ? notes[0] : "";
  const area = h("textarea", { rows: "5", id: "note-text", "aria-label": "Note", maxlength: "2000" });
  const draft = draftOf(ids);
  area.value = draft ?? saved;
  const isNew = () => area.value.trim() !== saved.trim();
  const keepTyped = () => keepDraft(ids, isNew() ? area.value : null);
  const end = () => (keepDraft(ids, null), (done = true), node.close());
  const save = () => {
    end();
    if (isNew()) writeNote(items, area.value.trim());
  };
  let done = false;
  const node = dialog(items.length === 1 ? `Note on ${items[0].key}` : `Note on ${items.length} items`, [area,
    draft === null ? null : h("p", { class: "hint", text: "Not saved yet: this is what was typed before." }),
    h("div", { class: "row end" }, button("Discard", end, { class: "quiet" }), button("Save ", save, { class: "main" }, kbd("Ctrl Enter")))],
  { closed: () => {
    set({ items: get().items }); // what is beside the items says that a draft is there
    if (!done && isNew()) toast("The note is not saved. What you typed is kept: N opens it again");
  } });
  area.addEventListener("input", keepTyped);
  area.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
  });
  area.focus();
  area.setSelectionRange(area.value.length, area.value.length);
}

/** Ask who labels. @param {(name: string) => void} then */
export function askName(then) {
  const before = get().annotator;
  const input = h("input", { type: "text", id: "name-text", autocomplete: "nickname", maxlength: "100", required: true, "aria-describedby": "name-why" });
  input.value = before;
  const go = (/** @type {Event} */ event) => {
    event.preventDefault();
    const name = input.value.trim();
    if (!name) return input.focus();
    const given = before && name !== before ? giveBack(before) : null;
    keep.write("annotator", name, true);
    set({ annotator: name });
    node.close();
    if (given) void given.then(() => then(name)); // what comes next may be what was just given back
    else then(name);
  };
  const form = h("form", { onsubmit: go }, h("p", { id: "name-why", text: "Your name is written beside each of your labels. It stays in this browser." }),
    h("label", { for: "name-text", text: "Your name" }), input, h("div", { class: "row end" }, h("button", { type: "submit", class: "main", text: "Begin" })));
  const node = dialog("Who labels?", [form], { required: !before, class: "name" });
  input.select();
}

// -- all keys --------------------------------------------------------------------------------------------------

export function openHelp() {
  if (isAsking()) return;
  const groups = [...new Set(KEYS.map((row) => row.group))];
  const toggle = h("input", { type: "checkbox", id: "keys-on" });
  toggle.checked = get().keysOn;
  toggle.addEventListener("change", () => {
    set({ keysOn: toggle.checked });
    keep.write("keysOn", toggle.checked);
  });
  dialog("Keys", [
    h("div", { class: "key-groups" }, groups.map((group) => h("section", {}, h("h3", { text: group }),
      h("dl", {}, KEYS.filter((row) => row.group === group && row.words).map((row) =>
        [h("dt", {}, row.shown.map((name) => kbd(name))), h("dd", { text: row.words })]))))),
    h("label", { class: "check", for: "keys-on" }, toggle, " Single keys act (switch them off if a screen reader or dictation needs the letters)"),
  ], { class: "help" });
}

/** What to do where the token is no longer right. */
export function sayLocked() {
  if (byId("locked")) return;
  const { waiting } = get();
  const words = waiting ? `${waiting} ${waiting === 1 ? "answer is" : "answers are"} kept in this browser and go out then.` : "Nothing is lost.";
  const node = dialog("This page may not talk to the server any more", [h("p", { id: "locked" },
    "The token has changed, most likely because the server was started again. Open the address that ", h("code", { text: "raysal serve" }), ` prints. ${words}`),
    h("div", { class: "row end" }, button("Try again", () => location.reload(), { class: "main" }))], { class: "locked" });
  return node;
}
