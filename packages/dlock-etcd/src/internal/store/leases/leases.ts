/** The leases of a process, which its claims share. */

import type * as Clock from "effect/Clock"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { type CallFailure, closedFailure } from "../../client/failure.ts"
import type { Port, Reply } from "../../client/port.ts"
import { SingleFlight } from "../../client/singleFlight.ts"
import * as Timing from "../timing.ts"

/** What a confirmation found: since when the lease is known to live, and the keys that it carries. */
export interface Confirmation {
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
  /** The last keep-alive had no answer. */
  isUnconfirmed = false
  /** Milliseconds, when that was known. */
  failedAt = 0
  gone = false
  /** The confirmation that is under way. */
  confirming: SingleFlight<Confirmation, CallFailure> | undefined
  lastUsedAt = 0

  constructor(id: string, ttl: number, confirmedAt: bigint) {
    this.id = id
    this.ttl = ttl
    this.confirmedAt = confirmedAt
  }
}

const claimsPerLease = 512

/**
 * The leases of a process: one for each length of time and 512 claims, kept alive while claims are on it and a little longer,
 * so that a section costs no grant. A lease whose keep-alive failed, or has used up a third of its
 * time, is confirmed before it carries anything new.
 */
export class Leases<Claim extends { lease: Lease<Claim> | undefined }> {
  private readonly byLength = new Map<number, Array<Lease<Claim>>>()
  private readonly granting = new Map<
    number,
    { readonly id: string; readonly done: SingleFlight<void, CallFailure>; readonly settled: SingleFlight<void, never> }
  >()
  private hasClosed = false
  private readonly clock: Clock.Clock
  private readonly port: Port
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private readonly onGone: (lease: Lease<Claim>) => void
  /** Called after a confirmation: the lease is due again at a time that was not known while that was under way. */
  private readonly onConfirmed: (lease: Lease<Claim>) => void

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
    this.onConfirmed = onBeat
  }

  private now(): number {
    return toMillis(this.clock.monotonicTimeNanosUnsafe())
  }

  all(): ReadonlyArray<Lease<Claim>> {
    return Array.from(this.byLength.values()).flat()
  }

  /** Puts the claim on a lease of that many seconds that has room for it, if there is one. */
  joinNow(seconds: number, key: string, claim: Claim): Lease<Claim> | undefined {
    const lease = this.byLength.get(seconds)?.find((lease) => !lease.gone && lease.claims.size < claimsPerLease)
    if (lease === undefined) return undefined
    lease.claims.set(key, claim)
    claim.lease = lease
    lease.lastUsedAt = this.now()
    return lease
  }

  /** The same, with a new lease if need be. */
  join(seconds: number, key: string, claim: Claim): Effect.Effect<Lease<Claim>, CallFailure> {
    return Effect.suspend(() => {
      const lease = this.joinNow(seconds, key, claim)
      return lease === undefined
        ? Effect.andThen(this.grant(seconds), this.join(seconds, key, claim))
        : Effect.succeed(lease)
    })
  }

  remove(lease: Lease<Claim>, key: string): void {
    lease.claims.delete(key)
    lease.lastUsedAt = this.now()
  }

  /** One grant at a time of each length, for all that need it meanwhile. It goes on where the first caller is interrupted. */
  private grant(seconds: number): Effect.Effect<void, CallFailure> {
    const pending = this.granting.get(seconds)
    if (pending !== undefined) return pending.done.await
    const done = new SingleFlight<void, CallFailure>()
    const settled = new SingleFlight<void, never>()
    const id = freshId()
    this.granting.set(seconds, { id, done, settled })
    this.fork(
      this.port.grant(id, seconds).pipe(
        Effect.ensuring(Effect.sync(() => this.granting.delete(seconds))),
        Effect.matchEffect({
          onSuccess: ({ sentAt, value }) => {
            // The revocation that was sent on closing may have been faster.
            if (this.hasClosed) return this.revoke(id)
            // It had ended when a second request found it there: those who wait ask again.
            if (value <= 0) return Effect.sync(() => done.end(Exit.void))
            const lease = new Lease<Claim>(id, value * 1_000, sentAt)
            lease.lastUsedAt = this.now()
            const same = this.byLength.get(seconds)
            if (same === undefined) this.byLength.set(seconds, [lease])
            else same.push(lease)
            return Effect.sync(() => done.end(Exit.void))
          },
          onFailure: (failure) =>
            // The next caller asks again. Where only the answer was lost, the lease is revoked.
            Effect.andThen(
              Effect.sync(() => done.end(Exit.fail(failure))),
              failure.notDone || this.hasClosed ? Effect.void : this.revoke(id)
            )
        }),
        Effect.ensuring(Effect.sync(() => settled.end(Exit.void)))
      )
    )
    return done.await
  }

  private revoke(id: string): Effect.Effect<void> {
    return Effect.ignore(this.port.revoke(id))
  }

  /**
   * Revokes all leases, and with them the claims that they carry. Grants that are under way are waited for, since a revocation
   * may overtake its grant; their callers fail at once.
   */
  close(): Effect.Effect<void> {
    this.hasClosed = true
    const granting = Array.from(this.granting.values(), ({ done, id, settled }) => {
      done.end(Exit.fail(closedFailure))
      return Effect.all([this.revoke(id), settled.await], { concurrency: "unbounded", discard: true })
    })
    const all = [...this.all().map((lease) => this.retire(lease)), ...granting]
    return Effect.all(all, { concurrency: "unbounded", discard: true })
  }

  /** Has it two thirds of its time left, and was its last keep-alive answered? */
  isFresh(lease: Lease<Claim>): boolean {
    return !lease.gone && !lease.isUnconfirmed && this.now() < toMillis(lease.confirmedAt) + Timing.freshFor(lease.ttl)
  }

  /** Confirms a lease that is not fresh. Fails only where there was no answer; a lease that is gone is `gone`. */
  ensureFresh(lease: Lease<Claim>): Effect.Effect<void, CallFailure> {
    return Effect.suspend(() => this.isFresh(lease) || lease.gone ? Effect.void : Effect.asVoid(this.confirm(lease)))
  }

  /**
   * Keeps the lease alive and asks what it carries: a keep-alive alone says nothing of a claim that was deleted, nor of
   * one that should not be there. One at a time, for all that ask meanwhile.
   */
  confirm(lease: Lease<Claim>): Effect.Effect<Confirmation, CallFailure> {
    return Effect.suspend(() => {
      if (lease.confirming !== undefined) return lease.confirming.await
      const beating = new SingleFlight<Confirmation, CallFailure>()
      lease.confirming = beating
      this.fork(
        this.confirmNow(lease).pipe(
          Effect.exit,
          Effect.map((exit) => {
            lease.confirming = undefined
            if (!lease.gone) this.onConfirmed(lease)
            beating.end(exit)
          })
        )
      )
      return beating.await
    })
  }

  private confirmNow(lease: Lease<Claim>): Effect.Effect<Confirmation, CallFailure> {
    return Effect.gen({ self: this }, function*() {
      yield* this.keepAlive(lease)
      if (lease.gone) return this.markGone(lease)
      const { value } = yield* this.port.inspect(lease.id, Timing.leaseTimeout(lease.ttl))
      if (value.ttl < 0) return this.markGone(lease)
      return { confirmedAt: lease.confirmedAt, keys: new Set(value.keys) }
    })
  }

  /** Only keeps the lease alive. `isPressing`: a held lock depends on it. */
  keepAlive(lease: Lease<Claim>, isPressing = true): Effect.Effect<void, CallFailure> {
    const limit = Timing.leaseTimeout(lease.ttl)
    const call = isPressing ? this.port.keepAlive(lease.id, limit) : this.port.keepAliveOnStream(lease.id, limit)
    return Effect.matchEffect(call, {
      onFailure: (failure) => {
        lease.isUnconfirmed = true
        lease.failedAt = this.now()
        return Effect.fail(failure)
      },
      onSuccess: ({ sentAt, value }: Reply<number>) => {
        if (value <= 0) return Effect.sync(() => void this.markGone(lease))
        lease.isUnconfirmed = false
        if (sentAt > lease.confirmedAt) lease.confirmedAt = sentAt
        return Effect.void
      }
    })
  }

  /** The lease is gone, and nothing that was on it is left. */
  markGone(lease: Lease<Claim>): Confirmation {
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

  /** When the lease must be confirmed, if no renewal of a claim on it does so before. */
  dueAt(lease: Lease<Claim>): number {
    if (lease.confirming !== undefined) return Infinity
    const confirmedAt = toMillis(lease.confirmedAt)
    return lease.isUnconfirmed
      ? lease.failedAt + Timing.leaseRetryAfter(lease.ttl)
      : confirmedAt + Timing.leaseDueAfter(lease.ttl)
  }

  /** Has no claim been on it for a while? */
  isIdle(lease: Lease<Claim>): boolean {
    return lease.claims.size === 0 && this.now() > lease.lastUsedAt + Math.max(60_000, 2 * lease.ttl)
  }

  /** Gives up a lease, and revokes it. */
  retire(lease: Lease<Claim>): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.markGone(lease)
      return this.revoke(lease.id)
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
