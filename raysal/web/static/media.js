// @ts-check
// What an item looks like: a picture, a text, a table row, a sound, or only its key.

import { ask, partOf } from "./api.js";
import { button, fill, h, short } from "./dom.js";
import { forgetPicture, pictureOf, thumbOf } from "./prefetch.js";
import { get, put } from "./store.js";

/** @typedef {import("./store.js").Item} Item */

const UNREAD = "the picture cannot be read";

/** The small look of an item, for the gallery. @param {Item} item */
export function small(item) {
  if (item.broken) return broken(item.broken);
  if (item.kind === "image") return picture(thumbOf(item.id), "cannot be read");
  if (item.kind === "sound") return picture(partOf(item.id, "spectrogram"), "no spectrogram");
  if (item.kind === "text" || item.text) return h("p", { class: "words", text: item.text || "(empty)" });
  return row(item, 6);
}

/** @param {string} src @param {string} problem */
function picture(src, problem) {
  const image = h("img", { alt: "", decoding: "async", draggable: "false" });
  image.onload = () => image.classList.toggle("tiny", image.naturalWidth <= 128 && image.naturalHeight <= 128);
  image.onerror = () => image.replaceWith(broken(problem));
  image.src = src;
  return image;
}

/** @param {string} why */
function broken(why) {
  return h("p", { class: "broken" }, h("b", { text: "Cannot be shown" }), h("span", { text: why }));
}

/** Values of a row as terms and definitions. @param {Item} item @param {number} most */
function row(item, most) {
  const pairs = Object.entries(item.carried || {}).slice(0, most);
  if (!pairs.length) return h("p", { class: "words", text: item.key });
  return h("dl", { class: "row-values" }, pairs.map(([name, value]) => [h("dt", { text: name }), h("dd", { text: asText(value) })]));
}

/** @param {any} value */
export function asText(value) {
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : short(value);
  return value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** The large look of an item. A picture shows its thumbnail until it is whole. @param {Item} item @returns {HTMLElement} */
export function large(item) {
  if (item.broken) return largeBroken(item, item.broken);
  if (item.kind === "image") return largePicture(item);
  if (item.kind === "sound") return sound(item);
  if (item.kind === "text") return text(item);
  return table(item);
}

/** @param {Item} item @param {string} why */
function largeBroken(item, why) {
  const again = () => {
    forgetPicture(item.id);
    put([{ ...item, broken: null }]);
  };
  return h("div", { class: "large-broken" }, broken(why), button("Try again", again), h("p", { class: "hint" }, "Or skip it: ", h("kbd", { text: "S" })));
}

/** @param {Item} item */
function largePicture(item) {
  const image = pictureOf(item.id);
  if (image.complete && !image.naturalWidth) return largeBroken(item, UNREAD); // it was fetched ahead
  const place = h("div", { class: "large-picture" });
  const arrive = () => {
    image.classList.toggle("tiny", image.naturalWidth <= 128 && image.naturalHeight <= 128);
    fill(place, image);
  };
  if (image.complete && image.naturalWidth) arrive();
  else {
    const stand = h("img", { alt: "", class: "stand-in", src: thumbOf(item.id) });
    stand.onload = () => stand.classList.toggle("tiny", stand.naturalWidth <= 128 && stand.naturalHeight <= 128);
    stand.onerror = () => stand.remove();
    place.append(stand);
    image.onload = arrive;
    image.onerror = () => place.replaceWith(largeBroken(item, UNREAD));
  }
  return place;
}

/** @param {Item} item */
function sound(item) {
  const image = h("img", { alt: "", src: partOf(item.id, "spectrogram"), class: "spectrogram" });
  image.onerror = () => image.replaceWith(broken("no spectrogram"));
  const player = h("audio", { controls: true, preload: "auto", src: partOf(item.id, "sound"), "aria-label": `Sound ${item.key}` });
  return h("div", { class: "large-sound" }, image, player, h("p", { class: "hint" }, h("kbd", { text: "P" }), " plays and stops"));
}

/** @param {Item} item */
function text(item) {
  const body = h("div", { class: "large-text", tabindex: "0", role: "region", "aria-label": `Text of ${item.key}`, text: item.text || "" });
  ask(partOf(item.id, "text")).then(
    (said) => (body.textContent = said.text),
    () => {}, // the beginning of the text stays
  );
  return body;
}

/** @param {Item} item */
function table(item) {
  const place = h("div", { class: "large-table", tabindex: "0", role: "region", "aria-label": `Values of ${item.key}` });
  const show = (/** @type {Record<string, any>} */ values, /** @type {string|null} */ words) =>
    fill(
      place,
      words ? h("p", { class: "read", text: words }) : null,
      words && !Object.keys(values).length ? null : Object.keys(values).length
        ? h("table", {}, h("caption", { class: "unseen", text: `Values of ${item.key}` }),
            h("tbody", {}, Object.entries(values).map(([name, value]) =>
              h("tr", {}, h("th", { scope: "row", text: name }), h("td", { text: asText(value) })))))
        : h("p", { class: "words", text: `${item.key} has a vector only: nothing of it can be looked at. If its key names a file, say where the files are: raysal serve RUN --media FOLDER` }),
    );
  show(item.carried || {}, item.text);
  ask(`api/item/${encodeURIComponent(item.id)}`).then((said) => get().page.includes(item.id) && show(said.carried || {}, said.text), () => {});
  return place;
}
