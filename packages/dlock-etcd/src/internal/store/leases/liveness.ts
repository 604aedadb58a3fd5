/** Shows that this process lives while it waits, and finds out which others are dead. */

import type * as Clock from "effect/Clock"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import type * as Fiber from "effect/Fiber"
import type { CallFailure } from "../../client/failure.ts"
import type { Port } from "../../client/port.ts"
import { SingleFlight } from "../../client/singleFlight.ts"
import type { Watches } from "../../client/watches.ts"
import { lifeKeys } from "../../protocol/keys.ts"
import * as Transactions from "../../protocol/transactions.ts"
import { type Lease, Leases, toMillis } from "./leases.ts"

/** The signs of life under one prefix: our own, and those of other processes. */
class Region {
  /** The lease of our own key. */
  lease: Lease<Region> | undefined
  /** The request that puts our own key, while it is under way. */
  showing: SingleFlight<void, CallFailure> | undefined
  /** The server has refused our key: until then no claim of ours depends on it. */
  refusedUntil = 0
  /** Other processes that live, and until when that is not asked again. */
  readonly alive = new Map<string, number>()
  /** What to call when one of them is dead. */
  readonly deathListeners = new Map<string, Set<() => void>>()
  isWatched = false
  readonly prefix: string
  readonly keys: ReturnType<typeof lifeKeys>

  constructor(prefix: string) {
    this.prefix = prefix
    this.keys = lifeKeys(prefix)
  }
}

/**
 * Shows that this process lives, and tells which others do not.
 *
 * A claim lives as long as its lease, and that may be long. So that a process that dies while it waits does not block others for
 * all that time, it has a key on a lease of seconds while claims of it wait. Where that key is missing, the process of the next
 * claim deletes those of the dead one.
 */
export class Liveness {
  /** The name of this process, for the others. */
  readonly process = Base64Url.encode(SecureRandom.randomBytesUnsafe(9))
  private readonly regions = new Map<string, Region>()
  private readonly leases: Leases<Region>
  /** The leases that are kept alive. */
  private readonly living = new WeakSet<Lease<Region>>()
  private hasClosed = false
  private readonly port: Port
  private readonly watches: Watches
  private readonly now: () => number
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private readonly hasWaiters: () => boolean

  constructor(
    clock: Clock.Clock,
    port: Port,
    watches: Watches,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
    hasWaiters: () => boolean
  ) {
    this.leases = new Leases(clock, port, fork, (lease) => {
      for (const region of lease.claims.values()) {
        region.lease = undefined
        // While the key is missing, our waiting claims are deleted by others.
        if (hasWaiters() && !this.hasClosed) fork(Effect.ignore(this.show(region.prefix)))
      }
    })
    this.port = port
    this.watches = watches
    this.now = () => toMillis(clock.monotonicTimeNanosUnsafe())
    this.fork = fork
    this.hasWaiters = hasWaiters
  }

  /** The key that a claim of ours needs to wait under this prefix; absent where the server refuses us one. */
  signOf(prefix: string): Transactions.LifeSign | undefined {
    const region = this.regionOf(prefix)
    return this.now() < region.refusedUntil ? undefined : { process: this.process, key: this.keyIn(region) }
  }

  /** The lease of our own key under this prefix. */
  lifeIn(prefix: string): object | undefined {
    return this.regionOf(prefix).lease
  }

  /** Has that lease not ended since? */
  isStill(life: object): boolean {
    return this.leases.all().some((lease) => lease === life && this.now() < toMillis(lease.confirmedAt) + lease.ttl)
  }

  private keyIn({ keys }: Region): Buffer {
    return keys.of(this.process)
  }

  /** Puts our own key. One request for all that need it meanwhile. */
  show(prefix: string): Effect.Effect<void, CallFailure> {
    return Effect.suspend(() => {
      const region = this.regionOf(prefix)
      if (region.showing !== undefined) return region.showing.await
      const showing = new SingleFlight<void, CallFailure>()
      region.showing = showing
      this.fork(Effect.map(Effect.exit(this.showNow(region)), (exit) => {
        region.showing = undefined
        showing.end(exit)
      }))
      return showing.await
    })
  }

