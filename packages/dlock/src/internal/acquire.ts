import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { InvalidLockRequest, LockBackendError, LockTimeout } from "../LockError.ts"
import type { Answer, Claim, Gone, Granted, LockStore, Queued } from "../LockStore.ts"
import * as Holder from "./holder.ts"
import type { Restore } from "./holding.ts"
import type { Withdraw } from "./release.ts"
import * as Request from "./request.ts"
import { fromNanos, type Time } from "./time.ts"

export interface Acquired {
  readonly claim: Claim
  readonly granted: Granted
  /** Read before the request was sent that `granted.confirmedAt` belongs to, or an earlier one. */
  readonly wallAhead: number
}

/**
 * Asks until granted. For an uninterruptible region, whose `restore` it takes: what has been sent runs to its answer,
 * so that nobody holds a lock they never heard of, and only the waits in between are given back. However it ends
 * without a grant, the claim has been withdrawn before.
 *
 * `Option.none` is the answer of a `try` that found the key held.
 */
export const acquire = Effect.fnUntraced(function*(
  store: LockStore["Service"],
  withdraw: Withdraw,
  time: Time,
  key: string,
  request: Request.Request,
  mode: "queue" | "try",
  restore: Restore
): Effect.fn.Return<Option.Option<Acquired>, LockTimeout | LockBackendError | InvalidLockRequest> {
  const startedAt = time.now()
  let claim = request.claim
  while (true) {
    const wallAhead = time.wallAhead()
    let answer: Answer = yield* ask(store, withdraw, time, key, claim, mode, restore)
    if (answer._tag === "Queued") {
      answer = yield* wait(withdraw, time, key, claim, answer, startedAt, request.timeout, restore)
    }
    switch (answer._tag) {
      case "Granted": {
        const ttl = Duration.toMillis(answer.ttl)
        if (time.now() < fromNanos(answer.confirmedAt) + ttl && time.wallAhead() - wallAhead <= ttl) {
          return Option.some({ claim, granted: answer, wallAhead })
        }
        // Heard of too late to believe in, or the wall clock was set during the wait: asked for once more under the same
        // id, it is ours anew or we are queued.
        break
      }
      case "Busy":
        return Option.none()
      case "Gone":
        claim = Request.renamed(claim)
        break
      case "CapacityMismatch":
        return yield* new InvalidLockRequest({
          key,
          parameter: "capacity",
          problem: `${claim.capacity} is not the one with which the key is in use`
        })
    }
  }
})

/**
 * One request, repeated under the same id while the backend may yet be back in a moment: an answer that got lost, a
 * connection that is being made again. A repeat of a request that was executed is harmless.
 */
const ask = Effect.fnUntraced(function*(
  store: LockStore["Service"],
  withdraw: Withdraw,
  time: Time,
  key: string,
  claim: Claim,
  mode: "queue" | "try",
  restore: Restore
): Effect.fn.Return<Answer, LockBackendError> {
  const ttl = Duration.toMillis(claim.ttl)
  const until = time.now() + Math.min(ttl / 3, patience)
  let told: LockBackendError | undefined
  while (true) {
    const left = Math.max(0, until - time.now())
    // A net: a store limits its own calls.
    const answer = yield* Effect.exit(
      Effect.timeoutOrElse(store.request(claim, mode), { duration: left, orElse: () => Effect.fail(silent) })
    )
    if (Exit.isSuccess(answer)) return answer.value
    const failed = Cause.findErrorOption(answer.cause)
    const again = Option.isSome(failed) && failed.value.retryable && time.now() + pause(ttl) < until
    // What it said before it fell silent says more than the silence.
    if (Option.isSome(failed) && failed.value !== silent) told = failed.value
    const ended = told === undefined || Option.isNone(failed) ? answer : Exit.fail(told)
    const paused = again ? yield* Effect.exit(restore(time.sleep(pause(ttl)))) : ended
    if (Exit.isFailure(paused)) {
      yield* withdraw(key, claim)
      return yield* Effect.failCause(Cause.map(paused.cause, about(key)))
    }
  }
})

/** For how long a backend that does not answer is asked, where the time to live leaves that much. */
const patience = 3_000

const pause = (ttl: number): number => Math.min(ttl / 30, 100)

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
  withdraw: Withdraw,
  time: Time,
  key: string,
  claim: Claim,
  queued: Queued,
  startedAt: number,
  timeout: number,
  restore: Restore
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
