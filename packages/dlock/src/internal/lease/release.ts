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
import { outcomeOf } from "../telemetry/meters.ts"
import * as Timing from "../timing.ts"
import type { HeldLease } from "./heldLease.ts"
import * as Nesting from "./nesting.ts"

/**
 * Releases a held lease. The lease stops counting as held first, then renewal stops, then the claim is withdrawn. A
 * renewal in flight is awaited before the withdrawal, so that no renewal is answered after the release was sent. A lost
 * lease is not released again.
 */
export const releaseLease = (withdrawals: Withdrawals, lease: HeldLease, now: number): Effect.Effect<void> =>
  endHold(lease, now) ? withdrawEnded(withdrawals, lease, now) : lease.stopRenewal

/** Releases leases that were acquired together. Those that have nothing to wait for are withdrawn together. */
export const releaseLeases = (withdrawals: Withdrawals, leases: ReadonlyArray<HeldLease>): Effect.Effect<void> => {
  const ready: Array<HeldLease> = []
  const releases: Array<Effect.Effect<void>> = []
  for (const lease of leases) {
    const now = lease.host.time.now()
    if (!endHold(lease, now)) releases.push(lease.stopRenewal)
    else if (isReady(lease)) ready.push(lease)
    else releases.push(withdrawEnded(withdrawals, lease, now))
  }
  releases.push(withdrawals.releaseAll(ready))
  return Effect.all(releases, { concurrency: "unbounded", discard: true })
}

/** Returns whether the lease was held. */
const endHold = (lease: HeldLease, now: number): boolean => {
  if (!lease.endHold(now)) return false
  // A lost lease whose claim was kept has counted as lost.
  if (lease.state === "released") lease.host.events.released(lease, now)
  return true
}

/** Whether nothing must end before the claim of a lease is withdrawn. */
const isReady = ({ renewalAnswered, stopRenewal, viewsEnded }: HeldLease): boolean =>
  renewalAnswered === undefined && viewsEnded === undefined && stopRenewal === Effect.void

const withdrawEnded = (withdrawals: Withdrawals, lease: HeldLease, now: number): Effect.Effect<void> => {
  const { claim, key, renewalAnswered, stopRenewal, viewsEnded } = lease
  // The end of the lease has interrupted the programs of its views. They have the guard gap to clean up. A caller inside one of
  // them does not wait for itself.
  if (viewsEnded !== undefined) {
    const ended = Effect.timeoutOption(viewsEnded, claim.guardGap)
    const first = renewalAnswered === undefined ? ended : Effect.andThen(renewalAnswered, ended)
    return Effect.withFiber(({ context }) => {
      const limit = Nesting.isInView(context, lease) ? 0 : limitOf(claim)
      return Effect.andThen(stopRenewal, withdrawals.releaseAfter(key, claim, first, limit))
    })
  }
  if (renewalAnswered !== undefined) {
    const answered = Effect.timeoutOption(renewalAnswered, Math.min(lease.renewalTimeout, Timing.longestRelease))
    return Effect.flatMap(stopRenewal, () => withdrawals.release(key, claim, answered))
  }
  return stopRenewal === Effect.void
    ? withdrawals.releaseAt(now, key, claim)
    : Effect.flatMap(stopRenewal, () => withdrawals.release(key, claim))
}

/** What all withdrawals of a locker share. */
interface WithdrawContext {
  readonly store: Pick<LockStore["Service"], "withdraw" | "withdrawAll" | "groupOf">
  readonly time: Time
  readonly timeouts: CallTimeouts
  readonly events: Events
  /** These fibers outlive the locker, because a claim may be given up after the locker has closed. */
  readonly fork: (withdrawal: Withdrawal) => Fiber.Fiber<Failed | Withdrawn>
}

/**
 * The unfinished withdrawals of one key, and the callers that wait for them. There may be very many waiting callers, so
 * each costs only one callback.
 */
interface Behind {
  /** With their numbers, in the order in which they began. */
  readonly fibers: Map<Fiber.Fiber<unknown>, number>
  /** With the number of the last withdrawal that each waits for, in the order in which they came. */
  readonly waiting: Map<() => void, number>
  begun: number
}

/** Why a withdrawal was not answered. */
type Failed = Cause.Cause<LockBackendError>
type Withdrawal = Effect.Effect<Failed | Withdrawn>

/**
 * Withdraws claims in any state, and never fails. If the backend does not answer, the caller waits only for a limited
 * time. The withdrawal then continues in the background, and the next request of this locker for the same key waits for
 * it.
 */
export class Withdrawals {
  private readonly means: WithdrawContext
  private readonly behind = new Map<string, Behind>()
  /** Withdrawals that the backend refused. Later requests do not wait for these. */
  private readonly refused = new Set<Fiber.Fiber<unknown>>()
  /** A caller waited for a release until its time limit, and no withdrawal was answered since. */
  private silent = false
  private closed = false

