// @ts-check
// Short messages at the edge of the page. They never move what is looked at, and go by themselves unless bad.

import { button, byId, h, speak } from "./dom.js";

/** @param {string} text @param {{fix?: string, bad?: boolean, actions?: [string, () => void][]}} [options] a bad one stays until it is closed */
export function toast(text, options = {}) {
  const place = byId("toasts");
  const node = h("div", { class: options.bad ? "toast bad" : "toast" });
  const close = () => node.remove();
  node.append(h("p", { text }), ...(options.fix ? [h("p", { class: "fix", text: options.fix })] : []));
  const actions = options.actions || [];
  if (actions.length || options.bad) {
    const run = (/** @type {() => void} */ call) => () => (close(), call());
    node.append(h("div", { class: "row" }, actions.map(([name, call]) => button(name, run(call))), button("Close", close, { class: "quiet" })));
  }
  if (!options.bad) setTimeout(close, actions.length ? 8000 : 4000);
  while (place.children.length > 3) place.firstElementChild.remove();
  place.append(node);
  speak([text, options.fix].filter(Boolean).join(". "));
}
