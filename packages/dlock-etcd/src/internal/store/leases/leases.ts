/** The leases of a process. Its claims share them. */

import type * as Clock from "effect/Clock"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { type CallFailure, closedFailure } from "../../client/failure.ts"
import type { Port, Reply } from "../../client/port.ts"
import { SingleFlight } from "../../client/singleFlight.ts"
import * as Timing from "../timing.ts"

/** The result of confirming a lease. */
export interface Confirmation {
  /** The `Clock.monotonicTimeNanos` at which the confirmed keep-alive was sent. */
  readonly confirmedAt: bigint
  /** The keys that are on the lease. */
  readonly keys: ReadonlySet<string>
}

/** A lease of this process, shared by claims of the same length. */
export class Lease<Claim> {
  readonly id: string
  /** The ttl that the server granted, in milliseconds. */
  readonly ttl: number
  /** The claims on the lease, by their etcd keys. */
  readonly claims = new Map<string, Claim>()
  /** The `Clock.monotonicTimeNanos` at which the latest confirmed grant or keep-alive was sent. */
  confirmedAt: bigint
  /** The latest keep-alive had no answer. */
  isUnconfirmed = false
  /** When the latest keep-alive failed, in milliseconds. */
  failedAt = 0
  /** The lease has ended, and every key on it. */
  gone = false
  /** The pending confirmation. */
  confirming: SingleFlight<Confirmation, CallFailure> | undefined
  /** When a claim last joined or left the lease, in milliseconds. */
  lastUsedAt = 0

  constructor(id: string, ttl: number, confirmedAt: bigint) {
    this.id = id
    this.ttl = ttl
    this.confirmedAt = confirmedAt
  }
}

const claimsPerLease = 512

