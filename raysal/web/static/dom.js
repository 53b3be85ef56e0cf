// @ts-check
// Elements from names and children. Text is only ever set as text, so no key or class name can become markup.

/**
 * Make an element.
 * @param {string} name a tag name; `svg:circle` makes an SVG element
 * @param {Record<string, any>} [attributes] `class`, `text`, `on…` listeners, `data-…`; true, null and false as in HTML
 * @param {...any} children nodes, texts, or lists of them; null is left out
 * @returns {any}
 */
export function h(name, attributes = {}, ...children) {
  const node = name.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") node.textContent = String(value);
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  append(node, children);
  return node;
}

/** @param {Node} node @param {any[]} children */
function append(node, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(node, child);
    else node.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/**
 * Replace what is in a node.
 * @param {Element} node @param {...any} children
 */
export function fill(node, ...children) {
  const made = document.createDocumentFragment();
  append(made, children);
  node.replaceChildren(made);
}

/** @param {string} id @returns {any} */
export function byId(id) {
  return document.getElementById(id);
}

/** A keycap. @param {string} text */
export function kbd(text) {
  return h("kbd", { text });
}

/** A button. @param {string} text @param {(event: Event) => void} onclick @param {Record<string, any>} [attributes] @param {...any} children */
export function button(text, onclick, attributes = {}, ...children) {
  return h("button", { type: "button", onclick, ...attributes }, text, ...children);
}

/** Numbers as people read them. @param {number} value */
export function count(value) {
  return value.toLocaleString("en-US");
}

/** "1 item", "3 items". @param {number} n @param {string} one @param {string} [many] */
export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** A number with as many places as it deserves. @param {number|null|undefined} value */
export function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 100000)) return value.toExponential(1);
  return String(Number(value.toFixed(size < 1 ? 3 : size < 100 ? 2 : 0)));
}

/** Tell a screen reader. @param {string} text */
export function speak(text) {
  const node = byId("spoken");
  node.textContent = node.textContent === text ? `${text}\u00a0` : text;
}
