// Draws the dashboard from its own JSON: the panels where they stand, with what Prometheus answered to their queries.
import { block, chart, type Colours, text } from "dlock-testing/svg"
import type { Answered, Line, Panel } from "./panels.ts"

/** What was done to the fleet meanwhile, in seconds since 1970. */
export interface Incident {
  readonly name: string
  readonly from: number
  readonly to: number
}

export interface Run {
  readonly from: number
  readonly to: number
  readonly incidents: ReadonlyArray<Incident>
  readonly answers: ReadonlyArray<Answered>
}

const width = 1_200
const margin = 12
const column = (width - 2 * margin) / 24
const unit = 23
const top = 64

const palette = ({ mark, ours, series, soft }: Colours) => [...series.slice(0, 5), mark, ours, soft]

const formats: Readonly<Record<string, (value: number) => string>> = {
  ms: (value) => value >= 1_000 ? `${trim(value / 1_000)} s` : `${trim(value)} ms`,
  percentunit: (value) => `${Math.round(value * 100)} %`,
  ops: (value) => `${trim(value)}/s`,
  short: (value) => trim(value)
}

const trim = (value: number): string =>
  value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(value >= 10 ? 3 : 2)))

const formatOf = ({ fieldConfig }: Panel) => formats[fieldConfig?.defaults.unit ?? "short"] ?? formats.short!

/** A round number that is not below the value, and into how many parts an axis to it is divided. */
const ceiling = (value: number): readonly [number, number] => {
  if (value <= 0) return [1, 2]
  const power = 10 ** Math.floor(Math.log10(value))
  for (const [factor, parts] of [[1, 2], [1.5, 3], [2, 2], [3, 3], [4, 4], [5, 5], [6, 3], [8, 4], [10, 2]] as const) {
    if (factor * power >= value) return [factor * power, parts]
  }
  return [10 * power, 2]
}

interface Box {
  readonly x: number
  readonly y: number
  readonly width: number
  readonly height: number
}

const boxOf = ({ gridPos: { h, w, x, y } }: Panel): Box => ({
  x: margin + x * column + 3,
  y: top + y * unit + 3,
  width: w * column - 6,
  height: h * unit - 6
})

/** Each line on top of those before it. A line that has no point at a time adds nothing there. */
const stack = (lines: ReadonlyArray<Line>): ReadonlyArray<Line & { readonly below: ReadonlyMap<number, number> }> => {
  const total = new Map<number, number>()
  return lines.map(({ name, points }) => {
    const below = new Map(total)
    for (const [at, value] of points) total.set(at, (total.get(at) ?? 0) + value)
    return { name, points: points.map(([at, value]) => [at, value + (below.get(at) ?? 0)] as const), below }
  })
}

/** Where a process was not scraped there is a gap. */
const pieces = (points: Line["points"], step: number): ReadonlyArray<Line["points"]> => {
  const found: Array<Array<readonly [number, number]>> = []
  for (const point of points) {
    const last = found.at(-1)
    if (last !== undefined && point[0] - last.at(-1)![0] <= step * 1.5) last.push(point)
    else found.push([point])
  }
  return found
}

/** The same name has the same colour in all panels. */
const makeColours = () => {
  const known = new Map<string, number>()
  return (name: string): number => {
    if (!known.has(name)) known.set(name, known.size)
    return known.get(name)! % 8
  }
}

type ColourOf = (name: string) => number

/** The names of the lines, in as many rows as they need. */
const legendRows = (box: Box, lines: ReadonlyArray<Line>): ReadonlyArray<ReadonlyArray<readonly [string, number]>> => {
  const rows: Array<Array<readonly [string, number]>> = [[]]
  let x = box.x + 10
  for (const name of new Set(lines.map((line) => line.name))) {
    const taken = 24 + name.length * 5.7
    if (x + taken > box.x + box.width) {
      rows.push([])
      x = box.x + 10
    }
    rows.at(-1)!.push([name, x])
    x += taken
  }
  return rows
}

const legend = (box: Box, rows: ReturnType<typeof legendRows>, colourOf: ColourOf): ReadonlyArray<string> =>
  rows.flatMap((row, index) => {
    const y = box.y + box.height - 9 - (rows.length - 1 - index) * 14
    return row.flatMap(([name, x]) => [
      block(x, y - 5, 10, 3, `fill${colourOf(name)}`),
      text(x + 14, y, name, "small soft")
    ])
  })

