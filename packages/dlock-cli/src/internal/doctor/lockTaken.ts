import type { Finding } from "effect-dlock/Diagnosis"
import { type Claim, LockStore } from "effect-dlock/LockStore"
import * as Clock from "effect/Clock"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"

const check = "lock"

/** A step that did not go as it must. */
const failed = (what: string): Finding => ({
  check,
  severity: "error",
  seen: what,
  why: "this is what every process that takes a lock meets",
  fix: "mend what the other findings name, and look into the server's log"
})

const random = (): string => Base64Url.encode(SecureRandom.randomBytesUnsafe(16))

/**
 * Takes a lock that nobody else asks for, renews it and releases it, by the way of every lock. The claim is withdrawn
 * however it ends.
 */
export const takeALock = (prefix: string, ttl: number): Effect.Effect<Finding, never, LockStore> =>
  Effect.gen(function*() {
    const store = yield* LockStore
    const clock = yield* Clock.Clock
    const claim: Claim = {
      id: random(),
      key: `${prefix}dlock-doctor:${random()}`,
      prefix,
      kind: "mutex",
      permits: 1,
      capacity: 1,
      ttl: Duration.millis(ttl),
      guardGap: Duration.millis(Math.max(100, ttl / 10)),
      holder: "dlock doctor"
    }
    const timed = <A, E>(effect: Effect.Effect<A, E>) =>
      Effect.suspend(() => {
        const since = clock.monotonicTimeNanosUnsafe()
        return Effect.map(
          effect,
          (value) => ({ value, took: Number(clock.monotonicTimeNanosUnsafe() - since) / 1_000_000 })
        )
      })
    // Nobody else knows the key, so nothing waits; but a `try` has no more than a second, which a far server may need.
    const taken = yield* Effect.result(timed(store.request(claim, "queue"))).pipe(
      Effect.onInterrupt(() => Effect.ignore(store.withdraw(claim)))
    )
    if (taken._tag === "Failure" || taken.success.value._tag !== "Granted") {
      yield* Effect.ignore(store.withdraw(claim))
      if (taken._tag === "Failure") return failed(`a lock could not be taken: ${taken.failure.message}`)
      const answer = taken.success.value
      const why = answer._tag === "Gone" && answer.error !== undefined ? `: ${answer.error.message}` : ""
      return failed(`a free lock was not granted (${answer._tag}${why})`)
    }
    const { fencingToken } = taken.success.value
    const renewed = yield* timed(store.renew([{ claim, fencingToken }])).pipe(
      Effect.onInterrupt(() => Effect.ignore(store.withdraw(claim)))
    )
    const released = yield* Effect.result(timed(store.withdraw(claim)))
    const [renewal] = renewed.value
    if (renewal?._tag !== "Confirmed") return failed(`a lock could not be renewed (${renewal?._tag ?? "no answer"})`)
    if (released._tag === "Failure") return failed(`a lock could not be released: ${released.failure.message}`)
    if (released.success.value !== "released") {
      return failed(`a lock was gone when it was to be released (${released.success.value})`)
    }
    const millis = (value: number) => `${value.toPrecision(3)} ms`
    return {
      check,
      severity: "ok",
      seen: `a lock was taken in ${millis(taken.success.took)}, renewed in ${millis(renewed.took)} and released in ` +
        `${millis(released.success.took)}; its token was ${fencingToken}`
    }
  })

/** The same where even the layer of the store does not open. */
export const notOpened = (error: { readonly message: string }): Finding =>
  failed(`no lock can be taken: ${error.message}`)
