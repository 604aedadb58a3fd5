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
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Iterable from "effect/Iterable"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import * as Admin from "./internal/memory/admin.ts"
import { Listeners } from "./internal/memory/listeners.ts"
import { Queue } from "./internal/memory/queue.ts"
import { Grant, type Room, smallestCapacity, type Waiter } from "./internal/memory/room.ts"
import * as Runs from "./internal/memory/runs.ts"
import { DeadlineHeap } from "./internal/scheduling/deadlineHeap.ts"
import * as Time from "./internal/scheduling/time.ts"
import * as Log from "./internal/telemetry/log.ts"
import { LockAdmin } from "./LockAdmin.ts"
import {
  type Ahead,
  type Answer,
  type Claim,
  type Granted,
  type Held,
  isExclusive,
  LockStore,
  refusalOf,
  type Renewal,
  type RevocationNotice
} from "./LockStore.ts"
import * as StoreTelemetry from "./StoreTelemetry.ts"

/**
 * Makes a store whose locks no other store sees, and the `LockAdmin` of these locks.
 *
 * **When to use**
 *
 * Use to give the same store to several lockers that also inspect and revoke its locks. Otherwise use `make`, `layer` or
 * `Locker.layerMemory`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeWithAdmin = Effect.gen(function*() {
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

  const later = (key: string, tell: () => void): void => void news.push({ key, tell })

  /** Who wants to know when a lock changes, and the holders that wait for contention. */
  const changes = new Listeners(later)
  const listeners = new Listeners(later)

  /** For each client of the memory. Only the one that holds the claim finds it. */
  const notices = yield* PubSub.unbounded<RevocationNotice>()

  /** Keeps a claim for another ttl and guard gap, unless its holder was asked to leave and its grace is over. */
  const extend = (grant: Grant, { guardGap, ttl }: Claim): void => {
    const now = time.now()
    if (Admin.isForbidden(grant, now)) return
    grant.confirmedAt = clock.monotonicTimeNanosUnsafe()
    expiries.schedule(grant, now + Duration.toMillis(ttl) + Duration.toMillis(guardGap))
  }

  const confirmed = ({ claim: { ttl }, confirmedAt, fencingToken }: Grant): Granted => ({
    _tag: "Granted",
    fencingToken,
    ttl,
    confirmedAt
  })

  const roomOf = (claim: Claim): Room => {
    let room = rooms.get(claim.key)
    if (room === undefined) {
      room = {
        kind: claim.kind,
        held: new Queue(),
        queue: new Queue(),
        used: 0,
        capacities: new Map(),
        lastToken: undefined
      }
      rooms.set(claim.key, room)
    }
    return room
  }

  const grant = (room: Room, claim: Claim): Granted => {
    const inUse = otherCapacity(room, claim)
    const grant = new Grant(claim, ++lastToken, clock.currentTimeMillisUnsafe())
    room.held.add(claim.id, grant)
    room.used += claim.permits
    room.lastToken = lastToken
    count(room, claim.capacity, 1)
    extend(grant, claim)
    changes.notify(claim.key)
    return { ...confirmed(grant), ...inUse }
  }

  const count = ({ capacities }: Room, capacity: number, change: 1 | -1): void => {
    const holders = (capacities.get(capacity) ?? 0) + change
    if (holders > 0) capacities.set(capacity, holders)
    else capacities.delete(capacity)
  }

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
    changes.notify(grant.claim.key)
    promote(grant.claim.key, room, grant.claim.holder)
  }

  /**
   * Grants from the head of the queue while the first waiter fits. A small claim waits behind a large claim, so that
   * the large claim is not starved. `holder` was in their way until now.
   */
  const promote = (key: string, room: Room, holder?: string): void => {
    for (let waiter = room.queue.first; waiter !== undefined; waiter = room.queue.first) {
      if (!fits(room, waiter.claim)) return
      waiter.last = { holder: holder ?? room.held.first?.claim.holder, place: 0, waiting: room.queue.size }
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
      extend(mine, claim)
      return confirmed(mine)
    }
    let waiter = room.queue.get(claim.id)
    if (waiter === undefined) {
      const refused = refusalInQueue(claim, mode)
      if (refused !== undefined) return refused
      if (room.queue.size === 0 && fits(room, claim)) return grant(room, claim)
      waiter = { claim, granted: Deferred.makeUnsafe(), place: room.queue.size, last: undefined }
      room.queue.add(claim.id, waiter)
      listeners.notify(claim.key)
      changes.notify(claim.key)
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

  const contended = ({ claim: { id, key } }: Held): Effect.Effect<void> =>
    Effect.callback((resume) => {
      const tell = () => {
        const room = rooms.get(key)
        if (room?.held.get(id) === undefined || room.queue.size === 0) return
        stop()
        resume(Effect.void)
      }
      const stop = listeners.add(key, tell)
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
    changes.notify(claim.key)
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
    extend(mine, claim)
    if (permits < mine.permits) {
      room.used -= mine.permits - permits
      mine.permits = permits
      changes.notify(claim.key)
      promote(claim.key, room)
    }
    const revocation = Admin.revocationOf(mine, time.now())
    if (revocation === undefined) return { _tag: "Confirmed", confirmedAt: mine.confirmedAt }
    return Duration.toMillis(revocation.grace) > 0
      ? { _tag: "Confirmed", confirmedAt: mine.confirmedAt, revocation }
      : { _tag: "Revoked", revocation }
  }

  const admin = Admin.make({
    rooms,
    now: time.now,
    step: (change) =>
      step(() => {
        sweep()
        return change()
      }),
    end,
    tell: (notice) => PubSub.publishUnsafe(notices, notice),
    changes
  })

  const store = LockStore.of({
    backend: "memory",
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
    losses: Stream.fromPubSub(notices)
  })
  return Context.make(LockStore, store).pipe(Context.add(LockAdmin, admin))
})

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
export const make = Effect.map(makeWithAdmin, Context.get(LockStore))

/**
 * A store in this process's memory. Each build of the layer makes a store whose locks no other store sees. It provides the `LockAdmin` of these locks
 * too.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<LockStore | LockAdmin> = Layer.effectContext(makeWithAdmin)