  /** Where the key is refused, or its lease has gone, this succeeds: the caller asks again and finds it so. */
  private showNow(region: Region): Effect.Effect<void, CallFailure> {
    const key = this.keyIn(region)
    return Effect.gen({ self: this }, function*() {
      const lease = region.lease ?? (yield* this.leases.join(lifeSeconds, key.toString(), region))
      if (!this.living.has(lease)) {
        this.living.add(lease)
        this.fork(this.live(lease))
      }
      yield* Effect.catchIf(
        this.port.txn(Transactions.showLife(key, lease.id)),
        (failure) => failure.leaseGone,
        () => Effect.sync(() => void this.leases.markGone(lease))
      )
    }).pipe(Effect.catchIf(
      (failure) => failure.notDone && !failure.retryable,
      () => Effect.sync(() => void (region.refusedUntil = this.now() + refusedFor))
    ))
  }

  /** Keeps the lease alive while claims wait, and a little longer. */
  private live(lease: Lease<Region>): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      for (let neededUntil = this.now() + lingering; !lease.gone && this.now() < neededUntil;) {
        yield* Effect.sleep(Math.max(1, Math.ceil(this.leases.dueAt(lease) - this.now())))
        // No held lock depends on it: sent once, however slow the server is for a crowd.
        if (!lease.gone) yield* Effect.ignore(this.leases.keepAlive(lease, false))
        // Asked after the answer: a claim may have come meanwhile, and found the key there.
        if (this.hasWaiters()) neededUntil = this.now() + lingering
      }
      if (!lease.gone) yield* this.leases.retire(lease)
    })
  }

  /** Calls back once a process is known to be dead; returns the way to stop. */
  onDeath(prefix: string, process: string, onDead: () => void): () => void {
    const region = this.regionOf(prefix)
    const others = region.deathListeners.get(process)
    if (others === undefined) region.deathListeners.set(process, new Set([onDead]))
    else others.add(onDead)
    if (!(this.now() < (region.alive.get(process) ?? 0))) this.fork(this.find(region, process))
    return () => {
      const listeners = region.deathListeners.get(process)
      if (listeners?.delete(onDead) === true && listeners.size === 0) region.deathListeners.delete(process)
    }
  }

  private find(region: Region, process: string): Effect.Effect<void> {
    return Effect.match(this.port.txn(Transactions.find(region.keys.of(process))), {
      onFailure: ({ retryable }) => {
        if (retryable && region.deathListeners.has(process)) {
          this.fork(Effect.delay(this.find(region, process), foundAgainAfter))
        }
      },
      onSuccess: ({ value }) => {
        if (!Transactions.isThere(value)) return this.tellOfDeath(region, process)
        region.alive.set(process, this.now() + trustedFor)
        if (!region.isWatched) this.watchOver(region, BigInt(value.header.revision))
      }
    })
  }

  private watchOver(region: Region, after: bigint): void {
    region.isWatched = true
    const { end, first, processIn } = region.keys
    this.watches.add({ key: first, rangeEnd: end }, after, (gone) => {
      for (const { key } of gone) this.tellOfDeath(region, processIn(key))
    }, () => {
      region.isWatched = false
      region.alive.clear()
      for (const process of region.deathListeners.keys()) this.fork(this.find(region, process))
    })
  }

  private tellOfDeath(region: Region, process: string): void {
    region.alive.delete(process)
    const listeners = region.deathListeners.get(process)
    region.deathListeners.delete(process)
    for (const onDead of listeners ?? []) onDead()
  }

  private regionOf(prefix: string): Region {
    let region = this.regions.get(prefix)
    if (region === undefined) {
      region = new Region(prefix)
      this.regions.set(prefix, region)
    }
    return region
  }

  /** The store has closed. */
  close(): Effect.Effect<void> {
    this.hasClosed = true
    return this.leases.close()
  }
}

/** Seconds after which the waiting claims of a dead process may be deleted. */
const lifeSeconds = 5

/** Milliseconds for which a process shows that it lives after its last claim has waited: another may wait soon. */
const lingering = 30_000

/** Milliseconds. */
const foundAgainAfter = 500
const refusedFor = 60_000
const trustedFor = 10_000
