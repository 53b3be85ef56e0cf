// @ts-check
// Brightness, contrast, inversion and channels, for every picture on the page. A style sheet made here holds the filter.

import { button, byId, fill, h, kbd, speak } from "./dom.js";
import { get, keep, set, watch } from "./store.js";

const CHANNELS = ["all", "red", "green", "blue", "grey"];
const AS_IS = { brightness: 1, contrast: 1, invert: false, channel: "all" };
const sheet = new CSSStyleSheet();

export function isAdjusted(adjust = get().adjust) {
  return JSON.stringify(adjust) !== JSON.stringify(AS_IS);
}

/** @param {Partial<typeof AS_IS>} change */
export function adjust(change) {
  const now = { ...get().adjust, ...change };
  set({ adjust: now });
  keep.write("adjust", now);
}

export function asIs() {
  adjust(AS_IS);
  speak("Pictures as they are");
}

/** @param {"brightness"|"contrast"} name @param {number} by */
export function nudge(name, by) {
  const value = Math.max(0.2, Math.min(4, Math.round((get().adjust[name] + by) * 10) / 10));
  adjust({ [name]: value });
  speak(`${name} ${Math.round(value * 100)} %`);
}

export function invert() {
  adjust({ invert: !get().adjust.invert });
  speak(get().adjust.invert ? "inverted" : "not inverted");
}

export function nextChannel() {
  const channel = CHANNELS[(CHANNELS.indexOf(get().adjust.channel) + 1) % CHANNELS.length];
  adjust({ channel });
  speak(channel === "all" ? "all channels" : `channel ${channel}`);
}

export function startAdjust() {
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  set({ adjust: { ...AS_IS, ...keep.read("adjust", {}) } });
  watch(["adjust"], apply);
}

function apply() {
  const { brightness, contrast, invert: inverted, channel } = get().adjust;
  const parts = [
    channel === "all" ? "" : `url(#channel-${channel})`,
    brightness === 1 ? "" : `brightness(${brightness})`,
    contrast === 1 ? "" : `contrast(${contrast})`,
    inverted ? "invert(1)" : "",
  ].filter(Boolean);
  sheet.replaceSync(parts.length ? `.pic img, .large-picture img, .spectrogram { filter: ${parts.join(" ")} }` : "");
}

/** Close the panel; whether it was open. */
export function closePanel() {
  const panel = byId("adjust");
  if (!panel || !panel.matches(":popover-open")) return false;
  panel.hidePopover();
  return true;
}

/** The panel with the sliders. */
export function adjustPanel() {
  const panel = h("div", { id: "adjust", class: "panel", popover: "auto", role: "group", "aria-label": "How pictures look" });
  const draw = () => {
    const now = get().adjust;
    const at = document.activeElement && document.activeElement.id;
    fill(
      panel,
      slider("brightness", "Brightness", "[", "]"),
      slider("contrast", "Contrast", ",", "."),
      h("fieldset", { class: "segments" }, h("legend", {}, "Channel ", kbd("V")),
        CHANNELS.map((channel) => button(channel, () => adjust({ channel }), { id: `channel-of-${channel}`, "aria-pressed": now.channel === channel ? "true" : "false" }))),
      h("div", { class: "row" },
        button("Invert ", invert, { id: "adjust-invert", "aria-pressed": now.invert ? "true" : "false" }, kbd("I")),
        button("As they are ", asIs, { id: "adjust-reset" }, kbd("A"))),
    );
    if (at) byId(at)?.focus();
  };
  watch(["adjust"], () => panel.isConnected && draw());
  draw();
  return panel;
}

/** @param {"brightness"|"contrast"} name @param {string} title @param {string} down @param {string} up */
function slider(name, title, down, up) {
  const value = get().adjust[name];
  const input = h("input", { type: "range", id: `adjust-${name}`, min: "0.2", max: "4", step: "0.1", value: String(value) });
  input.addEventListener("input", () => adjust({ [name]: Number(input.value) }));
  return h("label", { class: "slider", for: `adjust-${name}` },
    h("span", {}, title, " ", kbd(down), kbd(up)), input, h("output", { text: `${Math.round(value * 100)} %` }));
}
