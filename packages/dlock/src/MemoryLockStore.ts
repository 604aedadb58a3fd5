/**
 * A store in this process's memory.
 *
 * **When to use**
 *
 * Use in tests, in tools, and in programs that have only one process.
 *
 * **Details**
 *
 * It does everything that a store on a network does, expiry included. It reads Effect's `Clock`, so a test controls its
 * time with `TestClock`.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Iterable from "effect/Iterable"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { Queue } from "./internal/memoryQueue.ts"
import * as Runs from "./internal/memoryRuns.ts"
import { DeadlineHeap, type Item } from "./internal/scheduling/deadlineHeap.ts"
import * as Time from "./internal/scheduling/time.ts"
import * as Log from "./internal/telemetry/log.ts"
import type { LockKind } from "./LockError.ts"
import {
  type Ahead,
  type Answer,
  type Claim,
  type Granted,
  type Held,
  isExclusive,
  LockStore,
  refusalOf,
  type Renewal
} from "./LockStore.ts"
import * as StoreTelemetry from "./StoreTelemetry.ts"

/** A granted claim. The heap orders grants by their expiry. */
class Grant implements Item {
  index = -1
  readonly claim: Claim
  readonly fencingToken: bigint
  /** How many permits it has. A shrink may have left fewer than were granted. */
  permits: number
  dueAt: number
  constructor(claim: Claim, fencingToken: bigint, expiresAt: number) {
    this.claim = claim
    this.permits = claim.permits
    this.fencingToken = fencingToken
    this.dueAt = expiresAt
  }
}

interface Waiter {
  readonly claim: Claim
  readonly granted: Deferred.Deferred<Granted>
  /**
   * Its place, as the store last reported it. It is not updated at each withdrawal, because for a queue of n waiters
   * that would cost n² steps.
   */
  place: number
  /** The queue before it at the moment of its withdrawal. */
  last: Ahead | undefined
}

/** One key: its holders, and its waiters in their order. */
interface Room {
  readonly kind: LockKind
  readonly held: Queue<Grant>
  readonly queue: Queue<Waiter>
  /** The sum of the permits of all holders. */
  used: number
  /** How many holders know the key with each capacity. There is one capacity, except while a fleet changes it. */
  readonly capacities: Map<number, number>
}

