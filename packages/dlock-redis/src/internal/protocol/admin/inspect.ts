/** The script that reads a lock for people. */

import type { HolderState, LockState, WaiterState } from "effect-dlock/LockAdmin"
import { kindOf, letterOf, lockValue, sharedValue, totalsValue, waiterValue } from "../format.ts"
import type { LockKeys } from "../keys.ts"
import { clock, newerVersion } from "../prelude.ts"
import { splitInbox } from "../revocation.ts"
import { Call, list, make, type Script } from "../script.ts"

export interface InspectArgs {
  readonly keys: LockKeys
}

/** The state of the lock. `undefined` if its key holds something else than a string, so that it is no lock. */
export type InspectReply = Omit<LockState, "key"> | undefined

/** How many holders and waiters one script tells, and how many waiters it looks at, dead ones included. */
const most = 100
const mostRead = 250

/**
 * A Lua expression for what stands for the token of a client of another library: the first 52 bits of the hash of its
 * value, which may be a secret.
 */
export const foreignToken = (value: string): string =>
  `string.format("%.0f", tonumber(string.sub(redis.sha1hex(${value}), 1, 13), 16))`

/**
 * Reads a lock, and changes nothing. It reads a bounded part, however many hold the lock or wait for it. What has expired
 * does not count, as far as the first hundred that a script would sweep.
 *
 * Keys: the lock, the counter, the queue, the deadlines, the waiters, and the keys of shared holders.
 *
 * Returns { "other" } if the lock's key is of another type, and otherwise { us, kind, capacity, holders, permits, queue
 * length, last token, holders, waiters }, where a holder is { label, token, permits, expires in or -1, foreign, revoked }
 * and a waiter is { label, permits }. `kind` is empty for a free lock. `us` is the server's clock.
 */
