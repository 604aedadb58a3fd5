/** The script that takes permits back from a holder. */

import type { LockKind } from "effect-dlock/LockError"
import { isExclusive, readWriteCapacity } from "effect-dlock/LockStore"
import { K, letterOf, sharedAt, sharedKeys } from "../format.ts"
import type { LockKeys } from "../keys.ts"
import { changes, clock, state } from "../prelude.ts"
import { type Asked, asked, askedReply } from "../revocation.ts"
import { Call, list, make, type Progress, type Script, unexpected, whole } from "../script.ts"

export interface ShrinkArgs {
  readonly keys: LockKeys
  readonly id: string
  readonly token: bigint
  readonly ttl: number
  readonly guard: number
  readonly kind: LockKind
  readonly capacity: number
  /** The permits that the claim has had so far, and those that it keeps. */
  readonly permits: number
  readonly kept: number
}

export interface ShrinkReply extends Progress {
  readonly outcome: "ok" | "expired" | "replaced" | Asked
}

/**
 * Leaves a holder of a semaphore or a read-write lock only some of its permits, extends it as a renewal does, and lets
 * the next waiters in. A holder that has no more than that keeps what it has. A holder that was asked to leave, and whose
 * time is over, keeps all.
 *
 * Keys: the lock's seven keys, the tombstone of the claim (unused), and the keys of shared holders. Arguments: id, token,
 * ttl, guard, the permits that it keeps, and whether the claim is exclusive (1 or 0).
 *
 * Returns { reply, more } with a reply of `renew`.
 */
export const shrink: Script<ShrinkArgs, ShrinkReply> = make({
  name: "shrink",
  lua: `
${clock}${state}${changes}
local id, token, ttl, guard, kept, exclusive = unpack(ARGV)
choose(1, ${K.holders} and ${sharedAt})
readState()
if isNewer then return newerReply() end
sweep()
local mine = findShared(id)
if not mine then
  save()
  local isFull = totals.kind == "${letterOf.readWrite}" and totals.permits >= ${readWriteCapacity}
  local isReplaced = totals.holders > 0 and (exclusive == "1" or isFull)
  return { isReplaced and "replaced" or "expired", 0 }
end
if mine.token ~= token then
  save()
  return { "replaced", 0 }
end
local reply = mine.moment and (${askedReply("mine.moment", "mine.text")}) or "ok"
if isForbidden(id) then
  save()
  return { reply, 0 }
end
shrinkShared(mine, tonumber(kept))
extend(id, tonumber(ttl), tonumber(guard))
promote({})
save()
publish({})
return withMore({ reply })
`,
  lockOf: ({ keys }) => keys,
  encode: ({ capacity, guard, id, kept, keys, kind, permits, token, ttl }) =>
    new Call(keys, [keys.tombstone(id), ...sharedKeys(keys)], [
      id,
      String(token),
      whole(ttl),
      whole(guard),
      String(kept),
      isExclusive({ capacity, kind, permits }) ? "1" : "0"
    ]),
  decode: (raw) => {
    const [outcome, more] = list(raw)
    if (outcome === "ok" || outcome === "expired" || outcome === "replaced") return { outcome, more: more === 1 }
    if (Array.isArray(outcome)) return { outcome: asked(outcome), more: more === 1 }
    throw unexpected(raw)
  }
})
