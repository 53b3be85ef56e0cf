// @ts-check
// Many points fast: WebGL where the browser has it, a 2-D canvas elsewhere. Both draw the same squares in the same order.

import { rgb } from "./colours.js";

const VERTEX = `attribute vec2 at; attribute vec3 colour; attribute float size; uniform vec4 view; uniform float scale; varying vec3 c; varying float s;
void main() { gl_Position = vec4((at - view.xy) * view.zw, 0.0, 1.0); gl_PointSize = size * scale; c = colour; s = size; }`;
const FRAGMENT = `precision mediump float; varying vec3 c; varying float s;
void main() { float d = length(gl_PointCoord - 0.5); if (d > 0.5) discard; gl_FragColor = vec4(c, 1.0) * (s > 4.5 ? 1.0 : 0.65) * smoothstep(0.5, 0.5 - 1.0 / s, d); }`;

/**
 * @typedef {{x: Float32Array, y: Float32Array, colours: string[], sizes: Float32Array}} Points
 * @typedef {{cx: number, cy: number, sx: number, sy: number}} View centre, and clip units for each unit of the data
 * @param {HTMLCanvasElement} canvas
 * @returns {{load: (points: Points) => void, draw: (view: View) => void, kind: string}}
 */
export function drawer(canvas) {
  const gl = canvas.getContext("webgl", { alpha: true, antialias: true, premultipliedAlpha: true });
  return (gl && withGl(canvas, gl)) || withCanvas(canvas);
}

/** @param {HTMLCanvasElement} canvas @param {WebGLRenderingContext} gl */
function withGl(canvas, gl) {
  const program = gl.createProgram();
  if (!program) return null;
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(/** @type {number} */ (kind));
    if (!shader) return null;
    gl.shaderSource(shader, /** @type {string} */ (source));
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return null;
  const buffer = gl.createBuffer();
  let n = 0;
  return {
    kind: "webgl",
    /** @param {Points} points */
    load(points) {
      n = points.x.length;
      const table = new Map();
      const data = new Float32Array(6 * n);
      for (let i = 0; i < n; i++) {
        const name = points.colours[i];
        const colour = table.get(name) || table.set(name, rgb(name)).get(name);
        data.set([points.x[i], points.y[i], ...colour, points.sizes[i]], 6 * i);
      }
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    },
    /** @param {View} view */
    draw(view) {
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.useProgram(program);
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      let offset = 0;
      for (const [name, size] of /** @type {[string, number][]} */ ([["at", 2], ["colour", 3], ["size", 1]])) {
        const place = gl.getAttribLocation(program, name);
        gl.enableVertexAttribArray(place);
        gl.vertexAttribPointer(place, size, gl.FLOAT, false, 24, offset);
        offset += 4 * size;
      }
      gl.uniform4f(gl.getUniformLocation(program, "view"), view.cx, view.cy, view.sx, view.sy);
      gl.uniform1f(gl.getUniformLocation(program, "scale"), devicePixelRatio);
      gl.drawArrays(gl.POINTS, 0, n);
    },
  };
}

/** @param {HTMLCanvasElement} canvas */
function withCanvas(canvas) {
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  /** @type {Points|null} */
  let points = null;
  return {
    kind: "canvas",
    /** @param {Points} given */
    load(given) {
      points = given;
    },
    /** @param {View} view */
    draw(view) {
      pen.clearRect(0, 0, canvas.width, canvas.height);
      if (!points) return;
      for (let i = 0; i < points.x.length; i++) {
        const px = ((points.x[i] - view.cx) * view.sx + 1) * 0.5 * canvas.width;
        const py = (1 - (points.y[i] - view.cy) * view.sy) * 0.5 * canvas.height;
        if (px < 0 || py < 0 || px > canvas.width || py > canvas.height) continue;
        const size = points.sizes[i] * devicePixelRatio;
        pen.globalAlpha = points.sizes[i] > 4.5 ? 1 : 0.65;
        pen.fillStyle = points.colours[i];
        pen.fillRect(px - size / 2, py - size / 2, size, size);
      }
    },
  };
}
