/**
 * The Redis protocol: one script a step, on one key's slot, idempotent by the claim's id. Nothing here knows a client.
 *
 * A claim's id is 22 characters of base64url, new for each try to get the lock and never used again after a `leave`. An
 * inbox is a channel name without `|`. Times are whole milliseconds of the server, which alone decides what has expired.
 */
import { createHash } from "node:crypto"
import type { Names } from "./names.ts"
import { changes, state } from "./scripts/prelude.ts"

/** What `EVALSHA sha numberOfKeys` takes after those: the keys, then the arguments. */
export interface Call {
  readonly keys: ReadonlyArray<string>
  readonly args: ReadonlyArray<string>
}

export interface Script<Args, Reply> {
  readonly name: string
  readonly lua: string
  readonly sha: string
  readonly encode: (args: Args) => Call
  /** Throws where the reply is not one of this script's. */
  readonly decode: (raw: unknown) => Reply
}

/** Who holds the lock as seen by a claim that does not: of several holders the one that expires first. */
export interface Holder {
  /** Empty for a foreign holder, whose value may be its secret. */
  readonly label: string
  /** Milliseconds, or -1 where the holder set no expiry. */
  readonly remaining: number
  /** A client that follows the common lock pattern, not one of ours. */
  readonly foreign: boolean
}

export interface Granted {
  readonly _tag: "Granted"
  readonly token: bigint
}

export interface Queued {
  readonly _tag: "Queued"
  /** No grant of this claim so far has a greater token. */
  readonly floor: bigint
  /** 0 at the head. */
  readonly place: number
  /** Claims that wait, this one included. */
  readonly length: number
  readonly holder: Holder | undefined
}

export interface Busy {
  readonly _tag: "Busy"
  readonly length: number
  readonly holder: Holder | undefined
}

/** The claim was left before this request ran. */
export interface Cancelled {
  readonly _tag: "Cancelled"
}

/** The key is in use with another capacity. */
export interface Mismatch {
  readonly _tag: "Mismatch"
  readonly capacity: number
}

/** Neither held nor queued. */
export interface Gone {
  readonly _tag: "Gone"
}

const whole = (value: number): string => String(Math.ceil(value))
const flag = (value: boolean): string => value ? "1" : "0"

const unexpected = (raw: unknown): Error => new Error(`Not a reply of this script: ${JSON.stringify(raw)}`)

const list = (raw: unknown): ReadonlyArray<unknown> => {
  if (Array.isArray(raw)) return raw
  throw unexpected(raw)
}

const holderOf = (kind: unknown, label: unknown, remaining: unknown): Holder | undefined =>
  kind === "free" ? undefined : { label: String(label), remaining: Number(remaining), foreign: kind === "foreign" }

const claimReply = (raw: unknown): Granted | Queued | Gone => {
  const [tag, ...rest] = list(raw)
  switch (tag) {
    case "granted":
      return { _tag: "Granted", token: BigInt(String(rest[0])) }
    case "queued":
      return {
        _tag: "Queued",
        floor: BigInt(String(rest[0])),
        place: Number(rest[1]),
        length: Number(rest[2]),
        holder: holderOf(rest[3], rest[4], rest[5])
      }
    case "gone":
      return { _tag: "Gone" }
    default:
      throw unexpected(raw)
  }
}

const make = <Args, Reply>(script: Omit<Script<Args, Reply>, "sha">): Script<Args, Reply> => ({
  ...script,
  sha: createHash("sha1").update(script.lua).digest("hex")
})

const lockKeys = (names: Names): ReadonlyArray<string> => [
  names.lock,
  names.counter,
  names.queue,
  names.deadlines,
  names.waiters,
  names.holders,
  names.values
]

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

/**
 * Takes the lock, or a place in its queue. A repeat keeps the place, and is granted again what it holds.
 *
 * Keys: the lock's seven, the mark of the claim. Arguments: id, inbox, ttl, guard, permits, capacity, mode, label.
 *
 * Returns { "granted", token }, { "queued", floor, place, length, kind, label, remaining },
 * { "busy", length, kind, label, remaining }, { "mismatch", capacity } or { "cancelled" }, where `kind` of the holder is
 * "held", "foreign" or "free".
 *
 * A free mutex with nobody waiting takes the first lines and nothing else. `try` does not enter a queue that it would
 * leave at once.
 */
