/** `LockAdmin` over a port: who holds a lock, who waits for it, and how to take it away. */

import { LockAdmin, type LockName } from "effect-dlock/LockAdmin"
import { LockBackendError } from "effect-dlock/LockError"
import * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import { backendError } from "../client/failure.ts"
import type { Port } from "../client/port.ts"
import * as Scripts from "../protocol/index.ts"
import { keysOf, type LockKeys } from "../protocol/keys.ts"
import * as Listing from "./listing.ts"
import * as Observers from "./observers.ts"

export interface AdminOptions {
  /** Text in front of every key, like the `keyPrefix` of a Redis client. */
  readonly keyPrefix: string
  /** Whether a lock that is broken is freed for every client instead of being handed over to the next waiter. */
  readonly interop: boolean
}

type Operation = "inspect" | "revoke" | "break"

/** Makes the service. It knows no claim of this process: whatever it does, it asks the server. */
export const make = Effect.fnUntraced(function*(port: Port, { interop, keyPrefix }: AdminOptions) {
  const observers = yield* Observers.make(port)

  const withKeys = <A>(
    operation: Operation,
    { key }: LockName,
    then: (keys: LockKeys) => Effect.Effect<A, LockBackendError>
  ): Effect.Effect<A, LockBackendError> =>
    Effect.suspend(() => {
      const keys = keysOf(keyPrefix + key)
      return keys === undefined ? Effect.fail(impossible(operation)) : then(keys)
    })

  const run = <Args, A>(
    operation: Operation,
    script: Scripts.Script<Args, A>,
    args: Args
  ): Effect.Effect<A, LockBackendError> =>
    Effect.mapBoth(port.run(script, args), { onFailure: backendError(operation), onSuccess: ({ value }) => value })

  /** Finds the claim that is held under a token. A lock with thousands of holders takes several calls. */
  const find = (
    operation: Operation,
    keys: LockKeys,
    token: bigint,
    cursor = "0"
  ): Effect.Effect<Exclude<Scripts.FindHoldReply, { readonly _tag: "More" }>, LockBackendError> =>
    Effect.flatMap(
      run(operation, Scripts.findHold, { keys, token, cursor }),
      (found) => found._tag === "More" ? find(operation, keys, token, found.cursor) : Effect.succeed(found)
    )

  /** Lets the next waiters in, as far as one script could not. Somebody else does it if this fails. */
  const moveQueueOn = (keys: LockKeys): Effect.Effect<void> =>
    port.run(Scripts.refresh, { inbox: port.inbox, locks: [{ keys, kind: undefined, claims: [] }] }).pipe(
      Effect.flatMap(({ value: [reply] }) =>
        reply?._tag === "Refreshed" && reply.more ? moveQueueOn(keys) : Effect.void
      ),
      Effect.ignore
    )

  return LockAdmin.of({
    inspect: (on) =>
      withKeys("inspect", on, (keys) =>
        Effect.flatMap(
          run("inspect", Scripts.inspect, { keys }),
          (state) => state === undefined ? Effect.fail(noLock("inspect")) : Effect.succeed({ key: on.key, ...state })
        )),
    list: (within) => Listing.list(port, keyPrefix, within.key),
    changes: (on): Stream.Stream<void> => observers.changes(keysOf(keyPrefix + on.key)),
    revoke: (on, { by, grace, token, why }) =>
      withKeys("revoke", on, (keys) =>
        Effect.flatMap(find("revoke", keys, token), (found) => {
          if (found._tag !== "Held") return Effect.succeed(found._tag === "Foreign" ? "foreign" : "notHeld")
          const mark = { by, ...(why !== undefined && { why }) }
          const args = { keys, id: found.id, token, grace: Math.max(0, grace), mark }
          return Effect.map(run("revoke", Scripts.revoke, args), (isAsked) => isAsked ? "asked" : "notHeld")
        })),
    breakLock: (on, token) =>
      withKeys("break", on, (keys) =>
        Effect.flatMap(find("break", keys, token), (found) => {
          if (found._tag === "NotHeld") return Effect.succeed(false)
          const id = found._tag === "Held" ? found.id : undefined
          return Effect.flatMap(
            run("break", Scripts.breakHold, { keys, id, token, interop }),
            ({ isBroken, more }) => Effect.as(more ? moveQueueOn(keys) : Effect.void, isBroken)
          )
        }))
  })
})

const noLock = (operation: Operation): LockBackendError =>
  new LockBackendError({
    operation,
    retryable: false,
    cause: new Error("WRONGTYPE the key holds data of another type than a lock")
  })

const impossible = (operation: Operation): LockBackendError =>
  new LockBackendError({
    operation,
    retryable: false,
    cause: new Error("the braces of the key leave no common slot, so no lock can have this key")
  })
