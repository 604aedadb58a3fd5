/** The script that acquires several locks, or places in all their queues, at one instant. */

import { entering, findKindOfWaiters, modeOf } from "../entering.ts"
import {
  baseKeyCount,
  baseKeys,
  kindOf,
  letterOf,
  lockValue,
  sharedAt,
  sharedKeyCount,
  sharedKeys,
  sharedKeysForMutex
} from "../format.ts"
import { changes, clock, day, state } from "../prelude.ts"
import {
  type AlreadyHeld,
  Call,
  type Cancelled,
  claimReply,
  type Granted,
  grantOf,
  list,
  make,
  type Mismatch,
  type Progress,
  type Queued,
  type Script,
  unexpected,
  whole
} from "../script.ts"
import type { AcquireArgs } from "./acquire.ts"

/** One of the claims. */
export type Wanted = Omit<AcquireArgs, "inbox" | "mode" | "inside" | "maxQueue">

export interface AcquireAllArgs {
  readonly inbox: string
  readonly mode: "queue" | "try"
  /** How many claims may wait before each of these. Absent: any number. */
  readonly maxQueue?: number | undefined
  /** Claims on locks in one slot, or on one server without slots. */
  readonly claims: ReadonlyArray<Wanted>
  /** The ids of the claims that the caller already holds around this request, on these keys or on others. */
  readonly inside?: ReadonlyArray<string> | undefined
}

/** Why a claim has no place. */
export type Refusal = { readonly _tag: "Busy"; readonly length: number } | AlreadyHeld | Mismatch

export type AcquireAllReply =
  | {
    /** Every claim is held or queued. */
    readonly _tag: "Placed"
    readonly claims: ReadonlyArray<
      (Granted | Queued) & Progress & { readonly otherCapacity: number | undefined }
    >
  }
  | {
    /** One of the claims has no place, so none has. */
    readonly _tag: "Refused"
    /** For each claim why it has no place, or `undefined` if it could have one. */
    readonly claims: ReadonlyArray<Refusal | undefined>
    /** Whether the script stopped before it had found out whether there is room. Call again to continue. */
    readonly more: boolean
  }
  /** One of the claims was withdrawn before this request ran. */
  | Cancelled
  /** Some of the claims are known and some are not, or one of them is never extended again. Nothing was changed. */
  | { readonly _tag: "Broken" }

/** How many arguments each claim has. */
const argsOfClaim = 8

/**
 * Acquires several locks, or places in all their queues. If one of the claims has no place, none has. A repeated request
 * keeps the places, and is granted again what it holds. If it finds some of the claims and not all of them, it changes
 * nothing: a missing claim would only come back at a later place than the others. It changes nothing either if the holder
 * of one of them was asked to leave and its time is over.
 *
 * Claims of such a request are never passed over, see `waiterValue`.
 *
 * Keys of each claim: the lock's seven keys, the tombstone of the claim, and the keys of shared holders, for a mutex only
 * the first two of those.
 *
 * Arguments: mode (see `modeOf`), inbox, the number of claims, for each claim id, label, ttl, guard, kind, permits, capacity and whether
 * it is strict (1 or 0), and then the ids in `inside`.
 *
 * Returns one of
 *
 * - { "free", token... } on the fast path, for mutexes that are all free
 * - { "placed", reply... } with the replies of `acquire` for each claim: granted or queued
 * - { "refused", more, reply... } where the reply for a claim that could have a place is { "none" }
 * - { "cancelled" }
 * - { "broken" }
 *
 * The script reads all locks before it changes any, because a key of the wrong type must end it before the first write.
 * Then it moves every queue on, and so knows who stands where. Only then it places the claims, or refuses them.
 */
