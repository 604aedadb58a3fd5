import type { HolderInfo, LockInfo, WaiterInfo } from "effect-dlock/LockInfo"
import * as Option from "effect/Option"

/** Somebody who waits for a lock, and a hold that is in the way. */
export interface Edge {
  /** The key that is waited for. */
  readonly key: string
  readonly waiter: WaiterInfo
  readonly holder: HolderInfo
  /** Whether this hold never ends by itself, because its caller is in a circle or waits behind one. */
  readonly isDeadlocked: boolean
}

/** A hold of a circle. Its caller waits for the key of the next step; that of the last step for the key of the first. */
export interface Step {
  readonly key: string
  readonly holder: HolderInfo
  /** The caller of that hold, as it waits for the key of the next step. */
  readonly waiter: WaiterInfo
}

export interface WaitFor {
  readonly edges: ReadonlyArray<Edge>
  /** One circle for each set of callers that wait for one another. */
  readonly cycles: ReadonlyArray<ReadonlyArray<Step>>
}

/** A hold of a lock that somebody waits for, and how its caller waits itself: not at all, while it works. */
interface Hold {
  readonly key: string
  readonly holder: HolderInfo
  readonly waits: ReadonlyArray<{ readonly key: string; readonly waiter: WaiterInfo }>
}

/**
 * Who waits for whom, and the circles in that, from what is known of the locks. Locks that nobody waits for may be left out.
 *
 * A waiter says which locks its caller already held when it asked. Together with the name, that tells which hold is its own.
 * One caller that works is enough to let a mutex go, or one permit of a semaphore. A circle is only told where nobody in the
 * way can go on.
 */
export const waitsFor = (infos: Iterable<LockInfo>): WaitFor => {
  const locks = new Map<string, LockInfo>()
  // A list may have a lock twice.
  for (const info of infos) if (info.waiting.length > 0) locks.set(info.key, info)
  const waitsOf = waitsByHold(locks.values())
  const holds = new Map<string, ReadonlyArray<Hold>>()
  for (const { holders, key } of locks.values()) {
    holds.set(key, holders.map((holder) => ({ key, holder, waits: waitsOf(key, holder) })))
  }
  const stuck = stuckKeys(locks, holds)
  const cycles = circlesAmong(stuck, holds)
  const edges = Array.from(locks.values()).flatMap(({ key, waiting }) =>
    waiting.flatMap((waiter) =>
      holds.get(key)!.map((hold): Edge => ({
        key,
        waiter,
        holder: hold.holder,
        isDeadlocked: stuck.has(key) && hold.waits.some((wait) => stuck.has(wait.key))
      }))
    )
  )
  return { edges, cycles }
}

/** Finds what the caller of a hold waits for. */
const waitsByHold = (locks: Iterable<LockInfo>) => {
  const byHold = new Map<string, Array<Hold["waits"][number]>>()
  const nameOf = (key: string, holder: string) => JSON.stringify([key, holder])
  for (const { key, waiting } of locks) {
    for (const waiter of waiting) {
      for (const held of waiter.holds) {
        const name = nameOf(held, waiter.holder)
        const waits = byHold.get(name)
        if (waits === undefined) byHold.set(name, [{ key, waiter }])
        else waits.push({ key, waiter })
      }
    }
  }
  return (key: string, { foreign, holder }: HolderInfo) => foreign ? [] : byHold.get(nameOf(key, holder)) ?? []
}

