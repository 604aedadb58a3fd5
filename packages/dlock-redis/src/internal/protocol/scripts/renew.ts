/** The script that renews the locks of holders. */

import type { LockKind } from "effect-dlock/LockError"
import { isExclusive, readWriteCapacity } from "effect-dlock/LockStore"
import { letterOf, lockValue, sharedKeyCount, sharedKeys, sharedValue, totalsValue } from "../format.ts"
import type { LockKeys } from "../keys.ts"
import { type Asked, asked, askedReply, markInLock, markInShared } from "../revocation.ts"
import { Call, list, make, type Script, unexpected, whole } from "../script.ts"

export interface RenewArgs {
  /** Holders of locks in one slot, or on one server without slots. */
  readonly claims: ReadonlyArray<{
    readonly keys: LockKeys
    readonly id: string
    readonly token: bigint
    readonly ttl: number
    readonly guard: number
    readonly kind: LockKind
    readonly permits: number
    readonly capacity: number
    /** Whether to tell if others wait behind the claim. */
    readonly isWatched?: boolean
  }>
}

export type RenewReply = "ok" | "contended" | "expired" | "replaced" | Asked

/**
 * Extends every lock that its claim still holds, unless its holder was asked to leave and its time is over. It never
 * shortens or creates one.
 *
 * Keys of each claim: the lock for a mutex, otherwise the keys of shared holders; and the deadlines of the waiters if the
 * claim is watched. Arguments of each claim: id, token, ttl, guard, and "m" for a mutex, "x" for another exclusive claim, or
 * "s" for a claim that shares its key, with a "+" behind it if the claim is watched.
 *
 * Returns for each claim "ok", "contended" (the same, of a watched claim behind which others wait), "expired" (the claim is gone) or "replaced" (another claim holds the lock and one of the
 * two is exclusive, or the key is no longer a lock), { "asked", grace, text } (the same as "ok", of a holder that was asked
 * to leave) or { "revoked", 0, text }, with a 1 behind it if the claim is contended. A key of the wrong type affects only the answer of its own claim, so that the other claims are
 * still renewed.
 */
export const renew: Script<RenewArgs, ReadonlyArray<RenewReply>> = make({
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
  local moment, text = ${markInLock("value", "#prefix + 1")}
  if moment then
    moment = tonumber(moment)
    if now < moment then lengthen(lock, px) end
    return ${askedReply("moment", "text")}
  end
  lengthen(lock, px)
  return "ok"
end

local function isReplaced(isExclusive, holders, totals)
  if redis.call("ZCOUNT", holders, "(" .. string.format("%.0f", now), "+inf") == 0 then return false end
  local text = not isExclusive and get("GET", totals)
  local kind, _, permits = string.match(type(text) == "string" and text or "", ${totalsValue.pattern})
  return isExclusive or (kind == "${letterOf.readWrite}" and tonumber(permits) >= ${readWriteCapacity})
end

local function shared(isExclusive, holders, totals, values, id, token, px)
  local expiry, value = get("ZSCORE", holders, id), get("HGET", values, id)
  if type(expiry) == "table" or type(value) == "table" then return "replaced" end
  if not (expiry and value) or tonumber(expiry) <= now then
    return isReplaced(isExclusive, holders, totals) and "replaced" or "expired"
  end
  local prefix = ${sharedValue.startOfGrant("token")}
  if string.sub(value, 1, #prefix) ~= prefix then return "replaced" end
  local moment, text = ${markInShared("value", "#prefix + 1")}
  local reply = "ok"
  if moment then
    moment = tonumber(moment)
    reply = ${askedReply("moment", "text")}
    if now >= moment then return reply end
  end
  redis.call("ZADD", holders, math.max(tonumber(expiry), now + px), id)
  lengthen(holders, px)
  local life = redis.call("PTTL", holders)
  lengthen(values, life)
  lengthen(totals, life)
  return reply
end

local function isContended(deadlines)
  local waiting = get("ZCOUNT", deadlines, "(" .. string.format("%.0f", now), "+inf")
  return type(waiting) == "number" and waiting > 0
end

local replies, key = {}, 1
for i = 1, #ARGV, 5 do
  local id, token, px = ARGV[i], ARGV[i + 1], ARGV[i + 2] + ARGV[i + 3]
  local kind, isWatched = string.sub(ARGV[i + 4], 1, 1), #ARGV[i + 4] > 1
  if kind == "m" then
    replies[#replies + 1] = exclusive(KEYS[key], id, token, px)
    key = key + 1
  else
    replies[#replies + 1] = shared(kind == "x", KEYS[key], KEYS[key + 1], KEYS[key + 2], id, token, px)
    key = key + ${sharedKeyCount}
  end
  if isWatched then
    local reply = replies[#replies]
    if reply == "ok" and isContended(KEYS[key]) then
      replies[#replies] = "contended"
    elseif type(reply) == "table" and isContended(KEYS[key]) then
      reply[4] = 1
    end
    key = key + 1
  end
end
return replies
`,
  lockOf: ({ claims }) => claims[0]!.keys,
  encode: ({ claims }) =>
    new Call(
      undefined,
      claims.flatMap(({ isWatched, keys, kind }) => [
        ...(kind === "mutex" ? [keys.lock] : sharedKeys(keys)),
        ...(isWatched === true ? [keys.deadlines] : [])
      ]),
      claims.flatMap((claim) => [
        claim.id,
        String(claim.token),
        whole(claim.ttl),
        whole(claim.guard),
        (claim.kind === "mutex" ? "m" : isExclusive(claim) ? "x" : "s") + (claim.isWatched === true ? "+" : "")
      ])
    ),
  decode: (raw) =>
    list(raw).map((reply) => {
      if (reply === "ok" || reply === "contended" || reply === "expired" || reply === "replaced") return reply
      if (Array.isArray(reply)) return asked(reply)
      throw unexpected(raw)
    })
})
