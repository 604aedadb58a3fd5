/** Records of runs. */

import type { LockBackendError } from "effect-dlock/LockError"
import { callLimit, type Claim, type Held, type Period, type RunStore } from "effect-dlock/LockStore"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { backendError, type CallFailure, newerFailure } from "../client/failure.ts"
import type { Port } from "../client/port.ts"
import { lockKeys } from "../protocol/keys.ts"
import * as Transactions from "../protocol/runTransactions.ts"
import { freshId } from "./leases/leases.ts"
import type { Registry } from "./registry.ts"
import type { Place } from "./trackedClaim.ts"

/** A claim that is held, and the record of its job. */
interface Run {
  readonly place: Place
  readonly period: Period
  readonly key: Buffer
  readonly found: Transactions.StoredRun | undefined
}

/**
 * The store's `runs`. Only the claim that has the lock writes a record. etcd tells no time, so the record of an interval is
 * on a lease of that length which nobody keeps alive: while the record stands and a run counts, no other is due.
 *
 * A new leader gives every lease its whole time again. So a process that has known a record for the interval by its own clock
 * takes the interval for over, whatever the lease says.
 */
export const make = (port: Port, registry: Registry, now: () => number): RunStore => {
  /** The run in each record of an interval, and since when this process has known it, in milliseconds. */
  const seen = new Map<string, { readonly id: string; readonly since: number }>()

  /** The record of an interval as it counts: a run whose interval is over counts no longer. */
  const current = (
    key: Buffer,
    found: Transactions.StoredRun | undefined,
    period: Period
  ): Transactions.StoredRun | undefined => {
    if (period._tag === "Slot" || found?.value.isCounted !== true) return found
    const name = key.toString()
    const { id } = found.value
    const known = seen.get(name)
    if (known?.id === id) {
      const isOver = now() - known.since >= 1_000 * secondsOf(period.interval)
      return isOver ? { ...found, value: { ...found.value, isCounted: false } } : found
    }
    seen.delete(name)
    seen.set(name, { id, since: now() })
    for (const [oldest] of seen) {
      if (seen.size <= mostSeen) break
      seen.delete(oldest)
    }
    return found
  }

  /** The leases for records of each claim. Of several attempts, one has written its record, perhaps without an answer. */
  const attempts = new WeakMap<Place, Set<string>>()

  /** Ends the leases of a claim's attempts, but not that of its record. A late write on any of them is refused then. */
  const endAttempts = (place: Place, kept: string | undefined): Effect.Effect<void> =>
    Effect.suspend(() => {
      const leases = [...attempts.get(place) ?? []].filter((lease) => lease !== kept)
      attempts.delete(place)
      return Effect.forEach(leases, (lease) => Effect.ignore(port.revoke(lease)), { discard: true })
    })

  const known = (
    stored: ReadonlyArray<Transactions.StoredRun | "newer" | undefined>
  ): Effect.Effect<ReadonlyArray<Transactions.StoredRun | undefined>, CallFailure> => {
    const read = stored.filter((one) => one !== "newer")
    return read.length < stored.length ? Effect.fail(newerFailure) : Effect.succeed(read)
  }

  /** Reads the record for a claim that is held. */
  const runOf = ({ claim }: Held, period: Period): Effect.Effect<Run | undefined, CallFailure> =>
    Effect.suspend(() => {
      const tracked = registry.find(claim.id)
      const place = tracked?.place
      if (tracked?.state !== "held" || place?.created === undefined) return Effect.undefined
      const key = place.keys.record(period._tag)
      const asked = port.txn(Transactions.findRunOf(place, place.created, key), callLimit(claim))
      return Effect.flatMap(asked, ({ value }) =>
        value.succeeded
          ? Effect.map(
            known(Transactions.readRuns(value)),
            ([found]) => ({ place, period, key, found: current(key, found, period) })
          )
          : Effect.undefined)
    })

  const write = (
    { found, key, period, place }: Run,
    value: Transactions.RunValue
  ): Effect.Effect<boolean, CallFailure> =>
    Effect.gen(function*() {
      const limit = callLimit(place.claim)
      const written = (lease: string | undefined) =>
        Effect.map(
          port.txn(Transactions.writeRun(place, place.created!, key, value, lease), limit),
          ({ value }) => value.succeeded
        )
      if (period._tag === "Slot") return yield* written(undefined)
      // Only a run that counts begins a new interval.
      const isNew = value.isCounted && found?.value.isCounted !== true
      if (found?.lease !== undefined && !isNew) {
        // If that interval is over, there is nothing left to tell.
        return yield* Effect.catchIf(written(found.lease), ({ leaseGone }) => leaseGone, () => Effect.succeed(true))
      }
      const lease = freshId()
      const leases = attempts.get(place) ?? new Set()
      attempts.set(place, leases.add(lease))
      yield* port.grant(lease, secondsOf(period.interval))
      const isWritten = yield* written(lease)
      if (!isWritten) {
        // An earlier attempt may have written its record after all.
        leases.delete(lease)
        yield* Effect.ignore(port.revoke(lease))
        return false
      }
      if (found?.lease !== undefined) leases.add(found.lease)
      yield* endAttempts(place, lease)
      return true
    })

  return {
    find: (claim, period) => {
      const keys = lockKeys(claim.key, claim.prefix)
      return port.txn(Transactions.findRuns(keys), callLimit(claim)).pipe(
        Effect.flatMap(({ value }) => known(Transactions.readRuns(value))),
        Effect.map(([ofSlots, ofInterval]) => {
          const latest = [ofSlots, ofInterval].flatMap((one) => one?.value ?? []).toSorted((a, b) =>
            b.startedAt - a.startedAt
          )
          return {
            isDue: period === undefined || isDue(
              period._tag === "Slot" ? ofSlots : current(keys.record("Interval"), ofInterval, period),
              period
            ),
            now: undefined,
            last: latest[0]
          }
        }),
        Effect.mapError(failed)
      )
    },
    begin: (held, period, counts) =>
      Effect.gen(function*() {
        const run = yield* runOf(held, period)
        if (run === undefined) return "notHeld"
        const { found } = run
        if (found?.value.id === held.claim.id) {
          yield* endAttempts(run.place, found.lease)
          return "due"
        }
        if (!isDue(found, period)) return "done"
        if (counts === "success") return "due"
        const value = {
          ...basics(held.claim, found, period, true),
          startedAt: yield* Clock.currentTimeMillis,
          endedAt: undefined,
          outcome: undefined
        }
        return (yield* write(run, value)) ? "due" : "notHeld"
      }).pipe(Effect.mapError(failed)),
    end: (held, period, { counts, elapsed, outcome }) =>
      Effect.gen(function*() {
        const run = yield* runOf(held, period)
        if (run === undefined) return "notHeld"
        const { found } = run
        const mine = found?.value.id === held.claim.id ? found.value : undefined
        if (mine?.outcome !== undefined) {
          yield* endAttempts(run.place, found?.lease)
          return "recorded"
        }
        const now = yield* Clock.currentTimeMillis
        const value = {
          ...basics(held.claim, found, period, counts === "success" && outcome === "succeeded"),
          startedAt: mine?.startedAt ?? Math.round(now - elapsed),
          endedAt: now,
          outcome
        }
        return (yield* write(run, value)) ? "recorded" : "notHeld"
      }).pipe(Effect.mapError(failed))
  }
}

const failed: (failure: CallFailure) => LockBackendError = backendError("acquire")

const isDue = (found: Transactions.StoredRun | undefined, period: Period): boolean => {
  if (found === undefined) return true
  const { isCounted, slot } = found.value
  return period._tag === "Slot" ? slot === undefined || slot < period.slot : !isCounted
}

/** What a record keeps, and what a run that counts adds to it. */
const basics = ({ holder, id }: Claim, found: Transactions.StoredRun | undefined, period: Period, counts: boolean) => ({
  id,
  holder,
  isCounted: counts || found?.value.isCounted === true,
  slot: counts && period._tag === "Slot" ? period.slot : found?.value.slot
})

/** So many records of intervals are known. Of others, the lease alone tells. */
const mostSeen = 10_000

/** The shortest lease that a cluster grants has about two seconds. */
const secondsOf = (interval: Duration.Duration): number => Math.max(2, Math.ceil(Duration.toSeconds(interval)))
