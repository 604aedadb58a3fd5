import { LockBackendError } from "effect-dlock/LockError"
import {
  type Answer,
  type Claim,
  type LockStore,
  readWriteCapacity,
  type Renewal,
  type Withdrawn
} from "effect-dlock/LockStore"
import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import type * as Clock from "effect/Clock"
import { PersistenceError } from "effect/cluster/ClusterError"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { HeldClaim, type Moment, momentOf } from "./heldClaim.ts"
import * as Timing from "./timing.ts"

/** The times of a cluster, in milliseconds. */
export interface Times {
  readonly ttl: number
  readonly guardGap: number
  /** The interval at which Sharding refreshes, which is also how long it waits for one answer. */
  readonly interval: number
}

/** The claims of this process on the keys of a cluster: asked for, renewed and withdrawn, and none forgotten. */
export class Claims {
  readonly prefix: string
  readonly times: Times
  readonly telemetry: StoreTelemetry
  private readonly store: LockStore["Service"]
  private readonly clock: Clock.Clock
  private readonly scope: Scope.Scope
  /** Claims that the backend may still have, or may still be sent, and that nobody wants, and until when that may be. */
  private readonly leftovers = new Map<Claim, number>()
  private isSweeping = false

  constructor(
    store: LockStore["Service"],
    options: {
      readonly prefix: string
      readonly times: Times
      readonly telemetry: StoreTelemetry
      readonly clock: Clock.Clock
      readonly scope: Scope.Scope
    }
  ) {
    this.store = store
    this.prefix = options.prefix
    this.times = options.times
    this.telemetry = options.telemetry
    this.clock = options.clock
    this.scope = options.scope
  }

  now(): Moment {
    return momentOf(this.clock)
  }

  /**
   * Asks for a key, and waits for nobody. `take` gets the claim in the same step as the answer comes, so that an
   * interruption finds it either there or withdrawn. Returns whether it was granted.
   */
  hold(
    key: string,
    holder: string,
    take: (held: HeldClaim) => void,
    kind: "mutex" | "semaphore" = "mutex"
  ): Effect.Effect<boolean, LockBackendError> {
    return Effect.suspend(() => {
      const claim = this.claimOf(key, holder, kind)
      const sent = this.now()
      let isAnswered = false
      const apply = (answer: Answer): Effect.Effect<boolean, LockBackendError> => {
        // A `try` that finds others leaves nothing behind. What else there is in the contract would.
        isAnswered = answer._tag === "Granted" || answer._tag === "Busy" || answer._tag === "CapacityMismatch"
        if (answer._tag === "CapacityMismatch") return Effect.fail(otherKind(claim, answer.kind))
        if (answer._tag === "Granted") take(new HeldClaim(claim, answer, sent))
        return Effect.succeed(answer._tag === "Granted")
      }
      return this.limited(this.store.request(claim, "try"), this.times.interval).pipe(
        Effect.flatMap(apply),
        Effect.onExit(() => isAnswered ? Effect.void : this.withdrawLater([claim]))
      )
    })
  }

  private claimOf(key: string, holder: string, kind: "mutex" | "semaphore"): Claim {
    return {
      id: Base64Url.encode(SecureRandom.randomBytesUnsafe(18)).slice(0, 22),
      key: `${this.prefix}${key}`,
      prefix: this.prefix,
      kind,
      permits: 1,
      // A semaphore is a list of those that are there, without a limit.
      capacity: kind === "mutex" ? 1 : readWriteCapacity,
      ttl: Duration.millis(this.times.ttl),
      guardGap: Duration.millis(this.times.guardGap),
      holder
    }
  }

  /** Renews claims in one call, and returns one answer for each. What was confirmed is noted in the claim. */
  renew(held: ReadonlyArray<HeldClaim>): Effect.Effect<ReadonlyArray<Renewal>> {
    return Effect.suspend(() => {
      const sent = this.now()
      const limit = Timing.renewalAfter(this.times.ttl)
      const unknown = (error: LockBackendError): ReadonlyArray<Renewal> => held.map(() => ({ _tag: "Unknown", error }))
      // The store should limit its own calls. One that hangs or dies would end the renewals for ever.
      return this.store.renew(held).pipe(
        Effect.timeoutOrElse({ duration: limit, orElse: () => Effect.succeed(unknown(unanswered(limit))) }),
        Effect.catchDefect((cause) =>
          Effect.succeed(unknown(new LockBackendError({ operation: "renew", retryable: true, cause })))
        ),
        Effect.map((answers) => {
          held.forEach((claim, index) => {
            const answer = answers[index]!
            if (answer._tag === "Confirmed") claim.confirm(answer.confirmedAt, sent)
          })
          return answers
        })
      )
    })
  }

