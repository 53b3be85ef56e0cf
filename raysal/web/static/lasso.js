// @ts-check
// Which points lie in a drawn outline or in a circle. Pure maths.

/**
 * Points inside a closed outline, by the even-odd rule.
 * @param {ArrayLike<number>} x @param {ArrayLike<number>} y @param {[number, number][]} outline
 * @returns {number[]} their positions
 */
export function inside(x, y, outline) {
  if (outline.length < 3) return [];
  const xs = outline.map((p) => p[0]);
  const ys = outline.map((p) => p[1]);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const found = [];
  for (let i = 0; i < x.length; i++) {
    const [px, py] = [x[i], y[i]];
    if (px < x0 || px > x1 || py < y0 || py > y1) continue;
    let odd = false;
    for (let a = 0, b = outline.length - 1; a < outline.length; b = a++) {
      if (ys[a] > py !== ys[b] > py && px < ((xs[b] - xs[a]) * (py - ys[a])) / (ys[b] - ys[a]) + xs[a]) odd = !odd;
    }
    if (odd) found.push(i);
  }
  return found;
}

/** A circle as an outline. @param {number} cx @param {number} cy @param {number} rx @param {number} ry @returns {[number, number][]} */
export function ring(cx, cy, rx, ry) {
  return Array.from({ length: 48 }, (_, i) => [cx + rx * Math.cos((i * Math.PI) / 24), cy + ry * Math.sin((i * Math.PI) / 24)]);
}
