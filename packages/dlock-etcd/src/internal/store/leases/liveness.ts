/** Shows other processes that this process is alive while it waits, and finds out which other processes are dead. */

import type * as Clock from "effect/Clock"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import type * as Fiber from "effect/Fiber"
import type { CallFailure } from "../../client/failure.ts"
import type { Port } from "../../client/port.ts"
import { SingleFlight } from "../../client/singleFlight.ts"
import type { Watches } from "../../client/watches.ts"
import { lifeKeysIn } from "../../protocol/keys.ts"
import * as Transactions from "../../protocol/transactions.ts"
import { type Lease, Leases, toMillis } from "./leases.ts"

/** What this process knows about whether another process is alive. */
interface OtherProcess {
  /** Called when the process is dead. */
  readonly deathListeners: Set<() => void>
  /** The process counts as alive, and is not checked again, before this time in milliseconds. */
  trustedUntil: number
  /** The time in milliseconds at which the pending check reads the key of the process. `Infinity` if no check is pending. */
  soughtAt: number
  /** The latest check found the process dead. */
  wasDead: boolean
  /** Ends the watch on the key of the process. `undefined` if there is no watch. */
  stopWatching: (() => void) | undefined
}

/** The signs of life under one prefix: that of this process and those of other processes. */
class Region {
  /** The lease of this process's own key. */
  lease: Lease<Region> | undefined
  /** The pending request that puts this process's own key. */
  showing: SingleFlight<void, CallFailure> | undefined
  /** The server refused this process's key. Until this time, in milliseconds, the claims of this process wait without it. */
  refusedUntil = 0
  /** Other processes, by their names. */
  readonly others = new Map<string, OtherProcess>()
  /** The other processes that have no listener now. The one without a listener for the longest time is first. */
  readonly unwanted = new Map<string, OtherProcess>()
  readonly prefix: string
  readonly keyOf: (process: string) => Buffer

  constructor(prefix: string) {
    this.prefix = prefix
    this.keyOf = lifeKeysIn(prefix)
  }
}

/**
 * Shows that this process is alive, and reports which other processes are dead.
 *
 * A claim stays in the queue until its lease ends, which may take long. A process that dies while it waits must not block
 * others for all that time. Therefore each process with waiting claims keeps a key, its sign of life, on a lease of 5 seconds.
 * When that key is missing, the process of the next claim deletes the claims of the dead process.
 */
export class Liveness {
  /** The name of this process for other processes. */
  readonly process = Base64Url.encode(SecureRandom.randomBytesUnsafe(9))
  private readonly regions = new Map<string, Region>()
  private readonly leases: Leases<Region>
  /** The leases that a fiber keeps alive. */
  private readonly living = new WeakSet<Lease<Region>>()
  private hasClosed = false
  private readonly port: Port
  private readonly watches: Watches
  private readonly now: () => number
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private readonly hasWaiters: () => boolean

  /** `onMissed`: the sign of life was missing for a while, and others may have deleted waiting claims of this process. */
  constructor(
    clock: Clock.Clock,
    port: Port,
    watches: Watches,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
    hasWaiters: () => boolean,
    onMissed: () => void = () => {}
  ) {
    this.leases = new Leases(clock, port, fork, (lease) => {
      for (const region of lease.claims.values()) {
        region.lease = undefined
        if (!hasWaiters() || this.hasClosed) continue
        // While the key is missing, other processes delete the waiting claims of this process.
        fork(Effect.map(Effect.exit(this.show(region.prefix)), onMissed))
      }
    })
    this.port = port
    this.watches = watches
    this.now = () => toMillis(clock.monotonicTimeNanosUnsafe())
    this.fork = fork
    this.hasWaiters = hasWaiters
  }

  /** The key that a claim of this process needs to wait under this prefix. `undefined` if the server refuses the key. */
  signOf(prefix: string): Transactions.LifeSign | undefined {
    const region = this.regionOf(prefix)
    return this.now() < region.refusedUntil ? undefined : { process: this.process, key: this.keyIn(region) }
  }

  /** The lease of this process's key under this prefix. */
  lifeIn(prefix: string): object | undefined {
    return this.regionOf(prefix).lease
  }

  /** Whether that lease has not ended since. */
  isStill(life: object): boolean {
    return this.leases.all().some((lease) => lease === life && this.now() < toMillis(lease.confirmedAt) + lease.ttl)
  }

