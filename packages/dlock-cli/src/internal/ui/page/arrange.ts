import type { Lock } from "./protocol.ts"

export type Show = "all" | "contended" | "trouble"
export type Order = "key" | "queue" | "age" | "left"

export interface Wish {
  readonly query: string
  readonly show: Show
  readonly order: Order
  /** The groups that were opened or closed by hand. */
  readonly toggled: ReadonlyMap<string, boolean>
}

export interface Group {
  readonly type: "group"
  readonly path: string
  readonly depth: number
  readonly isOpen: boolean
  readonly locks: number
  readonly waiting: number
  readonly trouble: number
}

export interface Leaf {
  readonly type: "lock"
  readonly lock: Lock
  readonly depth: number
  /** How much of the key the groups above have said. */
  readonly said: number
}

export type Item = Group | Leaf

/** Whether somebody should look at it. */
export const isTrouble = (lock: Lock, deadlocked: ReadonlySet<number>): boolean =>
  deadlocked.has(lock.id) || lock.holders.some((hold) => hold.isOverdue || hold.isRevoked || isForEver(hold))

export const isForEver = (hold: { readonly isForeign: boolean; readonly expiresAt?: number }): boolean =>
  hold.isForeign && hold.expiresAt === undefined

/** The locks in the order of their keys. */
export const sorted = (locks: Iterable<Lock>): ReadonlyArray<Lock> =>
  Array.from(locks).sort((one, other) => one.key < other.key ? -1 : one.key > other.key ? 1 : one.id - other.id)

/** The rows of the table: a tree by the separators `:` and `/`, or a list in another order. */
export const arrange = (
  inOrder: ReadonlyArray<Lock>,
  wish: Wish,
  deadlocked: ReadonlySet<number>
): ReadonlyArray<Item> => {
  const query = wish.query.trim().toLowerCase()
  const isWanted = (lock: Lock): boolean =>
    (wish.show === "all" || (wish.show === "contended" ? lock.queueLength > 0 : isTrouble(lock, deadlocked))) &&
    (query === "" || lock.key.toLowerCase().includes(query) ||
      lock.holders.some(({ holder }) => holder.toLowerCase().includes(query)) ||
      lock.waiting.some(({ holder }) => holder.toLowerCase().includes(query)))
  const isFiltered = query !== "" || wish.show !== "all"
  const wanted = isFiltered ? inOrder.filter(isWanted) : inOrder
  if (wish.order !== "key") {
    const weigh = weights[wish.order]
    return wanted.toSorted((one, other) => weigh(other) - weigh(one))
      .map((lock) => ({ type: "lock", lock, depth: 0, said: 0 }))
  }
  const items: Array<Item> = []
  const isOpenAtFirst = (count: number): boolean => isFiltered || count <= mostOpenAtFirst
  group(wanted, 0, wanted.length, 0, 0, items, wish.toggled, isOpenAtFirst, deadlocked)
  return items
}

const weights: Readonly<Record<Exclude<Order, "key">, (lock: Lock) => number>> = {
  queue: ({ queueLength }) => queueLength,
  age: ({ holders }) => -Math.min(...holders.map(({ from }) => from), Number.MAX_SAFE_INTEGER),
  left: ({ holders }) =>
    -Math.min(...holders.map(({ expiresAt }) => expiresAt ?? Number.MAX_SAFE_INTEGER), Number.MAX_SAFE_INTEGER)
}

/** Adds the rows of the locks from `low` to `high`, which have the first `said` characters in common. */
const group = (
  locks: ReadonlyArray<Lock>,
  low: number,
  high: number,
  said: number,
  depth: number,
  items: Array<Item>,
  toggled: ReadonlyMap<string, boolean>,
  isOpenAtFirst: (count: number) => boolean,
  deadlocked: ReadonlySet<number>
): void => {
  for (let from = low, to = low; from < high; from = to) {
    const { key } = locks[from]!
    let end = depth < deepest ? endOfPart(key, said) : 0
    to = from + 1
    if (end > 0) { while (to < high && locks[to]!.key.startsWith(key.slice(said, end), said)) to++ }
    if (to - from < 2) {
      items.push({ type: "lock", lock: locks[from]!, depth, said })
      continue
    }
    // Parts that all of them share are one group.
    for (let next = endOfPart(key, end); next > 0; next = endOfPart(key, end)) {
      // They are in order, so that what the first and the last share, all share.
      if (!locks[to - 1]!.key.startsWith(key.slice(end, next), end)) break
      end = next
    }
    const path = key.slice(0, end)
    const isOpen = toggled.get(path) ?? isOpenAtFirst(to - from)
    let waiting = 0
    let trouble = 0
    for (let index = from; index < to; index++) {
      waiting += locks[index]!.queueLength
      if (isTrouble(locks[index]!, deadlocked)) trouble++
    }
    items.push({ type: "group", path, depth, isOpen, locks: to - from, waiting, trouble })
    if (isOpen) group(locks, from, to, end, depth + 1, items, toggled, isOpenAtFirst, deadlocked)
  }
}

/** Where the part of the key that begins here ends, behind its separator. 0 if it is the last part. */
const endOfPart = (key: string, from: number): number => {
  for (let index = from; index < key.length - 1; index++) {
    const character = key[index]
    if (character === ":" || character === "/") return index + 1
  }
  return 0
}

const deepest = 4
const mostOpenAtFirst = 60