const timeseries = ({ lines, panel }: Answered, run: Run, step: number, colourOf: ColourOf): ReadonlyArray<string> => {
  const box = boxOf(panel)
  const format = formatOf(panel)
  const { custom, max, thresholds } = panel.fieldConfig?.defaults ?? {}
  const isStacked = custom?.stacking?.mode === "normal"
  const drawn = isStacked ? stack(lines) : lines.map((line) => ({ ...line, below: new Map<number, number>() }))
  const highest = Math.max(0, ...drawn.flatMap(({ points }) => points.map(([, value]) => value)))
  const [limit, divisions] = max === undefined ? ceiling(highest) : max === 1 ? [1, 4] : [max, 1] as const
  const rows = legendRows(box, lines)
  const plot = {
    left: box.x + 48,
    right: box.x + box.width - 12,
    top: box.y + 32,
    bottom: box.y + box.height - 26 - rows.length * 13
  }
  const xOf = (at: number) => plot.left + (at - run.from) / (run.to - run.from) * (plot.right - plot.left)
  const yOf = (value: number) => plot.bottom - Math.min(value, limit) / limit * (plot.bottom - plot.top)
  const at = (seconds: number, value: number) => `${xOf(seconds).toFixed(1)} ${yOf(value).toFixed(1)}`
  const parts = [block(box.x, box.y, box.width, box.height, "panel"), text(box.x + 10, box.y + 19, panel.title, "name")]
  for (const { from, to } of run.incidents) {
    parts.push(block(xOf(from), plot.top, xOf(to) - xOf(from), plot.bottom - plot.top, "incident"))
  }
  for (let part = 0; part <= divisions; part++) {
    const value = limit * part / divisions
    const y = yOf(value).toFixed(1)
    parts.push(`<line x1="${plot.left}" x2="${plot.right}" y1="${y}" y2="${y}" class="line"/>`)
    parts.push(text(plot.left - 5, Number(y) + 3.5, value === 0 ? "0" : format(value), "small soft", "end"))
  }
  for (let seconds = 0; seconds <= run.to - run.from; seconds += 30) {
    const label = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`
    parts.push(text(xOf(run.from + seconds), plot.bottom + 14, label, "small soft", "middle"))
  }
  for (const { value } of thresholds?.steps.filter(({ color }) => color !== "transparent") ?? []) {
    if (value === null || value > limit) continue
    const y = yOf(value).toFixed(1)
    parts.push(`<line x1="${plot.left}" x2="${plot.right}" y1="${y}" y2="${y}" class="limit"/>`)
  }
  for (const { below, name, points } of drawn) {
    for (const piece of pieces(points, step)) {
      const colour = colourOf(name)
      const forth = piece.map(([seconds, value]) => at(seconds, value))
      if ((custom?.fillOpacity ?? 0) > 10) {
        const back = piece.toReversed().map(([seconds]) => at(seconds, below.get(seconds) ?? 0))
        parts.push(`<path d="M${forth.join("L")}L${back.join("L")}Z" class="area fill${colour}"/>`)
      }
      parts.push(
        piece.length === 1
          ? `<circle cx="${forth[0]!.split(" ")[0]}" cy="${forth[0]!.split(" ")[1]}" r="2" class="fill${colour}"/>`
          : `<path d="M${forth.join("L")}" class="stroke stroke${colour}"/>`
      )
    }
  }
  if (lines.length === 0) {
    parts.push(text((plot.left + plot.right) / 2, (plot.top + plot.bottom) / 2, "none", "soft", "middle"))
  }
  return [...parts, ...legend(box, rows, colourOf)]
}

const stat = ({ lines: [line], panel }: Answered, run: Run): ReadonlyArray<string> => {
  const box = boxOf(panel)
  const points = line?.points ?? []
  const last = points.at(-1)?.[1]
  const step = panel.fieldConfig?.defaults.thresholds?.steps.findLast(({ value }) =>
    value === null || (last ?? 0) >= value
  )
  const [limit] = ceiling(Math.max(0, ...points.map(([, value]) => value)))
  const area = points.map(([at, value]) => {
    const x = box.x + (at - run.from) / (run.to - run.from) * box.width
    return `${x.toFixed(1)} ${(box.y + box.height - value / limit * box.height * 0.4).toFixed(1)}`
  })
  const bottom = box.y + box.height
  return [
    block(box.x, box.y, box.width, box.height, "panel"),
    ...(points.length < 2
      ? []
      : [
        `<path d="M${box.x} ${bottom}L${area.join("L")}L${box.x + box.width} ${bottom}Z" class="spark ${
          step?.color ?? ""
        }"/>`
      ]),
    text(box.x + 10, box.y + 19, panel.title, "name"),
    text(
      box.x + box.width / 2,
      box.y + 57,
      last === undefined ? "none" : formatOf(panel)(last),
      `big ${step?.color ?? ""}`,
      "middle"
    )
  ]
}

const rules = (colours: Colours): string => {
  const { bar, line, mark, ours, page, soft, wrong } = colours
  const series = palette(colours)
  return [
    `.panel { fill: ${page}; stroke: ${line}; } text.soft { fill: ${soft}; }`,
    `.incident { fill: ${bar}; fill-opacity: 0.16; } .limit { stroke: ${mark}; }`,
    `text.green { fill: ${ours}; } text.orange { fill: ${mark}; } text.red { fill: ${wrong}; }`,
    `.spark { fill: ${bar}; } .spark.green { fill: ${ours}; } .spark.orange { fill: ${mark}; } .spark.red { fill: ${wrong}; }`,
    ...series.map((colour, index) => `.fill${index} { fill: ${colour}; } .stroke${index} { stroke: ${colour}; }`)
  ].join("\n")
}

const shape = `<style>
text.small { font-size: 10.5px; } text.name { font-size: 12px; font-weight: 600; } text.row { font-weight: 600; font-size: 13px; }
text.big { font-size: 27px; font-weight: 600; } .stroke { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.area { fill-opacity: 0.3; } .spark { fill-opacity: 0.16; } .limit { stroke-dasharray: 5 4; }
</style>`

export const draw = (title: string, run: Run): string => {
  const colourOf = makeColours()
  const step = 2
  const bottom = Math.max(...run.answers.map(({ panel: { gridPos } }) => gridPos.y + gridPos.h))
  const marks = run.incidents.flatMap(({ from, name, to }, index) => {
    const clock = (at: number) => {
      const seconds = Math.round(at - run.from)
      return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`
    }
    const x = margin + 6 + index * 385
    return [block(x, 43, 14, 12, "incident"), text(x + 20, 53, `${clock(from)}–${clock(to)} ${name}`, "soft")]
  })
  const parts = run.answers.flatMap((answered) => {
    const { panel } = answered
    if (panel.type === "row") return [text(boxOf(panel).x + 3, boxOf(panel).y + 15, panel.title, "row")]
    return panel.type === "stat" ? stat(answered, run) : timeseries(answered, run, step, colourOf)
  })
  return chart({ width, height: top + bottom * unit + margin, title, parts: [shape, ...marks, ...parts], rules })
}
