import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { LockBackendError } from "../../LockError.ts"
import type { Claim, LockStore, Withdrawn } from "../../LockStore.ts"
import type { CallTimeouts } from "../scheduling/callTimeouts.ts"
import type { Time } from "../scheduling/time.ts"
import { callBack } from "../telemetry/callBack.ts"
import type { Events } from "../telemetry/events.ts"
import * as Timing from "../timing.ts"
import type { HeldLease } from "./heldLease.ts"

/**
 * Gives a held lease back. The belief ends first, then the renewal, then the claim: a renewal that is under way is
 * waited for, so that none is ever answered after the release was sent. A lease that was lost is not released again.
 */
export const releaseLease = (withdrawals: Withdrawals, lease: HeldLease): Effect.Effect<void> => {
  const now = lease.host.time.now()
  if (!lease.endHold(now)) return lease.stopRenewal
  const { claim, key, renewalAnswered, stopRenewal } = lease
  lease.host.events.released(key, lease.fencingToken, lease.grantedAt)
  if (renewalAnswered !== undefined) {
    const answered = Effect.timeoutOption(renewalAnswered, Math.min(lease.renewalTimeout, Timing.longestRelease))
    return Effect.flatMap(stopRenewal, () => withdrawals.release(key, claim, answered))
  }
  return stopRenewal === Effect.void
    ? withdrawals.releaseAt(now, key, claim)
    : Effect.flatMap(stopRenewal, () => withdrawals.release(key, claim))
}

/** What withdrawals work with, the same for all of them. */
interface WithdrawContext {
  readonly store: LockStore["Service"]
  readonly time: Time
  readonly timeouts: CallTimeouts
  readonly events: Events
  /** Outlives the locker: a claim that is given up when it has gone is withdrawn too. */
  readonly fork: (withdrawal: Withdrawal) => Fiber.Fiber<Failed | Withdrawn>
}

/** Our withdrawals of one key that are not over, and who waits for that: a crowd of these is to be cheap. */
interface Behind {
  readonly fibers: Set<Fiber.Fiber<unknown>>
  readonly waiting: Set<() => void>
}

/** Why a withdrawal was not answered. */
type Failed = Cause.Cause<LockBackendError>
type Withdrawal = Effect.Effect<Failed | Withdrawn>

/**
 * Ends claims, whatever became of them, and never fails. Nobody waits for that longer than they must: where the backend
 * does not answer it goes on behind the caller's back, and the next request of the same key waits for it.
 */
export class Withdrawals {
  private readonly means: WithdrawContext
  private readonly behind = new Map<string, Behind>()
  /** Of claims whose withdrawal was refused: nobody waits for these. */
  private readonly refused = new Set<Fiber.Fiber<unknown>>()
  /** A release was waited for in vain, and is still not answered. */
  private silent = false
  private closed = false

  constructor(means: WithdrawContext) {
    this.means = means
  }

  /**
   * Gives a lease's claim back, once `first` has ended, and waits for that within a limit: an outage is over long before
   * a long time to live would end the claim. A locker has one such patience for all its releases: while the backend is
   * known to be silent, none is waited for.
   */
  release(key: string, claim: Claim, first?: Effect.Effect<unknown>): Effect.Effect<void> {
    return Effect.suspend(() => {
      const now = this.means.time.now()
      if (first === undefined) return this.releaseAt(now, key, claim)
      return this.releaseBehind(key, claim, Effect.andThen(first, this.withdraw(claim)), now + limitOf(claim))
    })
  }

  /** The same at this moment, which is `now`. Most releases are answered at once, and need no fiber of their own. */
  releaseAt(now: number, key: string, claim: Claim): Effect.Effect<void> {
    const until = now + limitOf(claim)
    if (this.silent) return this.releaseBehind(key, claim, this.withdraw(claim), until)
    return Effect.matchCauseEffect(this.send(claim), {
      onSuccess: (withdrawn) => {
        this.heard(withdrawn)
        this.means.events.answered(key)
        return Effect.void
      },
      onFailure: (cause) => {
        const error = errorOf(cause)
        if (error?.retryable === true) this.means.events.releaseUnanswered(key, error)
        return this.releaseBehind(key, claim, this.again(claim, until, cause), until)
      }
    })
  }

