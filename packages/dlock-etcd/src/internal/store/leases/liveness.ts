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

/** Another process, as far as we go by whether it lives. */
interface OtherProcess {
  /** What to call when it is dead. */
  readonly deathListeners: Set<() => void>
  /** Milliseconds: it is known to live, and is not asked for again before this. */
  trustedUntil: number
  /** Milliseconds: when its key is, or was, looked for; `Infinity` where no look is under way. */
  soughtAt: number
  /** It was dead when last looked for. */
  wasDead: boolean
  /** Ends the watch on its key; absent where there is none. */
  stopWatching: (() => void) | undefined
}

/** The signs of life under one prefix: our own, and those of other processes. */
class Region {
  /** The lease of our own key. */
  lease: Lease<Region> | undefined
  /** The request that puts our own key, while it is under way. */
  showing: SingleFlight<void, CallFailure> | undefined
  /** The server has refused our key: until then no claim of ours depends on it. */
  refusedUntil = 0
  /** Other processes, by their names. */
  readonly others = new Map<string, OtherProcess>()
  /** Those of them of which nobody wants to hear for now, the longest first. */
  readonly unwanted = new Map<string, OtherProcess>()
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

  /**
   * Calls back once a process is known to be dead; returns the way to stop. The first look is after so many milliseconds, if that
   * is wanted then: of a claim that is far from its turn, those before it may have gone by themselves.
   */
  onDeath(prefix: string, process: string, onDead: () => void, after: number): () => void {
    const region = this.regionOf(prefix)
    let other = region.others.get(process)
    if (other === undefined) {
      other = {
        deathListeners: new Set(),
        trustedUntil: 0,
        soughtAt: Infinity,
        wasDead: false,
        stopWatching: undefined
      }
      region.others.set(process, other)
    }
    const { deathListeners } = other
    deathListeners.add(onDead)
    region.unwanted.delete(process)
    if (this.now() >= other.trustedUntil) this.seek(region, process, other, after)
    return () => {
      if (deathListeners.delete(onDead) && deathListeners.size === 0) this.keepSome(region, process, other)
    }
  }

  /** Looks whether a process lives. */
  private seek(region: Region, process: string, other: OtherProcess, after: number): void {
    const wait = other.wasDead ? 0 : after
    const at = this.now() + wait
    if (at >= other.soughtAt) return
    other.soughtAt = at
    const find = Effect.suspend(() =>
      other.soughtAt === at && other.deathListeners.size > 0
        ? Effect.exit(this.port.txn(Transactions.find(region.keys.of(process))))
        : Effect.succeed(undefined)
    )
    // What the queue knows changes in several steps: a claim may be behind another one at the end of them.
    const delayed = wait > 0 ? Effect.delay(find, wait) : Effect.andThen(Effect.yieldNow, find)
    this.fork(Effect.map(delayed, (exit) => {
      if (other.soughtAt === at) other.soughtAt = Infinity
      if (exit === undefined) return
      if (exit._tag === "Failure") {
        const [reason] = exit.cause.reasons
        const isLasting = reason?._tag === "Fail" && !reason.error.retryable
        if (!isLasting && other.deathListeners.size > 0) this.seek(region, process, other, soughtAgainAfter)
      } else if (Transactions.isThere(exit.value.value)) {
        other.wasDead = false
        other.trustedUntil = this.now() + trustedFor
        this.watch(region, process, other, BigInt(exit.value.value.header.revision))
      } else this.tellOfDeath(region, process, other)
    }))
  }

  private watch(region: Region, process: string, other: OtherProcess, after: bigint): void {
    if (other.stopWatching !== undefined || region.others.get(process) !== other) return
    other.stopWatching = this.watches.add(
      { key: region.keys.of(process) },
      after,
      () => this.tellOfDeath(region, process, other),
      () => {
        other.stopWatching = undefined
        other.trustedUntil = 0
        if (other.deathListeners.size > 0) this.seek(region, process, other, soughtAgainAfter)
      }
    )
  }

  private tellOfDeath(region: Region, process: string, other: OtherProcess): void {
    other.wasDead = true
    other.trustedUntil = 0
    other.stopWatching?.()
    other.stopWatching = undefined
    const told = Array.from(other.deathListeners)
    other.deathListeners.clear()
    for (const onDead of told) onDead()
    if (other.deathListeners.size === 0) this.keepSome(region, process, other)
  }

  /** Nobody wants to hear of a process for now. Where few take turns, the same one will be before us again: some are kept. */
  private keepSome({ others, unwanted }: Region, process: string, other: OtherProcess): void {
    if (others.get(process) !== other) return
    unwanted.set(process, other)
    for (const [name, { stopWatching }] of unwanted) {
      if (unwanted.size <= mostKept) return
      stopWatching?.()
      unwanted.delete(name)
      others.delete(name)
    }
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
const soughtAgainAfter = 500
const refusedFor = 60_000
const trustedFor = 10_000

/** How many processes are watched although nobody waits behind them. */
const mostKept = 16
