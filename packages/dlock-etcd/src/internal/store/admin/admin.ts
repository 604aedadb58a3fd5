/** The store's `LockAdmin`. */

import { LockAdmin } from "effect-dlock/LockAdmin"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { backendError, type CallFailure, newerFailure } from "../../client/failure.ts"
import type { Port } from "../../client/port.ts"
import * as Admin from "../../protocol/adminTransactions.ts"
import { createdAt } from "../../protocol/clauses.ts"
import { type LockKeys, lockKeys, markOf } from "../../protocol/keys.ts"
import type { StoreParts } from "../parts.ts"
import type { Tombstones } from "../tombstones.ts"
import { listLocks } from "./listing.ts"
import { isForeign, isOfNewer, named, readStates, readTimes, tokenOf } from "./lockStates.ts"
import { Observers } from "./observers.ts"
import { readQueues, readValues, type Standing, valueOf } from "./queueReading.ts"

type Revoked = Effect.Success<ReturnType<LockAdmin["Service"]["revoke"]>>

/** Makes the service. The bell of a prefix is on the lease of this process's tombstones, which outlives every use of it. */
export const make = (
  port: Port,
  parts: Pick<StoreParts, "fork" | "telemetry" | "watches">,
  tombstones: Tombstones
): LockAdmin["Service"] => {
  const observers = new Observers(parts)

  /** Finds the claim that is held with a token. */
  const findHeld = (keys: LockKeys, token: bigint): Effect.Effect<Standing | undefined, CallFailure> =>
    Effect.gen(function*() {
      const [{ heldCount, queue, revision }] = (yield* readQueues(port, [keys])) as [
        Effect.Success<ReturnType<typeof readQueues>>[number]
      ]
      const held = queue.slice(0, heldCount).filter(({ created }) => created <= token)
      // Nearly always the base is the same for all, so that two values tell which claim it is, however many there are.
      yield* readValues(port, held.slice(0, 1), revision)
      const base = held[0] === undefined ? 0n : valueOf(held[0]).base
      const likely = held.filter(({ created }) => created === token - base)
      yield* readValues(port, likely, revision)
      const found = likely.find((claim) => claim.value !== undefined && tokenOf(claim) === token)
      if (found !== undefined) return found
      yield* readValues(port, held, revision)
      return held.find((claim) => claim.value !== undefined && tokenOf(claim) === token)
    })

  /** The marks on a claim. `undefined` if the claim is not in the queue any more. */
  const findMarks = (keys: LockKeys, { created, key }: Standing) =>
    Effect.map(
      port.txn({
        compare: [createdAt(key, created)],
        success: [Admin.readNames(Admin.marksOf(keys, { claimKey: key.toString(), created }), mostMarks)]
      }),
      ({ value }) => value.succeeded ? Admin.readFound(value)[0]!.kvs.map(({ key }) => key) : undefined
    )

  const revoke = (
    keys: LockKeys,
    prefix: string,
    { asking, grace, token }: { readonly asking: Admin.Asking; readonly grace: number; readonly token: bigint },
    attempts = 3
  ): Effect.Effect<Revoked, CallFailure> =>
    Effect.gen(function*() {
      const found = yield* findHeld(keys, token)
      if (found === undefined) return "notHeld"
      if (isOfNewer(found)) return yield* Effect.fail(newerFailure)
      if (isForeign(found)) return "foreign"
      const marks = yield* findMarks(keys, found)
      if (marks === undefined) return "notHeld"
      // The least grace counts, and a holder counts it from when it has heard of it.
      if (marks.some((mark) => (markOf(mark.toString())?.grace ?? Infinity) <= grace)) return "asked"
      const bellLease = yield* tombstones.lease
      return yield* Effect.matchEffect(
        port.txn(Admin.mark(keys, prefix, found, grace, asking, bellLease, marks.slice(0, mostDeleted))),
        {
          onFailure: (failure): Effect.Effect<Revoked, CallFailure> => {
            // Either the claim has ended with its lease, or the lease of the bell was revoked.
            if (!failure.leaseGone || attempts <= 1) return Effect.fail(failure)
            tombstones.forgetLease(bellLease)
            return revoke(keys, prefix, { asking, grace, token }, attempts - 1)
          },
          onSuccess: ({ value }) => Effect.succeed<Revoked>(value.succeeded ? "asked" : "notHeld")
        }
      )
    })

  return LockAdmin.of({
    inspect: ({ key, prefix }) =>
      Effect.mapBoth(readStates(port, [named(key, prefix)], readTimes(port)), {
        onFailure: backendError("inspect"),
        onSuccess: ([state]) => state!
      }),
    list: (within) => Stream.mapError(listLocks(port, within), backendError("list")),
    changes: ({ key, prefix }) => observers.changes(lockKeys(key, prefix)),
    revoke: ({ key, prefix }, { by, grace, token, why }) =>
      Effect.mapError(
        revoke(lockKeys(key, prefix), prefix, {
          asking: { by, why },
          grace: Math.min(Math.max(0, Math.ceil(grace)), Number.MAX_SAFE_INTEGER),
          token
        }),
        backendError("revoke")
      ),
    breakLock: ({ key, prefix }, token) =>
      Effect.gen(function*() {
        const keys = lockKeys(key, prefix)
        const found = yield* findHeld(keys, token)
        if (found === undefined) return false
        const { doubled, value } = yield* port.txn(Admin.deleteClaim(keys, found))
        // If it was sent twice, the first sending may have deleted the claim.
        return value.succeeded || doubled
      }).pipe(Effect.mapError(backendError("break")))
  })
}

/** How many marks on one claim are read: there is one, but for those who ask at the same moment. */
const mostMarks = 16

/** How many of them one transaction deletes. */
const mostDeleted = 5
