/**
 * The store for one process: tests, tools, and programs that have no second instance. It keeps time by Effect's
 * `Clock`, so that a test owns it, and does everything that a backend on a network does, expiry included.
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

/** A granted claim, in the heap by its expiry. */
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
  /** Its place as it was last told: who counts them at each withdrawal pays for a crowd by its square. */
  place: number
  /** What stood before it when it was withdrawn. */
  last: Ahead | undefined
}

/** One key: who holds it, and who waits in which order. */
interface Room {
  readonly capacity: number
  readonly held: Queue<Grant>
  readonly queue: Queue<Waiter>
  free: number
}

/**
 * Builds a store with a memory of its own.
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
  // One counter for all keys grows over releases, and is not forgotten with a key.
  let lastToken = 0n

  const expiries = new DeadlineHeap<Grant>(time, fork, yield* Log.make, () => {
    sweep()
    deliver()
  })

  const news: Array<{ readonly waiter: Waiter; readonly granted: Granted }> = []
  let delivering = false

  /**
   * Tells waiters what they were granted. A waiter that is told runs on at once, within this call, and may come back to
   * the store: so a step is over before anyone hears of it, and what is granted meanwhile is told by the outermost call,
   * one after the other, rather than one inside the other.
   */
  const deliver = (): void => {
    if (delivering) return
    delivering = true
    // It may grow meanwhile.
    for (let index = 0; index < news.length; index++) {
      const { granted, waiter } = news[index]!
      telemetry.callBack(() => Deferred.doneUnsafe(waiter.granted, Effect.succeed(granted)), waiter.claim.key)
    }
    news.length = 0
    delivering = false
  }

  /** A step of the store, whole before any waiter hears of it. */
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

  /** From the head while it fits: a small claim behind a large one waits, so that the large one is not starved. */
  const promote = (key: string, room: Room): void => {
    for (let waiter = room.queue.first; waiter !== undefined; waiter = room.queue.first) {
      if (waiter.claim.permits > room.free) return
      room.queue.remove(waiter.claim.id)
      news.push({ waiter, granted: grant(room, waiter.claim) })
    }
    if (room.held.size === 0) rooms.delete(key)
  }

  /** The timer may be late: what has run out is gone for whoever looks. */
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
    // A large claim may have been all that held up those behind it.
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
 * A store in this process's memory, alone in it: two layers share nothing.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<LockStore> = Layer.effect(LockStore, make)
