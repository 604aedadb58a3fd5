/**
 * The Lua code that the scripts share. The text of a script is `clock`, `state`, the other parts that it uses, and then
 * its own steps.
 *
 * Each script first does all reads that can find a key of the wrong type, then writes, then publishes. Redis does not
 * roll back a script, so an error may happen only before the first write. A refused publication is not an error.
 */

import { contention } from "./contention.ts"
import {
  baseKeyCount,
  baseVariables,
  letterOf,
  lockValue,
  sharedKeyCount,
  sharedVariables,
  waiterValue
} from "./format.ts"
import { changeHolders, readHolders } from "./holders.ts"
import { grantMessage, wakeMessage } from "./notification.ts"
import { observing } from "./observing.ts"

/** How many milliseconds the server remembers a token after the `ttl` of its grant: one day. */
export const day = 24 * 60 * 60 * 1_000

/** The error of a script that meets a value of a layout that it does not know. */
export const newerVersion = "DLOCKNEWER the key has values that this version of effect-dlock-redis cannot read"

/** Reads the server's clock once per script, as `us` (microseconds) and `now` (milliseconds). */
export const clock = `
local time = redis.call("TIME")
local us = time[1] * 1000000 + time[2]
local now = math.floor(us / 1000)
`

/**
 * `choose` assigns the keys of a lock, which begin at position `at`, and the keys of its shared holders if it may have
 * any. A mutex has no `values`.
 *
 * `readState` reads the lock, see also `readHolders`:
 *
 * - `holder`: the holder in the string key. A value that is not a `lockValue` belongs to another client.
 * - `isNewer`: a value has a layout that this version does not know. Then a script may change nothing.
 * - `last`: no token so far is greater, and every later token is. If the counter is lost, the clock replaces it.
 * - `observed`: how many processes observe the lock.
 *
 * `isForbidden` is whether a claim is held and is never extended again, because its holder was asked to leave.
 *
 * A script may drop or pass over only as many waiters as its `budget` allows, so that it always stays short. It sets
 * `more` if that limit ended its search for the next waiter.
 */
export const state = `
local ${baseVariables}
local holder, last, dead, resting, more, counterLife, holdersLife, isForming, granted, observed, isChanged
local budget = 250
${readHolders}

local ours = ${lockValue.pattern}

local function parse(value)
  local id, token, inbox, label = string.match(value, ours)
  if id then
    local channel, mark, moment, text = splitInbox(inbox)
    return { id = id, token = token, inbox = channel, mark = mark, moment = moment, text = text, label = label }
  end
  return { label = "", foreign = true }
end

local function choose(at, sharedAt)
  ${baseVariables} = unpack(KEYS, at, at + ${baseKeyCount - 1})
  ${sharedVariables} = nil, nil, nil
  if sharedAt then ${sharedVariables} = unpack(KEYS, sharedAt, sharedAt + ${sharedKeyCount - 1}) end
end

local function readState()
  local value = redis.call("GET", lock)
  holder = value and parse(value)
  redis.call("ZCARD", queue)
  redis.call("HLEN", waiters)
  resting, observed = redis.call("ZCARD", parked), redis.call("ZCARD", observers)
  dead = redis.call("ZRANGEBYSCORE", deadlines, "-inf", now, "LIMIT", 0, math.max(0, math.min(100, budget)))
  more, counterLife, holdersLife, isForming, granted, isChanged = false, 0, 0, false, {}, false
  readHolders(budget)
  last = math.max(tonumber(redis.call("GET", counter) or "") or us - 1, totals.token)
  if holder then last = math.max(last, tonumber(holder.token or 0)) end
end

local wants = {}

local function wantOf(fields)
  local want = wants[fields]
  if want == nil then
    local inbox, ttl, guard, kind, permits, capacity, listening, group, label =
      string.match(fields, ${waiterValue.pattern})
    want = inbox and {
      inbox = inbox, ttl = tonumber(ttl), guard = tonumber(guard), kind = kind, permits = tonumber(permits),
      capacity = capacity, listening = listening == "1", isGrouped = group == "1", label = label
    } or false
    wants[fields] = want
  end
  return want or nil
end

local function findWaiter(id)
  local deadline = tonumber(redis.call("ZSCORE", deadlines, id) or 0)
  local fields = deadline > now and redis.call("HGET", waiters, id)
  if not fields then return nil end
  local found = { id = id, deadline = deadline, want = wantOf(fields) }
  if not found.want then return nil end
  if redis.call("ZSCORE", queue, id) then return found end
  found.parkedAt = resting > 0 and redis.call("ZSCORE", parked, id)
  return found.parkedAt and found
end

local function findHolder(id) return holder and holder.id == id and holder or findShared(id) end

local function isForbidden(id)
  local mine = findHolder(id)
  return mine and mine.moment and now >= mine.moment
end

local newerVersion = "${newerVersion}"

local function newerReply() return redis.error_reply(newerVersion) end

local function currentHolder()
  if holder then return holder.foreign and "foreign" or "held", holder.label, redis.call("PTTL", lock) end
  local first = totals.progress == "-" and firstShared()
  if first then return "held", first.label, first.expiry - now end
  return "free", "", 0
end
`

