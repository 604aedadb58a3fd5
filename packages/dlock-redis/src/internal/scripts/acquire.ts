import type { Names } from "../names.ts"
import { changes, day, state } from "./prelude.ts"
import {
  type Busy,
  Call,
  type Cancelled,
  claimReply,
  type Granted,
  holderOf,
  list,
  make,
  type Mismatch,
  type Queued,
  type Script,
  unexpected,
  whole
} from "./script.ts"

export interface AcquireArgs {
  readonly names: Names
  readonly id: string
  readonly inbox: string
  readonly ttl: number
  readonly guard: number
  readonly permits: number
  readonly capacity: number
  readonly mode: "queue" | "try"
  readonly label: string
}

export type AcquireReply = Granted | Queued | Busy | Mismatch | Cancelled

/**
 * Takes the lock, or a place in its queue. A repeat keeps the place, and is granted again what it holds.
 *
 * Keys: the lock's seven, the mark of the claim. Arguments: id, label, inbox, ttl, guard, permits, capacity, mode.
 *
 * Returns the token alone where it was granted at once; else { "granted", token },
 * { "queued", floor, place, length, kind, label, remaining },
 * { "busy", length, kind, label, remaining }, { "mismatch", capacity } or { "cancelled" }, where `kind` of the holder is
 * "held", "foreign" or "free".
 *
 * A free mutex with nobody waiting takes the first lines and nothing else. `try` does not enter a queue that it would
 * leave at once.
 */
export const acquire: Script<AcquireArgs, AcquireReply> = make({
  name: "acquire",
  lua: `
local call = redis.call
if ARGV[7] == "1" and call("EXISTS", KEYS[1], KEYS[3], KEYS[6], KEYS[8]) == 0 then
  local time = call("TIME")
  local token = time[1] .. string.format("%06d", time[2])
  local last = tonumber(call("SET", KEYS[2], token, "PX", ${day} + ARGV[4], "GET") or "")
  if last and last >= tonumber(token) then
    token = string.format("%.0f", last + 1)
    call("SET", KEYS[2], token, "PX", ${day} + ARGV[4])
  end
  call("SET", KEYS[1], ARGV[1] .. ":" .. token .. ":" .. ARGV[2], "PX", ARGV[4] + ARGV[5])
  return token
end
${state}${changes}
local mark = KEYS[8]
local id, label, inbox, ttl, guard, permits, capacity, mode = unpack(ARGV)
if redis.call("EXISTS", mark) == 1 then return { "cancelled" } end

local function capacityInUse()
  if holder then return "1" end
  local _, one = next(shared)
  if one then return one.capacity end
  local index = 0
  while true do
    local first = redis.call("ZRANGE", queue, index, index)[1]
    if not first then return capacity end
    local entry = read(first)
    if entry then return entry.capacity end
    index = index + 1
  end
end
local inUse = capacityInUse()
if inUse ~= capacity then return { "mismatch", inUse } end

sweep()
local token = extend(id, ttl, guard)
if token then return { "granted", token } end

local mine = read(id)
if mode == "try" and not mine and holder then return { "busy", redis.call("ZCARD", queue), situation() } end
if not mine then
  drop({ id })
  local tail = redis.call("ZRANGE", queue, -1, -1, "WITHSCORES")[2]
  redis.call("ZADD", queue, math.max(tonumber(tail or 0) + 1, us), id)
end
local listening = (subscribers(inbox) or 0) > 0 and 1 or 0
enter(id, now + ttl, inbox, ttl, guard, permits, capacity, listening, label)
local asking = { [id] = true }
promote(asking)
local reply = answer(id)
if reply[1] == "queued" and mode == "try" then
  drop({ id })
  reply = { "busy", redis.call("ZCARD", queue), situation() }
end
publish(asking)
return reply
`,
  encode: ({ capacity, guard, id, inbox, label, mode, names, permits, ttl }) =>
    new Call(names, [names.mark(id)], [
      id,
      label,
      inbox,
      whole(ttl),
      whole(guard),
      String(permits),
      String(capacity),
      mode
    ]),
  decode: (raw) => {
    if (typeof raw === "string") return { _tag: "Granted", token: BigInt(raw) }
    const [tag, ...rest] = list(raw)
    switch (tag) {
      case "busy":
        return { _tag: "Busy", length: Number(rest[0]), holder: holderOf(rest[1], rest[2], rest[3]) }
      case "mismatch":
        return { _tag: "Mismatch", capacity: Number(rest[0]) }
      case "cancelled":
        return { _tag: "Cancelled" }
      default: {
        const reply = claimReply(raw)
        if (reply._tag === "Gone") throw unexpected(raw)
        return reply
      }
    }
  }
})
