/**
 * Whether what holders were told can have come from a lock: a lock that one holds at a time, whose operations each took
 * effect at some moment between their beginning and their end. It knows nothing of deadlines, tokens and faults.
 */
export interface Operation {
  /** Taking it, finding that one still has it, having it no more. */
  readonly kind: "acquire" | "holds" | "end"
  readonly holder: string
  readonly from: number
  readonly to: number
}

/** A way in which it can have gone so far: who holds it, and which operations under way have taken effect. */
interface Way {
  readonly holder: string | undefined
  readonly done: ReadonlySet<Operation>
}

const nameOf = ({ done, holder }: Way): string =>
  `${holder ?? ""}|${Array.from(done, ({ from, holder, kind }) => `${kind} ${holder} ${from}`).sort().join()}`

/** Who holds it after an operation; `null` where it cannot take effect. */
const after = (holder: string | undefined, operation: Operation): string | undefined | null => {
  if (operation.kind === "acquire") return holder === undefined ? operation.holder : null
  if (holder !== operation.holder) return null
  return operation.kind === "end" ? undefined : holder
}

/**
 * The first operation at whose end no way is left, if there is one. An operation takes effect no sooner than some end
 * asks for it, so the ways are no more than those who are under way together; where nothing is, one is left.
 */
export const findImpossible = (operations: ReadonlyArray<Operation>): Operation | undefined => {
  const begins = operations.toSorted((a, b) => a.from - b.from)
  const ends = operations.toSorted((a, b) => a.to - b.to)
  const underWay = new Set<Operation>()
  let ways: ReadonlyArray<Way> = [{ holder: undefined, done: new Set() }]
  let begun = 0
  for (const ending of ends) {
    for (let next = begins[begun]; next !== undefined && next.from <= ending.to; next = begins[++begun]) {
      underWay.add(next)
    }
    ways = waysThrough(ending, ways, underWay)
    if (ways.length === 0) return ending
    underWay.delete(ending)
  }
  return undefined
}

/** The time for which a holder surely had permits: from the end of its acquire to when it last found that it holds. */
export interface Hold {
  readonly holder: string
  readonly permits: number
  /** How many it believes that the lock has. */
  readonly capacity: number
  readonly from: number
  readonly to: number
}

/**
 * The first hold for which the permits that are surely held are more than the smallest capacity among their holders. An
 * acquire that takes effect as late as it may leaves most room to others, so no order needs to be looked for.
 */
export const findOverfull = (holds: ReadonlyArray<Hold>): Hold | undefined => {
  let inside: ReadonlyArray<Hold> = []
  for (const one of holds.filter(({ from, to }) => to > from).toSorted((a, b) => a.from - b.from)) {
    inside = [...inside.filter(({ to }) => to > one.from), one]
    const permits = inside.reduce((sum, hold) => sum + hold.permits, 0)
    if (permits > Math.min(...inside.map(({ capacity }) => capacity))) return one
  }
  return undefined
}

/** Every way in which the operation that ends now has taken effect, after as many others under way as it may be. */
const waysThrough = (
  ending: Operation,
  ways: ReadonlyArray<Way>,
  underWay: ReadonlySet<Operation>
): ReadonlyArray<Way> => {
  const through = new Map<string, Way>()
  const seen = new Set<string>()
  const open = Array.from(ways)
  for (let way = open.pop(); way !== undefined; way = open.pop()) {
    const name = nameOf(way)
    if (seen.has(name)) continue
    seen.add(name)
    if (way.done.has(ending)) {
      const done = new Set(way.done)
      done.delete(ending)
      const next = { holder: way.holder, done }
      through.set(nameOf(next), next)
      continue
    }
    for (const operation of underWay) {
      const holder = way.done.has(operation) ? null : after(way.holder, operation)
      if (holder !== null) open.push({ holder, done: new Set(way.done).add(operation) })
    }
  }
  return Array.from(through.values())
}
