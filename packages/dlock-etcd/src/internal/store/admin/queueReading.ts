/** Reads the queue of a lock in bounded steps, for people who want to know who holds it. */

import * as Effect from "effect/Effect"
import type { IKeyValue, IRequestOp } from "etcd3"
import { type CallFailure, isTooLarge } from "../../client/failure.ts"
import type { Port } from "../../client/port.ts"
import * as Admin from "../../protocol/adminTransactions.ts"
import { all, type Range } from "../../protocol/clauses.ts"
import { type ClaimValue, decode } from "../../protocol/format.ts"
import { type Demand, demandOf, isWriter, type LockKeys, markOf } from "../../protocol/keys.ts"

/** A claim in a queue. */
export interface Standing extends Demand, Admin.FoundClaim {
  /** The second key of a writer. */
  readonly exclusiveKey: Buffer | undefined
  /** How many permits it has: fewer than its name tells if it gave some back. */
  permits: number
  /** The claim gave back permits, and its value was not read yet. */
  isStale: boolean
  /** `undefined` if it was not read. */
  value: Buffer | undefined
}

/** The queue of a lock. The claims that are held come first. */
export interface QueueReading {
  readonly queue: ReadonlyArray<Standing>
  readonly heldCount: number
  /** The claims whose holders were asked to leave, by the names that `nameOf` gives. */
  readonly marked: ReadonlySet<string>
  /** The revision at which the queue was read. `undefined` if its claims were not all read at the same one. */
  readonly revision: bigint | undefined
}

const nameOf = (claimKey: string, created: bigint): string => `${claimKey}\0${created}`

export const isMarked = ({ marked }: QueueReading, { created, exclusiveKey, key }: Standing): boolean =>
  marked.has(nameOf(key.toString(), created)) ||
  (exclusiveKey !== undefined && marked.has(nameOf(exclusiveKey.toString(), created)))

/**
 * Reads the queues of some locks. Short ones need nothing else than one transaction for all of them. No transaction returns more
 * than a few hundred names, or the values of more than a few dozen claims.
 */
export const readQueues = (
  port: Port,
  locks: ReadonlyArray<LockKeys>
): Effect.Effect<ReadonlyArray<QueueReading>, CallFailure> =>
  Effect.flatMap(
    inChunks(locks, locksAtOnce, (some) =>
      Effect.map(
        port.txn({
          success: some.flatMap((keys) => [Admin.readSome(all(keys), few), Admin.readNames(marks(keys), few)])
        }),
        ({ value }) => {
          const found = Admin.readFound(value)
          const revision = BigInt(value.header.revision)
          return some.map((keys, index) => ({
            keys,
            claims: found[2 * index]!,
            marks: found[2 * index + 1]!,
            revision
          }))
        }
      )),
    Effect.forEach(({ claims, keys, marks, revision }) =>
      claims.count > claims.kvs.length || marks.count > marks.kvs.length
        ? readLongQueue(port, keys)
        : finish(port, inOrder(claims.kvs, true), marks.kvs.map(({ key }) => key.toString()), revision)
    )
  )

const marks = ({ marks, marksEnd }: LockKeys): Range => ({ from: marks, to: marksEnd })

const readLongQueue = (port: Port, keys: LockKeys): Effect.Effect<QueueReading, CallFailure> =>
  Effect.gen(function*() {
    const claims: Array<Standing> = []
    const revision = yield* readAllNames(port, all(keys), undefined, (kvs) => claims.push(...inOrder(kvs, false)))
    const marked: Array<string> = []
    yield* readAllNames(port, marks(keys), revision, (kvs) => marked.push(...kvs.map(({ key }) => key.toString())))
    return yield* finish(port, withoutSecondKeys(claims), marked, revision)
  })

/**
 * Reads all names in a range, some hundred at a time, at the revision of the first answer. If that was compacted meanwhile, the
 * rest is read as it is then. A claim that is held all the time is found all the same. Returns the revision if there was one.
 */
const readAllNames = (
  port: Port,
  { from, to }: Range,
  revision: bigint | undefined,
  take: (kvs: ReadonlyArray<IKeyValue>) => void
): Effect.Effect<bigint | undefined, CallFailure> =>
  Effect.gen(function*() {
    let [start, at, isOne] = [from, revision, true]
    while (true) {
      const read = (revision: bigint | undefined) =>
        port.txn({ success: [Admin.readNames({ from: start, to }, namesAtOnce, revision)] })
      const { value } = yield* Effect.catchIf(read(at), isCompacted, () => {
        at = undefined
        isOne = false
        return read(undefined)
      })
      at ??= BigInt(value.header.revision)
      const [found] = Admin.readFound(value)
      take(found!.kvs)
      if (found!.count <= found!.kvs.length) return isOne ? at : undefined
      start = Admin.after(found!.kvs[found!.kvs.length - 1]!.key)
    }
  })

const isCompacted = ({ cause }: CallFailure): boolean => /has been compacted/.test(cause.message)

