/** The script that ends a claim and hands the lock over. */

import { K, lockValue, sharedAt, sharedKeys, waiterValue } from "./format.ts"
import type { LockKeys } from "./keys.ts"
import { grantMessage, wakeMessage } from "./notification.ts"
import { changes, clock, day, state } from "./prelude.ts"
import { Call, type Holder, holderOf, list, make, type Progress, type Script, unexpected } from "./script.ts"

export interface ReleaseArgs {
  readonly keys: LockKeys
  readonly id: string
  /** `undefined` if the capacity is not known. */
  readonly capacity: number | undefined
  /**
   * Whether to leave a tombstone. Set while a request of this claim may still arrive, so that it finds the claim
   * cancelled.
   */
  readonly tombstone: boolean
  /** Whether to free the lock for every client instead of handing it over to the next waiter. */
  readonly interop: boolean
}

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
 * How long a tombstone is kept: 16 minutes, which is longer than a system retransmits a request (924 seconds on Linux).
 */
export const tombstoneTtl = 16 * 60 * 1_000

/**
 * Ends a claim that is held, queued or has not arrived, and moves the queue on. The script compares the id, not the
 * token, so it ends every grant of the claim.
 *
 * Keys: the lock's six keys, the tombstone of the claim, and for capacity above 1 the two keys of shared holders.
 *
 * Arguments: id, tombstone (milliseconds, or 0 for none), interop (0 or 1).
 *
 * Returns "released" alone on the fast path, { "released", more }, or { "cancelled" or "notHeld", length, kind, label,
 * remaining, more }, where the queue no longer contains this claim.
 *
 * The fast path is the first block of the script. It handles a mutex with an empty queue, and a mutex whose next waiter
 * is ready to receive it. It repeats `nextUp` and `grant` for that case, so change the two together.
 *
 * With `interop`, the script wakes the next waiter whenever that waiter could be granted, even if this claim was not
 * the holder. A repeated release then changes nothing, and a woken waiter that gives up wakes the one behind it. Above
 * capacity 1, clients of other libraries cannot hold the lock, so `interop` has no effect there.
 */
export const release: Script<ReleaseArgs, ReleaseReply> = make({
  name: "release",
  lua: `
local call, own = redis.call, ${lockValue.startOfClaim("ARGV[1]")}
local value = call("GET", ${K.lock})
if value and string.sub(value, 1, #own) == own and ARGV[2] == "0" then
  local head = call("ZRANGE", ${K.queue}, 0, 0)[1]
  if not head then
    call("DEL", ${K.lock})
    return "released"
  end
  local deadline = ARGV[3] == "0" and call("ZSCORE", ${K.deadlines}, head)
  local fields = deadline and call("HGET", ${K.waiters}, head)
  local inbox, ttl, guard, permits, capacity, listening, label = string.match(fields or "", ${waiterValue.pattern})
  if capacity == "1" and (listening == "0" or redis.pcall("PUBSUB", "NUMSUB", inbox)[2] ~= 0) then
    local time = call("TIME")
    local us = time[1] * 1000000 + time[2]
    local left = deadline - math.floor(us / 1000)
    if left > 0 then
      local last = math.max(tonumber(call("GET", ${K.counter}) or 0) or 0, ${lockValue.tokenBehind("value", "own")})
      local token = string.format("%.0f", math.max(last + 1, us))
      call("ZREM", ${K.queue}, head)
      call("ZREM", ${K.deadlines}, head)
      call("HDEL", ${K.waiters}, head)
      call("SET", ${K.lock}, ${lockValue.write("head", "token", "label")}, "PX", left + guard)
      call("SET", ${K.counter}, token, "PX", ${day} + ttl)
      redis.pcall("PUBLISH", inbox, ${grantMessage("head", "token", K.lock)})
      return "released"
    end
  end
end
${clock}${state}${changes}
choose(1, ${K.holders} and ${sharedAt})
readState()
local id, tombstone, interop = ARGV[1], ARGV[2], ARGV[3]
sweep()
if tombstone ~= "0" then redis.call("SET", ${K.tombstone}, "1", "PX", tombstone) end

local held, waited = true, nil
if holder and holder.id == id then
  redis.call("DEL", lock)
  holder = nil
elseif shared[id] then
  dropShared({ id })
else
  held, waited = false, findWaiter(id)
  drop({ id })
end

local woken = interop == "1" and nextUp({})
if woken and woken.want.capacity == "1" then
  notifications[1] = { woken.id, woken.want.inbox, ${wakeMessage("lock")} }
else
  promote({})
end
local reply = { "released" }
if not held then
  reply = { (waited or tombstone ~= "0") and "cancelled" or "notHeld", redis.call("ZCARD", queue), currentHolder() }
end
publish({})
return withMore(reply)
`,
  lockOf: ({ keys }) => keys,
  encode: ({ capacity, id, interop, keys, tombstone }) =>
    new Call(keys, [keys.tombstone(id), ...(capacity === 1 ? [] : sharedKeys(keys))], [
      id,
      tombstone ? String(tombstoneTtl) : "0",
      interop ? "1" : "0"
    ]),
  decode: (raw) => {
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
})
