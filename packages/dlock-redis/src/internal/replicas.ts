import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Entry } from "./entry.ts"
import type { CallFailure, Port } from "./port.ts"
import * as Scripts from "./scripts.ts"

/** Whether enough replicas have a grant. An answer that does not come in time is a no. */
export const confirm = (port: Port, replicas: number, entry: Entry, token: bigint): Effect.Effect<boolean> => {
  const { claim, names } = entry
  const limit = Math.min(Duration.toMillis(claim.ttl) / 10, 1_000)
  return port.replicated(Scripts.stamp, { names, id: claim.id, token, capacity: claim.capacity }, replicas, limit).pipe(
    Effect.timeoutOption(limit),
    Effect.match({
      onFailure: () => false,
      onSuccess: (reply) => Option.isSome(reply) && reply.value.value && reply.value.replicas >= replicas
    })
  )
}

/** What an acquire fails with, unless a repetition succeeds. */
export const tooFew = (replicas: number): CallFailure => ({
  _tag: "CallFailure",
  notDone: false,
  retryable: true,
  cause: new Error(`fewer than ${replicas} replicas confirmed the grant in time`)
})
