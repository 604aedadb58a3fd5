import type { LockInfo } from "effect-dlock/LockInfo"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

/** What is known of a lock, for machines. */
export const toJson = (info: LockInfo): unknown => ({
  key: info.key,
  ...(Option.isSome(info.kind) && { kind: info.kind.value }),
  ...(Option.isSome(info.capacity) && { capacity: info.capacity.value }),
  holders: info.holders.map((holder) => ({
    holder: holder.holder,
    metadata: holder.metadata,
    token: String(holder.token),
    permits: holder.permits,
    ...(Option.isSome(holder.since) && { since: DateTime.formatIso(holder.since.value) }),
    ...(Option.isSome(holder.expiresIn) && Duration.isFinite(holder.expiresIn.value) && {
      expiresInMs: Duration.toMillis(holder.expiresIn.value)
    }),
    foreign: holder.foreign,
    revoked: holder.revoked
  })),
  holderCount: info.holderCount,
  permitsHeld: info.permitsHeld,
  waiting: info.waiting,
  queueLength: info.queueLength,
  ...(Option.isSome(info.lastToken) && { lastToken: String(info.lastToken.value) })
})

/** The same for people. */
export const toText = (info: LockInfo): string => JSON.stringify(toJson(info), null, 2)