export const acquire: Script<AcquireArgs, Granted | Queued | Busy | Mismatch | Cancelled> = make({
  name: "acquire",
  lua: `
if ARGV[6] == "1" and not redis.call("GET", KEYS[1]) and redis.call("EXISTS", KEYS[3], KEYS[6], KEYS[8]) == 0 then
  local last = tonumber(redis.call("GET", KEYS[2]) or "") or 0
  local time = redis.call("TIME")
  local token = string.format("%.0f", math.max(last + 1, time[1] * 1000000 + time[2]))
  redis.call("SET", KEYS[1], ARGV[1] .. ":" .. token .. ":" .. ARGV[8], "PX", ARGV[3] + ARGV[4])
  redis.call("SET", KEYS[2], token, "PX", 86400000 + ARGV[3])
  return { "granted", token }
end
${state}${changes}
local mark = KEYS[8]
local id, inbox, ttl, guard, permits, capacity, mode, label = unpack(ARGV)
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
  encode: ({ capacity, guard, id, inbox, label, mode, names, permits, ttl }) => ({
    keys: [...lockKeys(names), names.mark(id)],
    args: [id, inbox, whole(ttl), whole(guard), String(permits), String(capacity), mode, label]
  }),
  decode: (raw) => {
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

export interface RefreshArgs {
  readonly names: Names
  readonly inbox: string
  /** Claims of one process on one lock. With none the call only moves the queue on. */
  readonly claims: ReadonlyArray<{ readonly id: string; readonly ttl: number; readonly guard: number }>
}

/**
 * Says that these claims still wait, and asks how they stand. Never creates an entry.
 *
 * Keys: the lock's seven. Arguments: inbox, then id, ttl, guard of each claim.
 *
 * Returns for each claim { "granted", token }, { "queued", floor, place, length, kind, label, remaining } or { "gone" }.
 */
export const refresh: Script<RefreshArgs, ReadonlyArray<Granted | Queued | Gone>> = make({
  name: "refresh",
  lua: `
${state}${changes}
local inbox = ARGV[1]
local listening = (#ARGV > 1 and subscribers(inbox) or 0) > 0 and 1 or 0
sweep()

local replies, asking = {}, {}
for i = 2, #ARGV, 3 do
  local id, ttl, guard = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local token = extend(id, ttl, guard)
  if token then
    replies[id] = { "granted", token }
  else
    local mine = read(id)
    if mine then
      enter(id, now + ttl, inbox, ttl, guard, mine.permits, mine.capacity, listening, mine.label)
      asking[id] = true
    else
      drop({ id })
      replies[id] = { "gone" }
    end
  end
end
promote(asking)

local list = {}
for i = 2, #ARGV, 3 do list[#list + 1] = replies[ARGV[i]] or answer(ARGV[i]) end
publish(asking)
return list
`,
  encode: ({ claims, inbox, names }) => ({
    keys: lockKeys(names),
    args: [inbox, ...claims.flatMap(({ guard, id, ttl }) => [id, whole(ttl), whole(guard)])]
  }),
  decode: (raw) => list(raw).map(claimReply)
})

export interface RenewArgs {
  /** Holders of locks that share one slot, or one node without slots. */
  readonly claims: ReadonlyArray<{
    readonly names: Names
    readonly id: string
    readonly token: bigint
    readonly ttl: number
    readonly guard: number
    readonly capacity: number
  }>
}

/**
 * Extends what is still held, and never shortens it nor creates it.
 *
 * Keys of each claim: the lock at capacity 1, else its two of shared holders. Arguments of each: id, token, ttl, guard,
 * capacity.
 *
 * Returns for each "ok", "expired" (nothing there) or "replaced" (somebody else's, or no longer a lock at all). A key of
 * a wrong type is the answer of that claim alone, so it does not cost its neighbours their renewal.
 */
export const renew: Script<RenewArgs, ReadonlyArray<"ok" | "expired" | "replaced">> = make({
  name: "renew",
  lua: `
local time = redis.call("TIME")
local now = math.floor((time[1] * 1000000 + time[2]) / 1000)

local function lengthen(key, px)
  if redis.call("PTTL", key) < px then redis.call("PEXPIRE", key, px) end
end

local function exclusive(lock, id, token, px)
  local value = redis.pcall("GET", lock)
  if not value then return "expired" end
  local prefix = id .. ":" .. token .. ":"
  if type(value) == "table" or string.sub(value, 1, #prefix) ~= prefix then return "replaced" end
  lengthen(lock, px)
  return "ok"
end

local function shared(holders, values, id, token, px)
  local expiry, value = redis.pcall("ZSCORE", holders, id), redis.pcall("HGET", values, id)
  if type(expiry) == "table" or type(value) == "table" then return "replaced" end
  if not (expiry and value) or tonumber(expiry) <= now then return "expired" end
  if string.sub(value, 1, #token + 1) ~= token .. "|" then return "replaced" end
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
  encode: ({ claims }) => ({
    keys: claims.flatMap(({ capacity, names }) => capacity === 1 ? [names.lock] : [names.holders, names.values]),
    args: claims.flatMap(({ capacity, guard, id, token, ttl }) => [
      id,
      String(token),
      whole(ttl),
      whole(guard),
      String(capacity)
    ])
  }),
  decode: (raw) =>
    list(raw).map((reply) => {
      if (reply === "ok" || reply === "expired" || reply === "replaced") return reply
      throw unexpected(raw)
    })
})

export interface LeaveArgs {
  readonly names: Names
  readonly id: string
  /** Set while a request of this claim may still arrive: it will find the claim cancelled. */
  readonly mark: boolean
  /** Frees the lock for everybody instead of handing it to the next in line. */
  readonly interop: boolean
}

export type LeaveReply =
  | { readonly _tag: "Released" }
  | {
    /** `Cancelled`: it was queued, or a mark was set. `NotHeld`: nothing of it was there. */
    readonly _tag: "Cancelled" | "NotHeld"
    /** Claims that still wait. */
    readonly length: number
    readonly holder: Holder | undefined
  }

/** How long a mark stands: longer than a system keeps sending a request again (924 s on Linux). */
export const markTtl = 16 * 60 * 1_000

/**
 * Ends a claim, held, queued or never arrived, and moves the queue on. It compares the id, not the token: whatever this
 * claim has been granted goes.
 *
 * Keys: the lock's seven, the mark of the claim. Arguments: id, mark (ms, or 0 for none), interop (0 or 1).
 *
 * Returns { "released" }, or { "cancelled" or "notHeld", length, kind, label, remaining } with the queue without this
 * claim.
 *
 * With `interop` the next in line is woken wherever it could be granted, also when this claim did not hold: a leave that
 * is sent again then changes nothing, and a head that was woken and gives up passes the call on.
 */
export const leave: Script<LeaveArgs, LeaveReply> = make({
  name: "leave",
  lua: `
local own = ARGV[1] .. ":"
local found = redis.call("GET", KEYS[1])
if found and string.sub(found, 1, #own) == own and redis.call("EXISTS", KEYS[3], KEYS[6]) == 0 then
  if ARGV[2] ~= "0" then redis.call("SET", KEYS[8], "1", "PX", ARGV[2]) end
  redis.call("DEL", KEYS[1])
  return { "released" }
end
${state}${changes}
local id, mark, interop = ARGV[1], ARGV[2], ARGV[3]
sweep()
local waited = read(id)
if mark ~= "0" then redis.call("SET", KEYS[8], "1", "PX", mark) end
drop({ id })

local held = true
if holder and holder.id == id then
  redis.call("DEL", lock)
  holder = nil
elseif shared[id] then
  dropShared({ id })
else
  held = false
end

if interop == "1" then
  local entry = nextUp({})
  if entry then pushes[1] = { entry.id, entry.inbox, "w:" .. lock } end
else
  promote({})
end
local reply = { "released" }
if not held then
  reply = { (waited or mark ~= "0") and "cancelled" or "notHeld", redis.call("ZCARD", queue), situation() }
end
publish({})
return reply
`,
  encode: ({ id, interop, mark, names }) => ({
    keys: [...lockKeys(names), names.mark(id)],
    args: [id, mark ? String(markTtl) : "0", flag(interop)]
  }),
  decode: (raw) => {
    const [tag, ...rest] = list(raw)
    if (tag === "released") return { _tag: "Released" }
    if (tag !== "cancelled" && tag !== "notHeld") throw unexpected(raw)
    return {
      _tag: tag === "cancelled" ? "Cancelled" : "NotHeld",
      length: Number(rest[0]),
      holder: holderOf(rest[1], rest[2], rest[3])
    }
  }
})

export interface Inspection {
  readonly holders: ReadonlyArray<
    Holder & {
      /** Undefined for a foreign holder. */
      readonly id: string | undefined
      readonly token: bigint | undefined
      readonly permits: number
    }
  >
  /** Live claims in the order of the queue, the first hundred. */
  readonly waiting: ReadonlyArray<{ readonly id: string; readonly permits: number; readonly label: string }>
  /** All entries of the queue. */
  readonly length: number
  /** Undefined where nobody holds or waits. */
  readonly capacity: number | undefined
  /** Every token so far is at most this, every later one greater. */
  readonly lastToken: bigint
}

/**
 * Reads a lock and changes nothing.
 *
 * Keys: the lock's seven. Returns { lastToken, capacity, length, { id, token, permits, kind, label, remaining, … },
 * { id, permits, label, … } }; a capacity of "0" where nobody holds or waits.
 */
export const inspect: Script<{ readonly names: Names }, Inspection> = make({
  name: "inspect",
  lua: `
${state}
local holding, waiting, capacity = {}, {}, "0"
local function add(list, ...)
  for _, field in ipairs({ ... }) do list[#list + 1] = field end
end
if holder then
  capacity = "1"
  add(holding, holder.id or "", holder.token or "", 1, situation())
end
for i = 1, #expiries, 2 do
  local one = shared[expiries[i]]
  if one then
    capacity = one.capacity
    add(holding, one.id, one.token, one.permits, "held", one.label, one.expiry - now)
  end
end
for _, id in ipairs(redis.call("ZRANGE", queue, 0, 99)) do
  local entry = read(id)
  if entry then
    capacity = entry.capacity
    add(waiting, id, entry.permits, entry.label)
  end
end
return { string.format("%.0f", last), capacity, redis.call("ZCARD", queue), holding, waiting }
`,
  encode: ({ names }) => ({ keys: lockKeys(names), args: [] }),
  decode: (raw) => {
    const [lastToken, capacity, length, holding, waiting] = list(raw)
    const rows = (fields: unknown, width: number) => {
      const flat = list(fields)
      return Array.from({ length: flat.length / width }, (_, row) => flat.slice(row * width, (row + 1) * width))
    }
    return {
      holders: rows(holding, 6).map(([id, token, permits, kind, label, remaining]) => ({
        id: id === "" ? undefined : String(id),
        token: token === "" ? undefined : BigInt(String(token)),
        permits: Number(permits),
        label: String(label),
        remaining: Number(remaining),
        foreign: kind === "foreign"
      })),
      waiting: rows(waiting, 3).map(([id, permits, label]) => ({
        id: String(id),
        permits: Number(permits),
        label: String(label)
      })),
      length: Number(length),
      capacity: capacity === "0" ? undefined : Number(capacity),
      lastToken: BigInt(String(lastToken))
    }
  }
})

/** What a process hears on its inbox: a grant, or that the lock is free and its claims should ask. */
export type Push =
  | { readonly _tag: "Granted"; readonly id: string; readonly token: bigint; readonly lock: string }
  | { readonly _tag: "Wake"; readonly lock: string }

/** Reads `g:id:token:lock` and `w:lock`; `undefined` for anything else, since anyone may publish. */
export const decodePush = (message: string): Push | undefined => {
  const grant = /^g:([\w-]{22}):(\d+):(.*)$/s.exec(message)
  if (grant !== null) {
    const [, id, token, lock] = grant as unknown as [string, string, string, string]
    return { _tag: "Granted", id, token: BigInt(token), lock }
  }
  return message.startsWith("w:") ? { _tag: "Wake", lock: message.slice(2) } : undefined
}
