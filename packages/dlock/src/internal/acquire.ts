import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { InvalidLockRequest, LockBackendError, LockTimeout } from "../LockError.ts"
import {
  type Answer,
  callLimit,
  type Claim,
  type Gone,
  type Granted,
  type LockStore,
  type Queued
} from "../LockStore.ts"
import * as Holder from "./holder.ts"
import type { Restore } from "./holding.ts"
import type { Limits } from "./limits.ts"
import type { Withdraw } from "./release.ts"
import * as Request from "./request.ts"
import { fromNanos, type Time } from "./time.ts"

export interface Acquired {
  readonly claim: Claim
  readonly granted: Granted
  /** Read before the request was sent that `granted.confirmedAt` belongs to, or an earlier one. */
  readonly wallAhead: number
}

/** What an acquire works with, the same for all of them. */
export interface Means {
  readonly store: LockStore["Service"]
  readonly time: Time
  readonly limits: Limits
  readonly withdraw: Withdraw
}

/** One acquire: what is asked for, and how what may be interrupted is. */
interface Asking extends Means {
  readonly key: string
  readonly mode: "queue" | "try"
  readonly timeout: number
  readonly startedAt: number
  readonly restore: Restore
}

type Failure = LockTimeout | LockBackendError | InvalidLockRequest

/**
 * Asks until granted. For an uninterruptible region, whose `restore` it takes: what has been sent runs to its answer,
 * so that nobody holds a lock they never heard of, and only the waits in between are given back. However it ends
 * without a grant, the claim has been withdrawn before.
 *
 * Without a value it is the answer to a `try` that found the key held.
 */
export const acquire = (
  { limits, store, time, withdraw }: Means,
  key: string,
  { claim, timeout }: Request.Request,
  mode: "queue" | "try",
  restore: Restore
): Effect.Effect<Acquired | undefined, Failure> =>
  Effect.suspend(() => {
    const asking = { store, time, limits, withdraw, key, mode, timeout, startedAt: time.now(), restore }
    const wallAhead = time.wallAhead(asking.startedAt)
    return ask(asking, claim, asking.startedAt, (answer) =>
      answer._tag === "Granted" && isTimely(time, answer, wallAhead)
        ? Effect.succeed<Acquired>({ claim, granted: answer, wallAhead })
        : untilGranted(asking, claim, answer, wallAhead))
  })

/** Heard of in time to believe in, and with no jump of the wall clock meanwhile. */
const isTimely = (time: Time, { confirmedAt, ttl }: Granted, wallAhead: number): boolean => {
  const millis = Duration.toMillis(ttl)
  const now = time.now()
  return now < fromNanos(confirmedAt) + millis && time.wallAhead(now) - wallAhead <= millis
}

/** Goes on from a first answer that was not all. */
const untilGranted = Effect.fnUntraced(function*(
  asking: Asking,
  claim: Claim,
  answer: Answer,
  wallAhead: number
): Effect.fn.Return<Acquired | undefined, Failure> {
  const { key, restore, time } = asking
  let until = Infinity
  while (true) {
    if (answer._tag === "Queued") answer = yield* wait(asking, claim, answer)
    switch (answer._tag) {
      case "Granted":
        if (isTimely(time, answer, wallAhead)) return { claim, granted: answer, wallAhead }
        // Asked for once more under the same id, it is ours anew or we are queued.
        break
      case "Busy":
        return undefined
      case "Gone":
        // An id ends with its leave, and so may a hold under it, however late the leave arrives.
        claim = Request.renamed(claim)
        if (answer.error === undefined) break
        until = Math.min(until, time.now() + patienceWith(claim))
        if (time.now() + pauseOf(claim) >= until) return yield* about(key)(answer.error)
        yield* restore(time.sleep(pauseOf(claim)))
        break
      case "CapacityMismatch":
        return yield* new InvalidLockRequest({
          key,
          parameter: "capacity",
          problem: `${claim.capacity} is not the one with which the key is in use`
        })
    }
    wallAhead = time.wallAhead()
    answer = yield* ask(asking, claim, time.now(), Effect.succeed)
  }
})

