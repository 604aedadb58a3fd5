/** Draws the locks. */
import type { LockInfo } from "effect-dlock/LockInfo"
import * as Info from "../info.ts"
import { clip, clipped, padded, shown, widthOf } from "../shown.ts"
import type { Style } from "../text/style.ts"
import * as Table from "../text/table.ts"
import { timeOf } from "../text/units.ts"
import type { Controls } from "./controls.ts"
import type { LockTable, Row } from "./lockTable.ts"

export interface Size {
  readonly columns: number
  readonly rows: number
}

export interface View {
  readonly table: LockTable
  readonly controls: Controls
  /** The keys to show, in their order. */
  readonly keys: ReadonlyArray<string>
  /** The selected lock as it is watched. */
  readonly details: LockInfo | undefined
  /** Where the locks are: `redis, prefix dlock:`. */
  readonly where: string
  /** When the last pass ended, and why the one after that did not. */
  readonly seenAt: number | undefined
  readonly problem: string | undefined
}

/** How many rows of locks there is room for. An open lock gets half of the screen, and what the rows do not need. */
export const rowsFor = ({ rows }: Size, isOpen: boolean, count: number): number =>
  Math.max(1, isOpen ? Math.min(count, Math.floor((rows - 3) / 2)) : rows - 3)

/** The lines of a screen: as many as it has, none wider than it is. */
export const draw = (view: View, size: Size, style: Style, now: number): ReadonlyArray<string> => {
  const { controls, details, keys, table } = view
  const isOpen = controls.isOpen && controls.selected !== undefined
  const room = rowsFor(size, isOpen, keys.length)
  const at = controls.selected === undefined ? -1 : keys.indexOf(controls.selected)
  const first = Math.min(Math.max(0, at - Math.floor(room / 2)), Math.max(0, keys.length - room))
  const rows = keys.slice(first, first + room).flatMap((key) => table.get(key) ?? [])
  const columns = columnsFor(size.columns, rows, style, now)
  const widths = columns.map(({ most }) => most)
  const body = rows.map((row) =>
    row.key === controls.selected
      ? style.inverse(padded(Table.line(columns, widths, row, false), size.columns))
      : Table.line(columns, widths, row)
  )
  if (body.length === 0) body.push(style.dim(emptiness(view)))
  while (body.length < room) body.push("")
  const pane = isOpen ? detailsIn(details, controls.selected, size.columns, size.rows - 3 - room, style, now) : []
  return [
    style.bold(clip(title(view, now), size.columns)),
    style.dim(clip(Table.header(columns, widths), size.columns)),
    ...body,
    ...pane,
    footer(view, size.columns, style)
  ].slice(0, size.rows)
}

const title = ({ problem, seenAt, table, where }: View, now: number): string => {
  const { held, locks, waiting } = table.counts()
  const seconds = seenAt === undefined ? 0 : Math.floor((now - seenAt) / 1_000)
  const seen = seenAt === undefined ? "reading" : seconds < 1 ? "just now" : `${seconds} s ago`
  const state = problem === undefined ? seen : `last seen ${seen}: ${problem}`
  return `dlock  ${where}  ${locks} locks, ${held} held, ${waiting} wait  ${state}`
}

const emptiness = ({ controls, seenAt }: View): string =>
  seenAt === undefined
    ? "reading …"
    : controls.filter !== "" || controls.only !== "all"
    ? "no lock is like that: Esc shows all"
    : "no lock is held or waited for"

const footer = ({ controls, keys }: View, columns: number, style: Style): string => {
  if (controls.isTyping) return clip(`/${shown(controls.filter)}▏  Enter: done  Esc: no filter`, columns)
  const filter = controls.filter === "" ? "/ filter" : `/ filter: ${clipped(controls.filter, 20)}`
  const parts = [
    "q quit",
    "↑↓ select",
    "⏎ queue",
    `s sort: ${controls.sort}`,
    filter,
    controls.only === "held" ? "h held only" : "h held",
    controls.only === "waiting" ? "w waiting only" : "w waiting",
    `${keys.length} shown`
  ]
  return style.dim(clip(parts.join("   "), columns))
}

const gap = 2

/** The columns that there is room for, each as wide as it is drawn. */
const columnsFor = (
  width: number,
  rows: ReadonlyArray<Row>,
  style: Style,
  now: number
): ReadonlyArray<Table.Column<Row>> => {
  const longestToken = Math.max(5, ...rows.map(({ token }) => String(token ?? "").length))
  const bar = width >= 60 ? 10 : 0
  const fixed: Array<Table.Column<Row>> = []
  if (width >= 80) fixed.push({ title: "KIND", cell: ({ kind }) => kind, most: 10 })
  if (width >= 70) fixed.push({ title: "TOKEN", cell: ({ token }) => String(token ?? ""), most: longestToken })
  fixed.push({
    title: "TIME LEFT",
    cell: (row) => timeLeft(row, bar, now),
    most: bar + 10,
    paint: (text, row) => painted(row, style, now)(text)
  })
  fixed.push({
    title: "WAIT",
    cell: ({ queueLength }) => queueLength === 0 ? "" : String(queueLength),
    most: 6,
    isRight: true,
    paint: (text) => style.yellow(text)
  })
  const rest = width - fixed.reduce((sum, { most }) => sum + most + gap, 0) - gap
  const holder = Math.max(6, Math.floor(rest * 0.4))
  const key = Math.max(6, rest - holder)
  return [
    { title: "KEY", cell: (row) => shown(row.key), most: key, paint: (text) => style.bold(text) },
    { title: "HOLDER", cell: ({ holder, isRevoked }) => isRevoked ? `⏏ ${holder}` : holder, most: holder },
    ...fixed
  ]
}

const shareLeft = ({ expiresAt, longest }: Row, now: number): number | undefined =>
  expiresAt === undefined || longest === 0 ? undefined : Math.min(1, Math.max(0, (expiresAt - now) / longest))

const timeLeft = (row: Row, bar: number, now: number): string => {
  if (row.token === undefined) return ""
  const share = shareLeft(row, now)
  if (share === undefined || row.longest === Infinity) return row.longest === Infinity ? "for ever" : "–"
  const text = timeOf(Math.max(0, row.expiresAt! - now))
  return bar === 0 ? text : `${barOf(share, bar)} ${text}`
}

const eighths = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"]

/** A bar that is as full as there is time left. */
const barOf = (share: number, width: number): string => {
  const parts = Math.round(share * width * 8)
  const bar = "█".repeat(Math.floor(parts / 8)) + eighths[parts % 8]!
  return bar + "·".repeat(Math.max(0, width - widthOf(bar)))
}

/** A hold is renewed when a third of its ttl has passed. One that is not is about to be lost. */
const painted = (row: Row, style: Style, now: number) => {
  const share = shareLeft(row, now)
  return share === undefined || share > 0.5 ? style.green : share > 0.2 ? style.yellow : style.red
}

/** The selected lock with its holders and its queue. */
const detailsIn = (
  info: LockInfo | undefined,
  key: string | undefined,
  columns: number,
  rows: number,
  style: Style,
  now: number
): ReadonlyArray<string> => {
  const text = info === undefined || info.key !== key ? ["reading …"] : Info.toText(info, undefined, now).split("\n")
  const lines = [
    style.dim("─".repeat(columns)),
    ...text.filter((line) => line !== "").map((line) => clip(line, columns))
  ]
  while (lines.length < rows) lines.push("")
  return lines.slice(0, rows)
}
