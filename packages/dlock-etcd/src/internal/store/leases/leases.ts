import type * as Clock from "effect/Clock"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { type CallFailure, closedFailure } from "../../client/failure.ts"
import type { Port, Reply } from "../../client/port.ts"
import { Shared } from "../../client/singleFlight.ts"
import * as Timing from "../timing.ts"

/** What a beat found: since when the lease is known to live, and the keys that it carries. */
export interface Beat {
  readonly confirmedAt: bigint
  readonly keys: ReadonlySet<string>
}

/** A lease of this process, shared by its claims of one length. */
export class Lease<Claim> {
  readonly id: string
  /** Milliseconds, as the server granted them. */
  readonly ttl: number
  readonly claims = new Map<string, Claim>()
  /** When the last grant or keep-alive was sent that the server confirmed. */
  confirmedAt: bigint
  /** The last keep-alive brought no answer. */
  doubtful = false
  /** Milliseconds, when that was known. */
  failedAt = 0
  gone = false
  /** The beat that is under way. */
  beating: Shared<Beat, CallFailure> | undefined
  lastUsedAt = 0

  constructor(id: string, ttl: number, confirmedAt: bigint) {
    this.id = id
    this.ttl = ttl
    this.confirmedAt = confirmedAt
  }
}

const claimsPerLease = 512

/**
 * The leases of a process: one for each length of time and 512 claims, kept alive for as long as somebody is on it and
 * a little longer, so that a section costs no grant. A lease whose keep-alive failed, or has used up a third of its
 * time, is confirmed before it carries anything new.
 */
export class Leases<Claim extends { lease: Lease<Claim> | undefined }> {
  private readonly byLength = new Map<number, Array<Lease<Claim>>>()
  private readonly granting = new Map<
    number,
    { readonly id: string; readonly done: Shared<void, CallFailure>; readonly settled: Shared<void, never> }
  >()
  private hasClosed = false
  private readonly clock: Clock.Clock
  private readonly port: Port
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private readonly onGone: (lease: Lease<Claim>) => void
  /** A beat is over: it is due again at another time, which was not known while it was under way. */
  private readonly onBeat: (lease: Lease<Claim>) => void

  constructor(
    clock: Clock.Clock,
    port: Port,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
    onGone: (lease: Lease<Claim>) => void,
    onBeat: (lease: Lease<Claim>) => void = () => {}
  ) {
    this.clock = clock
    this.port = port
    this.fork = fork
    this.onGone = onGone
    this.onBeat = onBeat
  }

  private now(): number {
    return toMillis(this.clock.monotonicTimeNanosUnsafe())
  }

  all(): ReadonlyArray<Lease<Claim>> {
    return Array.from(this.byLength.values()).flat()
  }

  /** A lease of at least `seconds` that has room, with the claim on it, and it on the claim; if there is one. */
  joinNow(seconds: number, key: string, claim: Claim): Lease<Claim> | undefined {
    const lease = this.byLength.get(seconds)?.find((lease) => !lease.gone && lease.claims.size < claimsPerLease)
    if (lease === undefined) return undefined
    lease.claims.set(key, claim)
    claim.lease = lease
    lease.lastUsedAt = this.now()
    return lease
  }

  /** The same, granted if need be. */
  join(seconds: number, key: string, claim: Claim): Effect.Effect<Lease<Claim>, CallFailure> {
    return Effect.suspend(() => {
      const lease = this.joinNow(seconds, key, claim)
      return lease === undefined
        ? Effect.andThen(this.grant(seconds), this.join(seconds, key, claim))
        : Effect.succeed(lease)
    })
  }

  leave(lease: Lease<Claim>, key: string): void {
    lease.claims.delete(key)
    lease.lastUsedAt = this.now()
  }

  /** One grant at a time of each length: whoever comes meanwhile waits for it. It outlives whoever asked first. */
  private grant(seconds: number): Effect.Effect<void, CallFailure> {
    const pending = this.granting.get(seconds)
    if (pending !== undefined) return pending.done.await
    const done = new Shared<void, CallFailure>()
    const settled = new Shared<void, never>()
    const id = freshId()
    this.granting.set(seconds, { id, done, settled })
    this.fork(
      this.port.grant(id, seconds).pipe(
        Effect.ensuring(Effect.sync(() => this.granting.delete(seconds))),
        Effect.matchEffect({
          onSuccess: ({ sentAt, value }) => {
            // The revocation that was sent on closing may have been faster.
            if (this.hasClosed) return this.drop(id)
            // Over by the time at which a second request found it there: whoever waits for one asks anew.
            if (value <= 0) return Effect.sync(() => done.end(Exit.void))
            const lease = new Lease<Claim>(id, value * 1_000, sentAt)
            lease.lastUsedAt = this.now()
            const same = this.byLength.get(seconds)
            if (same === undefined) this.byLength.set(seconds, [lease])
            else same.push(lease)
            return Effect.sync(() => done.end(Exit.void))
          },
          onFailure: (failure) =>
            // Whoever asks from now on asks anew. Its answer may have been lost on the way: then it goes.
            Effect.andThen(
              Effect.sync(() => done.end(Exit.fail(failure))),
              failure.notDone || this.hasClosed ? Effect.void : this.drop(id)
            )
        }),
        Effect.ensuring(Effect.sync(() => settled.end(Exit.void)))
      )
    )
    return done.await
  }

