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
import * as Timing from "./timing.ts"
import type { TrackedClaim } from "./trackedClaim.ts"

/** Whether enough replicas have a grant, or it has ended meanwhile. An answer that does not come in time is a no. */
export const confirm = (
  port: Port,
  replicas: number,
  tracked: TrackedClaim,
  token: bigint,
  limit: number
): Effect.Effect<"enough" | "tooFew" | "ended"> => {
  const { claim, keys } = tracked
  // A timer that is late runs before what came in time is read.
  const timeUp = Effect.as(Effect.andThen(Effect.sleep(limit), Effect.yieldNow), Option.none())
  return port.replicated(Scripts.confirm, { keys, id: claim.id, token, capacity: claim.capacity }, replicas, limit)
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

/** Who waits runs on within its end, and what an observer of theirs throws is not to reach the client that answered. */
const inOwnFiber = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.contextWith((context: Context.Context<never>) =>
    Effect.callback((resume) => {
      const fiber = Effect.runForkWith(context)(effect)
      fiber.addObserver((exit) => callBackIn(context, () => resume(exit)))
      return Fiber.interrupt(fiber)
    })
  )

/** Milliseconds for which replicas are waited for, of those that a grant may take as a whole. */
export const limitOf = (claim: Claim, whole: number): number =>
  Timing.replicasTimeout(Duration.toMillis(claim.ttl), whole)

/** What becomes of a claim that too few replicas have. */
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
