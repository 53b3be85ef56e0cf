// @ts-check
// All keys, as data: the page of keys is made from this table, and `keys.js` looks keys up in it.

/**
 * @typedef {{group: string, shown: string[], words: string, keys: string[], act: string, args?: any[], shift?: boolean}} Row
 * `keys` are names of `KeyboardEvent.key` in lower case, or of `.code` for digits (their place, on every layout).
 */

/** @type {Row[]} */
export const KEYS = [
  { group: "Answer", shown: ["1", "…", "0"], words: "label with the first, … tenth class", keys: ["digit"], act: "digit" },
  { group: "Answer", shown: ["C"], words: "label by typing; also makes a new class", keys: ["c", "/"], act: "palette" },
  { group: "Answer", shown: ["S"], words: "skip", keys: ["s"], act: "skip" },
  { group: "Answer", shown: ["D"], words: "dispute: this one is in doubt", keys: ["d"], act: "dispute" },
  { group: "Answer", shown: ["U"], words: "undo the last answer", keys: ["u", "ctrl+z"], act: "undo" },
  { group: "Answer", shown: ["Del"], words: "take the answer back", keys: ["delete", "backspace"], act: "withdraw" },
  { group: "Answer", shown: ["N"], words: "note", keys: ["n"], act: "note" },
  { group: "Answer", shown: ["⇧ 0", "…", "⇧ 5"], words: "rate from 0 to 5", keys: ["shift+digit"], act: "rate" },
  { group: "Move", shown: ["←", "→", "↑", "↓"], words: "to another item", keys: ["arrowleft", "arrowright", "arrowup", "arrowdown"], act: "arrow" },
  { group: "Move", shown: ["Home", "End"], words: "first, last item of the page", keys: ["home", "end"], act: "edge" },
  { group: "Move", shown: ["Page ↑", "Page ↓"], words: "previous, next page", keys: ["pageup", "pagedown"], act: "page" },
  { group: "Move", shown: ["M"], words: "more like this", keys: ["m"], act: "more" },
  { group: "Move", shown: ["R"], words: "read the order anew", keys: ["r"], act: "reload" },
  { group: "Several at once", shown: ["Space"], words: "mark; in yes/no mode: cross out", keys: [" ", "x"], act: "mark" },
  { group: "Several at once", shown: ["⇧ ←", "⇧ →"], words: "mark while moving", keys: [], act: "" },
  { group: "Several at once", shown: ["Ctrl A"], words: "mark all of the page", keys: ["ctrl+a"], act: "markAll" },
  { group: "Several at once", shown: ["Enter"], words: "open large; in yes/no mode: yes to all not crossed out", keys: ["enter"], act: "enter" },
  { group: "Several at once", shown: ["Esc"], words: "marks away; back to the gallery", keys: ["escape"], act: "escape" },
  { group: "View", shown: ["G", "F", "Y"], words: "gallery, full picture, yes/no", keys: ["g", "f", "y"], act: "mode" },
  { group: "View", shown: ["T"], words: "smaller or larger tiles", keys: ["t"], act: "size" },
  { group: "View", shown: ["L", "B", "K", "J"], words: "label, browse, map (K), statistics (J)", keys: ["l", "b", "k", "j"], act: "view" },
  { group: "View", shown: ["?"], words: "this page", keys: ["?"], act: "help" },
  { group: "Map", shown: ["←", "→", "↑", "↓"], words: "move a circle", keys: [], act: "" },
  { group: "Map", shown: ["+", "−"], words: "larger, smaller circle", keys: [], act: "" },
  { group: "Map", shown: ["Enter"], words: "open the items inside", keys: [], act: "" },
  { group: "Map", shown: ["0"], words: "the whole map", keys: [], act: "" },
  { group: "Picture", shown: ["+", "−", "Z"], words: "zoom in, out, fit", keys: ["+", "=", "-", "_", "z"], act: "zoom" },
  { group: "Picture", shown: ["Ctrl ←"], words: "move a zoomed picture (with all arrows)", keys: ["ctrl+arrowleft", "ctrl+arrowright", "ctrl+arrowup", "ctrl+arrowdown"], act: "pan" },
  { group: "Picture", shown: ["[", "]"], words: "darker, brighter", keys: ["[", "]"], act: "brightness" },
  { group: "Picture", shown: [",", "."], words: "less, more contrast", keys: [",", "."], act: "contrast" },
  { group: "Picture", shown: ["I"], words: "invert", keys: ["i"], act: "invert" },
  { group: "Picture", shown: ["V"], words: "next channel", keys: ["v"], act: "channel" },
  { group: "Picture", shown: ["A"], words: "as it is", keys: ["a"], act: "asIs" },
  { group: "Picture", shown: ["P"], words: "play or stop a sound", keys: ["p"], act: "play" },
];
