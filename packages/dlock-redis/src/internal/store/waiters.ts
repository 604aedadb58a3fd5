import * as DeadlineHeap from "effect-dlock/DeadlineHeap"
import { LockBackendError } from "effect-dlock/LockError"
import type { Ahead } from "effect-dlock/LockStore"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type { Port } from "../client/port.ts"
import * as Scripts from "../protocol/index.ts"
import type { Names } from "../protocol/keys.ts"
import { chunks } from "./chunks.ts"
import { aheadIn, claimsPerCall, Group } from "./queueGroup.ts"
import * as Timing from "./timing.ts"
import { type Entry, toMillis } from "./trackedClaim.ts"

/** What is to be done when a waiting claim asked how it stands, and is no longer queued. */
export interface Outcomes {
  readonly onGranted: (entry: Entry, token: bigint, sentAt: bigint) => void
  readonly onGone: (entry: Entry) => void
}

/** Claims of one lock that ask in one call. */
interface Part {
  readonly group: Group
  readonly entries: ReadonlyArray<Entry>
}

/** A lock to be looked at, and the token of the holder that was heard of. */
interface Peek {
  readonly group: Group
  readonly names: Names
  readonly token: string
}

/** Who waits for what, asked about in time: all locks behind one timer, many of them in one call. */
export interface Waiting {
  /** An answer to what was sent at `sentAt` gave a claim its place. */
  readonly place: (entry: Entry, sentAt: bigint, reply: Scripts.Queued) => void
  /** A claim that had a place waits no more; it was granted, where there is a token. */
  readonly remove: (entry: Entry, token?: bigint) => void
  /** Has the foremost of a lock ask at once; one that has just asked, once it has its answer. */
  readonly hurry: (names: Names) => void
  /** Has this claim ask at once. */
  readonly hurryOne: (entry: Entry) => void
  /** Has every claim tell at once that it is still there. */
  readonly hurryAll: () => void
  /** Has the server pass over those who do not listen, where one call did not get through with it. */
  readonly moveOn: (names: Names, capacity: number | undefined) => void
  /** What stands before a claim, or stood when it ceased to wait. */
  readonly aheadOf: (entry: Entry) => Ahead
}

