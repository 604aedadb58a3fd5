/** A lock that is left behind on purpose: its process ends and does not release it. */
import { Locker, type LockOptions } from "effect-dlock/Locker"
import { type Claim, LockStore } from "effect-dlock/LockStore"
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Backend from "../backend.ts"
import { exitCodes } from "../exitCodes.ts"
import { Failure } from "../failure.ts"
import type { Hold } from "./handle.ts"
import { usage } from "./terms.ts"

/** The store of this call, unless it ends with the process. */
const store = Layer.unwrap(
  Effect.flatMap(Backend.driver, (name) =>
    name === "memory"
      ? usage("a lock in memory ends with its process: choose --driver redis or --driver etcd")
      : Effect.succeed(Backend.store))
)

export interface LeftLock extends Hold {
  readonly until: DateTime.Utc
}

const takenAway = new Failure({
  message: "the lock was taken away while it was left behind: try again",
  exitCode: exitCodes.unavailable
})

/**
 * Acquires a lock and leaves it to the server. On success nothing is closed, since a close would release: the caller must
 * end the process.
 */
export const leave = (key: string, options: LockOptions & { readonly ttl: Duration.Duration }) =>
  Effect.gen(function*() {
    let last: Claim | undefined
    const noting = Layer.effect(
      LockStore,
      Effect.map(LockStore, (given) =>
        LockStore.of({
          ...given,
          request: (claim, mode) => {
            last = claim
            return given.request(claim, mode)
          }
        }))
    ).pipe(Layer.provideMerge(store))
    const scope = yield* Scope.make()
    return yield* Effect.gen(function*() {
      const context = yield* Layer.buildWithScope(Layer.provideMerge(Locker.layerEnv, noting), scope)
      return yield* Effect.gen(function*() {
        const lease = yield* Locker.scoped(key, options)
        const { renew } = yield* LockStore
        // A lock that was waited for is granted from the last sign of life on. Renewed, its time begins now. A repeated
        // request would not do: on etcd it finds the claim, and confirms nothing.
        const at = yield* DateTime.now
        const [renewal] = yield* renew([{ claim: last!, fencingToken: lease.fencingToken }])
        if (renewal?._tag === "Unknown") return yield* Effect.fail(renewal.error)
        if (renewal?._tag !== "Confirmed") return yield* Effect.fail(takenAway)
        const until = DateTime.addDuration(at, options.ttl)
        return { key, token: lease.fencingToken, holder: lease.holder, until } satisfies LeftLock
      }).pipe(Effect.provideContext(context), Scope.provide(scope))
    }).pipe(Effect.onExit((exit) => Exit.isSuccess(exit) ? Effect.void : Scope.close(scope, exit)))
  })
