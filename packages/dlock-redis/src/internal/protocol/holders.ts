/**
 * The Lua code for the holders of a semaphore or a read-write lock, which share their key.
 *
 * A lock may have thousands of them, so no script reads them all: `totals` keeps their sums. The sums are right if they
 * count as many holders as there are. If not, because a key was evicted or changed by hand, the holders are counted anew,
 * `step` of them in each script, and nothing is granted until all are counted.
 */

import { K, sharedValue, sharedVariables, totalsValue } from "./format.ts"
import { splitInbox } from "./revocation.ts"

/** How many holders one script counts or sweeps. */
const step = 100

/** Reads the sums, and finds single holders. */
export const readHolders = `
${splitInbox}
local ${sharedVariables}
local totals, shared, expired, isSweepCut, isTotalsChanged, isNewer

local function startCount(token)
  totals = {
    kind = totals and totals.kind, holders = 0, permits = 0, token = token, count = us, progress = "0", capacities = {}
  }
end

local function readTotals(text)
  local kind, count, permits, token, name, progress, capacities = string.match(text, ${totalsValue.pattern})
  if not kind then
    isNewer = true
    return
  end
  totals = {
    kind = kind, holders = tonumber(count), permits = tonumber(permits), token = tonumber(token),
    count = tonumber(name), progress = progress, capacities = {}
  }
  for capacity, number in string.gmatch(capacities, "(%d+):(%d+)") do totals.capacities[capacity] = tonumber(number) end
end

local function isCounting() return totals.progress ~= "-" and totals.progress ~= "w" end

local function isCounted(number, entries) return totals.holders == number and totals.holders == entries end

local function readHolders(most)
  shared, expired, isSweepCut, isTotalsChanged, isNewer = {}, {}, false, false, false
  totals = nil
  startCount(0)
  totals.progress = "-"
  if not values then return end
  local text = redis.call("GET", totalsKey)
  if text then readTotals(text) end
  local number, entries = redis.call("ZCARD", holders), redis.call("HLEN", values)
  if isNewer then return end
  if number == 0 then
    isTotalsChanged = text or entries > 0
    startCount(totals.token)
    totals.progress = "-"
  elseif not text or (totals.progress == "-" and not isCounted(number, entries)) or
    (totals.progress == "w" and totals.holders > math.min(number, entries)) then
    startCount(totals.token)
    isTotalsChanged = true
  end
  expired = redis.call("ZRANGEBYSCORE", holders, "-inf", now, "LIMIT", 0, math.max(0, math.min(${step}, most)))
  isSweepCut = #expired == ${step} or most <= 0
end

local function parseShared(id, value)
  local token, permits, capacity, kind, count, inbox, label = string.match(value, ${sharedValue.pattern})
  if not token then
    isNewer = true
    return nil
  end
  local channel, mark, moment, text = splitInbox(inbox)
  return {
    id = id, token = token, permits = tonumber(permits), capacity = capacity, kind = kind, count = count,
    inbox = channel, mark = mark, moment = moment, text = text, label = label
  }
end

local function findShared(id)
  if not values then return nil end
  local one = shared[id]
  if one == nil then
    local expiry, value = redis.call("ZSCORE", holders, id), redis.call("HGET", values, id)
    one = expiry and value and tonumber(expiry) > now and parseShared(id, value) or false
    if one then one.expiry = tonumber(expiry) end
    shared[id] = one
  end
  return one or nil
end

local function isInHolders(id)
  return values and (tonumber(redis.call("ZSCORE", holders, id) or 0)) > now
end

local function firstShared()
  if not values then return nil end
  local id = redis.call("ZRANGEBYSCORE", holders, "(" .. string.format("%.0f", now), "+inf", "LIMIT", 0, 1)[1]
  return id and findShared(id)
end

local function sharedKind()
  if totals.progress == "-" and totals.holders > 0 then return totals.kind end
  local first = firstShared()
  return first and first.kind
end

local function hasOtherCapacity(capacity)
  for other, number in pairs(totals.capacities) do
    if number > 0 and other ~= capacity then return true end
  end
  return false
end

local function smallestCapacity(without)
  local smallest
  for capacity, number in pairs(totals.capacities) do
    if number > (capacity == without and 1 or 0) and (not smallest or tonumber(capacity) < smallest) then
      smallest = tonumber(capacity)
    end
  end
  return smallest
end

local function otherCapacity(capacity, isHolder)
  local smallest = smallestCapacity(isHolder and capacity)
  return smallest and smallest ~= tonumber(capacity) and smallest or 0
end
`

