/** What the scripts that end claims have in common. */

import { type Holder, holderOf, list, type Progress, unexpected } from "./script.ts"

export type ReleaseReply =
  | Progress & { readonly _tag: "Released" }
  | Progress & {
    /** `Cancelled`: the claim was queued, or a tombstone was set. `NotHeld`: the server knew nothing of the claim. */
    readonly _tag: "Cancelled" | "NotHeld"
    /** The number of claims that still wait. */
    readonly length: number
    readonly holder: Holder | undefined
  }

/**
 * `leave` ends a claim of the lock that was read. It returns whether the claim was held, and whether it waited.
 *
 * `leaveReply` is the reply for that claim, without what `withMore` adds. Build it after the queue was moved on.
 */
export const leaving = `
local function leave(id)
  if holder and holder.id == id then
    redis.call("DEL", lock)
    holder, isChanged = nil, true
    return true
  end
  if isInHolders(id) then
    dropShared(id)
    return true
  end
  local waited = findWaiter(id)
  drop({ id })
  return false, waited
end

local function leaveReply(held, isCancelled)
  if held then return { "released" } end
  return { isCancelled and "cancelled" or "notHeld", redis.call("ZCARD", queue), currentHolder() }
end
`

export const releaseReply = (raw: unknown): ReleaseReply => {
  if (raw === "released") return { _tag: "Released", more: false }
  const [tag, ...rest] = list(raw)
  const more = rest.at(-1) === 1
  if (tag === "released") return { _tag: "Released", more }
  if (tag !== "cancelled" && tag !== "notHeld") throw unexpected(raw)
  return {
    _tag: tag === "cancelled" ? "Cancelled" : "NotHeld",
    length: Number(rest[0]),
    holder: holderOf(rest[1], rest[2], rest[3]),
    more
  }
}