  private releaseBehind(key: string, claim: Claim, withdrawal: Withdrawal, until: number): Effect.Effect<void> {
    const { events, time } = this.means
    const fiber = this.start(
      claim,
      Effect.tap(withdrawal, (ended) =>
        Effect.sync(() => {
          if (isWithdrawn(ended)) events.answered(key)
        }))
    )
    return Effect.flatMap(this.end(fiber, this.silent ? 0 : until - time.now()), (exit) => {
      if (exit === undefined) {
        this.silent = true
        events.releaseFailed(key, silent)
        return Effect.void
      }
      const failed = failedOf(exit)
      if (failed === undefined) return Effect.void
      const error = errorOf(failed)
      if (error?.retryable === true) return Effect.sync(() => events.releaseFailed(key, error))
      return Effect.sync(() => events.releaseRefused(key, error === undefined ? Cause.squash(failed) : error.cause))
    })
  }

  /**
   * Ends a claim that is not granted to anybody, in the background. Waits for that for some milliseconds, in which a
   * backend that is well has done it. What it has answered, if it has.
   */
  giveUp(claim: Claim, millis: number): Effect.Effect<Withdrawn | undefined> {
    return Effect.suspend(() =>
      Effect.map(
        this.end(this.start(claim, this.withdraw(claim)), millis),
        (exit) => exit !== undefined && Exit.isSuccess(exit) && isWithdrawn(exit.value) ? exit.value : undefined
      )
    )
  }

  /** Waits until none of our own withdrawals of a key is left; `undefined` if there are none. */
  before(key: string): Effect.Effect<void> | undefined {
    const behind = this.behind.size === 0 ? undefined : this.behind.get(key)
    if (behind === undefined) return undefined
    return Effect.callback((resume) => {
      const goOn = () => resume(Effect.suspend(() => this.before(key) ?? Effect.void))
      behind.waiting.add(goOn)
      return Effect.sync(() => void behind.waiting.delete(goOn))
    })
  }

  /** Waits for what goes on behind as long as for a release, and ends what is not over then. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.closed = true
    const fibers = Array.from(this.behind.values()).flatMap(({ fibers }) => Array.from(fibers))
    return Effect.andThen(
      this.means.timeouts.limit(
        Effect.asVoid(Fiber.awaitAll(fibers)),
        this.silent ? 0 : Timing.longestRelease,
        Effect.void
      ),
      Effect.sync(() => {
        for (const fiber of [...fibers, ...this.refused]) fiber.interruptUnsafe()
      })
    )
  })

  private start(claim: Claim, withdrawal: Withdrawal): Fiber.Fiber<Failed | Withdrawn> {
    const fiber = this.means.fork(withdrawal)
    if (fiber.pollUnsafe() !== undefined) return fiber
    const behind = this.behind.get(claim.key) ?? { fibers: new Set(), waiting: new Set() }
    this.behind.set(claim.key, behind)
    behind.fibers.add(fiber)
    fiber.addObserver(() => {
      behind.fibers.delete(fiber)
      if (behind.fibers.size > 0) return
      this.behind.delete(claim.key)
      if (this.behind.size === 0) this.silent = false
      // Of a crowd each runs on within this, and may come to its end.
      for (const goOn of behind.waiting) callBack(this.means.events, goOn, claim.key)
    })
    return fiber
  }

  /** How it ended within so long; nothing if it has not. */
  private end<A>(fiber: Fiber.Fiber<A>, millis: number): Effect.Effect<Exit.Exit<A> | undefined> {
    const exit = fiber.pollUnsafe()
    return exit === undefined
      ? this.means.timeouts.limit<Exit.Exit<A> | undefined, never>(Fiber.await(fiber), millis, Effect.undefined)
      : Effect.succeed(exit)
  }

