import { block, chart, type Colours, text, upright } from "dlock-testing/svg"
import { busiest, type FaultWindow, type Intervals, type Stay } from "./intervals.ts"

const width = 1_060
const left = 92
const right = width - 20
const rowHeight = 22
/** Milliseconds that are drawn. */
const span = 6_000

const rules = ({ bar, series, soft, wrong }: Colours): string =>
  series.map((colour, index) => `.w${index} { fill: ${colour}; }`).join(" ") +
  ` .fault { fill: ${bar}; opacity: .55; } text.small { font-size: 10.5px; } text.who { font-weight: 600; }
.lost { stroke: ${wrong}; stroke-width: 2; } .late { stroke: ${wrong}; stroke-width: 1.5; } text.wrong { fill: ${wrong}; }
.rule { stroke: ${soft}; }`

/** A worker that was killed and started again keeps its colour. */
const workerOf = (who: string): string => who.split(".")[0]!

/** Some seconds of a run: which faults hit whom, and who was inside when. */
export const draw = (title: string, intervals: Intervals): string => {
  const from = busiest(intervals, span)
  const shown = ({ from: begun, to }: Stay | FaultWindow) => to > from && begun < from + span
  const x = (at: number) => left + (right - left) * Math.min(1, Math.max(0, (at - from) / span))
  const stays = intervals.stays.filter(shown)
  const faultWindows = intervals.faultWindows.filter(shown)
  const keys = Array.from(new Set(stays.map(({ key }) => key))).filter((key) => key.startsWith("hot")).toSorted()
  const workers = Array.from(new Set(stays.map(({ who }) => workerOf(who)))).filter((who) => /^w\d/.test(who))
    .toSorted()
  const colour = (who: string) => `w${workers.indexOf(workerOf(who)) % 6}`
  const parts: Array<string> = []
  let y = 44

  parts.push(text(16, y + 10, "faults", "soft"))
  y += 18
  for (const row of [...workers, "servers"]) {
    const those = faultWindows.filter(({ workers: of }) =>
      row === "servers" ? of === "all" : of !== "all" && of.some((who) => workerOf(who) === row)
    )
    parts.push(
      row === "servers" ? "" : block(16, y + 5, 10, 10, colour(row)),
      text(row === "servers" ? 16 : 32, y + 15, row)
    )
    const inOrder = those.toSorted((a, b) => a.from - b.from)
    for (const one of inOrder) {
      parts.push(block(x(one.from), y + 2, Math.max(2, x(one.to) - x(one.from)), rowHeight - 6, "fault"))
    }
    let free = left
    for (const { from: begun, kind } of inOrder) {
      // A name is written where no other stands.
      const at = x(begun)
      if (at < free || at > right - 70) continue
      parts.push(text(at + 3, y + 14, kind, "small"))
      free = at + 8 + 5.6 * kind.length
    }
    y += rowHeight
  }

  y += 10
  parts.push(text(16, y + 10, "who is inside, by the order of the protected resource", "soft"))
  y += 18
  const top = y
  for (const key of keys) {
    parts.push(text(16, y + 15, key))
    const those = stays.filter((stay) => stay.key === key).toSorted((a, b) => a.from - b.from)
    for (const { from: begun, to, who } of those) {
      parts.push(block(x(begun), y + 3, Math.max(1, x(to) - x(begun) - 0.6), rowHeight - 7, colour(who)))
    }
    for (const { lostAt, refused } of those) {
      for (const at of refused) if (at >= from && at < from + span) parts.push(upright(x(at), y + 14, y + 21, "late"))
      if (lostAt === undefined || lostAt < from || lostAt >= from + span) continue
      const [cx, cy] = [x(lostAt), y + 10]
      parts.push(
        `<path class="lost" d="M${(cx - 4).toFixed(1)} ${cy - 4}l8 8m0 -8l-8 8" fill="none"/>`
      )
    }
    y += rowHeight
  }
  for (let second = 0; second <= span / 1_000; second++) {
    const at = x(from + second * 1_000)
    parts.unshift(upright(at, top - 2, y + 2, "line"))
    parts.push(text(at, y + 18, `${second} s`, "soft", "middle"))
  }
  y += 40
  parts.push(
    text(
      16,
      y,
      "A bar is a stay inside, in the colour of its process. ✕: its holder was told that the lock is lost.",
      "soft"
    ),
    text(16, y + 18, "A red tick: a step that came late, and that the fence refused.", "soft")
  )
  return chart({ width, height: y + 34, title, parts: parts.filter((part) => part !== ""), rules })
}
