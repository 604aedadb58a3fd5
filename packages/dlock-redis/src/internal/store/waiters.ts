/** The claims that wait, and when to ask the server about them. */

import * as DeadlineHeap from "effect-dlock/DeadlineHeap"
import { LockBackendError, type LockKind } from "effect-dlock/LockError"
import type { Ahead } from "effect-dlock/LockStore"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type { Port } from "../client/port.ts"
import * as Scripts from "../protocol/index.ts"
import type { LockKeys } from "../protocol/keys.ts"
import { chunks } from "./chunks.ts"
import { aheadIn, claimsPerCall, QueueGroup, sharedClaimWeight } from "./queueGroup.ts"
import * as Timing from "./timing.ts"
import { toMillis, type TrackedClaim } from "./trackedClaim.ts"

/** What to do when a waiter asked for its state and is no longer queued. */
export interface Outcomes {
  readonly onGranted: (tracked: TrackedClaim, grant: Scripts.Token, sentAt: bigint) => void
  readonly onGone: (tracked: TrackedClaim) => void
  readonly onRevoked: (tracked: TrackedClaim) => void
}

/** Claims of one lock that ask in one call. */
interface Part {
  readonly group: QueueGroup
  readonly waiters: ReadonlyArray<TrackedClaim>
}

/** A lock to check, and the last known token of its holder. */
interface Peek {
  readonly group: QueueGroup
  readonly keys: LockKeys
  readonly token: string
}

/**
 * Tracks which claims wait for which lock, and asks the server about them in time. All locks share one timer, and many
 * of them share one call.
 */
export interface Waiters {
  /** Records the place of a claim, from the answer to a request that was sent at `sentAt`. */
  readonly notePlace: (tracked: TrackedClaim, sentAt: bigint, reply: Scripts.Queued) => void
  /** Removes a claim that had a place and no longer waits. `token` is set if the claim was granted. */
  readonly remove: (tracked: TrackedClaim, token?: bigint) => void
  /** Makes the foremost waiter of a lock ask at once, or as soon as its present question is answered. */
  readonly hurry: (keys: LockKeys) => void
  /** Makes this claim ask at once. */
  readonly hurryOne: (tracked: TrackedClaim) => void
  /** Makes every claim report at once that it still waits. */
  readonly hurryAll: () => void
  /** Makes the server go on with passing over waiters that do not listen, if one call was not enough. */
  readonly moveQueueOn: (keys: LockKeys, kind: LockKind | undefined) => void
  /** What is in front of a claim, or was when the claim stopped waiting. */
  readonly aheadOf: (tracked: TrackedClaim) => Ahead
}

