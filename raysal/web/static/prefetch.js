// @ts-check
// Pictures before they are asked for: thumbnails of the next page, and whole pictures of the next few items, decoded.

import { partOf } from "./api.js";
import { get } from "./store.js";

const AHEAD = 4;
const KEPT = 16;
const THUMB = 256;

/** whole pictures by id, in the order of their use @type {Map<string, HTMLImageElement>} */
const whole = new Map();
/** thumbnails that are being fetched @type {Set<HTMLImageElement>} */
const thumbs = new Set();

/** @param {string} id */
export function thumbOf(id) {
  return partOf(id, `thumb?size=${THUMB}`);
}

/** The whole picture of an item, from what was fetched before or begun now. @param {string} id */
export function pictureOf(id) {
  let image = whole.get(id);
  if (image) whole.delete(id);
  else {
    image = new Image();
    image.decoding = "sync";
    image.alt = "";
    image.src = partOf(id, "image?max=2048");
    image.decode().then(() => image && image.classList.add("ready"), () => image && image.classList.add("ready"));
  }
  whole.set(id, image);
  for (const old of whole.keys()) {
    if (whole.size <= KEPT) break;
    whole.delete(old);
  }
  return image;
}

/** Forget a picture that could not be read, so that it is asked for again. @param {string} id */
export function forgetPicture(id) {
  whole.delete(id);
}

/** Fetch thumbnails of items that come soon. @param {string[]} ids */
export function warm(ids) {
  for (const id of ids) {
    const item = get().items.get(id);
    if (!item || item.broken || item.kind !== "image") continue;
    const image = new Image();
    thumbs.add(image);
    image.onload = image.onerror = () => thumbs.delete(image);
    image.src = thumbOf(id);
  }
}

/** Fetch the whole pictures of items that come next, on this page or the one after. @param {string[]} ids the next one first */
export function warmWhole(ids) {
  for (const id of ids.slice(0, AHEAD)) {
    const item = get().items.get(id);
    if (item && item.kind === "image" && !item.broken) pictureOf(id);
  }
}
