import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Iterable from "effect/Iterable"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { LockAdmin, type LockState } from "../../LockAdmin.ts"
import type { Revocation, RevocationNotice } from "../../LockStore.ts"
import type { Listeners } from "./listeners.ts"
import { type Asked, type Grant, type Room, smallestCapacity } from "./room.ts"

/** What the admin needs of the memory. */
export interface Memory {
  readonly rooms: ReadonlyMap<string, Room>
  readonly now: () => number
  /** Runs one step of the memory, after the claims that have expired have ended. */
  readonly step: <A>(change: () => A) => Effect.Effect<A>
  readonly end: (grant: Grant) => void
  readonly tell: (notice: RevocationNotice) => void
  /** The callbacks that want to know when a lock changes. */
  readonly changes: Listeners
}

/** What a holder is told of its revocation. `undefined` if nobody has asked it to leave. */
export const revocationOf = ({ asked }: Grant, now: number): Revocation | undefined => {
  if (asked === undefined) return undefined
  const { by, endsAt, why } = asked
  return { by, ...(why !== undefined && { why }), grace: Duration.millis(Math.max(0, endsAt - now)) }
}

/** Whether a claim may never be extended again. */
export const isForbidden = ({ asked }: Grant, now: number): boolean => asked !== undefined && asked.endsAt <= now

export const make = ({ changes, end, now, rooms, step, tell }: Memory): LockAdmin["Service"] => {
  const holderOf = (key: string, token: bigint): Grant | undefined => {
    for (const grant of rooms.get(key)?.held ?? []) if (grant.fencingToken === token) return grant
    return undefined
  }

  return LockAdmin.of({
    inspect: ({ key }) => step(() => stateOf(key, rooms.get(key), now())),
    list: (within) =>
      Stream.suspend(() => {
        // Locks may come and go meanwhile: a map lets that happen, and visits each one that stays.
        const found = function*() {
          for (const [key, room] of rooms) if (key.startsWith(within.key)) yield stateOf(key, room, now())
        }
        return Stream.unwrap(step(() => Stream.fromIterable({ [Symbol.iterator]: found }, { chunkSize: listedAtOnce })))
      }),
    changes: ({ key }) =>
      Stream.callback<void>((queue) =>
        Effect.acquireRelease(
          Effect.sync(() => changes.add(key, () => Queue.offerUnsafe(queue, undefined))),
          (stop) => Effect.sync(stop)
        ), { bufferSize: 1, strategy: "sliding" }),
    revoke: ({ key }, { by, grace, token, why }) =>
      step(() => {
        const grant = holderOf(key, token)
        if (grant === undefined) return "notHeld"
        const asked: Asked = { by, why, endsAt: now() + grace }
        const isChanged = grant.asked === undefined || grant.asked.endsAt > asked.endsAt
        if (isChanged) grant.asked = asked
        tell({ id: grant.claim.id, revocation: revocationOf(grant, now())! })
        // Whoever repeats its request observes the lock.
        if (isChanged) changes.notify(key)
        return "asked"
      }),
    breakLock: ({ key }, token) =>
      step(() => {
        const grant = holderOf(key, token)
        if (grant !== undefined) end(grant)
        return grant !== undefined
      })
  })
}

const stateOf = (key: string, room: Room | undefined, now: number): LockState => {
  if (room === undefined) return { ...free, key }
  const { held, kind, lastToken, queue, used } = room
  return {
    key,
    kind,
    capacity: held.size > 0 ? smallestCapacity(room) : queue.first?.claim.capacity,
    holders: Array.from(Iterable.take(held, mostNamed), (grant) => ({
      holder: grant.claim.holder,
      token: grant.fencingToken,
      permits: grant.permits,
      since: grant.since,
      expiresIn: Math.max(0, grant.dueAt - now),
      isForeign: false,
      isRevoked: grant.asked !== undefined
    })),
    holderCount: held.size,
    permitsHeld: used,
    waiting: Array.from(Iterable.take(queue, mostNamed), ({ claim: { holder, permits } }) => ({ holder, permits })),
    queueLength: queue.size,
    lastToken
  }
}

const free: Omit<LockState, "key"> = {
  kind: undefined,
  capacity: undefined,
  holders: [],
  holderCount: 0,
  permitsHeld: 0,
  waiting: [],
  queueLength: 0,
  lastToken: undefined
}

/** How many holders and waiters of a lock are told apart. All are counted. */
const mostNamed = 100

const listedAtOnce = 100