/** The keys whose waiters wait for ever: those that are left when all that can go on has gone on. */
const stuckKeys = (
  locks: ReadonlyMap<string, LockInfo>,
  holds: ReadonlyMap<string, ReadonlyArray<Hold>>
): ReadonlySet<string> => {
  const stuck = new Set(locks.keys())
  const isStuck = ({ waits }: Hold): boolean => waits.some(({ key }) => stuck.has(key))
  /** Whether the lock gets free enough for those who wait. */
  const isMoving = ({ holderCount, holders, key, kind }: LockInfo): boolean => {
    const stuckHolds = holds.get(key)!.filter(isStuck).length
    // A writer waits for every reader; for a permit, any one that is given back is enough.
    return Option.getOrUndefined(kind) === "readWrite"
      ? stuckHolds === 0
      // Of more holders than are told, or of none, nothing is known.
      : stuckHolds < Math.max(holderCount, holders.length, 1)
  }
  /** The keys to look at anew when this one moves: those whose holders wait for it. */
  const behind = new Map<string, Array<string>>()
  for (const [key, some] of holds) {
    for (const wait of some.flatMap(({ waits }) => waits)) {
      const keys = behind.get(wait.key)
      if (keys === undefined) behind.set(wait.key, [key])
      else keys.push(key)
    }
  }
  const toCheck = Array.from(stuck)
  for (let key = toCheck.pop(); key !== undefined; key = toCheck.pop()) {
    if (stuck.has(key) && isMoving(locks.get(key)!) && stuck.delete(key)) toCheck.push(...behind.get(key) ?? [])
  }
  return stuck
}

/** The shortest circle through each key that is in one, each set of keys once. */
const circlesAmong = (
  stuck: ReadonlySet<string>,
  holds: ReadonlyMap<string, ReadonlyArray<Hold>>
): ReadonlyArray<ReadonlyArray<Step>> => {
  const found: Array<ReadonlyArray<Step>> = []
  const told = new Set<string>()
  const within = withoutTails(stuck, holds)
  for (const key of Array.from(within).toSorted()) {
    if (told.has(key)) continue
    const circle = shortestCircle(key, within, holds)
    if (circle === undefined) continue
    for (const step of circle) told.add(step.key)
    found.push(circle)
  }
  return found
}

/** The keys without those that only wait behind a circle, of which there may be very many. */
const withoutTails = (
  stuck: ReadonlySet<string>,
  holds: ReadonlyMap<string, ReadonlyArray<Hold>>
): ReadonlySet<string> => {
  const left = new Set(stuck)
  const nextOf = (key: string): ReadonlyArray<string> =>
    (holds.get(key) ?? []).flatMap(({ waits }) => waits.map((wait) => wait.key)).filter((next) => stuck.has(next))
  /** How many ways lead to a key. */
  const ways = new Map<string, number>()
  for (const key of stuck) for (const next of nextOf(key)) ways.set(next, (ways.get(next) ?? 0) + 1)
  const toDrop = Array.from(stuck).filter((key) => !ways.has(key))
  for (let key = toDrop.pop(); key !== undefined; key = toDrop.pop()) {
    left.delete(key)
    for (const next of nextOf(key)) {
      const rest = ways.get(next)! - 1
      ways.set(next, rest)
      if (rest === 0) toDrop.push(next)
    }
  }
  return left
}

/** A step on the way from a key, and the one before it. */
interface Way {
  readonly step: Step
  readonly before: Way | undefined
}

/** Looks from the key to what its holders wait for, level by level. */
const shortestCircle = (
  start: string,
  within: ReadonlySet<string>,
  holds: ReadonlyMap<string, ReadonlyArray<Hold>>
): ReadonlyArray<Step> | undefined => {
  const seen = new Set([start])
  const toVisit: Array<{ readonly key: string; readonly before: Way | undefined }> = [{ key: start, before: undefined }]
  for (const { before, key } of toVisit) {
    for (const { holder, waits } of holds.get(key) ?? []) {
      for (const wait of waits) {
        const way: Way = { step: { key, holder, waiter: wait.waiter }, before }
        if (wait.key === start) return stepsOf(way)
        if (seen.has(wait.key) || !within.has(wait.key)) continue
        seen.add(wait.key)
        toVisit.push({ key: wait.key, before: way })
      }
    }
  }
  return undefined
}

const stepsOf = (last: Way): ReadonlyArray<Step> => {
  const steps: Array<Step> = []
  for (let way: Way | undefined = last; way !== undefined; way = way.before) steps.push(way.step)
  return steps.reverse()
}

/**
 * The step to revoke: the one that was granted last, which has the least work to lose. Tokens of all locks under a prefix
 * grow with time.
 */
export const youngest = (circle: ReadonlyArray<Step>): Step =>
  circle.reduce((one, other) => other.holder.token > one.holder.token ? other : one)
