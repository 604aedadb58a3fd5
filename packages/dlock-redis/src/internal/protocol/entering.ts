/** The Lua code with which claims come to a lock. The scripts that acquire one lock and several locks share it. */

import { letterOf, waiterValue } from "./format.ts"

/** A mode as an argument: `try`, `queue`, or how many claims may wait before one that waits. */
export const modeOf = (mode: "queue" | "try", maxQueue = Infinity): string =>
  mode === "try" || maxQueue === Infinity ? mode : String(maxQueue)

/**
 * All waiters of a lock are of the same kind, including those that were passed over, so one live waiter is enough to
 * find the kind. It is found by its deadline, because the first in the queue may be dead or incomplete.
 */
export const findKindOfWaiters = `
local function kindOfWaiters(deadlines, waiters)
  local id = redis.call("ZRANGEBYSCORE", deadlines, "(" .. string.format("%.0f", now), "+inf", "LIMIT", 0, 1)[1]
  local fields = id and redis.call("HGET", waiters, id)
  if not fields then return nil end
  local _, _, _, kind, _, capacity = string.match(fields, ${waiterValue.pattern})
  return kind or "newer", capacity
end
`

/**
 * What a script does for each claim, once the state was read and swept.
 *
 * - `inUse`: the kind and the capacity of the claims on the lock. The kind is "newer" if this version cannot read them.
 * - `isRoom`: whether a claim that is not known yet would be granted at once.
 * - `outerOf`: the holder of this lock among the claims that the caller holds already.
 * - `mostOf`: how many claims may wait before one that comes in this mode (see `modeOf`).
 * - `isFull`: whether as many wait already.
 * - `enter`: puts the claim into the queue, or keeps it there.
 */
export const entering = `
local function inUse()
  local shared = values and sharedKind()
  if shared then return shared, smallestCapacity() end
  if holder and not holder.foreign then return "${letterOf.mutex}", 1 end
  local latest = not values and redis.call("ZRANGE", holders, -1, -1, "WITHSCORES")[2]
  if latest and tonumber(latest) > now then
    local text = redis.call("GET", totalsKey)
    if text then readTotals(text) end
    return totals.kind or "${letterOf.semaphore}", smallestCapacity()
  end
  local waiting, itsCapacity = kindOfWaiters(deadlines, waiters)
  if waiting then return waiting, itsCapacity end
  if holder then return "${letterOf.mutex}", 1 end
end

local function isRoom(want) return not holder and fits(want) and redis.call("ZCARD", queue) == 0 end

local function outerOf(first)
  for i = first, #ARGV do
    local outer = findHolder(ARGV[i])
    if outer then return outer end
  end
end

local function mostOf(mode) return mode == "try" and 0 or tonumber(mode) or math.huge end

local function isFull(most) return most < math.huge and redis.call("ZCARD", queue) >= most end

local function enter(id, want, mine)
  if not mine then
    isChanged = true
    if resting > 0 then redis.call("ZREM", parked, id) end
    local function tail(key) return tonumber(redis.call("ZRANGE", key, -1, -1, "WITHSCORES")[2] or 0) end
    local latest = tail(queue)
    isForming = latest == 0
    redis.call("ZADD", queue, math.max(latest + 1, resting > 0 and tail(parked) + 1 or 0, us), id)
  elseif mine.parkedAt then
    unpark(mine)
  end
  saveWaiter(id, want)
end
`
