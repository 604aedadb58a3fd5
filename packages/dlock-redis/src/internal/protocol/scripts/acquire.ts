/** The script that acquires a lock or a place in its queue. */

import type { LockKind } from "effect-dlock/LockError"
import { entering, findKindOfWaiters, modeOf } from "../entering.ts"
import {
  K,
  kindOf,
  letterOf,
  lockValue,
  sharedAt,
  sharedKeys,
  sharedKeysForMutex,
  sharedValue,
  totalsValue
} from "../format.ts"
import { readPlainTotals } from "../holders.ts"
import type { LockKeys } from "../keys.ts"
import { changes, clock, day, state } from "../prelude.ts"
import {
  type AlreadyHeld,
  type Busy,
  Call,
  type Cancelled,
  claimReply,
  type Granted,
  grantOf,
  holderOf,
  list,
  make,
  type Mismatch,
  type Progress,
  type Queued,
  type Revoked,
  type Script,
  unexpected,
  whole
} from "../script.ts"

export interface AcquireArgs {
  readonly keys: LockKeys
  readonly id: string
  readonly inbox: string
  readonly ttl: number
  readonly guard: number
  readonly kind: LockKind
  readonly permits: number
  readonly capacity: number
  /** Whether any other capacity on the key is a mismatch. */
  readonly isStrict?: boolean | undefined
  readonly mode: "queue" | "try"
  /** How many claims may wait before this one. Absent: any number. */
  readonly maxQueue?: number | undefined
  readonly label: string
  /** The ids of the claims that the caller already holds around this request, on this key or on other keys. */
  readonly inside?: ReadonlyArray<string> | undefined
}

export type AcquireReply =
  | (Granted | Queued) & Progress & {
    /** The smallest capacity of other holders that differs from the claim's. */
    readonly otherCapacity: number | undefined
  }
  | Busy & Progress
  | AlreadyHeld
  | Mismatch
  | Cancelled
  | Revoked

/**
 * Acquires the lock, or a place in its queue. A repeated request keeps its place, and is granted again what it holds.
 *
 * Keys: the lock's seven keys, the tombstone of the claim, and the keys of shared holders. For a mutex only the first two
 * of those, which tell whether there are shared holders.
 *
 * Arguments: id, label, inbox, ttl, guard, kind, permits, capacity, mode (see `modeOf`), whether the claim is strict (1 or
 * 0), and the ids in `inside`.
 *
 * Returns the token alone for a grant on the fast path. Otherwise it returns one of
 *
 * - { "granted", token, other, more }
 * - { "queued", floor, place, length, state, label, remaining, other, more }
 * - { "busy", length, state, label, remaining, more }
 * - { "alreadyHeld", token }
 * - { "mismatch", kind, capacity }
 * - { "cancelled" }
 * - { "revoked" }
 *
 * where `state` describes the holder: "held", "foreign" or "free". `other` is the smallest capacity of other holders
 * that differs from this claim's, or 0.
 *
 * The fast paths come first, for locks that nobody observes. One grants a free mutex if no claim waits, or if every waiter was passed over. The other
 * grants permits if there are enough, no claim waits, and no holder has expired. A claim that may not wait, or not behind so
 * many, does not enter a queue that it would leave at once.
 */
