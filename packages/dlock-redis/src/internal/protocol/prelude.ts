/**
 * The Lua code that the scripts share. The text of a script is `clock`, `state`, the other parts that it uses, and then
 * its own steps.
 *
 * Each script first does all reads that can find a key of the wrong type, then writes, then publishes. Redis does not
 * roll back a script, so an error may happen only before the first write. A refused publication is not an error.
 */

import { baseKeyCount, baseVariables, lockValue, sharedValue, waiterValue } from "./format.ts"
import { grantMessage } from "./notification.ts"

/** How many milliseconds the server remembers a token after the `ttl` of its grant: one day. */
export const day = 24 * 60 * 60 * 1_000

/** Reads the server's clock once per script, as `us` (microseconds) and `now` (milliseconds). */
export const clock = `
local time = redis.call("TIME")
local us = time[1] * 1000000 + time[2]
local now = math.floor(us / 1000)
`

/**
 * `choose` assigns the keys of a lock, which begin at position `at`, and the keys of its shared holders if it may have
 * any.
 *
 * `readState` reads the lock:
 *
 * - `holder`: the holder in the string key. A value that is not a `lockValue` belongs to another client.
 * - `shared` and `used`: the shared holders, and the sum of their permits.
 * - `last`: no token so far is greater, and every later token is. If the counter is lost, the clock replaces it.
 *
 * A script may drop or pass over only as many waiters as its `budget` allows, so that it always stays short. It sets
 * `more` if that limit ended its search for the next waiter.
 */
export const state = `
local ${baseVariables}, holders, values
local holder, last, dead, resting, shared, used, expired, more
local budget = 250

local ours = ${lockValue.pattern}

local function parse(value)
  local id, token, label = string.match(value, ours)
  if id then return { id = id, token = token, label = label } end
  return { label = "", foreign = true }
end

local function readShared()
  local expiries = redis.call("ZRANGE", holders, 0, -1, "WITHSCORES")
  local details = redis.call("HGETALL", values)
  for i = 1, #details, 2 do
    local token, permits, capacity, label = string.match(details[i + 1], ${sharedValue.pattern})
    last = math.max(last, tonumber(token))
    shared[details[i]] = { id = details[i], token = token, permits = tonumber(permits), capacity = capacity, label = label }
  end
  for i = 1, #expiries, 2 do
    local one = shared[expiries[i]]
    if one and tonumber(expiries[i + 1]) > now then
      one.expiry = tonumber(expiries[i + 1])
    else
      expired[#expired + 1] = expiries[i]
    end
  end
  for id, one in pairs(shared) do
    if one.expiry then
      used = used + one.permits
    else
      shared[id] = nil
    end
  end
end

local function choose(at, sharedAt)
  ${baseVariables} = unpack(KEYS, at, at + ${baseKeyCount - 1})
  holders, values = nil, nil
  if sharedAt then holders, values = KEYS[sharedAt], KEYS[sharedAt + 1] end
end

local function readState()
  local value = redis.call("GET", lock)
  holder = value and parse(value)
  last = tonumber(redis.call("GET", counter) or "") or us - 1
  if holder then last = math.max(last, tonumber(holder.token or 0)) end
  redis.call("ZCARD", queue)
  redis.call("HLEN", waiters)
  resting = redis.call("ZCARD", parked)
  dead = redis.call("ZRANGEBYSCORE", deadlines, "-inf", now, "LIMIT", 0, math.max(0, math.min(100, budget)))
  shared, used, expired, more = {}, 0, {}, false
  if values then readShared() end
end

local wants = {}

local function wantOf(fields)
  local want = wants[fields]
  if not want then
    local inbox, ttl, guard, permits, capacity, listening, label =
      string.match(fields, ${waiterValue.pattern})
    want = {
      inbox = inbox, ttl = tonumber(ttl), guard = tonumber(guard), permits = tonumber(permits), capacity = capacity,
      listening = listening == "1", label = label
    }
    wants[fields] = want
  end
  return want
end

local function findWaiter(id)
  local deadline = tonumber(redis.call("ZSCORE", deadlines, id) or 0)
  local fields = deadline > now and redis.call("HGET", waiters, id)
  if not fields then return nil end
  local found = { id = id, deadline = deadline, want = wantOf(fields) }
  if redis.call("ZSCORE", queue, id) then return found end
  found.parkedAt = resting > 0 and redis.call("ZSCORE", parked, id)
  return found.parkedAt and found
end

local function currentHolder()
  if holder then return holder.foreign and "foreign" or "held", holder.label, redis.call("PTTL", lock) end
  local first
  for _, one in pairs(shared) do
    if not first or one.expiry < first.expiry then first = one end
  end
  if first then return "held", first.label, first.expiry - now end
  return "free", "", 0
end
`

/**
 * Changes to the queue and to grants.
 *
 * The keys of the queue live half as long again as they must, so that most refreshes need not extend them. No key of
 * the queue expires before `deadlines`, so reading `deadlines` is enough. A dead waiter is dropped and never revived. A
 * grant keeps the deadline of its waiter, so that the holder's deadline plus the guard gap is exactly what the server
 * keeps.
 *
 * A waiter is passed over if its process listened when it last asked, and no longer listens. It moves to `parked`, with
 * its score in the order of arrival, so that the search meets it only once. It returns to its place when its process
 * asks again. Its deadline and its withdrawal still end it. If the number of listeners is unknown (`listening` is 0, or
 * the server refuses to count now), the waiter is granted without that check.
 */
