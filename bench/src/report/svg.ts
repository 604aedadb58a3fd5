// The charts of the benchmark.
import { block, chart, type Colours, text, upright } from "dlock-testing/svg"

const width = 760
const left = 190
const right = width - 130

const rules = ({ bar, ours }: Colours): string =>
  `.us { font-weight: 600; } .bar { fill: ${bar}; } .ours { fill: ${ours}; }
.whisker { stroke: ${bar}; stroke-width: 2; } .whisker.us { stroke: ${ours}; }`

const page = (height: number, title: string, parts: ReadonlyArray<string>): string =>
  chart({ width, height, title, parts, rules })

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
        block(left, y + 2, length, 15, ours ? "ours" : "bar"),
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
