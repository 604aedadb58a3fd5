import type { HolderInfo, Locker } from "effect-dlock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Observer } from "./observer.ts"
import type { ActPlan } from "./plan.ts"
import type { Process } from "./process.ts"
import { prefix } from "./section.ts"

/** What an operator does: it looks at a lock until somebody holds it, and revokes that hold or takes the lock. */
export const run = (
  observer: Observer,
  process: Process,
  locker: Locker["Service"],
  act: ActPlan,
  crash: () => void
): Effect.Effect<void> => {
  const { again, delay, dies, grace, key, kind, names } = act
  const quietly = <A>(call: Effect.Effect<A, { readonly _tag: string }>): Effect.Effect<A | undefined> =>
    Effect.match(call, {
      onSuccess: (answer) => answer,
      onFailure: (error) => {
        if (error._tag !== "LockBackendError") observer.report("S8", `an operator's call failed with ${error._tag}`)
        return undefined
      }
    })

  const holdersOf = (key: string): Effect.Effect<ReadonlyArray<HolderInfo>> =>
    Effect.map(quietly(locker.inspect(key)), (info) => info?.holders.filter(({ foreign }) => !foreign) ?? [])

  const seen = Effect.gen(function*() {
    for (let looks = 0; looks < mostLooks; looks++) {
      const holders = yield* holdersOf(key)
      if (holders.length > 0) return holders[delay % holders.length]!.token
      yield* Effect.sleep(pause)
    }
    return undefined
  })

  const revoke = (token: bigint, grace: number): Effect.Effect<void> =>
    Effect.suspend(() => {
      const why = `act of ${delay} ms`
      observer.recordAct(prefix + key, token, { by: `process-${process.index}`, why, grace })
      return quietly(locker.revoke(key, { token, grace: Duration.millis(grace), why }))
    }).pipe(Effect.flatMap((answer) => Effect.sync(() => observer.checkRevoked(prefix + key, token, answer))))

  /** Names a hold that is not there. */
  const revokeNothing = (key: string, token: bigint): Effect.Effect<void> =>
    Effect.map(quietly(locker.revoke(key, { token })), (answer) => {
      if (answer !== undefined && answer !== "notHeld") observer.checkNothingRevoked(prefix + key, token, answer)
    })

  const afterItsEnd = (token: bigint): Effect.Effect<void> =>
    Effect.gen(function*() {
      for (let looks = 0; looks < mostLooks; looks++) {
        yield* Effect.sleep(pause)
        const info = yield* quietly(locker.inspect(key))
        if (info === undefined || info.holders.some((holder) => holder.token === token)) continue
        return yield* revokeNothing(key, token)
      }
    })

  return Effect.gen(function*() {
    yield* Effect.sleep(delay)
    const token = yield* seen
    if (token === undefined) return
    if (names === "ended") return yield* afterItsEnd(token)
    if (names === "other") {
      const other = key === "k0" ? "k1" : "k0"
      const isThere = (yield* holdersOf(other)).some((holder) => holder.token === token)
      return isThere ? undefined : yield* revokeNothing(other, token)
    }
    if (kind === "break") {
      observer.recordBreak()
      return yield* Effect.asVoid(quietly(locker.breakLock(key, { token })))
    }
    const first = yield* Effect.forkChild(revoke(token, grace), { startImmediately: true })
    if (dies) crash()
    if (again !== undefined) {
      yield* Effect.sleep(again.after)
      yield* revoke(token, again.grace)
    }
    yield* Fiber.await(first)
  })
}

/** Milliseconds between two looks, and how often it looks. */
const pause = 25
const mostLooks = 60
