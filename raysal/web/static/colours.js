// @ts-check
// The colours of classes: by their place in the run, after Okabe and Ito, mid-tones that hold on dark and on light.

export const COLOURS = [
  "#2f86d1", "#e0662a", "#1f9e78", "#cf73a8", "#d99a1c", "#8a6fd8", "#4fb3d9", "#a3a02a", "#b0623c", "#6f8f8f",
];
export const PLAIN = "#8b949e";

/** @param {string|null|undefined} label @param {{name: string}[]} classes */
export function colourOf(label, classes) {
  const at = classes.findIndex((known) => known.name === label);
  return at < 0 ? PLAIN : COLOURS[at % COLOURS.length];
}

/** As three numbers from 0 to 1. @param {string} colour */
export function rgb(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255);
}
