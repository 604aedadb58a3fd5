import { LockBackendError } from "effect-dlock/LockError"
import type { Claim, Gone } from "effect-dlock/LockStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Entry } from "./entry.ts"
import type { Port } from "./port.ts"
import * as Scripts from "./scripts.ts"

/** Whether enough replicas have a grant. An answer that does not come in time is a no. */
export const confirm = (port: Port, replicas: number, entry: Entry, token: bigint): Effect.Effect<boolean> => {
  const { claim, names } = entry
  const limit = limitOf(claim)
  return port.replicated(Scripts.stamp, { names, id: claim.id, token, capacity: claim.capacity }, replicas, limit).pipe(
    Effect.timeoutOption(limit),
    Effect.match({
      onFailure: () => false,
      onSuccess: (reply) => Option.isSome(reply) && reply.value.value && reply.value.replicas >= replicas
    })
  )
}

/** Milliseconds for which replicas are waited for. */
export const limitOf = (claim: Claim): number => Math.min(Duration.toMillis(claim.ttl) / 10, 1_000)

/** What becomes of a claim that too few replicas have. */
export const tooFew = (replicas: number): Gone => ({
  _tag: "Gone",
  error: new LockBackendError({
    operation: "acquire",
    retryable: true,
    cause: new Error(`fewer than ${replicas} replicas confirmed the grant in time`)
  })
})
