/** Waits until enough replicas have a grant. */

import { LockBackendError } from "effect-dlock/LockError"
import type { Claim, Gone } from "effect-dlock/LockStore"
import { callBackIn } from "effect-dlock/StoreTelemetry"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { Port } from "../client/port.ts"
import * as Scripts from "../protocol/index.ts"
import type { LockKeys } from "../protocol/keys.ts"
import * as Timing from "./timing.ts"

/**
 * Tells whether enough replicas have a grant, or whether the grant has ended meanwhile. No answer in time means too
 * few.
 */
export const confirm = (
  port: Port,
  replicas: number,
  keys: LockKeys,
  claim: Claim,
  token: bigint,
  limit: number
): Effect.Effect<"enough" | "tooFew" | "ended"> => {
  // A late timer fires before the replies that arrived in time are read. The yield gives those replies a chance.
  const timeUp = Effect.as(Effect.andThen(Effect.sleep(limit), Effect.yieldNow), Option.none())
  return port.replicated(Scripts.confirm, { keys, id: claim.id, token, kind: claim.kind }, replicas, limit)
    .pipe(
      Effect.asSome,
      Effect.raceFirst(timeUp),
      inOwnFiber,
      Effect.match({
        onFailure: () => "tooFew",
        onSuccess: (reply) => {
          if (Option.isNone(reply)) return "tooFew"
          if (!reply.value.value) return "ended"
          return reply.value.replicas >= replicas ? "enough" : "tooFew"
        }
      })
    )
}

/**
 * Runs an effect in its own fiber. The caller of `resume` runs the waiting fiber synchronously, and an exception of one
 * of that fiber's observers must not reach the client that delivered the reply.
 */
const inOwnFiber = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.contextWith((context: Context.Context<never>) =>
    Effect.callback((resume) => {
      const fiber = Effect.runForkWith(context)(effect)
      fiber.addObserver((exit) => callBackIn(context, () => resume(exit)))
      return Fiber.interrupt(fiber)
    })
  )

/** How many milliseconds to wait for replicas, as a part of the `whole` time that a grant may take. */
export const limitOf = (claim: Claim, whole: number): number =>
  Timing.replicasTimeout(Duration.toMillis(claim.ttl), whole)

/** The answer for a claim that too few replicas have. */
export const tooFew = (replicas: number): Gone => ({
  _tag: "Gone",
  error: new LockBackendError({
    operation: "acquire",
    retryable: true,
    cause: new Error(
      `fewer than ${replicas} replicas confirmed the lock in time (waitReplicas): are that many connected?`
    )
  })
})
