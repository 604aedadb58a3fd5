/** The table of many locks: sorted while they fit into memory, and as they come beyond. */
import type { LockInfo } from "effect-dlock/LockInfo"
import type * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { nameOf } from "../info.ts"
import { shown } from "../shown.ts"
import type { Style } from "./style.ts"
import * as Table from "./table.ts"
import { ago, left } from "./units.ts"

/** The words for a kind in a narrow column. */
export const shortKind = ({ kind }: LockInfo): string => {
  const name = Option.getOrElse(kind, () => "")
  return name === "readWrite" ? "read-write" : name
}

/** The first holder, and how many there are besides. */
export const holdersOf = ({ holderCount, holders }: LockInfo): string =>
  holders[0] === undefined ? "–" : nameOf(holders[0]) + (holderCount > 1 ? ` +${holderCount - 1}` : "")

const columns = (style: Style, now: number): ReadonlyArray<Table.Column<LockInfo>> => [
  { title: "KEY", cell: ({ key }) => shown(key), most: 60, paint: style.bold },
  { title: "KIND", cell: shortKind, most: 10 },
  { title: "HOLDER", cell: holdersOf, most: 40 },
  { title: "TOKEN", cell: ({ holders: [first] }) => first === undefined ? "–" : String(first.token), most: 20 },
  { title: "HELD FOR", cell: ({ holders: [first] }) => first === undefined ? "–" : ago(first.since, now), most: 12 },
  {
    title: "TIME LEFT",
    cell: ({ holders: [first] }) => first === undefined ? "–" : left(first.expiresIn),
    most: 12
  },
  {
    title: "WAITING",
    cell: ({ queueLength }) => String(queueLength),
    most: 8,
    isRight: true,
    paint: (text, { queueLength }) => queueLength > 0 ? style.yellow(text) : style.dim(text)
  }
]

/** How many locks are sorted. More of them are shown in the order in which they come. */
const mostSorted = 1_000

/** How wide the columns are when not all rows are known. */
const usualWidths = [40, 10, 24, 20, 12, 12, 8]

/** The lines of the table. It holds at most a thousand locks at a time. */
export const asTable = <E, R>(locks: Stream.Stream<LockInfo, E, R>, style: Style): Stream.Stream<string, E, R> =>
  Stream.unwrap(Effect.map(Clock.Clock, (clock) => {
    let sorted: Map<string, LockInfo> | undefined = new Map()
    let widths: ReadonlyArray<number> = []
    const lineOf = (info: LockInfo) => Table.line(columns(style, clock.currentTimeMillisUnsafe()), widths, info)
    /** The table of what is known so far. */
    const begin = (some: ReadonlyArray<LockInfo>, least: ReadonlyArray<number>) => {
      const shape = columns(style, clock.currentTimeMillisUnsafe())
      widths = Table.widthsOf(shape, some).map((width, nth) => Math.max(width, least[nth] ?? 0))
      return [style.dim(Table.header(shape, widths)), ...some.map(lineOf)]
    }
    const onEach = (info: LockInfo): ReadonlyArray<string> => {
      if (sorted === undefined) return [lineOf(info)]
      // The list may tell of a lock twice.
      sorted.set(info.key, info)
      if (sorted.size < mostSorted) return []
      const first = Array.from(sorted.values())
      sorted = undefined
      return begin(first, usualWidths)
    }
    const atEnd = Effect.sync(() => {
      if (sorted === undefined) return []
      if (sorted.size === 0) return ["no lock is held or waited for"]
      return begin(Array.from(sorted.values()).toSorted(byKey), [])
    })
    return Stream.concat(flatMapArrays(locks, onEach), Stream.unwrap(Effect.map(atEnd, Stream.fromIterable)))
  }))

/** In the same steps as they come, since a step costs more than a line. */
const flatMapArrays = <A, B, E, R>(stream: Stream.Stream<A, E, R>, f: (value: A) => ReadonlyArray<B>) =>
  Stream.chunks(stream).pipe(
    Stream.map((values) => values.flatMap(f)),
    Stream.filter((lines): lines is Arr.NonEmptyArray<B> => lines.length > 0),
    Stream.flattenArray
  )

const byKey = (one: LockInfo, other: LockInfo): number => one.key < other.key ? -1 : 1
