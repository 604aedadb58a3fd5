/** The script that keeps the places of waiters alive and reports their state. */

import type { LockKind } from "effect-dlock/LockError"
import { baseKeyCount, baseKeys, letterOf, sharedKeyCount, sharedKeys } from "../format.ts"
import type { LockKeys } from "../keys.ts"
import { changes, clock, state } from "../prelude.ts"
import {
  Call,
  claimReply,
  type Gone,
  type Granted,
  holderOf,
  list,
  make,
  type Progress,
  type Queued,
  type Revoked,
  type Script,
  whole
} from "../script.ts"

export interface RefreshArgs {
  readonly inbox: string
  /** Locks in one slot, or on one server without slots. */
  readonly locks: ReadonlyArray<{
    readonly keys: LockKeys
    /** `undefined` if the kind is not known. */
    readonly kind: LockKind | undefined
    /** Claims of one process on this lock. Without claims, the call only moves the queue on. */
    readonly claims: ReadonlyArray<{ readonly id: string; readonly ttl: number; readonly guard: number }>
  }>
}

/** The state of the claims on one lock. */
export interface Refreshed extends Progress {
  readonly _tag: "Refreshed"
  readonly claims: ReadonlyArray<Granted | Queued | Gone | Revoked>
}

/** One of this lock's keys no longer belongs to a lock. */
export interface Failed {
  readonly _tag: "Failed"
  readonly message: string
}

export type RefreshReply = ReadonlyArray<Refreshed | Failed>

/**
 * Reports that these claims still wait, and returns their state. It never creates a waiter. A waiter that was passed
 * over returns to its place.
 *
 * Keys: the seven keys of each lock, and its keys of shared holders unless it is a mutex.
 *
 * Arguments: inbox; then for each lock "m" for a mutex or "-", the number of its claims, and the id, ttl and guard of
 * each claim.
 *
 * Returns one list per lock. It contains { "granted", token }, { "queued", floor, place, length, state, label, remaining
 * }, { "gone" } or { "revoked" } for each claim, and then `more`. A lock with a key of the wrong type or with a value of a newer layout
 * gets { "failed", message }; the answers for the other locks are not affected.
 *
 * Most claims still wait behind one of our holders, and nothing has changed for them. `stay` is the fast path for
 * these. It returns { "stayed", floor, length, label, remaining } and then each place. The token of such a holder is
 * the last one granted, so it is the floor.
 */
export const refresh: Script<RefreshArgs, RefreshReply> = make({
  name: "refresh",
  lua: `
${clock}${state}${changes}
local inbox = ARGV[1]
local listening = (#ARGV > 3 and subscribers(inbox) or 0) > 0

local function stay(first, last)
  local value = redis.call("GET", lock)
  local holding = value and parse(value)
  if first > last or not holding or holding.foreign then return nil end
  local stayed, scores, px = { "stayed", holding.token, 0, holding.label, 0 }, {}, 0
  for i = first, last, 3 do
    local id, ttl, guard = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
    local place, fields = redis.call("ZRANK", queue, id), redis.call("HGET", waiters, id)
    local want = fields and wantOf(fields)
    local same = want and want.inbox == inbox and want.ttl == ttl and want.guard == guard and
      want.listening == (listening and not want.isGrouped)
    if not (place and same) or tonumber(redis.call("ZSCORE", deadlines, id) or 0) <= now then return nil end
    stayed[#stayed + 1] = place
    scores[#scores + 1] = now + ttl
    scores[#scores + 1] = id
    px = math.max(px, ttl + guard)
  end
  local length = redis.call("ZCARD", queue)
  local alone = length == #stayed - 5
  if not alone and redis.call("ZRANGEBYSCORE", deadlines, "-inf", now, "LIMIT", 0, 1)[1] then return nil end
  redis.call("ZADD", deadlines, unpack(scores))
  if redis.call("PTTL", deadlines) < px then keep(px) end
  stayed[3], stayed[5] = length, redis.call("PTTL", lock)
  return stayed
end

local asking = {}

local function ask(first, last)
  local replies = {}
  -- To keep the place of a claim behind shared holders takes about as long as to grant one.
  if values then budget = budget - (last - first + 1) end
  for i = first, last, 3 do
    local id, ttl, guard = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if isForbidden(id) then
      replies[id] = { "revoked" }
    elseif not extend(id, ttl, guard) then
      local mine = findWaiter(id)
      if mine then
        if mine.parkedAt then unpark(mine) end
        local before = mine.want
        saveWaiter(id, {
          inbox = inbox, ttl = tonumber(ttl), guard = tonumber(guard), kind = before.kind, permits = before.permits,
          capacity = before.capacity, listening = listening and not before.isGrouped, isGrouped = before.isGrouped,
          label = before.label
        })
        asking[id] = true
      else
        drop({ id })
        replies[id] = { "gone" }
      end
    end
  end
  promote(asking)
  local list = {}
  for i = first, last, 3 do list[#list + 1] = replies[ARGV[i]] or answer(ARGV[i]) end
  save()
  return withMore(list)
end

local function refresh(at, sharedAt, first, last)
  choose(at, sharedAt)
  local list = stay(first, last)
  if list then return list end
  readState()
  if isNewer then return { "failed", newerVersion } end
  sweep()
  return ask(first, last)
end

local replies, at, first = {}, 1, 4
while at <= #KEYS do
  local sharedAt, last = ARGV[first - 2] ~= "${letterOf.mutex}" and at + ${baseKeyCount}, first + 3 * ARGV[first - 1] - 1
  local isDone, reply = pcall(refresh, at, sharedAt, first, last)
  if not isDone then
    local message = type(reply) == "table" and reply.err or reply
    if not string.find(message, "WRONGTYPE", 1, true) then error(reply) end
    reply = { "failed", message }
  end
  replies[#replies + 1] = reply
  at, first = at + (sharedAt and ${baseKeyCount + sharedKeyCount} or ${baseKeyCount}), last + 3
end
publish(asking)
return replies
`,
  lockOf: ({ locks }) => locks[0]!.keys,
  encode: ({ inbox, locks }) =>
    new Call(
      undefined,
      locks.flatMap(({ keys, kind }) => kind === "mutex" ? baseKeys(keys) : [...baseKeys(keys), ...sharedKeys(keys)]),
      [
        inbox,
        ...locks.flatMap(({ claims, kind }) => [
          kind === "mutex" ? letterOf.mutex : "-",
          String(claims.length),
          ...claims.flatMap(({ guard, id, ttl }) => [id, whole(ttl), whole(guard)])
        ])
      ]
    ),
  decode: (raw) =>
    list(raw).map((reply) => {
      const parts = list(reply)
      switch (parts[0]) {
        case "failed":
          return { _tag: "Failed", message: String(parts[1]) }
        case "stayed":
          return { _tag: "Refreshed", claims: stayed(parts), more: false }
        default:
          return { _tag: "Refreshed", claims: parts.slice(0, -1).map(claimReply), more: parts.at(-1) === 1 }
      }
    })
})

const stayed = ([, token, count, label, remaining, ...places]: ReadonlyArray<unknown>): ReadonlyArray<Queued> => {
  const [floor, length, holder] = [BigInt(String(token)), Number(count), holderOf("held", label, remaining)]
  return places.map((place) => ({ _tag: "Queued", floor, place: Number(place), length, holder }))
}