export const make = Effect.fnUntraced(function*(port: Port, retryInterval: number, outcomes: Outcomes) {
  const fork = yield* FiberSet.makeRuntime<never>()
  const groups = new Map<string, QueueGroup>()
  const heap = yield* DeadlineHeap.make<QueueGroup>((now) => askDue(now))
  let probeAt = heap.now() + probePeriod

  /**
   * Checks that the inbox is still subscribed. The first question after each period does this, however short the waits
   * are.
   */
  const probe = (now: number): void => {
    if (now < probeAt) return
    probeAt = now + probePeriod
    fork(port.probe)
  }

  const groupOf = (keys: LockKeys): QueueGroup => {
    let group = groups.get(keys.lock)
    if (group === undefined) {
      group = new QueueGroup(keys, retryInterval)
      groups.set(keys.lock, group)
    }
    return group
  }

  const schedule = (group: QueueGroup): void => {
    if (group.asking > 0) return
    if (group.isEmpty) heap.remove(group)
    else heap.schedule(group, group.nextAt)
  }

  const askDue = (now: number): void => {
    const foremost: Array<Part> = []
    const others: Array<Part> = []
    const peeks: Array<Peek> = []
    for (let group = heap.peek(); group !== undefined && group.dueAt <= now; group = heap.peek()) {
      const [first, ...rest] = group.takeDue(now)
      const token = group.takePeek(now)
      if (token !== undefined) peeks.push({ group, keys: group.keys, token })
      if (first === undefined) heap.schedule(group, group.nextAt)
      else {
        heap.remove(group)
        foremost.push({ group, waiters: [first] })
        for (const waiters of chunks(rest, claimsPerCall / weightOf(first))) others.push({ group: group!, waiters })
      }
    }
    for (const parts of [...callsOf(foremost), ...callsOf(others)]) ask(parts)
    for (const node of bySlot(peeks)) for (const some of chunks(node, peeksPerCall)) peek(some)
    probe(now)
  }

  /** The groups that may share a call. On a cluster, those of one slot. */
  const bySlot = <A extends { readonly group: QueueGroup }>(all: ReadonlyArray<A>): Iterable<ReadonlyArray<A>> =>
    port.slotOf ? Map.groupBy(all, ({ group }) => group.keys.hashed).values() : [all]

  /** Fills each call with as many claims as the server accepts. */
  const callsOf = (parts: ReadonlyArray<Part>): ReadonlyArray<ReadonlyArray<Part>> => {
    const calls: Array<Array<Part>> = []
    for (const slot of bySlot(parts)) {
      let left = 0
      for (const part of slot) {
        const weight = part.waiters.length * weightOf(part.waiters[0]!)
        left -= weight
        if (left < 0) {
          calls.push([])
          left = claimsPerCall - weight
        }
        calls.at(-1)!.push(part)
      }
    }
    return calls
  }

  /** Checks that the holders are still the same. A check without an answer is also a reason to ask. */
  const peek = (locks: ReadonlyArray<Peek>): void => {
    const takeAnswer = (others: ReadonlySet<number>, sentAt: number) => {
      const now = heap.now()
      locks.forEach(({ group, token }, index) => {
        group.notePeek(token, !others.has(index + 1), sentAt, now)
        schedule(group)
      })
    }
    fork(Effect.matchEager(port.run(Scripts.peek, { locks }, undefined, peekLimit), {
      onFailure: () => takeAnswer(new Set(locks.map((_, index) => index + 1)), heap.now()),
      onSuccess: ({ sentAt, value }) => takeAnswer(new Set(value), toMillis(sentAt))
    }))
  }

  /** Reports to the server that these claims still wait, and applies its answers. */
  const ask = (parts: ReadonlyArray<Part>): void => {
    let limit = Infinity
    const locks = parts.map(({ waiters, group }) => ({
      keys: group.keys,
      kind: waiters[0]!.claim.kind,
      claims: waiters.map(({ claim, guard, ttl }) => {
        limit = Math.min(limit, Timing.refreshTimeout(ttl))
        return { id: claim.id, ttl, guard }
      })
    }))
    for (const { group } of parts) group.asking++
    fork(
      Effect.matchEager(port.run(Scripts.refresh, { inbox: port.inbox, locks }, undefined, limit), {
        onFailure: ({ cause }) => parts.forEach((part) => postpone(part, cause)),
        onSuccess: ({ sentAt, value }) => parts.forEach((part, index) => takeReply(part, sentAt, value[index]!))
      }).pipe(Effect.ensuring(Effect.sync(() => {
        for (const { group } of parts) {
          group.asking--
          schedule(group)
        }
      })))
    )
  }

  const takeReply = (part: Part, sentAt: bigint, reply: Scripts.RefreshReply[number]): void => {
    if (reply._tag === "Failed") return postpone(part, new Error(reply.message))
    part.waiters.forEach((tracked, index) => {
      if (tracked.state !== "queued") return
      const answer = reply.claims[index]!
      switch (answer._tag) {
        case "Granted":
          if (tracked.claim.kind !== "mutex") part.group.hurryNear(heap.now())
          return outcomes.onGranted(tracked, answer, sentAt)
        case "Queued":
          return notePlace(tracked, sentAt, answer)
        case "Gone":
          return outcomes.onGone(tracked)
        case "Revoked":
          return outcomes.onRevoked(tracked)
      }
    })
    if (reply.more) moveQueueOn(part.group.keys, part.waiters[0]!.claim.kind)
  }

  /** Handles a call without an answer: it is repeated soon, until the places can no longer be alive. */
  const postpone = ({ waiters, group }: Part, cause: Error): void => {
    const now = heap.now()
    for (const tracked of waiters) {
      if (tracked.state !== "queued") continue
      if (now < toMillis(tracked.confirmedAt) + tracked.ttl) {
        group.postpone(tracked, now + Timing.refreshRetryAfter(tracked.ttl))
      } else tracked.endWait(Effect.fail(new LockBackendError({ operation: "wait", retryable: true, cause })))
    }
  }

  const notePlace = (tracked: TrackedClaim, sentAt: bigint, reply: Scripts.Queued): void => {
    const at = toMillis(sentAt)
    if (!tracked.notePlace(sentAt, reply.floor)) {
      // A notification arrived before the answer to the first request.
      if (tracked.place === undefined) tracked.lastAhead ??= aheadIn(reply)
      return
    }
    const group = groupOf(tracked.keys)
    group.notePlace(tracked, at, reply)
    schedule(group)
    probe(at)
  }

  const hurryOne = (tracked: TrackedClaim): void => {
    const group = tracked.place === undefined ? undefined : groups.get(tracked.keys.lock)
    tracked.isHurried = true
    if (group === undefined) return
    group.hurryOne(tracked, heap.now())
    schedule(group)
  }

  const moveQueueOn = (keys: LockKeys, kind: LockKind | undefined): void => {
    const locks = [{ keys, kind, claims: [] }]
    fork(Effect.matchEager(port.run(Scripts.refresh, { inbox: port.inbox, locks }), {
      onFailure: () => {},
      onSuccess: ({ value: [reply] }) => {
        if (reply?._tag === "Refreshed" && reply.more) moveQueueOn(keys, kind)
      }
    }))
  }

  const calls: Waiters = {
    notePlace,
    moveQueueOn,
    remove: (tracked, token) => {
      const group = groups.get(tracked.keys.lock)
      if (group === undefined || tracked.place === undefined) return
      group.remove(tracked, heap.now(), token)
      if (group.isEmpty) groups.delete(tracked.keys.lock)
      schedule(group)
    },
    hurry: (keys) => {
      const group = groups.get(keys.lock)
      // The server knows the claim's place, and this process does not yet. So the server has to find the next waiter.
      if (group === undefined) return moveQueueOn(keys, undefined)
      group.hurry(heap.now())
      schedule(group)
    },
    hurryOne,
    hurryAll: () => {
      for (const group of groups.values()) {
        group.hurryAll(heap.now())
        schedule(group)
      }
    },
    aheadOf: (tracked) =>
      tracked.place === undefined ? tracked.lastAhead! : groups.get(tracked.keys.lock)!.aheadOf(tracked)
  }
  return calls
})

const weightOf = ({ claim }: TrackedClaim): number => claim.kind === "mutex" ? 1 : sharedClaimWeight

const peeksPerCall = 250

/** Milliseconds. `peekLimit` too. */
const probePeriod = 5_000
const peekLimit = 1_000
