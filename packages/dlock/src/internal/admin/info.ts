import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type { HolderState, LockState, WaiterState } from "../../LockAdmin.ts"
import type { HolderInfo, LockInfo, WaiterInfo } from "../../LockInfo.ts"
import * as Owner from "../options/owner.ts"

/** What a caller is told of a lock, from what the store knows of it. */
export const infoOf = (state: LockState, prefix: string): LockInfo => ({
  key: state.key.slice(prefix.length),
  kind: Option.fromUndefinedOr(state.kind),
  capacity: Option.fromUndefinedOr(state.capacity),
  holders: state.holders.map(holderOf),
  holderCount: state.holderCount,
  permitsHeld: state.permitsHeld,
  waiting: state.waiting.map((waiter) => waiterOf(waiter, prefix)),
  queueLength: state.queueLength,
  lastToken: Option.fromUndefinedOr(state.lastToken)
})

const holderOf = ({ expiresIn, holder, isForeign, isRevoked, permits, since, token }: HolderState): HolderInfo => ({
  // What a client of another library wrote is no name of ours.
  ...(isForeign ? { holder, metadata: {} } : ownerOf(holder)),
  token,
  permits,
  since: Option.flatMap(Option.fromUndefinedOr(since), (millis) => DateTime.make(millis)),
  expiresIn: Option.map(
    Option.fromUndefinedOr(expiresIn),
    (millis) => millis === Infinity ? Duration.infinity : Duration.millis(millis)
  ),
  foreign: isForeign,
  revoked: isRevoked
})

const waiterOf = ({ holder, permits }: WaiterState, prefix: string): WaiterInfo => ({
  ...ownerOf(holder),
  permits,
  // Of a lock under another prefix this locker can tell nothing.
  holds: Owner.decode(holder).holds.flatMap((name) => name.startsWith(prefix) ? [name.slice(prefix.length)] : [])
})

const ownerOf = (holder: string) => {
  const { metadata, name } = Owner.decode(holder)
  return { holder: name, metadata: metadata ?? {} }
}
