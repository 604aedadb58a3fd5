/** The script that acquires a lock or a place in its queue. */

import { K, lockValue, sharedAt, sharedKeys, waiterValue } from "./format.ts"
import type { LockKeys } from "./keys.ts"
import { changes, clock, day, state } from "./prelude.ts"
import {
  type AlreadyHeld,
  type Busy,
  Call,
  type Cancelled,
  claimReply,
  type Granted,
  holderOf,
  list,
  make,
  type Mismatch,
  type Progress,
  type Queued,
  type Script,
  unexpected,
  whole
} from "./script.ts"

export interface AcquireArgs {
  readonly keys: LockKeys
  readonly id: string
  readonly inbox: string
  readonly ttl: number
  readonly guard: number
  readonly permits: number
  readonly capacity: number
  readonly mode: "queue" | "try"
  readonly label: string
  /** The ids of the claims that the caller already holds around this request, on this key or on other keys. */
  readonly inside?: ReadonlyArray<string> | undefined
}

export type AcquireReply = (Granted | Queued | Busy) & Progress | AlreadyHeld | Mismatch | Cancelled

/**
 * Acquires the lock, or a place in its queue. A repeated request keeps its place, and is granted again what it holds.
 *
 * Keys: the lock's six keys, the tombstone of the claim, and the keys of shared holders. At capacity 1 only the first
 * of those, `holders`, which tells whether there are shared holders.
 *
 * Arguments: id, label, inbox, ttl, guard, permits, capacity, mode, and the ids in `inside`.
 *
 * Returns the token alone for a grant on the fast path. Otherwise it returns one of
 *
 * - { "granted", token, more }
 * - { "queued", floor, place, length, kind, label, remaining, more }
 * - { "busy", length, kind, label, remaining, more }
 * - { "alreadyHeld", token }
 * - { "mismatch" }
 * - { "cancelled" }
 *
 * where `kind` describes the holder: "held", "foreign" or "free".
 *
 * The fast path is the first block of the script. It grants a free mutex if no claim waits, or if every waiter was
 * passed over. In mode `try`, a claim does not enter a queue that it would leave at once.
 *
 * All waiters of a lock have the same capacity, including those that were passed over, so one live waiter is enough to
 * find the capacity. The script finds that waiter by its deadline, because the first in the queue may be dead or
 * incomplete.
 */
export const acquire: Script<AcquireArgs, AcquireReply> = make({
  name: "acquire",
  lua: `
${clock}
local call = redis.call

local function capacityOfWaiters()
  local id = call("ZRANGEBYSCORE", ${K.deadlines}, "(" .. string.format("%.0f", now), "+inf", "LIMIT", 0, 1)[1]
  local fields = id and call("HGET", ${K.waiters}, id)
  return fields and (select(${waiterValue.capacity}, string.match(fields, ${waiterValue.pattern})))
end

local function free()
  local inTheWay = call("EXISTS", ${K.lock}, ${K.queue}, ${K.parked}, ${K.tombstone}, ${K.holders})
  if inTheWay == 0 then return true end
  local onlyParked = inTheWay == 1 and call("EXISTS", ${K.parked}) == 1
  return onlyParked and not call("ZSCORE", ${K.parked}, ARGV[1]) and (capacityOfWaiters() or "1") == "1"
end

if ARGV[7] == "1" and free() then
  local token = time[1] .. string.format("%06d", time[2])
  local last = tonumber(call("SET", ${K.counter}, token, "PX", ${day} + ARGV[4], "GET") or "")
  if last and last >= tonumber(token) then
    token = string.format("%.0f", last + 1)
    call("SET", ${K.counter}, token, "PX", ${day} + ARGV[4])
  end
  call("SET", ${K.lock}, ${lockValue.write("ARGV[1]", "token", "ARGV[2]")}, "PX", ARGV[4] + ARGV[5])
  return token
end
${state}${changes}
local tombstone = ${K.tombstone}
local id, label, inbox, ttl, guard, permits, capacity, mode = unpack(ARGV)
choose(1, ${sharedAt})
readState()
if redis.call("EXISTS", tombstone) == 1 then return { "cancelled" } end

local function capacityInUse()
  local _, one = next(shared)
  if one then return one.capacity end
  if holder and not holder.foreign then return "1" end
  local latest = not values and redis.call("ZRANGE", holders, -1, -1, "WITHSCORES")[2]
  if latest and tonumber(latest) > now then return "several" end
  return capacityOfWaiters() or holder and "1"
end
local inUse = capacityInUse()
if inUse and inUse ~= capacity then return { "mismatch" } end

sweep()
local token = extend(id, ttl, guard)
if token then return withMore({ "granted", token }) end

local mine = findWaiter(id)
local function isRoom() return not holder and used + permits <= tonumber(capacity) and redis.call("ZCARD", queue) == 0 end
if ARGV[9] and not mine and not isRoom() then
  for i = 9, #ARGV do
    local outer = shared[ARGV[i]] or holder and holder.id == ARGV[i] and holder
    if outer then return { "alreadyHeld", outer.token } end
  end
end
local function busy() return withMore({ "busy", redis.call("ZCARD", queue), currentHolder() }) end
if mode == "try" and not mine and holder then return busy() end
if not mine then
  if resting > 0 then redis.call("ZREM", parked, id) end
  local function tail(key) return tonumber(redis.call("ZRANGE", key, -1, -1, "WITHSCORES")[2] or 0) end
  redis.call("ZADD", queue, math.max(tail(queue) + 1, resting > 0 and tail(parked) + 1 or 0, us), id)
elseif mine.parkedAt then
  unpark(mine)
end
local listening = (subscribers(inbox) or 0) > 0
saveWaiter(id, inbox, ttl, guard, permits, capacity, listening, label)
local asking = { [id] = true }
promote(asking)
local reply = answer(id)
if reply[1] == "queued" and mode == "try" then
  drop({ id })
  reply = busy()
else
  withMore(reply)
end
publish(asking)
return reply
`,
  lockOf: ({ keys }) => keys,
  encode: ({ capacity, guard, id, inbox, inside, label, mode, keys, permits, ttl }) => {
    const moreKeys = [keys.tombstone(id), ...(capacity === 1 ? [keys.holders] : sharedKeys(keys))]
    const args = [id, label, inbox, whole(ttl), whole(guard), String(permits), String(capacity), mode]
    return new Call(keys, moreKeys, inside === undefined ? args : [...args, ...inside])
  },
  decode: (raw) => {
    if (typeof raw === "string") return { _tag: "Granted", token: BigInt(raw), more: false }
    const reply = list(raw)
    const more = reply.at(-1) === 1
    switch (reply[0]) {
      case "busy":
        return { _tag: "Busy", length: Number(reply[1]), holder: holderOf(reply[2], reply[3], reply[4]), more }
      case "alreadyHeld":
        return { _tag: "AlreadyHeld", token: BigInt(String(reply[1])) }
      case "mismatch":
        return { _tag: "Mismatch" }
      case "cancelled":
        return { _tag: "Cancelled" }
      default: {
        const claim = claimReply(raw)
        if (claim._tag === "Gone") throw unexpected(raw)
        return { ...claim, more }
      }
    }
  }
})
