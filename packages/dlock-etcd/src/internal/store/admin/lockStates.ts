/** What is known of a lock from outside. */

import type { HolderState, LockState } from "effect-dlock/LockAdmin"
import * as Effect from "effect/Effect"
import type { CallFailure } from "../../client/failure.ts"
import type { Port } from "../../client/port.ts"
import { isNewer } from "../../protocol/format.ts"
import { type LockKeys, lockKeys } from "../../protocol/keys.ts"
import { isMarked, type QueueReading, readQueues, readValues, type Standing, valueOf } from "./queueReading.ts"

/** The name of a lock, and its etcd keys. */
export interface Named {
  readonly key: string
  readonly keys: LockKeys
}

export const named = (key: string, prefix: string): Named => ({ key, keys: lockKeys(key, prefix) })

/** Reads the states of some locks. `timesOf` reads how long the server keeps claims. */
export const readStates = (
  port: Port,
  locks: ReadonlyArray<Named>,
  timesOf: TimesOf = unknownTimes
): Effect.Effect<ReadonlyArray<LockState>, CallFailure> =>
  Effect.flatMap(
    readQueues(port, locks.map(({ keys }) => keys)),
    Effect.forEach((reading, index) => {
      const { heldCount, queue, revision } = reading
      const holders = queue.slice(0, Math.min(heldCount, mostNamed))
      const waiting = queue.slice(heldCount, heldCount + mostNamed)
      const last = queue.slice(Math.max(0, heldCount - 1), heldCount)
      return Effect.flatMap(
        readValues(port, [...new Set([...holders, ...last, ...waiting])], revision),
        () => Effect.map(timesOf(holders), (times) => stateOf(locks[index]!.key, reading, holders, waiting, times))
      )
    })
  )

/** How many milliseconds the server keeps the keys on leases, by the ids of the leases. */
type Times = ReadonlyMap<string, number>
type TimesOf = (claims: ReadonlyArray<Standing>) => Effect.Effect<Times, CallFailure>

const unknownTimes: TimesOf = () => Effect.succeed(new Map())

/** Reads the times of leases: one call for each lease, for a few leases. */
export const readTimes = (port: Port): TimesOf => (claims) => {
  const leases = new Set(claims.map(({ lease }) => lease).filter((lease) => lease !== noLease))
  return Effect.map(
    Effect.forEach(
      Array.from(leases).slice(0, mostTimed),
      (lease) => Effect.map(port.timeToLive(lease), ({ value }) => [lease, Math.max(0, value) * 1_000] as const),
      { concurrency: 4 }
    ),
    (times) => new Map(times)
  )
}

const stateOf = (
  key: string,
  reading: QueueReading,
  holders: ReadonlyArray<Standing>,
  waiting: ReadonlyArray<Standing>,
  times: Times
): LockState => {
  const { heldCount, queue } = reading
  const held = queue.slice(0, heldCount)
  const [head] = queue
  const last = held[held.length - 1]
  return {
    key,
    kind: head?.kind,
    capacity: head && held.reduce((least, { capacity }) => Math.min(least, capacity), head.capacity),
    holders: holders.map((claim) => holderOf(reading, claim, times)),
    holderCount: heldCount,
    permitsHeld: held.reduce((sum, { permits }) => sum + permits, 0),
    waiting: waiting.map((claim) => ({ holder: nameIn(claim), permits: claim.permits })),
    queueLength: queue.length - heldCount,
    lastToken: last && tokenOf(last)
  }
}

/**
 * A marked claim ends before its lease: the process that holds it keeps the lease for other claims. When it ends, only that
 * process knows.
 */
const holderOf = (reading: QueueReading, claim: Standing, times: Times): HolderState => ({
  holder: nameIn(claim),
  token: tokenOf(claim),
  permits: claim.permits,
  since: undefined,
  expiresIn: claim.lease === noLease ? Infinity : isMarked(reading, claim) ? undefined : times.get(claim.lease),
  isForeign: isForeign(claim),
  isRevoked: isMarked(reading, claim)
})

/**
 * The token of a claim that is held. That of another client is its create revision, which no other claim has. Only a base of a few
 * revisions, that was never needed, could make another token of it.
 */
export const tokenOf = (claim: Standing): bigint => valueOf(claim).base + claim.created

/** Whether a client of another library put the claim, or a newer version of this one. */
export const isForeign = (claim: Standing): boolean => valueOf(claim).id === undefined

export const isOfNewer = (claim: Standing): boolean => isNewer(valueOf(claim))

/** Of another client, what its value tells. A value of a newer version tells the id of its claim, which is nobody's business. */
const nameIn = (claim: Standing): string =>
  valueOf(claim).holder ??
    (isForeign(claim) && !isOfNewer(claim) ? claim.value?.toString().slice(0, longestName) ?? "" : "")

/** How many holders and waiters of a lock are told apart. All are counted. */
const mostNamed = 100

/** For how many leases the remaining time is read. */
const mostTimed = 16

/** How many characters another client's value may have as a name. */
const longestName = 200

/** The id that the server gives for a key without a lease. */
const noLease = "0"
