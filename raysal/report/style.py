"""The style sheet of a report. One light theme; no font, script or picture from elsewhere."""

from __future__ import annotations

from raysal.report.markup import Html

CSS = Html("""
:root { --ink: #1f2933; --muted: #66727f; --line: #e3e8ed; --soft: #f6f8fa; --blue: #0072b2; --red: #b54708 }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100%; color-scheme: light }
body { margin: 0; background: #fff; color: var(--ink); line-height: 1.55;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 3rem 1.5rem 4rem }
header p.kind { margin: 0 0 .5rem; color: var(--muted); font-size: .875rem; overflow-wrap: anywhere }
h1 { margin: 0; font-size: clamp(1.5rem, 3.4vw, 2.1rem); line-height: 1.22; letter-spacing: -.015em;
  text-wrap: balance }
header p.lead { margin: .75rem 0 0; font-size: 1.1rem; color: #3d4955; max-width: 46em }
h2 { margin: 3.2rem 0 .35rem; font-size: 1.25rem; letter-spacing: -.01em }
h2 + p, p.note { margin: 0 0 1rem; color: var(--muted); font-size: .925rem; max-width: 52em }
p.warning { margin: 1rem 0; padding: .6rem .9rem; border-left: 3px solid #e69f00; background: #fdf7ea;
  font-size: .925rem; overflow-wrap: anywhere }
.cards { overflow-wrap: anywhere; display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 1px;
  margin: 2rem 0 0; border: 1px solid var(--line); border-radius: 8px; overflow: hidden }
.cards div { padding: .9rem 1rem; box-shadow: 0 0 0 1px var(--line) }
.cards b { display: block; font-size: 1.55rem; line-height: 1.25; font-weight: 650; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums }
.cards span { display: block; color: var(--muted); font-size: .85rem; line-height: 1.35 }
svg.figure { display: block; width: 100%; height: auto; margin: .5rem 0; overflow: visible }
svg.figure text { font-family: inherit !important }
svg.figure [id*="halo"] text { paint-order: stroke; stroke: #fff; stroke-width: 3.5px;
  stroke-linejoin: round }
.scroll { overflow-x: auto; margin: .75rem 0 }
table { border-collapse: collapse; font-size: .925rem; font-variant-numeric: tabular-nums; width: 100% }
th { font-weight: 600; color: var(--muted); font-size: .82rem; text-align: right; vertical-align: bottom }
th, td { padding: .38rem .75rem; border-bottom: 1px solid var(--line) }
td { white-space: nowrap }
th { line-height: 1.3 }
td { text-align: right }
th:first-child, td:first-child { padding-left: 0 }
th:last-child, td:last-child { padding-right: 0 }
thead th { border-bottom: 1.5px solid #b9c3cd }
tfoot td { border-bottom: 0; font-weight: 600; border-top: 1.5px solid #b9c3cd }
td.strong { font-weight: 650; color: var(--blue) }
td.dim { color: var(--muted) }
td.loss { color: var(--red) }
th.left, td.left { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 8.5rem }
td.bar { width: 22% }
td.bar i { display: block; height: .62rem; border-radius: 2px; background: var(--blue); min-width: 1px }
td.bar i + i { height: .22rem; margin-top: 2px; background: #9aa5b1 }
ul.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: .25rem 0 0; padding: 0;
  list-style: none; font-size: .875rem }
.swatch { display: inline-block; width: .7rem; height: .7rem; border-radius: 2px; margin-right: .4rem }
details { border-top: 1px solid var(--line); padding: .55rem 0 }
details:last-of-type { border-bottom: 1px solid var(--line) }
summary { cursor: pointer; font-size: .95rem }
summary span { color: var(--muted); margin-left: .6rem; font-size: .875rem }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(56px, 1fr)); gap: .6rem .4rem;
  margin: .7rem 0 .5rem }
figure { margin: 0; min-width: 0; text-align: center }
figure img, figure .none { display: block; width: 100%; aspect-ratio: 1; margin: 0 auto; object-fit: contain;
  border-radius: 4px; background: var(--soft) }
figure img.small { image-rendering: pixelated }
figure .none { font-size: .68rem; line-height: 1.25; color: var(--muted); padding: .3rem; overflow: hidden }
figcaption { margin-top: .25rem; font-size: .75rem; line-height: 1.3; color: var(--muted); overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap }
figcaption .swatch { width: .5rem; height: .5rem; margin-right: .28rem }
ol.items { margin: .6rem 0; padding-left: 2.2rem; font-size: .9rem; columns: 17rem auto; column-gap: 2rem }
ol.items.texts { columns: auto }
ol.items li { break-inside: avoid; overflow-wrap: anywhere; padding: .08rem 0 }
ol.items em { font-style: normal; color: var(--muted) }
dl { display: grid; grid-template-columns: minmax(8.5rem, max-content) 1fr; gap: .3rem 1.5rem;
  margin: .75rem 0; font-size: .925rem }
dt { color: var(--muted) }
dd { margin: 0; overflow-wrap: anywhere }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .85em }
pre { background: var(--soft); padding: 1rem; border-radius: 6px; overflow-x: auto; line-height: 1.45 }
@media (max-width: 640px) {
  main { padding: 1.75rem 1rem 3rem }
  dl { grid-template-columns: 1fr; gap: 0 } dd { margin-bottom: .5rem }
  th, td { padding: .38rem .3rem } th.left, td.left { min-width: 6rem }
  td.flow { min-width: 3rem } td.bar { width: 18%; min-width: 2.5rem }
}
@media print { main { padding: 0; max-width: none } details, figure, svg { break-inside: avoid } }
""")