/**
 * Reads the sums for the fast path of a script about one claim: if every holder is counted, and all agree about the
 * capacity. Otherwise the script takes its usual path.
 */
export const readPlainTotals = `
local function readPlainTotals()
  local text = call("GET", ${K.totals})
  if not text then return 0, nil, 0, 0 end
  local kind, count, permits, token, name, capacity, known = string.match(text, ${totalsValue.plainPattern})
  if not kind or known ~= count then return nil end
  return tonumber(count), kind, tonumber(permits), tonumber(token), name, capacity
end
`

/** Adds, changes and removes holders, and keeps the sums. */
export const changeHolders = `
local function add(one, sign)
  totals.holders = totals.holders + sign
  totals.permits = totals.permits + sign * one.permits
  totals.capacities[one.capacity] = (totals.capacities[one.capacity] or 0) + sign
  totals.kind = one.kind
  totals.token = math.max(totals.token, tonumber(one.token))
  isTotalsChanged = true
end

local function isOfThisCount(one) return tonumber(one.count) == totals.count end

local function writeShared(one)
  one.count = string.format("%.0f", totals.count)
  redis.call("HSET", values, one.id, ${sharedValue.writeTable("one")})
end

local function addShared(one)
  redis.call("ZADD", holders, one.expiry, one.id)
  writeShared(one)
  shared[one.id] = one
  isChanged = true
  add(one, 1)
end

local function dropShared(id)
  local value = redis.call("HGET", values, id)
  local one = value and parseShared(id, value)
  redis.call("ZREM", holders, id)
  redis.call("HDEL", values, id)
  if one and isOfThisCount(one) then add(one, -1) end
  shared[id] = false
  isChanged = true
end

local function shrinkShared(one, permits)
  if permits >= one.permits then return end
  local isCountedIn = isOfThisCount(one)
  if isCountedIn then add(one, -1) end
  one.permits = permits
  isChanged = true
  redis.call("HSET", values, one.id, ${sharedValue.writeTable("one")})
  if isCountedIn then add(one, 1) end
end

local function lengthen(key, px)
  if redis.call("PTTL", key) < px then redis.call("PEXPIRE", key, px) end
end

local function lengthenShared(px)
  lengthen(holders, px)
  local life = redis.call("PTTL", holders)
  lengthen(values, life)
  lengthen(totalsKey, life)
end

local function countOn()
  local cursor, found = unpack(redis.call("HSCAN", values, totals.progress, "COUNT", ${step}))
  for i = 1, #found, 2 do
    local id = found[i]
    if not redis.call("ZSCORE", holders, id) then
      redis.call("HDEL", values, id)
    else
      local one = parseShared(id, found[i + 1])
      if one and not isOfThisCount(one) then
        writeShared(one)
        add(one, 1)
      end
    end
  end
  totals.progress = cursor == "0" and "w" or cursor
  isTotalsChanged = true
end

local function sweepShared()
  for _, id in ipairs(expired) do dropShared(id) end
  if totals.progress == "-" then return end
  if isCounting() then countOn() end
  if totals.progress == "w" and isCounted(redis.call("ZCARD", holders), redis.call("HLEN", values)) then
    totals.progress = "-"
    isTotalsChanged = true
  end
end

local function saveTotals()
  if not values or not isTotalsChanged or isNewer then return end
  if redis.call("EXISTS", holders) == 0 then
    redis.call("DEL", totalsKey, values)
    return
  end
  local capacities = {}
  local life = redis.call("PTTL", holders)
  if life <= 0 then
    life = math.max(1, tonumber(redis.call("ZRANGE", holders, -1, -1, "WITHSCORES")[2]) - now)
    redis.call("PEXPIRE", holders, life)
  end
  lengthen(values, life)
  for capacity, number in pairs(totals.capacities) do
    if number > 0 then capacities[#capacities + 1] = capacity .. ":" .. number end
  end
  redis.call("SET", totalsKey, ${totalsValue.write("totals", "table.concat(capacities, \",\")")}, "PX", life)
end
`
