// Charts drawn by hand: few, plain, and readable on light and on dark pages.

const escape = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")

// Colours stand in each rule: not every viewer of SVG knows variables.
const light = {
  ink: "#1f2328",
  soft: "#59636e",
  line: "#d1d9e0",
  page: "#ffffff",
  bar: "#8c9bab",
  ours: "#1a7f5a",
  mark: "#bc4c00"
}
const dark = {
  ink: "#e6edf3",
  soft: "#9aa4af",
  line: "#3d444d",
  page: "#0d1117",
  bar: "#6e7b89",
  ours: "#3fb27f",
  mark: "#f0883e"
}

const colours = ({ bar, ink, line, mark, ours, page, soft }: typeof light): string =>
  [
    `text { fill: ${ink}; } .page { fill: ${page}; } text.soft { fill: ${soft}; } .line { stroke: ${line}; }`,
    `.mark { stroke: ${mark}; } text.marked { fill: ${mark}; } .bar { fill: ${bar}; } .ours { fill: ${ours}; }`,
    `.whisker { stroke: ${bar}; } .whisker.us { stroke: ${ours}; }`
  ].join("\n")

const style = `
svg { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
.title { font-weight: 600; font-size: 15px; } .us { font-weight: 600; }
.mark { stroke-dasharray: 4 3; } .whisker { stroke-width: 2; }
${colours(light)}
@media (prefers-color-scheme: dark) {
${colours(dark)}
}`

const width = 760
const left = 190
const right = width - 130

const page = (height: number, title: string, parts: ReadonlyArray<string>): string =>
  [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>${escape(title)}</title>`,
    `<style>${style}\n</style>`,
    `<rect class="page" width="${width}" height="${height}" rx="6"/>`,
    `<text class="title" x="16" y="26">${escape(title)}</text>`,
    ...parts,
    "</svg>\n"
  ].join("\n")

const text = (x: number, y: number, words: string, kind = "", anchor = "start"): string =>
  `<text x="${x.toFixed(1)}" y="${y}" class="${kind}" text-anchor="${anchor}">${escape(words)}</text>`

const upright = (x: number, from: number, to: number, kind: string): string =>
  `<line x1="${x.toFixed(1)}" x2="${x.toFixed(1)}" y1="${from}" y2="${to}" class="${kind}"/>`

export interface Bar {
  readonly name: string
  readonly ours: boolean
  readonly value: number
  readonly label: string
}

/** Groups of bars on one linear axis, with a line at 1. */
export const bars = (
  title: string,
  unit: string,
  groups: ReadonlyArray<{ readonly title: string; readonly bars: ReadonlyArray<Bar> }>
): string => {
  const all = groups.flatMap(({ bars }) => bars.map(({ value }) => value)).filter((value) => !Number.isNaN(value))
  const most = Math.max(1, ...all) * 1.02
  const end = right - 50
  const x = (value: number) => left + (end - left) * value / most
  const parts: Array<string> = []
  let y = 44
  for (const group of groups) {
    parts.push(text(16, y + 14, group.title, "soft"))
    parts.push(text(end + 60, y + 14, "of the floor", "soft", "end"), text(width - 16, y + 14, unit, "soft", "end"))
    y += 24
    const top = y
    for (const { label, name, ours, value } of group.bars) {
      const length = Number.isNaN(value) ? 0 : Math.max(1, x(value) - left)
      parts.push(
        text(left - 10, y + 14, name, ours ? "us" : "", "end"),
        `<rect x="${left}" y="${y + 2}" width="${length.toFixed(1)}" height="15" rx="2" class="${
          ours ? "ours" : "bar"
        }"/>`,
        text(end + 60, y + 14, Number.isNaN(value) ? "–" : value.toFixed(2), ours ? "us" : "", "end"),
        text(width - 16, y + 14, label, "", "end")
      )
      y += 22
    }
    parts.push(upright(x(1), top - 2, y, "mark"))
    y += 12
  }
  return page(y + 8, title, parts)
}

export interface Range {
  readonly name: string
  readonly ours: boolean
  readonly p50: number
  readonly p99: number
  readonly max: number
  readonly label: string
}

/** From p50 over p99 to the maximum, on a logarithmic axis of milliseconds, with a line at `fair`. */
export const ranges = (title: string, rows: ReadonlyArray<Range>, fair: number): string => {
  const values = rows.flatMap(({ max, p50, p99 }) => [p50, p99, max]).filter((value) => value > 0)
  const low = 10 ** Math.floor(Math.log10(Math.min(fair, ...values)))
  const high = 10 ** Math.ceil(Math.log10(Math.max(fair, ...values)))
  const x = (value: number) => left + (right - left) * Math.log10(Math.max(value, low) / low) / Math.log10(high / low)
  const top = 62
  const bottom = top + rows.length * 26 + 4
  const parts: Array<string> = []
  for (let tick = low; tick <= high; tick *= 10) {
    const name = tick >= 1_000 ? `${tick / 1_000} s` : `${Number(tick.toPrecision(1))} ms`
    parts.push(upright(x(tick), top, bottom, "line"), text(x(tick), bottom + 18, name, "soft", "middle"))
  }
  parts.push(upright(x(fair), top - 4, bottom, "mark"), text(x(fair), top - 9, "fair share", "marked", "middle"))
  parts.push(text(width - 16, top - 9, "sections / s", "soft", "end"))
  rows.forEach(({ label, max, name, ours, p50, p99 }, index) => {
    const y = top + 16 + index * 26
    const kind = ours ? "ours" : "bar"
    parts.push(
      text(left - 10, y + 4, name, ours ? "us" : "", "end"),
      text(width - 16, y + 4, label, "", "end")
    )
    if (Number.isNaN(p50)) return
    const whisker = ours ? "whisker us" : "whisker"
    parts.push(
      `<line x1="${x(p50).toFixed(1)}" x2="${x(max).toFixed(1)}" y1="${y}" y2="${y}" class="${whisker}"/>`,
      `<circle cx="${x(p50).toFixed(1)}" cy="${y}" r="5" class="${kind}"/>`,
      `<rect x="${(x(p99) - 3).toFixed(1)}" y="${y - 7}" width="6" height="14" class="${kind}"/>`,
      upright(x(max), y - 5, y + 5, whisker)
    )
  })
  parts.push(text(16, bottom + 42, "circle: p50, block: p99, end of the line: the longest wait; logarithmic", "soft"))
  return page(bottom + 54, title, parts)
}
