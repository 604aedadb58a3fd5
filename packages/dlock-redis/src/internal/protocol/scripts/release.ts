/** The script that ends a claim and hands the lock over. */

import type { LockKind } from "effect-dlock/LockError"
import { K, letterOf, lockValue, sharedAt, sharedKeys, sharedValue, totalsValue, waiterValue } from "../format.ts"
import { readPlainTotals } from "../holders.ts"
import type { LockKeys } from "../keys.ts"
import { leaving, type ReleaseReply, releaseReply } from "../leaving.ts"
import { grantMessage, wakeMessage } from "../notification.ts"
import { changes, clock, day, state } from "../prelude.ts"
import { Call, make, type Script } from "../script.ts"

export interface ReleaseArgs {
  readonly keys: LockKeys
  readonly id: string
  /** `undefined` if the kind is not known. */
  readonly kind: LockKind | undefined
  /**
   * Whether to leave a tombstone. Set while a request of this claim may still arrive, so that it finds the claim
   * cancelled.
   */
  readonly tombstone: boolean
  /** Whether to free the lock for every client instead of handing it over to the next waiter. */
  readonly interop: boolean
}

/**
 * How long a tombstone is kept: 16 minutes, which is longer than a system retransmits a request (924 seconds on Linux).
 */
export const tombstoneTtl = 16 * 60 * 1_000

/**
 * Ends a claim that is held, queued or has not arrived, and moves the queue on. The script compares the id, not the
 * token, so it ends every grant of the claim.
 *
 * Keys: the lock's seven keys, the tombstone of the claim, and the keys of shared holders unless it is a mutex.
 *
 * Arguments: id, tombstone (milliseconds, or 0 for none), interop (0 or 1).
 *
 * Returns "released" alone on the fast path, { "released", more }, or { "cancelled" or "notHeld", length, state, label,
 * remaining, more }, where the queue no longer contains this claim.
 *
 * The fast paths come first, for locks that nobody observes. One gives permits back if no claim waits; it does not ask whether they had expired a moment
 * ago. The other handles a mutex with an empty queue, and
 * a mutex whose next waiter is ready to receive it, if the one behind that is alive. It repeats `nextUp`, `grant` and `tellHolders` for that case, so change them
 * together.
 *
 * With `interop`, the script wakes the next waiter whenever that waiter could be granted, even if this claim was not
 * the holder. A repeated release then changes nothing, and a woken waiter that gives up wakes the one behind it. Clients
 * of other libraries can hold only a mutex, so `interop` has no effect on other kinds.
 */
export const release: Script<ReleaseArgs, ReleaseReply> = make({
  name: "release",
  lua: `
local call, own = redis.call, ${lockValue.startOfClaim("ARGV[1]")}
${readPlainTotals}
local function givePermitsBack()
  if ARGV[2] ~= "0" or call("EXISTS", ${K.queue}, ${K.parked}, ${K.observers}) > 0 then return false end
  local value = call("HGET", ${K.values}, ARGV[1])
  if not value then return false end
  local number, kind, permits, token, name, capacity = readPlainTotals()
  local _, its, known, _, count = string.match(value, ${sharedValue.start})
  if not number or known ~= capacity or count ~= name then return false end
  if call("ZREM", ${K.holders}, ARGV[1]) == 0 then return false end
  call("HDEL", ${K.values}, ARGV[1])
  if number == 1 then
    call("DEL", ${K.totals})
  else
    number, permits = number - 1, string.format("%.0f", permits - its)
    call("SET", ${K.totals}, ${
    totalsValue.writePlain("kind", "number", "permits", "string.format(\"%.0f\", token)", "name", "capacity")
  }, "KEEPTTL")
  end
  return true
end

if ${K.values} and givePermitsBack() then return "released" end
local value = call("EXISTS", ${K.observers}) == 0 and call("GET", ${K.lock})
if value and string.sub(value, 1, #own) == own and ARGV[2] == "0" then
  local first = call("ZRANGE", ${K.queue}, 0, 1)
  local head = first[1]
  if not head then
    call("DEL", ${K.lock})
    return "released"
  end
  local due = ARGV[3] == "0" and call("ZMSCORE", ${K.deadlines}, unpack(first)) or {}
  local deadline = due[1]
  local fields = deadline and call("HGET", ${K.waiters}, head)
  local inbox, ttl, guard, kind, permits, capacity, listening, _, label = string.match(fields or "", ${waiterValue.pattern})
  if kind == "${letterOf.mutex}" and (listening == "0" or redis.pcall("PUBSUB", "NUMSUB", inbox)[2] ~= 0) then
    local time = call("TIME")
    local us = time[1] * 1000000 + time[2]
    local now = math.floor(us / 1000)
    local left, isContended = deadline - now, tonumber(due[2] or 0) > now
    if left > 0 and (isContended or not first[2]) then
      local last = math.max(tonumber(call("GET", ${K.counter}) or 0) or 0, ${lockValue.tokenBehind("value", "own")})
      local token = string.format("%.0f", math.max(last + 1, us))
      call("ZREM", ${K.queue}, head)
      call("ZREM", ${K.deadlines}, head)
      call("HDEL", ${K.waiters}, head)
      call("SET", ${K.lock}, ${lockValue.write("head", "token", "inbox", "label")}, "PX", left + guard)
      call("SET", ${K.counter}, token, "PX", ${day} + ttl)
      if isContended then token = "0" .. token end
      redis.pcall("PUBLISH", inbox, ${grantMessage("head", "token", K.lock)})
      return "released"
    end
  end
end
${clock}${state}${changes}${leaving}
choose(1, ${K.holders} and ${sharedAt})
readState()
local id, tombstone, interop = ARGV[1], ARGV[2], ARGV[3]
if isNewer then return newerReply() end
sweep()
if tombstone ~= "0" then redis.call("SET", ${K.tombstone}, "1", "PX", tombstone) end

local held, waited = leave(id)
local woken = interop == "1" and nextUp({})
if woken and woken.want.kind == "${letterOf.mutex}" then
  notifications[1] = { id = woken.id, inbox = woken.want.inbox, text = ${wakeMessage("lock")} }
else
  promote({})
end
local reply = leaveReply(held, waited or tombstone ~= "0")
save()
publish({})
return withMore(reply)
`,
  lockOf: ({ keys }) => keys,
  encode: ({ id, interop, keys, kind, tombstone }) =>
    new Call(keys, [keys.tombstone(id), ...(kind === "mutex" ? [] : sharedKeys(keys))], [
      id,
      tombstone ? String(tombstoneTtl) : "0",
      interop ? "1" : "0"
    ]),
  decode: releaseReply
})