  private keyIn({ keyOf }: Region): Buffer {
    return keyOf(this.process)
  }

  /** Puts this process's key. Callers that need it at the same time share one request. */
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

  /** Succeeds also if the key is refused or its lease has ended. The caller then repeats its request and finds that out. */
  private showNow(region: Region): Effect.Effect<void, CallFailure> {
    const key = this.keyIn(region)
    return Effect.gen({ self: this }, function*() {
      const lease = region.lease ?? (yield* this.leases.join(lifeSeconds, [key.toString()], region))
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

  /** Keeps the lease alive while claims wait and for 30 seconds after. */
  private live(lease: Lease<Region>): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      for (let neededUntil = this.now() + lingering; !lease.gone && this.now() < neededUntil;) {
        yield* Effect.sleep(Math.max(1, Math.ceil(this.leases.dueAt(lease) - this.now())))
        // No held lock depends on this keep-alive, so it is sent once, even if a busy server is slow to answer.
        if (!lease.gone) yield* Effect.ignore(this.leases.keepAlive(lease, false))
        // Checked after the keep-alive: a claim that came meanwhile may have found the key and relies on it.
        if (this.hasWaiters()) neededUntil = this.now() + lingering
      }
      if (!lease.gone) yield* this.leases.retire(lease)
    })
  }

  /**
   * Calls `onDead` once the process is known to be dead. Returns a function that cancels this. The first check runs after
   * `after` milliseconds, if it is still wanted then: far from the head, the claims of that process may end without help.
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

  /** Checks whether a process is alive. */
  private seek(region: Region, process: string, other: OtherProcess, after: number): void {
    const wait = other.wasDead ? 0 : after
    const at = this.now() + wait
    if (at >= other.soughtAt) return
    other.soughtAt = at
    const find = Effect.suspend(() =>
      other.soughtAt === at && other.deathListeners.size > 0
        ? Effect.exit(this.port.txn(Transactions.find([region.keyOf(process)])))
        : Effect.succeed(undefined)
    )
    // Waits for the local queue, which changes in several steps: after the last one this check may no longer be wanted.
    const delayed = wait > 0 ? Effect.delay(find, wait) : Effect.andThen(Effect.yieldNow, find)
    this.fork(Effect.map(delayed, (exit) => {
      if (other.soughtAt === at) other.soughtAt = Infinity
      if (exit === undefined) return
      if (exit._tag === "Failure") {
        const [reason] = exit.cause.reasons
        const isLasting = reason?._tag === "Fail" && !reason.error.retryable
        if (!isLasting && other.deathListeners.size > 0) this.seek(region, process, other, soughtAgainAfter)
      } else if (Transactions.whichAreThere(exit.value.value)[0] === true) {
        other.wasDead = false
        other.trustedUntil = this.now() + trustedFor
        this.watch(region, process, other, BigInt(exit.value.value.header.revision))
      } else this.tellOfDeath(region, process, other)
    }))
  }

  /** Which of these processes are dead now; none where the server does not say. */
  findDead(prefix: string, processes: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string>> {
    const { keyOf } = this.regionOf(prefix)
    return this.port.txn(Transactions.find(processes.map(keyOf))).pipe(
      Effect.map(({ value }) => {
        const areThere = Transactions.whichAreThere(value)
        return processes.filter((_, index) => areThere[index] === false)
      }),
      Effect.orElseSucceed(() => [])
    )
  }

  private watch(region: Region, process: string, other: OtherProcess, after: bigint): void {
    if (other.stopWatching !== undefined || region.others.get(process) !== other) return
    other.stopWatching = this.watches.add(
      { key: region.keyOf(process) },
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

  /**
   * Called when a process has no listener. Up to 16 such processes stay watched: if few processes take turns, the same one will
   * soon be ahead again.
   */
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

/** How many seconds after its death the waiting claims of a process may be deleted. */
const lifeSeconds = 5

/** How many milliseconds a process keeps its key after its last claim stopped waiting, because another may wait soon. */
const lingering = 30_000

// Times in milliseconds.
const soughtAgainAfter = 500
const refusedFor = 60_000
const trustedFor = 10_000

/** How many processes without a listener are watched. */
const mostKept = 16