/**
 * Makes a store whose locks no other store sees.
 *
 * **When to use**
 *
 * Use to give the same store to several lockers, or to wrap it in a `FaultyLockStore`. Otherwise use `layer` or
 * `Locker.layerMemory`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.gen(function*() {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const time = yield* Time.make
  const fork = yield* FiberSet.makeRuntime<never>()
  const telemetry = yield* StoreTelemetry.make("The lock store")
  const rooms = new Map<string, Room>()
  // One counter serves all keys. A counter for each key would have to survive the key's last release, or its tokens
  // would start again.
  let lastToken = 0n

  const expiries = new DeadlineHeap<Grant>(time, fork, yield* Log.make, () => {
    sweep()
    deliver()
  })

  const news: Array<{ readonly key: string; readonly tell: () => void }> = []
  let delivering = false

  /**
   * Resumes waiters with their grants, and holders that wait for contention. A resumed fiber runs at once, within this
   * call, and may call the store again. So a step of the store is complete before any fiber is resumed, and only the
   * outermost call resumes fibers, one after the other.
   */
  const deliver = (): void => {
    if (delivering) return
    delivering = true
    // The array may grow during the loop.
    for (let index = 0; index < news.length; index++) {
      const { key, tell } = news[index]!
      telemetry.callBack(tell, key)
    }
    news.length = 0
    delivering = false
  }

  /** Runs one step of the store, and then resumes the waiters that it granted. */
  const step = <A>(change: () => A): Effect.Effect<A> =>
    Effect.sync(() => {
      const answer = change()
      deliver()
      return answer
    })

  const expiry = (claim: Claim): number => time.now() + Duration.toMillis(claim.ttl) + Duration.toMillis(claim.guardGap)

  const confirmed = (grant: Grant): Granted => ({
    _tag: "Granted",
    fencingToken: grant.fencingToken,
    ttl: grant.claim.ttl,
    confirmedAt: clock.monotonicTimeNanosUnsafe()
  })

  const roomOf = (claim: Claim): Room => {
    let room = rooms.get(claim.key)
    if (room === undefined) {
      room = { kind: claim.kind, held: new Queue(), queue: new Queue(), used: 0, capacities: new Map() }
      rooms.set(claim.key, room)
    }
    return room
  }

  const grant = (room: Room, claim: Claim): Granted => {
    const inUse = otherCapacity(room, claim)
    const grant = new Grant(claim, ++lastToken, 0)
    room.held.add(claim.id, grant)
    room.used += claim.permits
    count(room, claim.capacity, 1)
    expiries.schedule(grant, expiry(claim))
    return { ...confirmed(grant), ...inUse }
  }

  const count = ({ capacities }: Room, capacity: number, change: 1 | -1): void => {
    const holders = (capacities.get(capacity) ?? 0) + change
    if (holders > 0) capacities.set(capacity, holders)
    else capacities.delete(capacity)
  }

  /** The smallest capacity among the holders. `Infinity` if there are none. */
  const smallestCapacity = ({ capacities }: Room): number => Math.min(...capacities.keys())

  const otherCapacity = (room: Room, { capacity }: Claim): { readonly capacityInUse?: number } => {
    const inUse = smallestCapacity(room)
    return inUse === capacity || inUse === Infinity ? {} : { capacityInUse: inUse }
  }

  const fits = (room: Room, { capacity, permits }: Claim): boolean =>
    room.used + permits <= Math.min(capacity, smallestCapacity(room))

  const end = (grant: Grant): void => {
    const room = rooms.get(grant.claim.key)!
    expiries.remove(grant)
    room.held.remove(grant.claim.id)
    room.used -= grant.permits
    count(room, grant.claim.capacity, -1)
    promote(grant.claim.key, room)
  }

  /**
   * Grants from the head of the queue while the first waiter fits. A small claim waits behind a large claim, so that
   * the large claim is not starved.
   */
  const promote = (key: string, room: Room): void => {
    for (let waiter = room.queue.first; waiter !== undefined; waiter = room.queue.first) {
      if (!fits(room, waiter.claim)) return
      room.queue.remove(waiter.claim.id)
      const granted = grant(room, waiter.claim)
      const { claim, granted: outcome } = waiter
      news.push({ key: claim.key, tell: () => Deferred.doneUnsafe(outcome, Effect.succeed(granted)) })
    }
    if (room.held.size === 0) rooms.delete(key)
  }

  /** Ends every claim that has expired. The timer may be late, so every call does this first. */
  const sweep = (): void => {
    const now = time.now()
    for (let next = expiries.peek(); next !== undefined && next.dueAt <= now; next = expiries.peek()) end(next)
  }

  const ahead = (waiter: Waiter, room: Room): Ahead => ({
    holder: room.held.first?.claim.holder,
    place: waiter.place,
    waiting: room.queue.size
  })

  const counted = (waiter: Waiter, room: Room): Ahead => {
    waiter.place = room.queue.placeOf(waiter.claim.id)
    return ahead(waiter, room)
  }

  const request = (claim: Claim, mode: "queue" | "try"): Answer => {
    sweep()
    const room = roomOf(claim)
    const mine = room.held.get(claim.id)
    if (mine !== undefined) {
      expiries.schedule(mine, expiry(claim))
      return confirmed(mine)
    }
    let waiter = room.queue.get(claim.id)
    if (waiter === undefined) {
      const refused = refusalInQueue(claim, mode)
      if (refused !== undefined) return refused
      if (room.queue.size === 0 && fits(room, claim)) return grant(room, claim)
      waiter = { claim, granted: Deferred.makeUnsafe(), place: room.queue.size, last: undefined }
      room.queue.add(claim.id, waiter)
      tellHolders(claim.key)
    } else counted(waiter, room)
    const waiting = waiter
    return {
      _tag: "Queued",
      place: waiting.place,
      ahead: () => waiting.last ?? counted(waiting, room),
      ...otherCapacity(room, claim),
      granted: Deferred.await(waiting.granted)
    }
  }

  /** By key, the callbacks of holders that wait for contention. */
  const listeners = new Map<string, Set<() => void>>()

  const tellHolders = (key: string): void => {
    for (const tell of listeners.get(key) ?? []) news.push({ key, tell })
  }

  const contended = ({ claim: { id, key } }: Held): Effect.Effect<void> =>
    Effect.callback((resume) => {
      const all = listeners.get(key) ?? new Set()
      const stop = () => {
        all.delete(tell)
        if (all.size === 0 && listeners.get(key) === all) listeners.delete(key)
      }
      const tell = () => {
        const room = rooms.get(key)
        if (room?.held.get(id) === undefined || room.queue.size === 0) return
        stop()
        resume(Effect.void)
      }
      listeners.set(key, all.add(tell))
      sweep()
      tell()
      deliver()
      return Effect.sync(stop)
    })

  const requestAll = (claims: ReadonlyArray<Claim>, mode: "queue" | "try"): ReadonlyArray<Answer> => {
    sweep()
    const isKnown = ({ id, key }: Claim): boolean => {
      const room = rooms.get(key)
      return room !== undefined && (room.held.get(id) !== undefined || room.queue.get(id) !== undefined)
    }
    const known = claims.filter(isKnown).length
    if (known > 0 && known < claims.length) {
      for (const claim of claims) withdraw(claim)
      return claims.map(() => ({ _tag: "Gone" }))
    }
    const refused = claims.map((claim) => known > 0 ? undefined : refusalInQueue(claim, mode))
    return refused.some((answer) => answer !== undefined)
      ? refused.map((answer) => answer ?? { _tag: "Gone" })
      : claims.map((claim) => request(claim, "queue"))
  }

  /** The answer to a claim that gets no place on its key. */
  const refusalInQueue = (claim: Claim, mode: "queue" | "try"): Answer | undefined => {
    const room = rooms.get(claim.key)
    if (room === undefined) return undefined
    const inUse = mismatch(room, claim)
    if (inUse !== undefined) return { _tag: "CapacityMismatch", kind: room.kind, inUse }
    if (room.queue.size === 0 && fits(room, claim)) return undefined
    for (const id of claim.inside ?? []) {
      const parent = room.held.get(id)
      if (parent !== undefined) return { _tag: "AlreadyHeld", fencingToken: parent.fencingToken }
    }
    if (mode === "try") return { _tag: "Busy" }
    return room.queue.size >= (claim.maxQueue ?? Infinity)
      ? { _tag: "Full", waiting: room.queue.size, holder: room.held.first?.claim.holder }
      : undefined
  }

  /** The capacity in use, if a claim cannot share the key with the claims on it. */
  const mismatch = (room: Room, { capacity, kind, onCapacityChange }: Claim): number | undefined => {
    const inUse = room.held.size > 0 ? smallestCapacity(room) : room.queue.first?.claim.capacity ?? capacity
    const isOther = onCapacityChange === "fail" &&
      Array.from(room.capacities.keys()).some((other) => other !== capacity)
    return room.kind !== kind || isOther ? inUse : undefined
  }

  const withdraw = (claim: Claim): "released" | "cancelled" | "notHeld" => {
    sweep()
    const room = rooms.get(claim.key)
    const mine = room?.held.get(claim.id)
    if (mine !== undefined) {
      end(mine)
      return "released"
    }
    const waiter = room?.queue.get(claim.id)
    if (room === undefined || waiter === undefined) return "notHeld"
    waiter.last = ahead(waiter, room)
    room.queue.remove(claim.id)
    // A large claim may have been the only thing that kept the claims behind it waiting.
    promote(claim.key, room)
    return "cancelled"
  }

  const renew = (claim: Claim, fencingToken: bigint, permits = Infinity): Renewal => {
    sweep()
    const room = rooms.get(claim.key)
    const mine = room?.held.get(claim.id)
    if (room === undefined || mine === undefined || mine.fencingToken !== fencingToken) {
      const other = room?.held.first
      const isReplaced = other !== undefined &&
        (isExclusive(claim) || isExclusive({ ...other.claim, permits: other.permits }))
      return { _tag: isReplaced ? "Replaced" : "Gone" }
    }
    expiries.schedule(mine, expiry(claim))
    if (permits < mine.permits) {
      room.used -= mine.permits - permits
      mine.permits = permits
      promote(claim.key, room)
    }
    return { _tag: "Confirmed", confirmedAt: clock.monotonicTimeNanosUnsafe() }
  }

  return LockStore.of({
    request: (claim, mode) => {
      const refusal = refusalOf(claim)
      return refusal === undefined ? step(() => request(claim, mode)) : Effect.fail(refusal)
    },
    requestAll: (claims, mode) => {
      const refusal = claims.map(refusalOf).find((one) => one !== undefined)
      return refusal === undefined ? step(() => requestAll(claims, mode)) : Effect.fail(refusal)
    },
    renew: (held) => step(() => held.map(({ claim, fencingToken }) => renew(claim, fencingToken))),
    withdraw: (claim) => step(() => withdraw(claim)),
    withdrawAll: (claims) => step(() => claims.map(withdraw)),
    used: ({ key }) =>
      step(() => {
        sweep()
        return rooms.get(key)?.used ?? 0
      }),
    runs: Runs.make(clock, ({ claim, fencingToken }) => {
      sweep()
      return rooms.get(claim.key)?.held.get(claim.id)?.fencingToken === fencingToken
    }),
    contended,
    waiting: ({ key }, most) =>
      step(() => {
        sweep()
        return Array.from(Iterable.take(rooms.get(key)?.queue ?? [], most), ({ claim: { holder, kind } }) => ({
          kind,
          holder
        }))
      }),
    shrink: ({ claim, fencingToken }, permits) => step(() => renew(claim, fencingToken, permits)),
    bounded: true,
    losses: Stream.empty
  })
})

/**
 * A store in this process's memory. Each build of the layer makes a store whose locks no other store sees.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<LockStore> = Layer.effect(LockStore, make)