  /** Withdraws claims in as few calls as the store can. It fails if one of them failed, after all were tried. */
  withdraw(
    claims: ReadonlyArray<Claim>,
    onWithdrawn: (claim: Claim) => void
  ): Effect.Effect<void, LockBackendError> {
    return Effect.suspend(() => {
      let failure: LockBackendError | undefined
      const note = (claim: Claim, outcome: Withdrawn | LockBackendError): void => {
        if (outcome instanceof LockBackendError) failure ??= outcome
        else onWithdrawn(claim)
      }
      const { groupOf, withdrawAll } = this.store
      const groups = withdrawAll === undefined
        ? claims.map((claim) => [claim])
        : Array.from(Map.groupBy(claims, (claim) => groupOf?.(claim) ?? 0).values())
      const withdrawGroup = (group: ReadonlyArray<Claim>): Effect.Effect<void> =>
        group.length === 1 || withdrawAll === undefined
          ? Effect.match(this.store.withdraw(group[0]!), {
            onFailure: (error) => note(group[0]!, error),
            onSuccess: (outcome) => note(group[0]!, outcome)
          })
          : Effect.map(withdrawAll(group), (outcomes) => group.forEach((claim, index) => note(claim, outcomes[index]!)))
      return Effect.andThen(
        Effect.forEach(groups, withdrawGroup, { concurrency: "unbounded", discard: true }),
        Effect.suspend(() => failure === undefined ? Effect.void : Effect.fail(failure))
      )
    })
  }

  /** Withdraws claims, however long it takes, while the caller goes on. The claims must not be used any more. */
  withdrawLater(claims: ReadonlyArray<Claim>): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (claims.length === 0) return Effect.void
      const { guardGap, ttl } = this.times
      // By then a claim has expired, and so has a request that was on its way for as long again.
      const until = this.now().at + 2 * (ttl + guardGap)
      for (const claim of claims) this.leftovers.set(claim, until)
      return this.withdrawLeftovers(claims).pipe(
        Effect.catch(() => this.sweep),
        Effect.forkIn(this.scope, { startImmediately: true }),
        Effect.asVoid
      )
    })
  }

  private withdrawLeftovers(claims: ReadonlyArray<Claim>): Effect.Effect<void, LockBackendError> {
    const limit = Timing.renewalAfter(this.times.ttl)
    return Effect.timeoutOrElse(this.withdraw(claims, (claim) => void this.leftovers.delete(claim)), {
      duration: limit,
      orElse: () => Effect.fail(unanswered(limit))
    })
  }

  /** Withdraws all leftovers together until none is left: a backend that is overloaded gets no call for each of them. */
  private get sweep(): Effect.Effect<void> {
    const next: Effect.Effect<void> = Effect.suspend(() => {
      const now = this.now().at
      for (const [claim, until] of this.leftovers) if (until <= now) this.leftovers.delete(claim)
      if (this.leftovers.size === 0) {
        this.isSweeping = false
        return Effect.void
      }
      return Effect.andThen(
        Effect.ignore(this.withdrawLeftovers(Array.from(this.leftovers.keys()))),
        Effect.delay(next, Timing.retryAfter(this.times.ttl))
      )
    })
    return Effect.suspend(() => {
      if (this.isSweeping) return Effect.void
      this.isSweeping = true
      return Effect.delay(next, Timing.retryAfter(this.times.ttl))
    })
  }

  /** Withdraws all that is left when the storage is closed. What cannot be withdrawn in time expires. */
  close(held: ReadonlyArray<HeldClaim>): Effect.Effect<void> {
    return Effect.suspend(() => {
      const all = [...held.map(({ claim }) => claim), ...this.leftovers.keys()]
      return all.length === 0 ? Effect.void : this.withdraw(all, () => {}).pipe(
        Effect.timeoutOption(Timing.releaseTimeout(this.times.interval)),
        Effect.interruptible,
        Effect.ignore
      )
    })
  }

  /** Limits a call that the store may not limit itself. */
  private limited<A>(call: Effect.Effect<A, LockBackendError>, millis: number): Effect.Effect<A, LockBackendError> {
    return this.store.bounded === true ? call : Effect.timeoutOrElse(call, {
      duration: millis,
      orElse: () => Effect.fail(unanswered(millis))
    })
  }

  /**
   * An operation of the storage: it ends within the limit even if the store does not let itself be interrupted, or the
   * caller is in a finalizer. Its failures are those that Sharding knows.
   */
  operation<A, E>(effect: Effect.Effect<A, E>, millis = this.times.interval): Effect.Effect<A, PersistenceError> {
    return Effect.flatMap(
      Effect.forkIn(effect, this.scope, { startImmediately: true }),
      (fiber) => {
        const interruptLater = Effect.suspend(() =>
          fiber.pollUnsafe() !== undefined
            ? Effect.void
            : Effect.asVoid(Effect.forkIn(Fiber.interrupt(fiber), this.scope, { startImmediately: true }))
        )
        return Fiber.join(fiber).pipe(
          Effect.timeoutOrElse({ duration: millis, orElse: () => Effect.fail(unanswered(millis)) }),
          Effect.ensuring(interruptLater)
        )
      }
    ).pipe(Effect.mapError((cause) => new PersistenceError({ cause })))
  }
}

/** That the store did not answer in time. */
export const unanswered = (millis: number): LockBackendError =>
  new LockBackendError({
    operation: "renew",
    retryable: true,
    cause: new Error(`The lock store did not answer within ${millis} ms`)
  })

const otherKind = (claim: Claim, kind: string): LockBackendError =>
  new LockBackendError({
    operation: "acquire",
    key: claim.key,
    retryable: false,
    cause: new Error(
      `The key ${claim.key} is in use by a lock of another kind (${kind}). Give the cluster a prefix of its own`
    )
  })
