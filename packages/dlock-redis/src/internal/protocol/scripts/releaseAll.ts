/** The script that ends several claims and hands their locks over. */

import type { LockKind } from "effect-dlock/LockError"
import { baseKeyCount, baseKeys, lockValue, sharedKeyCount, sharedKeys } from "../format.ts"
import type { LockKeys } from "../keys.ts"
import { leaving, type ReleaseReply, releaseReply } from "../leaving.ts"
import { changes, clock, state } from "../prelude.ts"
import { Call, list, make, type Script } from "../script.ts"

export interface ReleaseAllArgs {
  /** Claims on locks in one slot, or on one server without slots. No request of any of them may still arrive. */
  readonly claims: ReadonlyArray<{ readonly keys: LockKeys; readonly id: string; readonly kind: LockKind }>
}

/**
 * Ends several claims as `release` ends one: held, queued or unknown ones. It leaves no tombstones.
 *
 * Keys of each claim: the lock's seven keys, and the keys of shared holders unless it is a mutex.
 *
 * Arguments: for each claim its id, and whether it is shared (1 or 0).
 *
 * Returns the reply of `release` for each claim.
 *
 * The fast path is for mutexes behind which nobody waits and that nobody observes. Otherwise the script reads all locks before it changes any,
 * because a key of the wrong type must end it before the first write.
 */
export const releaseAll: Script<ReleaseAllArgs, ReadonlyArray<ReleaseReply>> = make({
  name: "releaseAll",
  lua: `
local call = redis.call
local function releaseFree()
  local mine, replies, at = {}, {}, 1
  for i = 1, #ARGV, 2 do
    if ARGV[i + 1] == "1" then return nil end
    local value, own = call("GET", KEYS[at]), ${lockValue.startOfClaim("ARGV[i]")}
    if not value or string.sub(value, 1, #own) ~= own or call("EXISTS", KEYS[at + 2], KEYS[at + 6]) > 0 then return nil end
    mine[#mine + 1], replies[#replies + 1] = KEYS[at], "released"
    at = at + ${baseKeyCount}
  end
  call("DEL", unpack(mine))
  return replies
end

local replies = releaseFree()
if replies then return replies end
${clock}${state}${changes}${leaving}
local claims, at = {}, 1
for i = 1, #ARGV, 2 do
  local isShared = ARGV[i + 1] == "1"
  claims[#claims + 1] = { id = ARGV[i], at = at, sharedAt = isShared and at + ${baseKeyCount} or nil }
  at = at + (isShared and ${baseKeyCount + sharedKeyCount} or ${baseKeyCount})
end

local function read(claim)
  budget = 250
  choose(claim.at, claim.sharedAt)
  readState()
end

for _, claim in ipairs(claims) do
  read(claim)
  if isNewer then return newerReply() end
end
replies = {}
for _, claim in ipairs(claims) do
  read(claim)
  sweep()
  local held, waited = leave(claim.id)
  promote({})
  replies[#replies + 1] = withMore(leaveReply(held, waited))
  save()
end
publish({})
return replies
`,
  lockOf: ({ claims }) => claims[0]!.keys,
  encode: ({ claims }) =>
    new Call(
      undefined,
      claims.flatMap(({ keys, kind }) => [...baseKeys(keys), ...(kind === "mutex" ? [] : sharedKeys(keys))]),
      claims.flatMap(({ id, kind }) => [id, kind === "mutex" ? "0" : "1"])
    ),
  decode: (raw) => list(raw).map(releaseReply)
})
