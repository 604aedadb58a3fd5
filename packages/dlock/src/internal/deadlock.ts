// Tells, after a timeout, whether the caller waited for itself. Nothing is looked for before that.
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { LockKind, type LockTimeout } from "../LockError.ts"
import type { Ahead, Claim, LockStore } from "../LockStore.ts"
import { problemOfName } from "./options/keys.ts"
import * as Owner from "./options/owner.ts"

/** A claim that waits, and the queue before it. */
export interface Awaited {
  readonly claim: Claim
  readonly ahead: () => Ahead
}

/** A lock and its holder, who waits for the lock of the next step. The last holder is the caller. */
type Step = NonNullable<LockTimeout["deadlock"]>[number]

/** A circle that begins with one of the locks that the caller waits for. Its steps have the names of the locks. */
export interface Circle {
  readonly awaited: Awaited
  readonly steps: ReadonlyArray<Step>
}

/** A lock whose queue is to be read, its holder, and the steps behind that holder. */
interface Node {
  readonly key: string
  readonly prefix: string
  readonly holder: string
  readonly rest: ReadonlyArray<Step>
}

type Waiting = NonNullable<LockStore["Service"]["waiting"]>

/**
 * Looks for a circle backwards: who waits for what the caller holds, who waits for what those hold, and so on, until one
 * of them holds what the caller waits for. Each waiting claim says in its `holder` what its caller held when it asked.
 *
 * It never fails: a queue that cannot be read has no waiters. It reads at most `mostLevels` times `Owner.mostHeld`
 * queues, those of one level at the same time.
 */
export const find = (
  waiting: Waiting,
  awaited: ReadonlyArray<Awaited>,
  held: ReadonlyArray<Claim>
): Effect.Effect<Circle | undefined> =>
  Effect.gen(function*() {
    const [{ claim: { holder, prefix } }] = awaited as [Awaited]
    const seen = new Set(held.map(({ key }) => key))
    let level = held.slice(0, Owner.mostHeld).map((claim): Node => ({
      key: claim.key,
      prefix: claim.prefix,
      holder: Owner.decode(holder).name,
      rest: []
    }))
    for (let depth = 0; depth < mostLevels && level.length > 0; depth++) {
      const queues = yield* Effect.forEach(
        level,
        (node) => Effect.orElseSucceed(waiting(node, mostWaiters), () => []),
        { concurrency: "unbounded" }
      )
      const next: Array<Node> = []
      for (const [index, { holder, key, rest }] of level.entries()) {
        for (const waiter of queues[index]!) {
          // A store of somebody else may name a kind that there is not. The error could not be made of it.
          if (!isKind(waiter.kind)) continue
          const { holds, name } = Owner.decode(waiter.holder)
          const steps = [{ key, kind: waiter.kind, holder }, ...rest]
          for (const lock of holds) {
            const found = awaited.find(({ claim }) => claim.key === lock)
            if (found !== undefined) {
              return { awaited: found, steps: [{ key: lock, kind: found.claim.kind, holder: name }, ...steps] }
            }
            if (next.length === Owner.mostHeld || seen.has(lock) || !isNameUnder(prefix, lock)) continue
            seen.add(lock)
            next.push({ key: lock, prefix, holder: name, rest: steps })
          }
        }
      }
      level = next
    }
    return undefined
  }).pipe(Effect.catchCause(() => Effect.undefined))

/** The circle as the error tells it. Absent if another than the first of its holders has the lock. */
export const told = ({ awaited: { ahead, claim }, steps }: Circle): LockTimeout["deadlock"] => {
  const { holder } = ahead()
  // A fiber that outlived its section still says that it holds the lock.
  const isOther = claim.kind === "mutex" && holder !== undefined && Owner.decode(holder).name !== steps[0]!.holder
  if (isOther) return undefined
  const keyOf = (name: string) => name.startsWith(claim.prefix) ? name.slice(claim.prefix.length) : name
  return steps.map((step) => ({ ...step, key: keyOf(step.key) }))
}

const isKind = Schema.is(LockKind)

/** Whether a store can read the queue of this name: anybody may have written it. */
const isNameUnder = (prefix: string, name: string): boolean =>
  name.startsWith(prefix) && problemOfName(name.slice(prefix.length), prefix) === undefined

/** How many callers a circle has at most, besides the caller itself. */
const mostLevels = 4

/** How many waiting claims of one lock are read. */
const mostWaiters = 64