export const inspect: Script<InspectArgs, InspectReply> = make({
  name: "inspect",
  lua: `
${clock}${splitInbox}
local lock, counter, queue, deadlines, waiters, holders, totals, values = unpack(KEYS)
local value = redis.pcall("GET", lock)
if type(value) == "table" then
  if string.find(value.err, "WRONGTYPE", 1, true) then return { "other" } end
  return value
end
local live = "(" .. string.format("%.0f", now)
local kind, capacity, permits, isNewer = "", 0, 0, false
local held, waiting = {}, {}

local text = redis.call("GET", totals)
local sharedKind, _, sharedPermits, _, _, _, capacities = string.match(text or "", ${totalsValue.pattern})
if text and not sharedKind then isNewer = true end
local count = redis.call("ZCOUNT", holders, live, "+inf")
if count > 0 then
  kind, permits = sharedKind or "${letterOf.semaphore}", tonumber(sharedPermits or 0)
  for other, number in string.gmatch(capacities or "", "(%d+):(%d+)") do
    if tonumber(number) > 0 and (capacity == 0 or tonumber(other) < capacity) then capacity = tonumber(other) end
  end
  local over = redis.call("ZRANGEBYSCORE", holders, "-inf", now, "LIMIT", 0, ${most})
  for _, one in ipairs(#over > 0 and redis.call("HMGET", values, unpack(over)) or {}) do
    local _, its = string.match(one or "", ${sharedValue.start})
    permits = permits - (its or 0)
  end
  local sum, first = 0, redis.call("ZRANGEBYSCORE", holders, live, "+inf", "WITHSCORES", "LIMIT", 0, ${most})
  local ids = {}
  for i = 1, #first, 2 do ids[#ids + 1] = first[i] end
  for i, one in ipairs(redis.call("HMGET", values, unpack(ids))) do
    local token, its, itsCapacity, itsKind, _, inbox, label = string.match(one or "", ${sharedValue.pattern})
    if one and not token then isNewer = true end
    if token then
      local _, _, moment = splitInbox(inbox)
      held[#held + 1] = { label, token, its, tonumber(first[2 * i]) - now, 0, moment and 1 or 0 }
      sum = sum + its
      if not sharedKind then kind = itsKind end
      if capacity == 0 or tonumber(itsCapacity) < capacity then capacity = tonumber(itsCapacity) end
    end
  end
  permits = math.max(permits, sum)
end

if value then
  local id, token, inbox, label = string.match(value, ${lockValue.pattern})
  local _, _, moment = splitInbox(inbox or "")
  if kind == "" then kind, capacity = "${letterOf.mutex}", 1 end
  count, permits = count + 1, permits + 1
  local one = { label or "", token or ${
    foreignToken("value")
  }, "1", redis.call("PTTL", lock), id and 0 or 1, moment and 1 or 0 }
  table.insert(held, 1, one)
end

local ids = redis.call("ZRANGE", queue, 0, ${mostRead - 1})
local length = redis.call("ZCOUNT", deadlines, live, "+inf")
local due = #ids > 0 and redis.call("ZMSCORE", deadlines, unpack(ids)) or {}
local fields = #ids > 0 and redis.call("HMGET", waiters, unpack(ids)) or {}
local alive = 0
for i = 1, #ids do
  if tonumber(due[i] or 0) > now and fields[i] then
    local _, _, _, itsKind, its, itsCapacity, _, _, label = string.match(fields[i], ${waiterValue.pattern})
    if not itsKind then isNewer = true end
    if kind == "" then kind, capacity = itsKind, tonumber(itsCapacity) end
    alive = alive + 1
    if alive <= ${most} then waiting[#waiting + 1] = { label, its } end
  end
end
length = redis.call("ZCARD", queue) <= ${mostRead} and alive or math.min(length, redis.call("ZCARD", queue))
if isNewer then return redis.error_reply("${newerVersion}") end
return {
  string.format("%.0f", us), kind, string.format("%.0f", capacity or 0), count, string.format("%.0f", permits), length,
  redis.call("GET", counter) or "", held, waiting
}
`,
  lockOf: ({ keys }) => keys,
  encode: ({ keys }) =>
    new Call(undefined, [
      keys.lock,
      keys.counter,
      keys.queue,
      keys.deadlines,
      keys.waiters,
      keys.holders,
      keys.totals,
      keys.values
    ], []),
  decode: (raw) => {
    const [us, kind, capacity, holderCount, permits, queueLength, last, holders, waiters] = list(raw)
    if (us === "other") return undefined
    const now = BigInt(String(us))
    const all = list(holders).map((one) => holderState(one, now))
    const ours = all.filter(({ isForeign }) => !isForeign).map(({ token }) => token)
    const known = /^\d+$/.test(String(last)) ? [...ours, BigInt(String(last))] : ours
    return {
      kind: kind === "" ? undefined : kindOf(kind),
      capacity: kind === "" ? undefined : Number(capacity),
      holders: all,
      holderCount: Number(holderCount),
      permitsHeld: Number(permits),
      waiting: list(waiters).map(waiterState),
      queueLength: Number(queueLength),
      lastToken: known.length === 0 ? undefined : known.reduce((a, b) => a > b ? a : b)
    }
  }
})

const holderState = (raw: unknown, now: bigint): HolderState => {
  const [label, text, permits, remaining, foreign, revoked] = list(raw)
  const token = BigInt(String(text))
  const isForeign = foreign === 1
  // A token is the moment of its grant in microseconds, unless a later one was granted before, by a clock that was ahead.
  const since = isForeign || token > now ? undefined : Number(token / 1_000n)
  return {
    holder: String(label),
    token,
    permits: Number(permits),
    since,
    expiresIn: remaining === -1 ? Infinity : Number(remaining),
    isForeign,
    isRevoked: revoked === 1
  }
}

const waiterState = (raw: unknown): WaiterState => {
  const [holder, permits] = list(raw)
  return { holder: String(holder), permits: Number(permits) }
}