/**
 * The leases of a process: one for each length and at most 512 claims. A lease is kept alive while it has claims, and for at
 * least one minute after that, so that a section does not have to grant a lease. If the latest keep-alive of a lease failed, or
 * a third of its ttl has passed, the lease is confirmed before a claim is put on it.
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
  /** Called after a confirmation, because only then the time of the next one is known. */
  private readonly onConfirmed: (lease: Lease<Claim>) => void

  constructor(
    clock: Clock.Clock,
    port: Port,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
    onGone: (lease: Lease<Claim>) => void,
    onConfirmed: (lease: Lease<Claim>) => void = () => {}
  ) {
    this.clock = clock
    this.port = port
    this.fork = fork
    this.onGone = onGone
    this.onConfirmed = onConfirmed
  }

  private now(): number {
    return toMillis(this.clock.monotonicTimeNanosUnsafe())
  }

  all(): ReadonlyArray<Lease<Claim>> {
    return Array.from(this.byLength.values()).flat()
  }

  /** Puts the claim on an existing lease of that length with fewer than 512 claims, if there is one. */
  joinNow(seconds: number, keys: ReadonlyArray<string>, claim: Claim): Lease<Claim> | undefined {
    const lease = this.byLength.get(seconds)?.find((lease) => !lease.gone && lease.claims.size < claimsPerLease)
    if (lease === undefined) return undefined
    for (const key of keys) lease.claims.set(key, claim)
    claim.lease = lease
    lease.lastUsedAt = this.now()
    return lease
  }

  /** Puts the claim on a lease of that length, and grants a new lease if necessary. */
  join(seconds: number, keys: ReadonlyArray<string>, claim: Claim): Effect.Effect<Lease<Claim>, CallFailure> {
    return Effect.suspend(() => {
      const lease = this.joinNow(seconds, keys, claim)
      return lease === undefined
        ? Effect.andThen(this.grant(seconds), this.join(seconds, keys, claim))
        : Effect.succeed(lease)
    })
  }

  remove(lease: Lease<Claim>, key: string): void {
    lease.claims.delete(key)
    lease.lastUsedAt = this.now()
  }

  /** Grants a lease. Callers share the pending grant of each length. The grant continues if its first caller is interrupted. */
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
            // The revocation that was sent on closing may have arrived before the grant.
            if (this.hasClosed) return this.revoke(id)
            // The repeated request found a lease that had just ended: the callers try again.
            if (value <= 0) return Effect.sync(() => done.end(Exit.void))
            const lease = new Lease<Claim>(id, value * 1_000, sentAt)
            lease.lastUsedAt = this.now()
            const same = this.byLength.get(seconds)
            if (same === undefined) this.byLength.set(seconds, [lease])
            else same.push(lease)
            return Effect.sync(() => done.end(Exit.void))
          },
          onFailure: (failure) =>
            // The next caller grants another lease. This one is revoked, in case only the answer was lost.
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
   * Revokes all leases, which deletes the claims on them. Waits for pending grants, because a revocation may overtake its
   * grant. The callers of those grants fail at once.
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

  /** Whether two thirds of the ttl are left and the latest keep-alive was answered. */
  isFresh(lease: Lease<Claim>): boolean {
    return !lease.gone && !lease.isUnconfirmed && this.now() < toMillis(lease.confirmedAt) + Timing.freshFor(lease.ttl)
  }

  /**
   * Confirms a lease that is not fresh. Fails only if there was no answer. If the lease has ended, this succeeds and sets
   * `gone`.
   */
  ensureFresh(lease: Lease<Claim>): Effect.Effect<void, CallFailure> {
    return Effect.suspend(() => this.isFresh(lease) || lease.gone ? Effect.void : Effect.asVoid(this.confirm(lease)))
  }

  /**
   * Keeps the lease alive and reads the keys on it. A keep-alive alone does not reveal a claim that was deleted, nor one that
   * should not be there. Callers share the pending confirmation.
   */
  confirm(lease: Lease<Claim>): Effect.Effect<Confirmation, CallFailure> {
    return Effect.suspend(() => {
      if (lease.confirming !== undefined) return lease.confirming.await
      const confirming = new SingleFlight<Confirmation, CallFailure>()
      lease.confirming = confirming
      this.fork(
        this.confirmNow(lease).pipe(
          Effect.exit,
          Effect.map((exit) => {
            lease.confirming = undefined
            if (!lease.gone) this.onConfirmed(lease)
            confirming.end(exit)
          })
        )
      )
      return confirming.await
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

  /** Keeps the lease alive without reading its keys. `isPressing`: a held lock depends on the lease. */
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

  /** Records that the lease has ended. The server deleted every key on it. */
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

  /** When the lease must be confirmed, in milliseconds, unless a renewal of one of its claims does so earlier. */
  dueAt(lease: Lease<Claim>): number {
    if (lease.confirming !== undefined) return Infinity
    const confirmedAt = toMillis(lease.confirmedAt)
    return lease.isUnconfirmed
      ? lease.failedAt + Timing.leaseRetryAfter(lease.ttl)
      : confirmedAt + Timing.leaseDueAfter(lease.ttl)
  }

  /** Whether the lease has had no claim for one minute and for twice its ttl. */
  isIdle(lease: Lease<Claim>): boolean {
    return lease.claims.size === 0 && this.now() > lease.lastUsedAt + Math.max(60_000, 2 * lease.ttl)
  }

  /** Forgets a lease and revokes it. */
  retire(lease: Lease<Claim>): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.markGone(lease)
      return this.revoke(lease.id)
    })
  }
}

/** A random 63-bit id for a lease. This process chooses the id, so that a grant may be repeated. */
export const freshId = (): string => {
  const bytes = SecureRandom.randomBytesUnsafe(8)
  let id = BigInt(bytes[0]! & 0x7f)
  for (const byte of bytes.subarray(1)) id = id << 8n | BigInt(byte)
  return String(id === 0n ? 1n : id)
}

export const toMillis = (nanos: bigint): number => Number(nanos) / 1_000_000
