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
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { Queue } from "./internal/memoryQueue.ts"
import { DeadlineHeap, type Item } from "./internal/scheduling/deadlineHeap.ts"
import * as Time from "./internal/scheduling/time.ts"
import * as Log from "./internal/telemetry/log.ts"
import { type Ahead, type Answer, type Claim, type Granted, LockStore, refusalOf, type Renewal } from "./LockStore.ts"
import * as StoreTelemetry from "./StoreTelemetry.ts"

/** A granted claim. The heap orders grants by their expiry. */
class Grant implements Item {
  index = -1
  readonly claim: Claim
  readonly fencingToken: bigint
  dueAt: number
  constructor(claim: Claim, fencingToken: bigint, expiresAt: number) {
    this.claim = claim
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
  readonly capacity: number
  readonly held: Queue<Grant>
  readonly queue: Queue<Waiter>
  free: number
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

  const news: Array<{ readonly waiter: Waiter; readonly granted: Granted }> = []
  let delivering = false

  /**
   * Resumes waiters with their grants. A resumed waiter runs at once, within this call, and may call the store again.
   * So a step of the store is complete before any waiter is resumed, and only the outermost call resumes waiters, one
   * after the other.
   */
  const deliver = (): void => {
    if (delivering) return
    delivering = true
    // The array may grow during the loop.
    for (let index = 0; index < news.length; index++) {
      const { granted, waiter } = news[index]!
      telemetry.callBack(() => Deferred.doneUnsafe(waiter.granted, Effect.succeed(granted)), waiter.claim.key)
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
      room = { capacity: claim.capacity, held: new Queue(), queue: new Queue(), free: claim.capacity }
      rooms.set(claim.key, room)
    }
    return room
  }

  const grant = (room: Room, claim: Claim): Granted => {
    const grant = new Grant(claim, ++lastToken, 0)
    room.held.add(claim.id, grant)
    room.free -= claim.permits
    expiries.schedule(grant, expiry(claim))
    return confirmed(grant)
  }

  const end = (grant: Grant): void => {
    const room = rooms.get(grant.claim.key)!
    expiries.remove(grant)
    room.held.remove(grant.claim.id)
    room.free += grant.claim.permits
    promote(grant.claim.key, room)
  }

  /**
   * Grants from the head of the queue while the first waiter fits. A small claim waits behind a large claim, so that
   * the large claim is not starved.
   */
  const promote = (key: string, room: Room): void => {
    for (let waiter = room.queue.first; waiter !== undefined; waiter = room.queue.first) {
      if (waiter.claim.permits > room.free) return
      room.queue.remove(waiter.claim.id)
      news.push({ waiter, granted: grant(room, waiter.claim) })
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
    if (room.capacity !== claim.capacity) return { _tag: "CapacityMismatch" }
    let waiter = room.queue.get(claim.id)
    if (waiter === undefined) {
      if (room.queue.size === 0 && claim.permits <= room.free) return grant(room, claim)
      for (const id of claim.inside ?? []) {
        const parent = room.held.get(id)
        if (parent !== undefined) return { _tag: "AlreadyHeld", fencingToken: parent.fencingToken }
      }
      if (mode === "try") return { _tag: "Busy" }
      waiter = { claim, granted: Deferred.makeUnsafe(), place: room.queue.size, last: undefined }
      room.queue.add(claim.id, waiter)
    } else counted(waiter, room)
    const waiting = waiter
    return {
      _tag: "Queued",
      place: waiting.place,
      ahead: () => waiting.last ?? counted(waiting, room),
      granted: Deferred.await(waiting.granted)
    }
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

  const renew = (claim: Claim, fencingToken: bigint): Renewal => {
    sweep()
    const room = rooms.get(claim.key)
    const mine = room?.held.get(claim.id)
    if (mine === undefined || mine.fencingToken !== fencingToken) {
      return { _tag: claim.capacity === 1 && room !== undefined && room.held.size > 0 ? "Replaced" : "Gone" }
    }
    expiries.schedule(mine, expiry(claim))
    return { _tag: "Confirmed", confirmedAt: clock.monotonicTimeNanosUnsafe() }
  }

  return LockStore.of({
    request: (claim, mode) => {
      const refusal = refusalOf(claim)
      return refusal === undefined ? step(() => request(claim, mode)) : Effect.fail(refusal)
    },
    renew: (held) => step(() => held.map(({ claim, fencingToken }) => renew(claim, fencingToken))),
    withdraw: (claim) => step(() => withdraw(claim)),
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