export const make = Effect.fnUntraced(function*(port: Port, retryInterval: number, outcomes: Outcomes) {
  const fork = yield* FiberSet.makeRuntime<never>()
  const groups = new Map<string, Group>()
  const heap = yield* DeadlineHeap.make<Group>((now) => askDue(now))
  let probeAt = heap.now() + probePeriod

  /** However short each wait is: the first one after the period looks whether the inbox still hears. */
  const probe = (now: number): void => {
    if (now < probeAt) return
    probeAt = now + probePeriod
    fork(port.probe)
  }

  const groupOf = (names: Names): Group => {
    let group = groups.get(names.lock)
    if (group === undefined) {
      group = new Group(names, retryInterval)
      groups.set(names.lock, group)
    }
    return group
  }

  const schedule = (group: Group): void => {
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
      if (token !== undefined) peeks.push({ group, names: group.names, token })
      if (first === undefined) heap.schedule(group, group.nextAt)
      else {
        heap.remove(group)
        foremost.push({ group, entries: [first] })
        for (const entries of chunks(rest, claimsPerCall)) others.push({ group: group!, entries })
      }
    }
    for (const parts of [...callsOf(foremost), ...callsOf(others)]) ask(parts)
    for (const node of bySlot(peeks)) for (const some of chunks(node, peeksPerCall)) peek(some)
    probe(now)
  }

  /** Those that may go in one call: on a cluster the ones of one slot. */
  const bySlot = <A extends { readonly group: Group }>(all: ReadonlyArray<A>): Iterable<ReadonlyArray<A>> =>
    port.slotted ? Map.groupBy(all, ({ group }) => group.names.hashed).values() : [all]

  /** As many claims a call as the server takes. */
  const callsOf = (parts: ReadonlyArray<Part>): ReadonlyArray<ReadonlyArray<Part>> => {
    const calls: Array<Array<Part>> = []
    for (const slot of bySlot(parts)) {
      let left = 0
      for (const part of slot) {
        left -= part.entries.length
        if (left < 0) {
          calls.push([])
          left = claimsPerCall - part.entries.length
        }
        calls.at(-1)!.push(part)
      }
    }
    return calls
  }

  /** Looks whether the holders are who they were. Without an answer too there is reason to ask. */
  const peek = (locks: ReadonlyArray<Peek>): void => {
    const hear = (others: ReadonlySet<number>, sentAt: number) => {
      const now = heap.now()
      locks.forEach(({ group, token }, index) => {
        group.notePeek(token, !others.has(index + 1), sentAt, now)
        schedule(group)
      })
    }
    fork(Effect.matchEager(port.run(Scripts.peek, { locks }, undefined, peekLimit), {
      onFailure: () => hear(new Set(locks.map((_, index) => index + 1)), heap.now()),
      onSuccess: ({ sentAt, value }) => hear(new Set(value), toMillis(sentAt))
    }))
  }

  /** Tells the server that these claims still wait, and takes in how they stand. */
  const ask = (parts: ReadonlyArray<Part>): void => {
    let limit = Infinity
    const locks = parts.map(({ entries, group }) => ({
      names: group.names,
      capacity: entries[0]!.claim.capacity,
      claims: entries.map(({ claim, guard, ttl }) => {
        limit = Math.min(limit, Timing.refreshTimeout(ttl))
        return { id: claim.id, ttl, guard }
      })
    }))
    for (const { group } of parts) group.asking++
    fork(
      Effect.matchEager(port.run(Scripts.refresh, { inbox: port.inbox, locks }, undefined, limit), {
        onFailure: ({ cause }) => parts.forEach((part) => postpone(part, cause)),
        onSuccess: ({ sentAt, value }) => parts.forEach((part, index) => hear(part, sentAt, value[index]!))
      }).pipe(Effect.ensuring(Effect.sync(() => {
        for (const { group } of parts) {
          group.asking--
          schedule(group)
        }
      })))
    )
  }

  const hear = (part: Part, sentAt: bigint, reply: Scripts.RefreshReply[number]): void => {
    if (reply._tag === "Failed") return postpone(part, new Error(reply.message))
    part.entries.forEach((entry, index) => {
      if (entry.state !== "queued") return
      const answer = reply.claims[index]!
      switch (answer._tag) {
        case "Granted":
          return outcomes.onGranted(entry, answer.token, sentAt)
        case "Queued":
          return place(entry, sentAt, answer)
        case "Gone":
          return outcomes.onGone(entry)
      }
    })
    if (reply.more) moveOn(part.group.names, part.entries[0]!.claim.capacity)
  }

  /** No answer: again soon, until the places can no longer be alive. */
  const postpone = ({ entries, group }: Part, cause: Error): void => {
    const now = heap.now()
    for (const entry of entries) {
      if (entry.state !== "queued") continue
      if (now < toMillis(entry.confirmedAt) + entry.ttl) {
        group.postpone(entry, now + Timing.refreshRetryAfter(entry.ttl))
      } else entry.end(Effect.fail(new LockBackendError({ operation: "wait", retryable: true, cause })))
    }
  }

  const place = (entry: Entry, sentAt: bigint, reply: Scripts.Queued): void => {
    const at = toMillis(sentAt)
    if (!entry.queue(sentAt, reply.floor)) {
      // A push was faster than its first answer.
      if (entry.place === undefined) entry.last ??= aheadIn(reply)
      return
    }
    const group = groupOf(entry.names)
    group.place(entry, at, reply)
    if (entry.isHurried) hurryOne(entry)
    schedule(group)
    probe(at)
  }

  const hurryOne = (entry: Entry): void => {
    const group = entry.place === undefined ? undefined : groups.get(entry.names.lock)
    entry.isHurried = group === undefined
    if (group === undefined) return
    group.hurry(heap.now())
    group.postpone(entry, heap.now())
    schedule(group)
  }

  const moveOn = (names: Names, capacity: number | undefined): void => {
    const locks = [{ names, capacity, claims: [] }]
    fork(Effect.matchEager(port.run(Scripts.refresh, { inbox: port.inbox, locks }), {
      onFailure: () => {},
      onSuccess: ({ value: [reply] }) => {
        if (reply?._tag === "Refreshed" && reply.more) moveOn(names, capacity)
      }
    }))
  }

  const waiting: Waiting = {
    place,
    moveOn,
    remove: (entry, token) => {
      const group = groups.get(entry.names.lock)
      if (group === undefined || entry.place === undefined) return
      group.remove(entry, heap.now(), token)
      if (group.isEmpty) groups.delete(entry.names.lock)
      schedule(group)
    },
    hurry: (names) => {
      const group = groups.get(names.lock)
      // Its place is known there and not yet here: then the server is to see who is next.
      if (group === undefined) return moveOn(names, undefined)
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
    aheadOf: (entry) => entry.place === undefined ? entry.last! : groups.get(entry.names.lock)!.aheadOf(entry)
  }
  return waiting
})

const peeksPerCall = 250

/** Milliseconds, like the next. */
const probePeriod = 5_000
const peekLimit = 1_000