export const changes = `
local function drop(ids)
  if #ids == 0 then return end
  redis.call("ZREM", queue, unpack(ids))
  redis.call("ZREM", deadlines, unpack(ids))
  redis.call("HDEL", waiters, unpack(ids))
  if resting > 0 then redis.call("ZREM", parked, unpack(ids)) end
end

local function dropShared(ids)
  for _, id in ipairs(ids) do
    redis.call("ZREM", holders, id)
    redis.call("HDEL", values, id)
    if shared[id] then used = used - shared[id].permits end
    shared[id] = nil
  end
end

local function sweep()
  drop(dead)
  budget = budget - #dead
  dropShared(expired)
end

local function lengthen(key, px)
  if redis.call("PTTL", key) < px then redis.call("PEXPIRE", key, px) end
end

local function keep(px)
  local life = redis.call("PTTL", deadlines)
  if life < px then
    life = math.ceil(1.5 * px)
    redis.call("PEXPIRE", deadlines, life)
  end
  lengthen(queue, life)
  lengthen(waiters, life)
end

local numbers = {}

local function subscribers(inbox)
  if numbers[inbox] == nil then numbers[inbox] = redis.pcall("PUBSUB", "NUMSUB", inbox)[2] or false end
  return numbers[inbox]
end

local function park(scores, px)
  if #scores == 0 then return end
  redis.call("ZREMRANGEBYRANK", queue, 0, #scores / 2 - 1)
  redis.call("ZADD", parked, unpack(scores))
  lengthen(parked, px)
  resting = resting + #scores / 2
end

local function unpark(waiter)
  redis.call("ZREM", parked, waiter.id)
  redis.call("ZADD", queue, waiter.parkedAt, waiter.id)
end

local function saveWaiter(id, inbox, ttl, guard, permits, capacity, listening, label)
  redis.call("ZADD", deadlines, now + ttl, id)
  local fields = { inbox, ttl, guard, permits, capacity, listening and 1 or 0, label }
  redis.call("HSET", waiters, id, ${waiterValue.write("fields")})
  keep(ttl + guard)
end

local function extend(id, ttl, guard)
  if holder and holder.id == id then
    lengthen(lock, ttl + guard)
    return holder.token
  end
  local one = shared[id]
  if not one then return nil end
  one.expiry = math.max(one.expiry, now + ttl + guard)
  redis.call("ZADD", holders, one.expiry, id)
  lengthen(holders, one.expiry - now)
  lengthen(values, one.expiry - now)
  return one.token
end

local notifications = {}

local function grant(waiter)
  local id, want = waiter.id, waiter.want
  local px = waiter.deadline - now + want.guard
  last = math.max(last + 1, us)
  local token = string.format("%.0f", last)
  drop({ id })
  if want.capacity == "1" then
    redis.call("SET", lock, ${lockValue.write("id", "token", "want.label")}, "PX", px)
    holder = { id = id, token = token, label = want.label }
  else
    redis.call("ZADD", holders, now + px, id)
    redis.call("HSET", values, id, ${sharedValue.write("token", "want.permits", "want.capacity", "want.label")})
    lengthen(holders, px)
    lengthen(values, px)
    shared[id] = {
      id = id, token = token, permits = want.permits, capacity = want.capacity, label = want.label, expiry = now + px
    }
    used = used + want.permits
  end
  redis.call("SET", counter, token, "PX", ${day} + want.ttl)
  notifications[#notifications + 1] = { id, want.inbox, ${grantMessage("id", "token", "lock")} }
  budget = budget - 4
end

local function fits(want)
  return (values or want.capacity == "1") and used + want.permits <= tonumber(want.capacity)
end

local function nextUp(asking)
  local size = 1
  while not holder do
    if budget <= 0 then
      more = redis.call("ZCARD", queue) > 0
      return nil
    end
    local first = redis.call("ZRANGE", queue, 0, size - 1, "WITHSCORES")
    if #first == 0 then return nil end
    local ids = {}
    for i = 1, #first, 2 do ids[#ids + 1] = first[i] end
    local due = redis.call("ZMSCORE", deadlines, unpack(ids))
    local fields = redis.call("HMGET", waiters, unpack(ids))
    local gone, passed, px, found, full = {}, {}, 0, nil, false
    for i, id in ipairs(ids) do
      local deadline, want = tonumber(due[i] or 0), fields[i] and wantOf(fields[i])
      if not want or deadline <= now then
        gone[#gone + 1] = id
      elseif not fits(want) then
        full = true
        break
      elseif asking[id] or not want.listening or subscribers(want.inbox) ~= 0 then
        found = { id = id, deadline = deadline, want = want }
        break
      else
        passed[#passed + 1] = first[2 * i]
        passed[#passed + 1] = id
        px = math.max(px, deadline - now + want.guard)
      end
    end
    drop(gone)
    park(passed, px)
    if found or full then return found end
    budget = budget - #ids
    size = 100
  end
end

local function promote(asking)
  local waiter = nextUp(asking)
  while waiter do
    grant(waiter)
    waiter = nextUp(asking)
  end
end

local function publish(asking)
  for _, notification in ipairs(notifications) do
    if not asking[notification[1]] then redis.pcall("PUBLISH", notification[2], notification[3]) end
  end
end

local function answer(id)
  local mine = shared[id] or (holder and holder.id == id and holder)
  if mine then return { "granted", mine.token } end
  return {
    "queued", string.format("%.0f", last), redis.call("ZRANK", queue, id), redis.call("ZCARD", queue), currentHolder()
  }
end

local function withMore(reply)
  reply[#reply + 1] = more and 1 or 0
  return reply
end
`
