/** The script that ends a claim and hands the lock over. */

import { K, lockValue, sharedAt, sharedKeys, waiterValue } from "./format.ts"
import type { LockKeys } from "./keys.ts"
import { grantMessage, wakeMessage } from "./notification.ts"
import { changes, clock, day, state } from "./prelude.ts"
import { Call, type Holder, holderOf, list, make, type Progress, type Script, unexpected } from "./script.ts"

export interface ReleaseArgs {
  readonly keys: LockKeys
  readonly id: string
  /** Undefined where it is not known. */
  readonly capacity: number | undefined
  /** Set while a request of this claim may still arrive: it will find the claim cancelled. */
  readonly tombstone: boolean
  /** Frees the lock for everybody instead of handing it to the next in line. */
  readonly interop: boolean
}

export type ReleaseReply =
  | Progress & { readonly _tag: "Released" }
  | Progress & {
    /** `Cancelled`: it was queued, or a tombstone was set. `NotHeld`: nothing of it was there. */
    readonly _tag: "Cancelled" | "NotHeld"
    /** Claims that still wait. */
    readonly length: number
    readonly holder: Holder | undefined
  }

/** How long a tombstone stands: longer than a system keeps sending a request again (924 s on Linux). */
export const tombstoneTtl = 16 * 60 * 1_000

/**
 * Ends a claim, held, queued or never arrived, and moves the queue on. It compares the id, not the token: whatever this
 * claim has been granted goes.
 *
 * Keys: the lock's six, the tombstone of the claim, and above capacity 1 the two of shared holders. Arguments: id,
 * tombstone (ms, or 0 for none), interop (0 or 1).
 *
 * Returns "released" alone, { "released", more }, or { "cancelled" or "notHeld", length, kind, label, remaining, more }
 * with the queue without this claim.
 *
 * The release of a mutex that nobody waits for, or whose next in line is there to take it, takes the first lines and
 * nothing else. They are `nextUp` and `grant` for that case, written out: what is changed here is changed there.
 *
 * With `interop` the next in line is woken wherever it could be granted, also when this claim did not hold: a release
 * that is sent again then changes nothing, and a head that was woken and gives up passes the call on. Above capacity 1
 * there is no other client to make room for.
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