/**
 * One request, repeated under the same id while the backend may yet be back in a moment: an answer that got lost, a
 * connection that is being made again. A repeat of a request that was executed is harmless.
 */
const ask = <A, E>(
  asking: Asking,
  claim: Claim,
  now: number,
  then: (answer: Answer) => Effect.Effect<A, E>
): Effect.Effect<A, E | LockBackendError> => {
  const limit = patienceWith(claim)
  const { limits, mode, store } = asking
  return Effect.matchCauseEffect(limits.net(store.request(claim, mode), limit, Effect.fail(silent)), {
    onSuccess: then,
    onFailure: (cause) => Effect.flatMap(askAgain(asking, claim, cause, now + limit), then)
  })
}

const askAgain = Effect.fnUntraced(function*(
  asking: Asking,
  claim: Claim,
  cause: Cause.Cause<LockBackendError>,
  until: number
): Effect.fn.Return<Answer, LockBackendError> {
  const { key, limits, mode, restore, store, time, withdraw } = asking
  const pause = pauseOf(claim)
  let told: LockBackendError | undefined
  while (true) {
    const failed = Cause.findErrorOption(cause)
    const again = Option.isSome(failed) && failed.value.retryable && time.now() + pause < until
    // What it said before it fell silent says more than the silence.
    if (Option.isSome(failed) && failed.value !== silent) told = failed.value
    const ended = told === undefined || Option.isNone(failed) ? Exit.failCause(cause) : Exit.fail(told)
    const paused = again ? yield* Effect.exit(restore(time.sleep(pause))) : ended
    if (Exit.isFailure(paused)) {
      yield* withdraw(key, claim)
      return yield* Effect.failCause(Cause.map(paused.cause, about(key)))
    }
    const answer = yield* Effect.exit(
      limits.within(store.request(claim, mode), Math.max(0, until - time.now()), Effect.fail(silent))
    )
    if (Exit.isSuccess(answer)) return answer.value
    cause = answer.cause
  }
})

/** For how long a backend that does not answer, or does not keep what it granted, is asked. */
const patienceWith = (claim: Claim): number => Math.min(callLimit(claim), 3_000)

const pauseOf = (claim: Claim): number => Math.min(Duration.toMillis(claim.ttl) / 30, 100)

const silent = new LockBackendError({
  operation: "acquire",
  retryable: true,
  cause: new Error("no answer in time")
})

/** Stores speak of claims; the user asked for a key. */
const about = (key: string) => (error: LockBackendError): LockBackendError =>
  new LockBackendError({ operation: error.operation, key, retryable: error.retryable, cause: error.cause })

/** Waits for a queued claim until it is granted, gone, or out of time; everything else withdraws it. */
const wait = Effect.fnUntraced(function*(
  { key, restore, startedAt, time, timeout, withdraw }: Asking,
  claim: Claim,
  queued: Queued
): Effect.fn.Return<Granted | Gone, LockTimeout | LockBackendError> {
  const left = () => startedAt + timeout - time.now()
  // A timer may be early by a part of a millisecond.
  const limited: typeof inTime = Effect.suspend(() =>
    Effect.flatMap(inTime, (grant) => Option.isNone(grant) && left() > 0 ? limited : Effect.succeed(grant))
  )
  const inTime = Effect.suspend(() => Effect.timeoutOption(queued.granted, Math.max(0, Math.ceil(left()))))
  const waited = yield* Effect.exit(restore(timeout === Infinity ? Effect.asSome(queued.granted) : limited))
  if (Exit.isSuccess(waited) && Option.isSome(waited.value)) {
    return waited.value.value
  }
  yield* withdraw(key, claim)
  if (Exit.isFailure(waited)) return yield* Effect.failCause(Cause.map(waited.cause, about(key)))
  const ahead = queued.ahead()
  const holder = ahead.holder === undefined ? undefined : Holder.decode(ahead.holder)
  return yield* new LockTimeout({
    key,
    waited: Duration.millis(time.now() - startedAt),
    queueLength: ahead.waiting,
    ...(holder && { holder: holder.name }),
    ...(holder?.metadata && { metadata: holder.metadata })
  })
})
