import type { HolderInfo, LockInfo, WaiterInfo } from "effect-dlock/LockInfo"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { shown } from "../shown.ts"
import type { Details, Hold, Lock, Pairs, Span, Wait } from "./page/protocol.ts"

/** What is remembered of a lock that was seen. */
export interface Sighting {
  readonly key: string
  readonly info: LockInfo
  /** By token. */
  readonly holds: ReadonlyMap<string, Hold>
  readonly waits: ReadonlyMap<string, Wait>
  /** Whether all holders and all waiters are told, so that one that is missing has gone. */
  readonly areAllHoldersTold: boolean
  readonly areAllWaitersTold: boolean
}

/** Looks at a lock again. */
export const look = (before: Sighting | undefined, info: LockInfo, now: number): Sighting => {
  const waits = new Map<string, Wait>()
  const namesakes = new Map<string, number>()
  for (const waiter of info.waiting) {
    // One process may wait several times, and nothing but the order tells them apart.
    const ordinal = (namesakes.get(waiter.holder) ?? 0) + 1
    namesakes.set(waiter.holder, ordinal)
    const name = `${ordinal} ${waiter.holder}`
    waits.set(name, waitOf(before?.waits.get(name), waiter, now))
  }
  return {
    key: info.key,
    info,
    holds: new Map(
      info.holders.map((holder) => {
        const token = String(holder.token)
        return [token, holdOf(before?.holds.get(token), holder, now)]
      })
    ),
    waits,
    areAllHoldersTold: info.holderCount <= info.holders.length,
    areAllWaitersTold: info.queueLength <= info.waiting.length
  }
}

const holdOf = (before: Hold | undefined, holder: HolderInfo, now: number): Hold => {
  const left = Option.map(holder.expiresIn, Duration.toMillis).pipe(
    Option.filter(Number.isFinite),
    Option.getOrUndefined
  )
  const since = Option.getOrUndefined(Option.map(holder.since, DateTime.toEpochMillis))
  const full = left === undefined ? undefined : Math.max(before?.full ?? 0, left)
  return {
    holder: name(holder.holder),
    token: String(holder.token),
    permits: holder.permits,
    // The backend's clock may be ahead of ours.
    from: before?.from ?? Math.round(Math.min(since ?? now, now)),
    isFromKnown: since !== undefined,
    ...(left !== undefined && { expiresAt: steady(before?.expiresAt, now + left) }),
    ...(full !== undefined && { full: steady(before?.full, full) }),
    isForeign: holder.foreign,
    isRevoked: holder.revoked,
    isOverdue: left !== undefined && left < full! * overdueBelow
  }
}

const waitOf = (before: Wait | undefined, waiter: WaiterInfo, now: number): Wait => ({
  holder: name(waiter.holder),
  permits: waiter.permits,
  from: before?.from ?? Math.round(now)
})

/** How a hold that is gone has ended, by what was seen of it before. */
export const endOf = (hold: Hold, now: number, isSeenThroughout: boolean): Span["end"] =>
  !isSeenThroughout
    ? "unseen"
    : hold.isRevoked
    ? "revoked"
    : hold.isOverdue && hold.expiresAt !== undefined && hold.expiresAt <= now + tolerance
    ? "lost"
    : "released"

/** What is sent of a lock. `most`: how many holders and waiters. */
export const toLock = (id: number, { holds, info, waits }: Sighting, most: number): Lock => ({
  id,
  key: shown(info.key),
  ...(Option.isSome(info.kind) && { kind: info.kind.value }),
  ...(Option.isSome(info.capacity) && { capacity: info.capacity.value }),
  holders: Array.from(holds.values()).slice(0, most),
  holderCount: info.holderCount,
  permitsHeld: info.permitsHeld,
  waiting: Array.from(waits.values()).slice(0, most),
  queueLength: info.queueLength,
  ...(Option.isSome(info.lastToken) && { lastToken: String(info.lastToken.value) })
})

export const toDetails = (id: number, sighting: Sighting): Details => ({
  ...toLock(id, sighting, Infinity),
  holderMetadata: sighting.info.holders.map(({ metadata }) => pairs(metadata)),
  waiterMetadata: sighting.info.waiting.map(({ metadata }) => pairs(metadata))
})

const pairs = (metadata: Readonly<Record<string, string>>): Pairs =>
  Object.entries(metadata).map(([key, value]) => [shown(key), shown(value)])

/** The name of a holder, which a client of another library may have made of anything. */
export const name = (holder: string): string => {
  const text = shown(holder)
  return text === "" ? "(no name)" : text.length > longestName ? `${text.slice(0, longestName)}…` : text
}

/** The value that was sent before, if the new one is the same but for what a reading takes. */
const steady = (before: number | undefined, value: number): number =>
  before !== undefined && Math.abs(before - value) < tolerance ? before : Math.round(value)

const longestName = 256

/** Renewals come each third of a ttl, so a hold that is well has two thirds of it left, and the guard gap. */
const overdueBelow = 0.5

/** Milliseconds by which two readings of one moment may differ. */
const tolerance = 250
