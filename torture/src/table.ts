import { backends } from "./backends.ts"
import type { Result } from "./campaign.ts"
import { unrefused } from "./checker.ts"
import { rules, type Violation } from "./events.ts"
import type { Quiet } from "./fault-free.ts"

const table = (rows: ReadonlyArray<ReadonlyArray<string | number>>): string => {
  const cells = rows.map((row) => row.map(String))
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)))
  const lines = cells.map((row) => `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`)
  lines.splice(1, 0, `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`)
  return lines.join("\n")
}

const total = (counts: Readonly<Record<string, number>>): number =>
  Object.values(counts).reduce((sum, count) => sum + count, 0)

const byCount = (counts: Readonly<Record<string, number>>): string =>
  Object.entries(counts).toSorted(([, a], [, b]) => b - a).map(([name, count]) => `${count} ${name}`).join(", ")

const gapsOf = (gaps: ReadonlyArray<number>): string => {
  const sorted = gaps.toSorted((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!.toFixed(0)
  return `${at(0.5)} ms at the median, ${at(0.9)} in nine of ten, ${at(1)} at the most (${gaps.length})`
}

/** The first to be found comes first. */
const byRule = (violations: ReadonlyArray<Violation>): string =>
  Array.from(Map.groupBy(violations, ({ rule }) => rule), ([rule, of]) => `${of.length} ${rules[rule]}`).join(", ")

const verdict = ({ state, void: why }: Result): string =>
  state.found > 0 ? "VIOLATED" : why !== undefined ? "VOID" : "no violation seen"

/** What a campaign found, a row each; then what the rows cannot hold. */
export const tableOfCampaigns = (results: ReadonlyArray<Result>): string => {
  const rows = results.map((result) => {
    const { backend, seconds, state } = result
    return [
      backends[backend],
      seconds.toFixed(0),
      state.sections,
      state.faults,
      state.hits,
      total(state.losses),
      state.excused.paused,
      state.excused.forgot,
      state.refused,
      state.found,
      verdict(result)
    ]
  })
  const sums = [2, 3, 4, 5, 6, 7, 8, 9].map((column) => rows.reduce((sum, row) => sum + Number(row[column]), 0))
  const seconds = results.reduce((sum, one) => sum + one.seconds, 0)
  const head = "backend|s|sections|faults|that hit a holder|losses|overlaps after a pause|after the backend forgot|" +
    "late steps refused|violations|verdict"
  return [
    table([head.split("|"), ...rows, ["in all", seconds.toFixed(0), ...sums, ""]]),
    "",
    "The overlaps of the two columns lie in the nature of a paused process, or of a backend that lost what it had",
    "acknowledged; the fence refused every late step of each, and one that it had not refused would be a violation.",
    ...results.flatMap(details)
  ].join("\n")
}

const details = (result: Result): ReadonlyArray<string> => {
  const { backend, history, leases, rate, skipped, state, void: why } = result
  return [
    "",
    `${backend}: ${rate.toFixed(0)} sections a second before the first fault; the longest wait ${
      (state.longestWait / 1_000).toFixed(1)
    } s; sections ended as ${byCount(state.outcomes)}; ${leases} leases checked for linearizability; losses: ${
      byCount(state.losses)
    }`,
    `  faults: ${byCount(state.kinds)}`,
    `  by calls and metrics alike, of the processes that ended by themselves: ${byCount(state.counted)}`,
    `  ${
      byCount(state.counts)
    }; ${state.excused.ignored} overlaps with programs that had not ended when their revoked claims ran out`,
    ...(state.gaps.length === 0 ? [] : [`  from a leader that ended well to the next: ${gapsOf(state.gaps)}`]),
    ...skipped.map((what) => `  not run: ${what}`),
    ...(why === undefined ? [] : [`  void: ${why}`]),
    ...(state.found === 0 ? [] : [
      `  violations: ${byRule(state.violations)}`,
      ...state.violations.slice(0, 12).map(({ rule, text }) => `    ${rules[rule]}: ${text}`),
      ...(history === undefined ? [] : [`  history: ${history}`])
    ])
  ]
}

/** What caught whom, and when. */
export const tableOfSubjects = (
  results: ReadonlyArray<Result & { readonly about: string; readonly kind: string }>
): string =>
  table([
    ["subject", "what it is", "caught by", "after", "overlaps with late steps that nothing refused"],
    ...results.map(({ about, caughtAfter, kind, state, subject }) => [
      subject,
      `${kind}: ${about}`,
      caughtAfter === undefined ? "NOTHING" : byRule(state.violations),
      caughtAfter === undefined ? "" : `${caughtAfter.toFixed(1)} s`,
      state.violations.filter(({ text }) => text.endsWith(unrefused)).length
    ])
  ])

export const tableOfQuiet = (results: ReadonlyArray<Quiet>): string =>
  table([
    ["backend", "s", "sections", "a second", "heap of a worker, MB", "violations", "verdict"],
    ...results.map(({ backend, flat, heap, seconds, sections, state }) => [
      backends[backend],
      seconds.toFixed(0),
      sections,
      (sections / seconds).toFixed(0),
      `${heap.map((bytes) => (bytes / 2 ** 20).toFixed(1)).join(" → ")}${flat ? "" : " GROWS"}`,
      state.found,
      state.found === 0 && flat ? "no violation seen" : "VIOLATED"
    ])
  ])