  constructor(means: WithdrawContext) {
    this.means = means
  }

  /**
   * Withdraws the claim of a lease after `first` has ended, and waits for the answer within a time limit, because an
   * outage may last much longer than a caller should wait. While the backend is known to be silent, releases are not
   * awaited at all, so that many releases do not each wait for the limit.
   */
  release(key: string, claim: Claim, first?: Effect.Effect<unknown>): Effect.Effect<void> {
    return Effect.suspend(() => {
      const now = this.means.time.now()
      if (first === undefined) return this.releaseAt(now, key, claim)
      return this.releaseBehind(key, claim, Effect.andThen(first, this.withdraw(claim)), now + limitOf(claim))
    })
  }

  /**
   * The same after programs of this process have ended, which is waited for at most `limit`. How long they take says nothing
   * about the backend.
   */
  releaseAfter(key: string, claim: Claim, ended: Effect.Effect<unknown>, limit: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { time } = this.means
      let sentAt = Infinity
      const withdrawal = Effect.suspend(() => {
        sentAt = time.now()
        return this.withdraw(claim)
      })
      const wasSilent = () => time.now() - sentAt >= limitOf(claim)
      return this.releaseBehind(key, claim, Effect.andThen(ended, withdrawal), time.now() + limit, wasSilent)
    })
  }

  /** Like `release`, at the present time `now`. Most releases are answered at once, so they need no fiber. */
  releaseAt(now: number, key: string, claim: Claim): Effect.Effect<void> {
    const until = now + limitOf(claim)
    if (this.silent) return this.releaseBehind(key, claim, this.withdraw(claim), until)
    const { events, time } = this.means
    return Effect.matchCauseEffect(this.send(claim), {
      onSuccess: (withdrawn) => {
        events.called("release", time.now() - now, "answered")
        this.heard(withdrawn)
        events.answered(key)
        return Effect.void
      },
      onFailure: (cause) => {
        events.called("release", time.now() - now, outcomeOf(cause))
        return this.releaseAgain(key, claim, until, cause)
      }
    })
  }

  /** Like `releaseAt` for the claims of several leases, as many of them in one call as the store can. */
  releaseAll(leases: ReadonlyArray<HeldLease>): Effect.Effect<void> {
    const { groupOf, withdrawAll } = this.means.store
    const groups = withdrawAll === undefined || this.silent
      ? leases.map((lease) => [lease])
      : Array.from(Map.groupBy(leases, ({ claim }) => groupOf?.(claim) ?? 0).values())
    return Effect.forEach(
      groups,
      (group) =>
        group.length > 1
          ? this.releaseGroup(group)
          : this.releaseAt(this.means.time.now(), group[0]!.key, group[0]!.claim),
      { concurrency: "unbounded", discard: true }
    )
  }

  private releaseGroup(leases: ReadonlyArray<HeldLease>): Effect.Effect<void> {
    const { events, store, time, timeouts } = this.means
    const claims = leases.map(({ claim }) => claim)
    const limit = Math.min(...claims.map(limitOf))
    const sentAt = time.now()
    const until = sentAt + limit
    const unanswered = Effect.succeed(claims.map(() => silent))
    const sent = timeouts.limitUnlessBounded<ReadonlyArray<LockBackendError | Withdrawn>, never>(
      Effect.suspend(() => store.withdrawAll!(claims)),
      limit,
      unanswered
    )
    return Effect.flatMap(Effect.exit(sent), (exit) => {
      const isAnswered = Exit.isSuccess(exit) && exit.value.some((answer) => typeof answer === "string")
      const outcome = isAnswered ? "answered" : Exit.isSuccess(exit) ? "failed" : outcomeOf(exit.cause)
      events.called("release", time.now() - sentAt, outcome)
      return Effect.forEach(leases, ({ claim, key }, index) => {
        const answer = Exit.isSuccess(exit) ? exit.value[index] ?? silent : exit.cause
        if (typeof answer !== "string") {
          return this.releaseAgain(key, claim, until, Cause.isCause(answer) ? answer : Cause.fail(answer))
        }
        this.heard(answer)
        events.answered(key)
        return Effect.void
      }, { concurrency: "unbounded", discard: true })
    })
  }

  /** Goes on with a release that failed. */
  private releaseAgain(key: string, claim: Claim, until: number, cause: Failed): Effect.Effect<void> {
    const error = errorOf(cause)
    if (error?.retryable === true) this.means.events.releaseUnanswered(key, error)
    return this.releaseBehind(key, claim, this.again(claim, until, cause), until)
  }

  private releaseBehind(
    key: string,
    claim: Claim,
    withdrawal: Withdrawal,
    until: number,
    wasSilent: () => boolean = () => true
  ): Effect.Effect<void> {
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
        if (!wasSilent()) return Effect.void
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
   * Withdraws a claim that was not granted to the caller, in the background. Waits for some milliseconds, which is
   * enough for a healthy backend. Returns the answer if it came in that time.
   */
  giveUp(claim: Claim, millis: number): Effect.Effect<Withdrawn | undefined> {
    return Effect.suspend(() =>
      Effect.map(
        this.end(this.start(claim, this.withdraw(claim)), millis),
        (exit) => exit !== undefined && Exit.isSuccess(exit) && isWithdrawn(exit.value) ? exit.value : undefined
      )
    )
  }

  /**
   * Waits until this locker's unfinished withdrawals of the key have ended. `undefined` if there are none. It does not wait for
   * those that begin later: in a crowd that keeps giving up, a caller that waited for all of them would never be asked for.
   */
  before(key: string): Effect.Effect<void> | undefined {
    const behind = this.behind.size === 0 ? undefined : this.behind.get(key)
    if (behind === undefined) return undefined
    return Effect.callback((resume) => {
      if (behind.fibers.size === 0) return resume(Effect.void)
      const goOn = () => resume(Effect.void)
      behind.waiting.set(goOn, behind.begun)
      return Effect.sync(() => void behind.waiting.delete(goOn))
    })
  }

  /** Waits for the background withdrawals as long as for one release, and then interrupts the rest. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.closed = true
    const fibers = Array.from(this.behind.values()).flatMap(({ fibers }) => Array.from(fibers.keys()))
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
    const behind: Behind = this.behind.get(claim.key) ?? { fibers: new Map(), waiting: new Map(), begun: 0 }
    this.behind.set(claim.key, behind)
    behind.fibers.set(fiber, ++behind.begun)
    fiber.addObserver(() => {
      behind.fibers.delete(fiber)
      const [oldest = Infinity] = behind.fibers.values()
      if (behind.fibers.size === 0) {
        this.behind.delete(claim.key)
        if (this.behind.size === 0) this.silent = false
      }
      for (const [goOn, last] of behind.waiting) {
        if (last >= oldest) break
        behind.waiting.delete(goOn)
        // Each caller continues within this callback, and its observers may throw.
        callBack(this.means.events, goOn, claim.key)
      }
    })
    return fiber
  }

  /** Waits for a fiber for the given time. `undefined` if it has not ended by then. */
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
      const { events, time } = this.means
      const sentAt = time.now()
      const hasty = sentAt + limitOf(claim)
      return Effect.matchCauseEffect(this.send(claim), {
        onSuccess: (withdrawn): Withdrawal => {
          events.called("release", time.now() - sentAt, "answered")
          this.heard(withdrawn)
          return Effect.succeed(withdrawn)
        },
        onFailure: (cause) => {
          events.called("release", time.now() - sentAt, outcomeOf(cause))
          return this.again(claim, hasty, cause)
        }
      })
    })
  }

  /**
   * Repeats a withdrawal until it is answered, or until the backend has expired the claim. At first it repeats often,
   * because most failures are short.
   */
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
      // A refusal may end before the claim expires: an operator may correct the credentials, or a bug in a store may
      // not happen again.
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
    const { events, timeouts, store, time } = this.means
    let cause = failed
    while (isPassing(cause)) {
      const millis = pause()
      if (this.closed || time.now() + millis >= until) break
      yield* time.sleep(millis)
      const sentAt = time.now()
      const answer = yield* Effect.exit(timeouts.limit(store.withdraw(claim), limitOf(claim), Effect.fail(silent)))
      events.called("release", time.now() - sentAt, Exit.isSuccess(answer) ? "answered" : outcomeOf(answer.cause))
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

/** A withdrawal that was never sent is no answer of the backend. */
const isAnswer = (ended: Failed | Withdrawn): boolean => isWithdrawn(ended) && ended !== "notSent"

const failedOf = (exit: Exit.Exit<Failed | Withdrawn>): Failed | undefined => {
  const ended = Exit.isSuccess(exit) ? exit.value : exit.cause
  return isWithdrawn(ended) ? undefined : ended
}

/** How long a silent backend may delay the end of a scope. It is short if the ttl is short. */
const limitOf = (claim: Claim): number => Timing.releaseTimeout(Duration.toMillis(claim.ttl))

const errorOf = (cause: Failed): LockBackendError | undefined => Option.getOrUndefined(Cause.findErrorOption(cause))

const isRetryable = (cause: Failed): boolean => errorOf(cause)?.retryable === true

const silent = new LockBackendError({
  operation: "release",
  retryable: true,
  cause: new Error("the backend did not answer in time")
})