  private send(claim: Claim): Effect.Effect<Withdrawn, LockBackendError> {
    const { timeouts, store } = this.means
    return timeouts.limitUnlessBounded(store.withdraw(claim), limitOf(claim), Effect.fail(silent))
  }

  private heard(withdrawn: Withdrawn): void {
    if (isAnswer(withdrawn)) this.silent = false
  }

  private withdraw(claim: Claim): Withdrawal {
    return Effect.suspend(() => {
      const hasty = this.means.time.now() + limitOf(claim)
      return Effect.matchCauseEffect(this.send(claim), {
        onSuccess: (withdrawn): Withdrawal => {
          this.heard(withdrawn)
          return Effect.succeed(withdrawn)
        },
        onFailure: (cause) => this.again(claim, hasty, cause)
      })
    })
  }

  /** Until it is answered, or the backend has ended the claim by itself: at first often, since most failures pass. */
  private readonly again = Effect.fnUntraced({ self: this }, function*(
    this: Withdrawals,
    claim: Claim,
    hasty: number,
    failed: Failed
  ): Effect.fn.Return<Failed | Withdrawn> {
    const { time } = this.means
    const ttl = Duration.toMillis(claim.ttl)
    const until = time.now() + ttl + Duration.toMillis(claim.guardGap)
    const pause = () => time.now() < hasty ? Timing.hastyReleaseRetryAfter(ttl) : Timing.releaseRetryAfter(ttl)
    const ended = yield* this.repeat(claim, until, pause, isRetryable, failed)
    if (!isWithdrawn(ended) && !isRetryable(ended)) {
      // Credentials may be put right, say, long before the claim ends by itself; and a bug of a store may be a rare one.
      const fiber = this.means.fork(this.repeat(claim, until, pause, () => true, ended))
      this.refused.add(fiber)
      fiber.addObserver(() => this.refused.delete(fiber))
    }
    return ended
  })

  private readonly repeat = Effect.fnUntraced({ self: this }, function*(
    this: Withdrawals,
    claim: Claim,
    until: number,
    pause: () => number,
    isPassing: (cause: Failed) => boolean,
    failed: Failed
  ): Effect.fn.Return<Failed | Withdrawn> {
    const { timeouts, store, time } = this.means
    let cause = failed
    while (isPassing(cause)) {
      const millis = pause()
      if (this.closed || time.now() + millis >= until) break
      yield* time.sleep(millis)
      const answer = yield* Effect.exit(timeouts.limit(store.withdraw(claim), limitOf(claim), Effect.fail(silent)))
      if (Exit.isSuccess(answer)) {
        this.heard(answer.value)
        return answer.value
      }
      cause = answer.cause
    }
    return cause
  })
}

const isWithdrawn = (ended: Failed | Withdrawn): ended is Withdrawn => typeof ended === "string"

/** What was never sent, the backend has not answered. */
const isAnswer = (ended: Failed | Withdrawn): boolean => isWithdrawn(ended) && ended !== "notSent"

const failedOf = (exit: Exit.Exit<Failed | Withdrawn>): Failed | undefined => {
  const ended = Exit.isSuccess(exit) ? exit.value : exit.cause
  return isWithdrawn(ended) ? undefined : ended
}

/** For how long a scope's end is held up by a backend that does not answer: less where the time to live is short. */
const limitOf = (claim: Claim): number => Timing.releaseTimeout(Duration.toMillis(claim.ttl))

const errorOf = (cause: Failed): LockBackendError | undefined => Option.getOrUndefined(Cause.findErrorOption(cause))

const isRetryable = (cause: Failed): boolean => errorOf(cause)?.retryable === true

const silent = new LockBackendError({
  operation: "release",
  retryable: true,
  cause: new Error("the backend did not answer in time")
})
