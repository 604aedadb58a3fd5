// Draws two traces one above the other: that of a caller that waited, and that of the holder that its span is linked to.
import { block, chart, type Colours, text, upright } from "dlock-testing/svg"
import type { Span } from "./collector.ts"

/** A caller's wait, and who was in the way. */
export interface Blocked {
  readonly waiter: Span
  readonly blocker: Span
}

/** The spans that waited, each with the span that it is linked to. Those that waited longest come first. */
export const blockedIn = (spans: ReadonlyArray<Span>): ReadonlyArray<Blocked> => {
  const byId = new Map(spans.map((span) => [span.spanId, span]))
  return spans
    .filter(({ name }) => name === "dlock.acquire")
    .flatMap((waiter) =>
      waiter.links.flatMap(({ spanId }) => {
        const blocker = byId.get(spanId)
        return blocker === undefined ? [] : [{ waiter, blocker }]
      })
    )
    .toSorted((a, b) => (b.waiter.to - b.waiter.from) - (a.waiter.to - a.waiter.from))
}

interface Row {
  readonly span: Span
  readonly depth: number
}

/** The spans of a trace as a tree: each is followed by its children, in the order in which they began. */
export const rowsOf = (spans: ReadonlyArray<Span>, traceId: string): ReadonlyArray<Row> => {
  const own = spans.filter((span) => span.traceId === traceId).toSorted((a, b) => a.from - b.from)
  const hasParent = ({ parentSpanId }: Span): boolean => own.some(({ spanId }) => spanId === parentSpanId)
  const below = (span: Span, depth: number): ReadonlyArray<Row> => [
    { span, depth },
    ...own.filter(({ parentSpanId }) => parentSpanId === span.spanId).flatMap((child) => below(child, depth + 1))
  ]
  return own.filter((span) => !hasParent(span)).flatMap((root) => below(root, 0))
}

const width = 1_000
const left = 250
const right = width - 96
const height = 27

const round = (millis: number): string => `${millis < 10 ? millis.toFixed(1) : millis.toFixed(0)} ms`

const rules = ({ bar, line, mark, ours, page, series, soft }: Colours): string =>
  `.bar { fill: ${bar}; } .wait { fill: ${mark}; } .hold { fill: ${ours}; } .work { fill: ${series[0]}; }
.lane { fill: ${bar}; fill-opacity: 0.08; } .grid { stroke: ${line}; } text.soft { fill: ${soft}; }
.link { stroke: ${mark}; } .arrow { fill: ${mark}; } .halo { stroke: ${page}; }`

const shape = `<style>
text.small { font-size: 11px; } text.head { font-weight: 600; } .link { fill: none; stroke-width: 2; }
.halo { fill: none; stroke-width: 6; }
</style>`

const kindOf = ({ name }: Span): string =>
  name === "dlock.acquire" ? "wait" : name === "dlock.hold" ? "hold" : name.startsWith("dlock.") ? "bar" : "work"

export const draw = (title: string, { blocker, waiter }: Blocked, spans: ReadonlyArray<Span>): string => {
  const traces = [
    { span: waiter, says: "waits for the lock", rows: rowsOf(spans, waiter.traceId) },
    { span: blocker, says: "has it", rows: rowsOf(spans, blocker.traceId) }
  ]
  const all = traces.flatMap(({ rows }) => rows.map(({ span }) => span))
  const from = Math.min(...all.map((span) => span.from))
  const to = Math.max(...all.map((span) => span.to))
  const xOf = (at: number) => left + (at - from) / (to - from) * (right - left)
  const parts: Array<string> = [shape]
  const placeOf = new Map<Span, number>()
  const bars: Array<string> = []
  let y = 46
  for (const { rows, says, span } of traces) {
    const lane = y
    bars.push(text(24, y + 22, `${span.instance} ${says}`, "head"))
    bars.push(text(right, y + 22, `trace ${span.traceId.slice(0, 8)}…`, "small soft", "end"))
    y += 34
    for (const { depth, span } of rows) {
      const x = xOf(span.from)
      const long = Math.max(2, xOf(span.to) - x)
      const kind = depth === 0 ? "bar" : kindOf(span)
      placeOf.set(span, y)
      bars.push(text(24 + depth * 16, y + 16, span.name, depth === 0 ? "head" : ""))
      bars.push(block(x, y + 4, long, 15, kind))
      bars.push(
        x + long + 60 < width - 20
          ? text(x + long + 6, y + 16, round(span.to - span.from), "small soft")
          : text(x - 6, y + 16, round(span.to - span.from), "small soft", "end")
      )
      y += height
    }
    parts.push(block(12, lane, width - 24, y - lane + 6, "lane"))
    y += 22
  }
  const bottom = y - 16
  const step = [10, 20, 50, 100, 200, 500, 1_000].find((step) => (to - from) / step <= 8) ?? 2_000
  for (let at = 0; at <= to - from; at += step) {
    parts.push(upright(xOf(from + at), 46, bottom, "grid"))
    parts.push(text(xOf(from + at), bottom + 16, `${at} ms`, "small soft", "middle"))
  }
  // From the beginning of the wait, through the space between the traces, down to the span that the link names.
  const x1 = xOf(waiter.from) + 14
  const y1 = placeOf.get(waiter)! + 19
  const between = placeOf.get(traces[0]!.rows.at(-1)!.span)! + height + 17
  const x2 = xOf(blocker.from) + Math.max(2, xOf(blocker.to) - xOf(blocker.from)) / 2
  const y2 = placeOf.get(blocker)! + 3
  const way = `M${x1.toFixed(1)} ${y1}V${between}H${x2.toFixed(1)}V${y2 - 6}`
  bars.push(`<path d="${way}" class="halo"/><path d="${way}" class="link"/>`)
  bars.push(`<path d="M${x2.toFixed(1)} ${y2}l-5 -9h10Z" class="arrow"/>`)
  bars.push(text(x1 + 8, placeOf.get(waiter)! + 33, "link: the holder that it waits for", "small marked"))
  return chart({ width, height: bottom + 30, title, parts: [...parts, ...bars], rules })
}
