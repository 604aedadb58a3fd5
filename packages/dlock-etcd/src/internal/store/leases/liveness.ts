import type * as Clock from "effect/Clock"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import type * as Fiber from "effect/Fiber"
import type { CallFailure } from "../../client/failure.ts"
import type { Port } from "../../client/port.ts"
import { Shared } from "../../client/singleFlight.ts"
import type { Watches } from "../../client/watches.ts"
import { lives } from "../../protocol/keys.ts"
import * as Queue from "../../protocol/transactions.ts"
import { type Lease, Leases, toMillis } from "./leases.ts"

/** What this process knows and shows under one prefix. */
class Region {
  /** What our own key there is on. */
  lease: Lease<Region> | undefined
  /** The request for our own key that is under way. */
  showing: Shared<void, CallFailure> | undefined
  /** The server would not have our key: until then no claim of ours depends on it. */
  refusedUntil = 0
  /** Other processes that live, and until when that is not asked again: the watch is only a hint. */
  readonly alive = new Map<string, number>()
  /** What to do when one of them does not. */
  readonly mourners = new Map<string, Set<() => void>>()
  isWatched = false
  readonly prefix: string
  readonly names: ReturnType<typeof lives>

  constructor(prefix: string) {
    this.prefix = prefix
    this.names = lives(prefix)
  }
}

/**
 * Shows that this process lives, and tells which others do not.
 *
 * A claim lives as long as its lease, and that may be long. So that a process that dies while it waits blocks nobody for all
 * that time, it has a key on a lease of seconds for as long as claims of it wait. Where the key is missing, whoever stands
 * behind such a claim takes it out of the queue.
 */
export class Liveness {
  /** This process, to the others. */
  readonly process = Base64Url.encode(SecureRandom.randomBytesUnsafe(9))
  private readonly regions = new Map<string, Region>()
  private readonly leases: Leases<Region>
  /** Those that are kept. */
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
        // Those who wait are passed over for as long as it is not there.
        if (hasWaiters() && !this.hasClosed) fork(Effect.ignore(this.show(region.prefix)))
      }
    })
    this.port = port
    this.watches = watches
    this.now = () => toMillis(clock.monotonicTimeNanosUnsafe())
    this.fork = fork
    this.hasWaiters = hasWaiters
  }

  /** The key without which a claim of ours under this prefix is not to stand in a queue; absent where we may have none. */
  signOf(prefix: string): Queue.Sign | undefined {
    const region = this.regionOf(prefix)
    return this.now() < region.refusedUntil ? undefined : { process: this.process, key: this.keyIn(region) }
  }

  /** The lease under which claims of this prefix wait now. */
  lifeIn(prefix: string): object | undefined {
    return this.regionOf(prefix).lease
  }

  /** It has not been over since. */
  isStill(life: object): boolean {
    return this.leases.all().some((lease) => lease === life && this.now() < toMillis(lease.confirmedAt) + lease.ttl)
  }

  private keyIn({ names }: Region): Buffer {
    return names.of(this.process)
  }

  /** Has our key put there. One request for all who need it meanwhile. */
  show(prefix: string): Effect.Effect<void, CallFailure> {
    return Effect.suspend(() => {
      const region = this.regionOf(prefix)
      if (region.showing !== undefined) return region.showing.await
      const showing = new Shared<void, CallFailure>()
      region.showing = showing
      this.fork(Effect.map(Effect.exit(this.showNow(region)), (exit) => {
        region.showing = undefined
        showing.end(exit)
      }))
      return showing.await
    })
  }

  /** Where it is refused, or its lease has gone, whoever asked asks again and finds it so. */
  private showNow(region: Region): Effect.Effect<void, CallFailure> {
    const key = this.keyIn(region)
    return Effect.gen({ self: this }, function*() {
      const lease = region.lease ?? (yield* this.leases.join(lifeSeconds, key.toString(), region))
      if (!this.living.has(lease)) {
        this.living.add(lease)
        this.fork(this.live(lease))
      }
      yield* Effect.catchIf(
        this.port.txn(Queue.show(key, lease.id)),
        (failure) => failure.leaseGone,
        () => Effect.sync(() => void this.leases.lost(lease))
      )
    }).pipe(Effect.catchIf(
      (failure) => failure.notDone && !failure.retryable,
      () => Effect.sync(() => void (region.refusedUntil = this.now() + refusedFor))
    ))
  }

  /** Keeps the lease for as long as anybody waits, and a little longer. */
  private live(lease: Lease<Region>): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      for (let neededUntil = this.now() + lingering; !lease.gone && this.now() < neededUntil;) {
        yield* Effect.sleep(Math.max(1, Math.ceil(this.leases.dueAt(lease) - this.now())))
        if (!lease.gone) yield* Effect.ignore(this.leases.keep(lease))
        // Asked behind the answer: somebody may have come while that was under way, and found the key there.
        if (this.hasWaiters()) neededUntil = this.now() + lingering
      }
      if (!lease.gone) yield* this.leases.retire(lease)
    })
  }

  /** Calls back once it is known that the process does not live; returns the way to stop. */
  mourn(prefix: string, process: string, onDead: () => void): () => void {
    const region = this.regionOf(prefix)
    const others = region.mourners.get(process)
    if (others === undefined) region.mourners.set(process, new Set([onDead]))
    else others.add(onDead)
    if (!(this.now() < (region.alive.get(process) ?? 0))) this.fork(this.find(region, process))
    return () => {
      const mourners = region.mourners.get(process)
      if (mourners?.delete(onDead) === true && mourners.size === 0) region.mourners.delete(process)
    }
  }

  private find(region: Region, process: string): Effect.Effect<void> {
    return Effect.match(this.port.txn(Queue.find(region.names.of(process))), {
      onFailure: ({ retryable }) => {
        if (retryable && region.mourners.has(process)) {
          this.fork(Effect.delay(this.find(region, process), foundAgainAfter))
        }
      },
      onSuccess: ({ value }) => {
        if (!Queue.isThere(value)) return this.tellOfDeath(region, process)
        region.alive.set(process, this.now() + trustedFor)
        if (!region.isWatched) this.watchOver(region, BigInt(value.header.revision))
      }
    })
  }

  private watchOver(region: Region, after: bigint): void {
    region.isWatched = true
    const { end, first, processIn } = region.names
    this.watches.add({ key: first, rangeEnd: end }, after, (gone) => {
      for (const { name } of gone) this.tellOfDeath(region, processIn(name))
    }, () => {
      region.isWatched = false
      region.alive.clear()
      for (const process of region.mourners.keys()) this.fork(this.find(region, process))
    })
  }

  private tellOfDeath(region: Region, process: string): void {
    region.alive.delete(process)
    const mourners = region.mourners.get(process)
    region.mourners.delete(process)
    for (const onDead of mourners ?? []) onDead()
  }

  private regionOf(prefix: string): Region {
    let region = this.regions.get(prefix)
    if (region === undefined) {
      region = new Region(prefix)
      this.regions.set(prefix, region)
    }
    return region
  }

  /** Nobody waits any more. */
  close(): Effect.Effect<void> {
    this.hasClosed = true
    return this.leases.close()
  }
}

/** Seconds after which a process that died is passed over where it waits. */
const lifeSeconds = 5

/** Milliseconds for which a process goes on showing that it lives, since it may wait again soon. */
const lingering = 30_000

/** Milliseconds. */
const foundAgainAfter = 500
const refusedFor = 60_000
const trustedFor = 10_000
