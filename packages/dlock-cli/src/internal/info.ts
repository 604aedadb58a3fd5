import type { HolderInfo, LockInfo, WaiterInfo } from "effect-dlock/LockInfo"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { clipped, shown } from "./shown.ts"
import { plain, type Style } from "./text/style.ts"
import * as Table from "./text/table.ts"
import { ago, counted, left } from "./text/units.ts"

/** What is known of a lock, for machines. */
export const toJson = (info: LockInfo): unknown => ({
  key: info.key,
  ...(Option.isSome(info.kind) && { kind: info.kind.value }),
  ...(Option.isSome(info.capacity) && { capacity: info.capacity.value }),
  holders: info.holders.map((holder) => ({
    holder: holder.holder,
    metadata: holder.metadata,
    token: String(holder.token),
    permits: holder.permits,
    ...(Option.isSome(holder.since) && { since: DateTime.formatIso(holder.since.value) }),
    ...(Option.isSome(holder.expiresIn) && Duration.isFinite(holder.expiresIn.value) && {
      expiresInMs: Duration.toMillis(holder.expiresIn.value)
    }),
    foreign: holder.foreign,
    revoked: holder.revoked,
    ...(Option.isSome(holder.traceparent) && { traceparent: holder.traceparent.value })
  })),
  holderCount: info.holderCount,
  permitsHeld: info.permitsHeld,
  waiting: info.waiting.map(({ holder, holds, metadata, permits, traceparent }) => ({
    holder,
    metadata,
    permits,
    holds,
    ...(Option.isSome(traceparent) && { traceparent: traceparent.value })
  })),
  queueLength: info.queueLength,
  ...(Option.isSome(info.lastToken) && { lastToken: String(info.lastToken.value) })
})

/** `pod=a job=b` */
export const metadataOf = (metadata: Readonly<Record<string, string>>): string =>
  Object.entries(metadata).map(([name, value]) => `${shown(name)}=${shown(value)}`).join(" ")

/** The name of a holder. A client of another library may have none. */
export const nameOf = ({ foreign, holder }: HolderInfo): string =>
  foreign ? holder === "" ? "another library" : `${shown(holder)} (another library)` : shown(holder)

/** What a lock is: `mutex`, `semaphore, 3 of 5 permits`, `read-write lock, 2 readers`. */
export const kindOf = ({ capacity, holderCount, holders, kind, permitsHeld }: LockInfo): string => {
  switch (Option.getOrUndefined(kind)) {
    case "semaphore":
      return `semaphore, ${permitsHeld} of ${counted(Option.getOrElse(capacity, () => permitsHeld), "permit")} held`
    case "readWrite":
      if (holderCount === 0) return "read-write lock"
      return isWriter(holders[0]) ? "read-write lock, a writer" : `read-write lock, ${counted(holderCount, "reader")}`
    case "mutex":
      return "mutex"
    default:
      return ""
  }
}

/** Whether a hold of a read-write lock is a writer's: it has all permits. */
const isWriter = (holder: HolderInfo | undefined): boolean => holder !== undefined && holder.permits > 1

/** `held`, `waited for`, or `free`, in one word or two. */
export const stateOf = ({ holderCount, queueLength }: LockInfo): string =>
  holderCount > 0 ? "held" : queueLength > 0 ? "waited for" : "free"

const holderColumns = (info: LockInfo, style: Style, now: number): ReadonlyArray<Table.Column<HolderInfo>> => [
  { title: "HOLDER", cell: nameOf, most: 60, paint: style.bold },
  { title: "TOKEN", cell: ({ token }) => String(token), most: 20 },
  ...(Option.getOrUndefined(info.kind) === "semaphore"
    ? [{ title: "PERMITS", cell: ({ permits }: HolderInfo) => String(permits), most: 10, isRight: true }]
    : []),
  { title: "HELD FOR", cell: ({ since }) => ago(since, now), most: 14 },
  { title: "TIME LEFT", cell: ({ expiresIn }) => left(expiresIn), most: 14 },
  ...(info.holders.some(({ revoked }) => revoked)
    ? [{ title: "", cell: ({ revoked }: HolderInfo) => revoked ? "asked to leave" : "", most: 14, paint: style.red }]
    : []),
  { title: "METADATA", cell: ({ metadata }) => metadataOf(metadata), most: 200, paint: style.dim }
]

type Place = WaiterInfo & { readonly place: number }

const waiterColumns = (info: LockInfo, style: Style): ReadonlyArray<Table.Column<Place>> => [
  { title: "PLACE", cell: ({ place }) => String(place), most: 6, isRight: true },
  { title: "WAITER", cell: ({ holder }) => shown(holder), most: 60 },
  ...(Option.getOrUndefined(info.kind) === "semaphore"
    ? [{ title: "PERMITS", cell: ({ permits }: Place) => String(permits), most: 10, isRight: true }]
    : []),
  ...(info.waiting.some(({ holds }) => holds.length > 0)
    ? [{ title: "HOLDS", cell: ({ holds }: Place) => holds.map((key) => clipped(key, 40)).join(" "), most: 80 }]
    : []),
  { title: "METADATA", cell: ({ metadata }) => metadataOf(metadata), most: 200, paint: style.dim }
]

const tableOf = <A>(columns: ReadonlyArray<Table.Column<A>>, rows: ReadonlyArray<A>, style: Style) => {
  const widths = Table.widthsOf(columns, rows)
  return [style.dim(Table.header(columns, widths)), ...rows.map((row) => Table.line(columns, widths, row))]
}

/** The same for people. `now`: this machine's wall clock, for how long it is held. */
export const toText = (info: LockInfo, style: Style = plain, now: number = Date.now()): string => {
  const { holderCount, holders, lastToken, queueLength, waiting } = info
  const state = stateOf(info)
  const paint = state === "held" ? style.yellow : style.green
  const lines = [
    [style.bold(clipped(info.key, 120)), paint(state), kindOf(info)].filter((part) => part !== "").join("  ")
  ]
  if (holders.length > 0) lines.push("", ...tableOf(holderColumns(info, style, now), holders, style))
  if (holderCount > holders.length) lines.push(`… and ${holderCount - holders.length} more`)
  if (queueLength > 0) {
    const places = waiting.map((waiter, nth) => ({ ...waiter, place: nth + 1 }))
    lines.push("", `${counted(queueLength, "waits", "wait")}:`, ...tableOf(waiterColumns(info, style), places, style))
    if (queueLength > waiting.length) lines.push(`… and ${queueLength - waiting.length} more`)
  }
  if (state === "free" && Option.isSome(lastToken)) lines.push(style.dim(`the last token was ${lastToken.value}`))
  return lines.join("\n")
}