  private drop(id: string): Effect.Effect<void> {
    return Effect.ignore(this.port.revoke(id))
  }

  /**
   * Revokes them all: what they carry goes at once and for all waiting. Those that are on their way now are waited for, since
   * a revocation may overtake its grant; nobody else waits for them any more.
   */
  close(): Effect.Effect<void> {
    this.hasClosed = true
    const granting = Array.from(this.granting.values(), ({ done, id, settled }) => {
      done.end(Exit.fail(closedFailure))
      return Effect.all([this.drop(id), settled.await], { concurrency: "unbounded", discard: true })
    })
    const all = [...this.all().map((lease) => this.retire(lease)), ...granting]
    return Effect.all(all, { concurrency: "unbounded", discard: true })
  }

  /** Two thirds of its time left, and no doubt about it? */
  isFresh(lease: Lease<Claim>): boolean {
    return !lease.gone && !lease.doubtful && this.now() < toMillis(lease.confirmedAt) + Timing.freshFor(lease.ttl)
  }

  /** Fails only where nothing was heard; a lease that is gone is `gone`. */
  freshen(lease: Lease<Claim>): Effect.Effect<void, CallFailure> {
    return Effect.suspend(() => this.isFresh(lease) || lease.gone ? Effect.void : Effect.asVoid(this.beat(lease)))
  }

  /**
   * Keeps the lease alive and asks what it carries: a keep-alive alone says nothing of a claim that was deleted, nor of
   * one that should not be there. One at a time; whoever comes meanwhile hears the same.
   */
  beat(lease: Lease<Claim>): Effect.Effect<Beat, CallFailure> {
    return Effect.suspend(() => {
      if (lease.beating !== undefined) return lease.beating.await
      const beating = new Shared<Beat, CallFailure>()
      lease.beating = beating
      this.fork(
        this.confirm(lease).pipe(
          Effect.exit,
          Effect.map((exit) => {
            lease.beating = undefined
            if (!lease.gone) this.onBeat(lease)
            beating.end(exit)
          })
        )
      )
      return beating.await
    })
  }

  private confirm(lease: Lease<Claim>): Effect.Effect<Beat, CallFailure> {
    return Effect.gen({ self: this }, function*() {
      yield* this.keep(lease)
      if (lease.gone) return this.lost(lease)
      const { value } = yield* this.port.inspect(lease.id, Timing.leaseTimeout(lease.ttl))
      if (value.ttl < 0) return this.lost(lease)
      return { confirmedAt: lease.confirmedAt, keys: new Set(value.keys) }
    })
  }

  /** Keeps the lease alive, and asks nothing. */
  keep(lease: Lease<Claim>): Effect.Effect<void, CallFailure> {
    return Effect.matchEffect(this.port.keepAlive(lease.id, Timing.leaseTimeout(lease.ttl)), {
      onFailure: (failure) => {
        lease.doubtful = true
        lease.failedAt = this.now()
        return Effect.fail(failure)
      },
      onSuccess: ({ sentAt, value }: Reply<number>) => {
        if (value <= 0) return Effect.sync(() => void this.lost(lease))
        lease.doubtful = false
        if (sentAt > lease.confirmedAt) lease.confirmedAt = sentAt
        return Effect.void
      }
    })
  }

  /** Nothing that was on it is left. */
  lost(lease: Lease<Claim>): Beat {
    if (!lease.gone) {
      lease.gone = true
      for (const leases of this.byLength.values()) {
        const index = leases.indexOf(lease)
        if (index !== -1) leases.splice(index, 1)
      }
      this.onGone(lease)
    }
    return { confirmedAt: lease.confirmedAt, keys: new Set() }
  }

  /** When the lease must be looked after if no renewal of a claim on it does so before. */
  dueAt(lease: Lease<Claim>): number {
    if (lease.beating !== undefined) return Infinity
    const confirmedAt = toMillis(lease.confirmedAt)
    return lease.doubtful
      ? lease.failedAt + Timing.leaseRetryAfter(lease.ttl)
      : confirmedAt + Timing.leaseDueAfter(lease.ttl)
  }

  /** Nobody has been on it for a while: it goes. */
  isIdle(lease: Lease<Claim>): boolean {
    return lease.claims.size === 0 && this.now() > lease.lastUsedAt + Math.max(60_000, 2 * lease.ttl)
  }

  retire(lease: Lease<Claim>): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.lost(lease)
      return this.drop(lease.id)
    })
  }
}

/** A 63-bit number of our choosing, so that a grant may be asked for twice. */
export const freshId = (): string => {
  const bytes = SecureRandom.randomBytesUnsafe(8)
  let id = BigInt(bytes[0]! & 0x7f)
  for (const byte of bytes.subarray(1)) id = id << 8n | BigInt(byte)
  return String(id === 0n ? 1n : id)
}

export const toMillis = (nanos: bigint): number => Number(nanos) / 1_000_000
