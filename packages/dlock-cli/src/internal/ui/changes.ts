import { Locker } from "effect-dlock/Locker"
import type { InvalidLockRequest, LockBackendError } from "effect-dlock/LockError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { shown } from "../shown.ts"
import type { Answer } from "./page/protocol.ts"
import type { Polling } from "./polling.ts"

const Token = Schema.String.check(Schema.isPattern(/^\d{1,30}$/))

export const RevokeRequest = Schema.Struct({
  id: Schema.Int,
  token: Token,
  graceMs: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 600_000 })),
  why: Schema.String.check(Schema.isMaxLength(500))
})

export const BreakRequest = Schema.Struct({ id: Schema.Int, token: Token, confirmation: Schema.String })

type Failure = InvalidLockRequest | LockBackendError

/** Asks the holder of this token to leave, and waits for what comes of it. */
export const revoke = (
  polling: Polling,
  { graceMs, id, token, why }: typeof RevokeRequest.Type
): Effect.Effect<Answer, Failure, Locker> =>
  withKey(polling, id, (key) =>
    polling.ask(id, token).pipe(
      Effect.andThen(Locker.revoke(key, { token: BigInt(token), grace: graceMs, ...(why !== "" && { why }) })),
      Effect.tap((outcome) => outcome === "notHeld" ? polling.unask(id, token) : Effect.void),
      Effect.tapError(() => polling.unask(id, token)),
      Effect.map((outcome) => ({ outcome, text: revoked[outcome] }))
    ))

const revoked = {
  released: "The lock was released.",
  running: "The holder was asked, and has not left yet. Its lock is renewed no more: it ends by itself.",
  notHeld: "Nothing was done: this hold had ended before."
}

/** Deletes the hold of this token. */
export const breakLock = (
  polling: Polling,
  { confirmation, id, token }: typeof BreakRequest.Type
): Effect.Effect<Answer, Failure, Locker> =>
  withKey(polling, id, (key) => {
    if (confirmation !== shown(key)) {
      return Effect.succeed({ outcome: "refused", text: "Nothing was done: the key that was typed is another one." })
    }
    return Effect.flatMap(Locker.breakLock(key, { token: BigInt(token) }), (isBroken): Effect.Effect<Answer> => {
      if (!isBroken) {
        return Effect.succeed({ outcome: "notHeld", text: "Nothing was done: this hold had ended before." })
      }
      const text = "The hold was deleted from this page, though its holder may still be at work"
      return Effect.as(polling.happened("broken", text, id), { outcome: "broken", text: "The lock was broken." })
    })
  })

const withKey = (
  polling: Polling,
  id: number,
  then: (key: string) => Effect.Effect<Answer, Failure, Locker>
): Effect.Effect<Answer, Failure, Locker> => {
  const key = polling.keyOf(id)
  return key === undefined
    ? Effect.succeed({ outcome: "refused", text: "Nothing was done: this lock is not known any more." })
    : then(key)
}