/**
 * Changes to the queue and to grants. A script that has changed anything calls `save` before it publishes or returns.
 *
 * The keys of the queue live half as long again as they must, so that most refreshes need not extend them. No key of
 * the queue expires before `deadlines`, so reading `deadlines` is enough. A dead waiter is dropped and never revived. A
 * grant keeps the deadline of its waiter, so that the holder's deadline plus the guard gap is exactly what the server
 * keeps.
 *
 * A waiter is passed over if its process listened when it last asked, and no longer listens, whether it could be let in
 * or not: otherwise a dead writer would keep out the readers behind it. It moves to `parked`, with
 * its score in the order of arrival, so that the search meets it only once. It returns to its place when its process
 * asks again. Its deadline and its withdrawal still end it. If the number of listeners is unknown (`listening` is 0, or
 * the server refuses to count now), the waiter is granted without that check.
 */
export const changes = `
${changeHolders}
local function drop(ids)
  if #ids == 0 then return end
  redis.call("ZREM", queue, unpack(ids))
  if redis.call("ZREM", deadlines, unpack(ids)) > 0 then isChanged = true end
  redis.call("HDEL", waiters, unpack(ids))
  if resting > 0 then redis.call("ZREM", parked, unpack(ids)) end
end

local function sweep()
  drop(dead)
  sweepShared()
  budget = budget - #dead - #expired
  more = isSweepCut
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
  isForming = isForming or redis.call("ZCARD", queue) == 0
  redis.call("ZREM", parked, waiter.id)
  redis.call("ZADD", queue, waiter.parkedAt, waiter.id)
end

local function saveWaiter(id, want)
  redis.call("ZADD", deadlines, now + want.ttl, id)
  redis.call("HSET", waiters, id, ${waiterValue.write("want")})
  keep(want.ttl + want.guard)
end

local function extend(id, ttl, guard)
  if holder and holder.id == id then
    lengthen(lock, ttl + guard)
    return holder.token
  end
  local one = findShared(id)
  if not one then return nil end
  one.expiry = math.max(one.expiry, now + ttl + guard)
  redis.call("ZADD", holders, one.expiry, id)
  lengthenShared(one.expiry - now)
  return one.token
end

local notifications = {}

local function grant(waiter)
  local id, want = waiter.id, waiter.want
  local px = waiter.deadline - now + want.guard
  last = math.max(last + 1, us)
  local token = string.format("%.0f", last)
  if want.kind == "${letterOf.mutex}" then
    redis.call("SET", lock, ${lockValue.write("id", "token", "want.inbox", "want.label")}, "PX", px)
    holder = { id = id, token = token, inbox = want.inbox, label = want.label }
    isChanged = true
  else
    addShared({
      id = id, token = token, permits = want.permits, capacity = want.capacity, kind = want.kind, inbox = want.inbox,
      mark = "", label = want.label, expiry = now + px
    })
    holdersLife = math.max(holdersLife, px)
  end
  counterLife = math.max(counterLife, ${day} + want.ttl)
  granted[#granted + 1] = { id = id, inbox = want.inbox, token = token, lock = lock }
  notifications[#notifications + 1] = granted[#granted]
  budget = budget - 4
end

local function fits(want)
  if want.kind == "${letterOf.mutex}" then return totals.holders == 0 end
  if not values or totals.progress ~= "-" or (totals.holders > 0 and want.kind ~= totals.kind) then return false end
  local capacity = math.min(tonumber(want.capacity), smallestCapacity() or math.huge)
  return totals.permits + want.permits <= capacity
end

local function goOnLater()
  more = true
  local head = values and redis.call("ZRANGE", queue, 0, 0)[1]
  local fields = head and redis.call("HGET", waiters, head)
  local want = fields and wantOf(fields)
  if want then notifications[#notifications + 1] = { id = head, inbox = want.inbox, text = ${wakeMessage("lock")} } end
end

local function scan(asking, take)
  local size = 1
  while not holder do
    if budget <= 0 or isCounting() then
      if redis.call("ZCARD", queue) > 0 then goOnLater() end
      return
    end
    local first = redis.call("ZRANGE", queue, 0, size - 1, "WITHSCORES")
    if #first == 0 then return end
    local ids = {}
    for i = 1, #first, 2 do ids[#ids + 1] = first[i] end
    local due = redis.call("ZMSCORE", deadlines, unpack(ids))
    local fields = redis.call("HMGET", waiters, unpack(ids))
    local gone, passed, px, isOver = {}, {}, 0, false
    for i, id in ipairs(ids) do
      local deadline, want = tonumber(due[i] or 0), fields[i] and wantOf(fields[i])
      if not fields[i] or deadline <= now then
        gone[#gone + 1] = id
      elseif not want then
        isOver = true
      elseif not (asking[id] or not want.listening or subscribers(want.inbox) ~= 0) then
        passed[#passed + 1] = first[2 * i]
        passed[#passed + 1] = id
        px = math.max(px, deadline - now + want.guard)
      elseif not fits(want) then
        isOver = true
      else
        if take({ id = id, deadline = deadline, want = want }) then
          gone[#gone + 1] = id
          if budget <= 0 then break end
        else
          isOver = true
        end
      end
      if isOver or holder then break end
      budget = budget - 1
    end
    drop(gone)
    park(passed, px)
    if isOver then return end
    size = math.min(8 * size, 64)
  end
end

local function nextUp(asking)
  local found
  scan(asking, function(waiter)
    found = waiter
    return false
  end)
  return found
end

local function promote(asking)
  scan(asking, function(waiter)
    grant(waiter)
    return true
  end)
end

local function publish(asking)
  for _, one in ipairs(notifications) do
    local text = one.text or ${grantMessage("one.id", "one.token", "one.lock")}
    if not asking[one.id] then redis.pcall("PUBLISH", one.inbox, text) end
  end
end

${contention}${observing}
local function save()
  tellHolders()
  tellObservers()
  if counterLife > 0 then redis.call("SET", counter, string.format("%.0f", last), "PX", counterLife) end
  if holdersLife > 0 then lengthenShared(holdersLife) end
  saveTotals()
end

local function answer(id)
  local mine = findHolder(id)
  if mine then return { "granted", contendedToken(mine.token) } end
  return {
    "queued", string.format("%.0f", last), redis.call("ZRANK", queue, id), redis.call("ZCARD", queue), currentHolder()
  }
end

local function withMore(reply)
  reply[#reply + 1] = more and 1 or 0
  return reply
end
`
