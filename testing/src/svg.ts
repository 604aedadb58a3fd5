// What charts are drawn with: few kinds of marks, and readable on light and on dark pages.

/** Each rule repeats the colours: not every viewer of SVG knows variables. */
export interface Colours {
  readonly ink: string
  readonly soft: string
  readonly line: string
  readonly page: string
  readonly bar: string
  readonly ours: string
  readonly mark: string
  readonly wrong: string
  /** Of things that are alike and are to be told apart. */
  readonly series: ReadonlyArray<string>
}

const light: Colours = {
  ink: "#1f2328",
  soft: "#59636e",
  line: "#d1d9e0",
  page: "#ffffff",
  bar: "#8c9bab",
  ours: "#1a7f5a",
  mark: "#bc4c00",
  wrong: "#cf222e",
  series: ["#4c8ed9", "#3f9c6d", "#b07cc6", "#c9922e", "#5aa5b5", "#8a8f98"]
}
const dark: Colours = {
  ink: "#e6edf3",
  soft: "#9aa4af",
  line: "#3d444d",
  page: "#0d1117",
  bar: "#6e7b89",
  ours: "#3fb27f",
  mark: "#f0883e",
  wrong: "#ff7b72",
  series: ["#4b83c4", "#3b8f65", "#9a6bb0", "#b58330", "#4f96a5", "#7d848e"]
}

const common = ({ ink, line, mark, page, soft }: Colours): string =>
  `text { fill: ${ink}; } .page { fill: ${page}; } text.soft { fill: ${soft}; } .line { stroke: ${line}; }
.mark { stroke: ${mark}; } text.marked { fill: ${mark}; }`

const escape = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")

export interface Chart {
  readonly width: number
  readonly height: number
  readonly title: string
  readonly parts: ReadonlyArray<string>
  /** What this chart has besides, in the colours of a page. */
  readonly rules: (colours: Colours) => string
}

export const chart = ({ height, parts, rules, title, width }: Chart): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>${escape(title)}</title>
<style>
svg { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
.title { font-weight: 600; font-size: 15px; } .mark { stroke-dasharray: 4 3; }
${common(light)}
${rules(light)}
@media (prefers-color-scheme: dark) {
${common(dark)}
${rules(dark)}
}
</style>
<rect class="page" width="${width}" height="${height}" rx="6"/>
<text class="title" x="16" y="26">${escape(title)}</text>
${parts.join("\n")}
</svg>
`

export const text = (x: number, y: number, words: string, kind = "", anchor = "start"): string =>
  `<text x="${x.toFixed(1)}" y="${y}" class="${kind}" text-anchor="${anchor}">${escape(words)}</text>`

export const upright = (x: number, from: number, to: number, kind: string): string =>
  `<line x1="${x.toFixed(1)}" x2="${x.toFixed(1)}" y1="${from}" y2="${to}" class="${kind}"/>`

export const block = (x: number, y: number, width: number, height: number, kind: string): string =>
  `<rect x="${x.toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${height}" rx="2" class="${kind}"/>`