export const acquire: Script<AcquireArgs, AcquireReply> = make({
  name: "acquire",
  lua: `
${clock}
local call = redis.call

${findKindOfWaiters}
local function free()
  local inTheWay = call("EXISTS", ${K.lock}, ${K.queue}, ${K.parked}, ${K.observers}, ${K.tombstone}, ${K.holders})
  if inTheWay == 0 then return true end
  local onlyParked = inTheWay == 1 and call("EXISTS", ${K.parked}) == 1
  return onlyParked and not call("ZSCORE", ${K.parked}, ARGV[1]) and (kindOfWaiters(${K.deadlines}, ${K.waiters}) or "${letterOf.mutex}") == "${letterOf.mutex}"
end

${readPlainTotals}
local function grantPermits()
  if call("EXISTS", ${K.lock}, ${K.queue}, ${K.parked}, ${K.observers}, ${K.tombstone}) > 0 then return nil end
  local number, kind, permits, floor, name, capacity = readPlainTotals()
  if not number or (number > 0 and (kind ~= ARGV[6] or capacity ~= ARGV[8])) then return nil end
  local used = permits + ARGV[7]
  if used > tonumber(ARGV[8]) then return nil end
  if call("HLEN", ${K.values}) ~= number or call("ZCOUNT", ${K.holders}, "(" .. now, "+inf") ~= number then return nil end
  local last = math.max(tonumber(call("GET", ${K.counter}) or "") or 0, floor)
  local px = ARGV[4] + ARGV[5]
  if call("ZADD", ${K.holders}, "NX", now + px, ARGV[1]) == 0 then return nil end
  local token = string.format("%.0f", math.max(us, last + 1))
  call("SET", ${K.counter}, token, "PX", ${day} + ARGV[4])
  name = name or token
  call("HSET", ${K.values}, ARGV[1], ${
    sharedValue.write("token", "ARGV[7]", "ARGV[8]", "ARGV[6]", "name", "ARGV[3]", "ARGV[2]")
  })
  number, used = number + 1, string.format("%.0f", used)
  local sums = ${totalsValue.writePlain("ARGV[6]", "number", "used", "token", "name", "ARGV[8]")}
  if call("PTTL", ${K.holders}) < px then
    px = math.ceil(1.5 * px)
    call("PEXPIRE", ${K.holders}, px)
    call("PEXPIRE", ${K.values}, px)
    call("SET", ${K.totals}, sums, "PX", px)
  else
    call("SET", ${K.totals}, sums, "KEEPTTL")
  end
  return token
end

if ARGV[6] ~= "${letterOf.mutex}" then
  local token = grantPermits()
  if token then return token end
elseif free() then
  local token = time[1] .. string.format("%06d", time[2])
  local last = tonumber(call("SET", ${K.counter}, token, "PX", ${day} + ARGV[4], "GET") or "")
  if last and last >= tonumber(token) then
    token = string.format("%.0f", last + 1)
    call("SET", ${K.counter}, token, "PX", ${day} + ARGV[4])
  end
  call("SET", ${K.lock}, ${lockValue.write("ARGV[1]", "token", "ARGV[3]", "ARGV[2]")}, "PX", ARGV[4] + ARGV[5])
  return token
end
${state}${changes}${entering}
local tombstone, firstInside = ${K.tombstone}, 11
local id, label, inbox, ttl, guard, kind, permits, capacity, mode, strict = unpack(ARGV)
local want = {
  inbox = inbox, ttl = tonumber(ttl), guard = tonumber(guard), kind = kind, permits = tonumber(permits),
  capacity = capacity, label = label
}
choose(1, ${sharedAt})
readState()
if redis.call("EXISTS", tombstone) == 1 then return { "cancelled" } end
if isNewer then return newerReply() end
sweep()

if isForbidden(id) then
  save()
  return { "revoked" }
end
local token = extend(id, want.ttl, want.guard)
if token then
  save()
  return withMore({ "granted", contendedToken(token), otherCapacity(capacity, true) })
end
local mine = findWaiter(id)

local kindInUse, capacityInUse = inUse()
if isNewer or kindInUse == "newer" then
  save()
  return newerReply()
end
local isOther = strict == "1" and hasOtherCapacity(capacity)
if not mine and kindInUse and (kindInUse ~= kind or isOther) then
  save()
  return { "mismatch", kindInUse, tonumber(capacityInUse) or 1 }
end

local outer = ARGV[firstInside] and not mine and not isRoom(want) and outerOf(firstInside)
if outer then
  save()
  return { "alreadyHeld", outer.token }
end
local function busy() return withMore({ "busy", redis.call("ZCARD", queue), currentHolder() }) end
local most = mostOf(mode)
if not mine and (holder or totals.progress ~= "-") and isFull(most) then
  more = more or isCounting()
  save()
  return busy()
end
want.listening = (subscribers(inbox) or 0) > 0
-- A claim that comes and goes within this script is no change.
local wasChanged = isChanged
enter(id, want, mine)
local hasEntered = isChanged
isChanged = wasChanged
local asking = { [id] = true }
promote(asking)
local reply = answer(id)
if reply[1] == "queued" and (mode == "try" or not mine) and reply[3] >= most then
  wasChanged = isChanged
  drop({ id })
  isChanged = wasChanged
  reply = busy()
else
  isChanged = isChanged or hasEntered
  reply[#reply + 1] = otherCapacity(capacity, reply[1] == "granted")
  withMore(reply)
end
save()
publish(asking)
return reply
`,
  lockOf: ({ keys }) => keys,
  encode: ({ capacity, guard, id, inbox, inside, isStrict, kind, label, maxQueue, mode, keys, permits, ttl }) => {
    const moreKeys = [keys.tombstone(id), ...(kind === "mutex" ? sharedKeysForMutex(keys) : sharedKeys(keys))]
    const args = [
      id,
      label,
      inbox,
      whole(ttl),
      whole(guard),
      letterOf[kind],
      String(permits),
      String(capacity),
      modeOf(mode, maxQueue),
      isStrict === true ? "1" : "0"
    ]
    return new Call(keys, moreKeys, inside === undefined ? args : [...args, ...inside])
  },
  decode: (raw) => {
    if (typeof raw === "string") return { _tag: "Granted", ...grantOf(raw), otherCapacity: undefined, more: false }
    const reply = list(raw)
    const more = reply.at(-1) === 1
    switch (reply[0]) {
      case "busy":
        return { _tag: "Busy", length: Number(reply[1]), holder: holderOf(reply[2], reply[3], reply[4]), more }
      case "alreadyHeld":
        return { _tag: "AlreadyHeld", token: BigInt(String(reply[1])) }
      case "mismatch":
        return { _tag: "Mismatch", kind: kindOf(reply[1]), capacity: Number(reply[2]) }
      case "cancelled":
        return { _tag: "Cancelled" }
      default: {
        const claim = claimReply(raw)
        if (claim._tag === "Gone") throw unexpected(raw)
        if (claim._tag === "Revoked") return claim
        return { ...claim, otherCapacity: Number(reply.at(-2)) || undefined, more }
      }
    }
  }
})