/** Reads what only values tell, and finds out which claims are held. */
const finish = (
  port: Port,
  queue: ReadonlyArray<Standing>,
  marks: ReadonlyArray<string>,
  revision: bigint | undefined
): Effect.Effect<QueueReading, CallFailure> => {
  const marked = new Set(marks.flatMap((key) => {
    const mark = markOf(key)
    return mark === undefined ? [] : nameOf(mark.claimKey, mark.created)
  }))
  return Effect.map(
    readValues(port, queue.filter(({ isStale }) => isStale), revision),
    () => ({ queue, heldCount: countHeld(queue), marked, revision })
  )
}

/** Reads the values of claims that have none yet. A claim that is gone by now keeps none. */
export const readValues = (
  port: Port,
  claims: ReadonlyArray<Standing>,
  revision: bigint | undefined
): Effect.Effect<void, CallFailure> => {
  const unread = claims.filter(({ value }) => value === undefined)
  const read = (at: bigint | undefined) =>
    inChunks(unread, valuesAtOnce, (some) => {
      const reads = some.map(({ key }): IRequestOp => Admin.readKey(key, at))
      return Effect.map(port.txn({ success: reads }), ({ value }) => {
        Admin.readFound(value).forEach(({ kvs: [kv] }, index) => {
          if (kv !== undefined && BigInt(kv.create_revision) === some[index]!.created) takeValue(some[index]!, kv.value)
        })
        return []
      })
    })
  return Effect.asVoid(Effect.catchIf(read(revision), isCompacted, () => read(undefined)))
}

const takeValue = (claim: Standing, value: Buffer): void => {
  claim.value = value
  if (!claim.isStale) return
  claim.isStale = false
  claim.permits = Math.min(claim.permits, decode(value).permits)
}

/** The value of a claim. Of a claim that was not read, that of another client's. */
export const valueOf = ({ value }: Standing): ClaimValue => decode(value ?? Buffer.alloc(0))

/** The claims of a queue in their order. */
const inOrder = (kvs: ReadonlyArray<IKeyValue>, hasValues: boolean): ReadonlyArray<Standing> =>
  withoutSecondKeys(kvs.map(({ create_revision, key, lease, value, version }): Standing => {
    const demand = demandOf(key.toString())
    const claim: Standing = {
      ...demand,
      key,
      created: BigInt(create_revision),
      lease: String(lease),
      exclusiveKey: undefined,
      isStale: demand.kind === "semaphore" && Number(version) > 1,
      value: undefined
    }
    if (hasValues) takeValue(claim, value)
    return claim
  }))

/** Puts the two keys of each writer together, and sorts. Of two claims in a queue only these have one create revision. */
const withoutSecondKeys = (claims: ReadonlyArray<Standing>): ReadonlyArray<Standing> => {
  const exclusive = new Map(claims.filter(isWriter).map((claim) => [claim.created, claim]))
  if (exclusive.size > 0) {
    for (const claim of claims) {
      if (claim.kind !== "readWrite" || isWriter(claim)) continue
      const writer = exclusive.get(claim.created)
      if (writer === undefined) continue
      exclusive.set(claim.created, { ...claim, permits: writer.permits, exclusiveKey: writer.key })
    }
  }
  return [...claims.filter(({ created }) => !exclusive.has(created)), ...exclusive.values()]
    .toSorted((a, b) => a.created < b.created ? -1 : 1)
}

/**
 * How many claims are held. The head of the queue decides on the kind: claims of another are about to be withdrawn. Nobody
 * overtakes, so behind the first claim that waits all others wait.
 */
const countHeld = (queue: ReadonlyArray<Standing>): number => {
  let [held, used, least] = [0, 0, Infinity]
  for (const { capacity, kind, permits } of queue) {
    used += permits
    least = Math.min(least, capacity)
    if (used > least || kind !== queue[0]!.kind) break
    held++
  }
  return held
}

/** Runs a request for some items at a time: for fewer, if the server allows fewer operations in a transaction. */
const inChunks = <A, B>(
  items: ReadonlyArray<A>,
  size: number,
  run: (some: ReadonlyArray<A>) => Effect.Effect<ReadonlyArray<B>, CallFailure>
): Effect.Effect<ReadonlyArray<B>, CallFailure> =>
  Effect.gen(function*() {
    const all: Array<B> = []
    for (let [from, most] = [0, size]; from < items.length;) {
      const some = items.slice(from, from + most)
      const found = yield* Effect.catchIf(
        run(some),
        ({ cause }) => some.length > 1 && isTooLarge(cause),
        () => Effect.undefined
      )
      if (found === undefined) most = some.length >> 1
      else {
        all.push(...found)
        from += some.length
      }
    }
    return all
  })

/** A queue of at most this many claims is read with its values at once. */
const few = 8

/** How many queues one transaction reads. */
const locksAtOnce = 16

/** How many names one answer has at most: the server reads their values too. */
const namesAtOnce = 500

/** How many values are read with one transaction. */
const valuesAtOnce = 50
