/**
 * What the scripts share. A script's text is `state`, then the parts that it uses, then its own steps.
 *
 * Order within a script: all reads that can find a key of a wrong type, then writes, then publications. Redis does not
 * roll a script back, so an error may only come before the first write; a publication that is refused is no error.
 */

/** Milliseconds that a token is remembered beyond the `ttl` of its grant. */
export const day = 24 * 60 * 60 * 1_000

/** What is kept of a waiter, behind its id: its inbox, ttl, guard, permits, capacity, whether it listens, its label. */
export const waiter = "^(.-)|(%d+)|(%d+)|(%d+)|(%d+)|([01])|(.*)$"

/**
 * Reads the lock: `now` (ms) and `us` (µs) of the server, `holder` of the string key, `shared` holders with the permits
 * in `used`, and `last`, a number that no token granted so far exceeds and every later one does. Where the counter is
 * lost the clock stands in for it. Our values are `id:token:label`; whatever else stands in the key is another client's.
 */
export const state = `
local lock, counter, queue, deadlines = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local waiters, holders, values = KEYS[5], KEYS[6], KEYS[7]

local time = redis.call("TIME")
local us = time[1] * 1000000 + time[2]
local now = math.floor(us / 1000)

local function parse(value)
  local id, token, label = string.match(value, "^(" .. string.rep("[%w_-]", 22) .. "):(%d+):(.*)$")
  if id then return { id = id, token = token, label = label } end
  return { label = "", foreign = true }
end

local value = redis.call("GET", lock)
local holder = value and parse(value)
local last = tonumber(redis.call("GET", counter) or "") or us - 1
if holder then last = math.max(last, tonumber(holder.token or 0)) end
redis.call("ZCARD", queue)
redis.call("HLEN", waiters)
local dead = redis.call("ZRANGEBYSCORE", deadlines, "-inf", now, "LIMIT", 0, 100)

local shared, used, expired = {}, 0, {}
local expiries = redis.call("ZRANGE", holders, 0, -1, "WITHSCORES")
local details = redis.call("HGETALL", values)
for i = 1, #details, 2 do
  local token, permits, capacity, label = string.match(details[i + 1], "^(%d+)|(%d+)|(%d+)|(.*)$")
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

local function read(id, isQueued)
  local deadline = tonumber(redis.call("ZSCORE", deadlines, id) or "")
  local fields = deadline and redis.call("HGET", waiters, id)
  if not (fields and (isQueued or redis.call("ZSCORE", queue, id))) or deadline <= now then return nil end
  local inbox, ttl, guard, permits, capacity, listening, label =
    string.match(fields, "${waiter}")
  return {
    id = id, deadline = deadline, inbox = inbox, ttl = tonumber(ttl), guard = tonumber(guard),
    permits = tonumber(permits), capacity = capacity, listening = listening == "1", label = label
  }
end

local function situation()
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
 * Changes of the queue and the grant. A dead entry is dropped, never revived. A grant keeps the deadline of the entry:
 * what the waiter may believe and what the server keeps stay the same sum. An entry whose process listened when it last
 * asked and does not now is passed over and keeps its place; where the count is unknown (`listening` 0, or refused now)
 * it is granted blind.
 */
export const changes = `
local function drop(ids)
  if #ids == 0 then return end
  redis.call("ZREM", queue, unpack(ids))
  redis.call("ZREM", deadlines, unpack(ids))
  redis.call("HDEL", waiters, unpack(ids))
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
  dropShared(expired)
end

local function lengthen(key, px)
  if redis.call("PTTL", key) < px then redis.call("PEXPIRE", key, px) end
end

local function subscribers(inbox)
  return redis.pcall("PUBSUB", "NUMSUB", inbox)[2]
end

local function enter(id, deadline, inbox, ttl, guard, permits, capacity, listening, label)
  redis.call("ZADD", deadlines, deadline, id)
  redis.call("HSET", waiters, id, table.concat({ inbox, ttl, guard, permits, capacity, listening, label }, "|"))
  for _, key in ipairs({ queue, deadlines, waiters }) do lengthen(key, ttl + guard) end
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

local pushes = {}

local function grant(entry)
  local id = entry.id
  local px = entry.deadline - now + entry.guard
  last = math.max(last + 1, us)
  local token = string.format("%.0f", last)
  drop({ id })
  if entry.capacity == "1" then
    redis.call("SET", lock, id .. ":" .. token .. ":" .. entry.label, "PX", px)
    holder = { id = id, token = token, label = entry.label }
  else
    redis.call("ZADD", holders, now + px, id)
    redis.call("HSET", values, id, table.concat({ token, entry.permits, entry.capacity, entry.label }, "|"))
    lengthen(holders, px)
    lengthen(values, px)
    shared[id] = {
      id = id, token = token, permits = entry.permits, capacity = entry.capacity, label = entry.label, expiry = now + px
    }
    used = used + entry.permits
  end
  redis.call("SET", counter, token, "PX", ${day} + entry.ttl)
  pushes[#pushes + 1] = { entry.id, entry.inbox, "g:" .. id .. ":" .. token .. ":" .. lock }
end

local function fits(entry)
  return not holder and used + entry.permits <= tonumber(entry.capacity)
end

local function nextUp(asking)
  local index = 0
  while not holder do
    local id = redis.call("ZRANGE", queue, index, index)[1]
    if not id then return nil end
    local entry = read(id, true)
    if not entry then
      drop({ id })
    elseif not fits(entry) then
      return nil
    elseif asking[id] or not entry.listening or subscribers(entry.inbox) ~= 0 then
      return entry
    else
      index = index + 1
    end
  end
end

local function promote(asking)
  local entry = nextUp(asking)
  while entry do
    grant(entry)
    entry = nextUp(asking)
  end
end

local function publish(asking)
  for _, push in ipairs(pushes) do
    if not asking[push[1]] then redis.pcall("PUBLISH", push[2], push[3]) end
  end
end

local function answer(id)
  local mine = shared[id] or (holder and holder.id == id and holder)
  if mine then return { "granted", mine.token } end
  return {
    "queued", string.format("%.0f", last), redis.call("ZRANK", queue, id), redis.call("ZCARD", queue), situation()
  }
end
`
