/** The script that renews the locks of holders. */

import { lockValue, sharedValue } from "./format.ts"
import type { LockKeys } from "./keys.ts"
import { Call, list, make, type Script, unexpected, whole } from "./script.ts"

export interface RenewArgs {
  /** Holders of locks in one slot, or on one server without slots. */
  readonly claims: ReadonlyArray<{
    readonly keys: LockKeys
    readonly id: string
    readonly token: bigint
    readonly ttl: number
    readonly guard: number
    readonly capacity: number
  }>
}

/**
 * Extends every lock that its claim still holds. It never shortens or creates one.
 *
 * Keys of each claim: the lock for capacity 1, otherwise the two keys of shared holders. Arguments of each claim: id,
 * token, ttl, guard, capacity.
 *
 * Returns for each claim "ok", "expired" (the lock is gone) or "replaced" (another claim holds the lock, or the key is
 * no longer a lock). A key of the wrong type affects only the answer of its own claim, so that the other claims are
 * still renewed.
 */
export const renew: Script<RenewArgs, ReadonlyArray<"ok" | "expired" | "replaced">> = make({
  name: "renew",
  lua: `
local time = redis.call("TIME")
local now = math.floor((time[1] * 1000000 + time[2]) / 1000)

local function lengthen(key, px)
  if redis.call("PTTL", key) < px then redis.call("PEXPIRE", key, px) end
end

local function get(...)
  local value = redis.pcall(...)
  if type(value) ~= "table" then return value end
  return string.find(value.err, "WRONGTYPE", 1, true) and value or redis.call(...)
end

local function exclusive(lock, id, token, px)
  local value = get("GET", lock)
  if not value then return "expired" end
  local prefix = ${lockValue.startOfGrant("id", "token")}
  if type(value) == "table" or string.sub(value, 1, #prefix) ~= prefix then return "replaced" end
  lengthen(lock, px)
  return "ok"
end

local function shared(holders, values, id, token, px)
  local expiry, value = get("ZSCORE", holders, id), get("HGET", values, id)
  if type(expiry) == "table" or type(value) == "table" then return "replaced" end
  if not (expiry and value) or tonumber(expiry) <= now then return "expired" end
  if string.sub(value, 1, #token + 1) ~= ${sharedValue.startOfGrant("token")} then return "replaced" end
  redis.call("ZADD", holders, math.max(tonumber(expiry), now + px), id)
  lengthen(holders, px)
  lengthen(values, px)
  return "ok"
end

local replies, key = {}, 1
for i = 1, #ARGV, 5 do
  local id, token, px = ARGV[i], ARGV[i + 1], ARGV[i + 2] + ARGV[i + 3]
  if ARGV[i + 4] == "1" then
    replies[#replies + 1] = exclusive(KEYS[key], id, token, px)
    key = key + 1
  else
    replies[#replies + 1] = shared(KEYS[key], KEYS[key + 1], id, token, px)
    key = key + 2
  end
end
return replies
`,
  lockOf: ({ claims }) => claims[0]!.keys,
  encode: ({ claims }) =>
    new Call(
      undefined,
      claims.flatMap(({ capacity, keys }) => capacity === 1 ? [keys.lock] : [keys.holders, keys.values]),
      claims.flatMap(({ capacity, guard, id, token, ttl }) => [
        id,
        String(token),
        whole(ttl),
        whole(guard),
        String(capacity)
      ])
    ),
  decode: (raw) =>
    list(raw).map((reply) => {
      if (reply === "ok" || reply === "expired" || reply === "replaced") return reply
      throw unexpected(raw)
    })
})