export const acquireAll: Script<AcquireAllArgs, AcquireAllReply> = make({
  name: "acquireAll",
  lua: `
${clock}
local call = redis.call
local mode, inbox, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local firstInside = 4 + count * ${argsOfClaim}

local function grantFree()
  local inTheWay, at = {}, 1
  for i = 1, count do
    if ARGV[8 + (i - 1) * ${argsOfClaim}] ~= "${letterOf.mutex}" then return nil end
    for _, offset in ipairs({ 0, 2, 5, 6, ${baseKeyCount}, ${
    baseKeyCount + 1
  } }) do inTheWay[#inTheWay + 1] = KEYS[at + offset] end
    at = at + ${sharedAt + 1}
  end
  if call("EXISTS", unpack(inTheWay)) > 0 then return nil end
  local last, reply, at = {}, { "free" }, 1
  for i = 1, count do last[i] = tonumber(call("GET", KEYS[2 + (i - 1) * ${sharedAt + 1}]) or "") or 0 end
  for i = 1, count do
    local id, label, ttl, guard = unpack(ARGV, 4 + (i - 1) * ${argsOfClaim}, 7 + (i - 1) * ${argsOfClaim})
    local token = string.format("%.0f", math.max(us, last[i] + 1))
    call("SET", KEYS[at + 1], token, "PX", ${day} + ttl)
    call("SET", KEYS[at], ${lockValue.write("id", "token", "inbox", "label")}, "PX", ttl + guard)
    reply[#reply + 1] = token
    at = at + ${sharedAt + 1}
  end
  return reply
end

local granted = grantFree()
if granted then return granted end
${findKindOfWaiters}${state}${changes}${entering}
local claims, asking, at = {}, {}, 1
for i = 1, count do
  local id, label, ttl, guard, kind, permits, capacity, strict =
    unpack(ARGV, 4 + (i - 1) * ${argsOfClaim}, 3 + i * ${argsOfClaim})
  claims[i] = {
    id = id, at = at, tombstone = KEYS[at + ${baseKeyCount}], isStrict = strict == "1",
    want = {
      inbox = inbox, ttl = tonumber(ttl), guard = tonumber(guard), kind = kind, permits = tonumber(permits),
      capacity = capacity, label = label, listening = false, isGrouped = true
    }
  }
  asking[id] = true
  at = at + (kind == "${letterOf.mutex}" and ${sharedAt + 1} or ${sharedAt - 1 + sharedKeyCount})
end

local function read(claim)
  choose(claim.at, claim.at + ${sharedAt - 1})
  if claim.want.kind == "${letterOf.mutex}" then values = nil end
  readState()
end

for _, claim in ipairs(claims) do
  read(claim)
  if isNewer then return newerReply() end
  if redis.call("EXISTS", claim.tombstone) == 1 then return { "cancelled" } end
end

local most = mostOf(mode)
local function refusalOf(claim)
  local want = claim.want
  local kindInUse, capacityInUse = inUse()
  if isNewer or kindInUse == "newer" then return { "newer" } end
  local isOther = claim.isStrict and hasOtherCapacity(want.capacity)
  if kindInUse and (kindInUse ~= want.kind or isOther) then
    return { "mismatch", kindInUse, tonumber(capacityInUse) or 1 }
  end
  if isRoom(want) then return nil end
  local outer = ARGV[firstInside] and outerOf(firstInside)
  if outer then return { "alreadyHeld", outer.token } end
  if not isFull(most) then return nil end
  claim.more = claim.more or isCounting()
  return { "busy", redis.call("ZCARD", queue) }
end

local known, refused, isUnreadable, isCut, isBroken = 0, { "refused", 0 }, false, false, false
for _, claim in ipairs(claims) do
  budget = 250
  read(claim)
  sweep()
  promote({})
  save()
  claim.more = more
  claim.isHeld = holder and holder.id == claim.id or findShared(claim.id) ~= nil
  isBroken = isBroken or isForbidden(claim.id)
  if claim.isHeld or findWaiter(claim.id) then known = known + 1 else claim.refusal = refusalOf(claim) end
  if claim.refusal then
    isUnreadable = isUnreadable or claim.refusal[1] == "newer"
    isCut = isCut or (claim.refusal[1] == "busy" and claim.more)
  end
  refused[#refused + 1] = claim.refusal or { "none" }
end
publish({})
notifications = {}
if isUnreadable then return newerReply() end
if isBroken or (known > 0 and known < count) then return { "broken" } end
for _, claim in ipairs(claims) do
  if claim.refusal then
    refused[2] = isCut and 1 or 0
    return refused
  end
end

local placed = { "placed" }
for _, claim in ipairs(claims) do
  local id, want = claim.id, claim.want
  budget = 250
  read(claim)
  if not (claim.isHeld and extend(id, want.ttl, want.guard)) then
    enter(id, want, findWaiter(id))
    promote({ [id] = true })
  end
  local reply = answer(id)
  reply[#reply + 1] = otherCapacity(want.capacity, reply[1] == "granted")
  more = more or claim.more
  placed[#placed + 1] = withMore(reply)
  save()
end
publish(asking)
return placed
`,
  lockOf: ({ claims }) => claims[0]!.keys,
  encode: ({ claims, inbox, inside, maxQueue, mode }) =>
    new Call(
      undefined,
      claims.flatMap(({ id, keys, kind }) => [
        ...baseKeys(keys),
        keys.tombstone(id),
        ...(kind === "mutex" ? sharedKeysForMutex(keys) : sharedKeys(keys))
      ]),
      [
        modeOf(mode, maxQueue),
        inbox,
        String(claims.length),
        ...claims.flatMap(({ capacity, guard, id, isStrict, kind, label, permits, ttl }) => [
          id,
          label,
          whole(ttl),
          whole(guard),
          letterOf[kind],
          String(permits),
          String(capacity),
          isStrict === true ? "1" : "0"
        ]),
        ...(inside ?? [])
      ]
    ),
  decode: (raw) => {
    const [tag, ...rest] = list(raw)
    switch (tag) {
      case "free":
        return {
          _tag: "Placed",
          claims: rest.map((token) => ({
            _tag: "Granted",
            ...grantOf(String(token)),
            otherCapacity: undefined,
            more: false
          }))
        }
      case "placed":
        return {
          _tag: "Placed",
          claims: rest.map((one) => {
            const reply = list(one)
            const claim = claimReply(one)
            if (claim._tag === "Gone" || claim._tag === "Revoked") throw unexpected(raw)
            return { ...claim, otherCapacity: Number(reply.at(-2)) || undefined, more: reply.at(-1) === 1 }
          })
        }
      case "refused":
        return { _tag: "Refused", claims: rest.slice(1).map(refusal), more: rest[0] === 1 }
      case "cancelled":
        return { _tag: "Cancelled" }
      case "broken":
        return { _tag: "Broken" }
      default:
        throw unexpected(raw)
    }
  }
})

const refusal = (raw: unknown): Refusal | undefined => {
  const [tag, first, second] = list(raw)
  switch (tag) {
    case "none":
      return undefined
    case "busy":
      return { _tag: "Busy", length: Number(first) }
    case "alreadyHeld":
      return { _tag: "AlreadyHeld", token: BigInt(String(first)) }
    case "mismatch":
      return { _tag: "Mismatch", kind: kindOf(first), capacity: Number(second) }
    default:
      throw unexpected(raw)
  }
}
