/** The script that asks a holder to leave. */

import { lockValue, sharedValue } from "../format.ts"
import type { LockKeys } from "../keys.ts"
import { askedMessage, changedMessage } from "../notification.ts"
import { inboxesOfObservers } from "../observing.ts"
import { clock, newerVersion } from "../prelude.ts"
import { type Mark, splitInbox, textOfMark } from "../revocation.ts"
import { Call, make, type Script, whole } from "../script.ts"

export interface RevokeArgs {
  readonly keys: LockKeys
  readonly id: string
  readonly token: bigint
  /** Milliseconds from now on, after which the claim is never extended again. */
  readonly grace: number
  readonly mark: Mark
}

/**
 * Marks a claim that is held under this token (see `revocation.ts`), and tells its holder. A claim that has an earlier
 * mark keeps that one, and observers are not told. The claim stays held and expires when it would have expired.
 *
 * Keys: the lock, the holders, their values and the observers. Arguments: id, token, grace, text of the mark.
 *
 * Returns 1, or 0 if the claim is not held under this token.
 */
export const revoke: Script<RevokeArgs, boolean> = make({
  name: "revoke",
  lua: `
${clock}${splitInbox}
local lock, holders, values, observers = unpack(KEYS)
local id, token, grace, asked = unpack(ARGV)
redis.call("ZCARD", observers)

local isChanged = false

local function marked(inbox)
  local channel, _, moment, text = splitInbox(inbox)
  if not moment or now + grace < moment then moment, text, isChanged = now + grace, asked, true end
  return channel .. ";" .. string.format("%.0f", moment) .. ";" .. text, channel, moment, text
end

local inbox, channel, moment, text
local value = redis.call("GET", lock)
local holding, its, where, label = string.match(value or "", ${lockValue.pattern})
if holding == id and its == token then
  inbox, channel, moment, text = marked(where)
  redis.call("SET", lock, ${lockValue.write("id", "token", "inbox", "label")}, "KEEPTTL")
else
  local expiry, one = redis.call("ZSCORE", holders, id), redis.call("HGET", values, id)
  if not (expiry and one) or tonumber(expiry) <= now then return 0 end
  local its, permits, capacity, kind, count, where, label = string.match(one, ${sharedValue.pattern})
  if not its then return redis.error_reply("${newerVersion}") end
  if its ~= token then return 0 end
  inbox, channel, moment, text = marked(where)
  redis.call("HSET", values, id, ${
    sharedValue.write("token", "permits", "capacity", "kind", "count", "inbox", "label")
  })
end
local left = string.format("%.0f", math.max(0, moment - now))
redis.pcall("PUBLISH", channel, ${askedMessage("id", "left", "text")})
-- Whoever repeats its request is among the observers: it would hear of its own request for ever.
if not isChanged then return 1 end
for _, one in ipairs(${inboxesOfObservers}) do redis.pcall("PUBLISH", one, ${changedMessage("lock")}) end
return 1
`,
  lockOf: ({ keys }) => keys,
  encode: ({ grace, id, keys, mark, token }) =>
    new Call(undefined, [keys.lock, keys.holders, keys.values, keys.observers], [
      id,
      String(token),
      whole(grace),
      textOfMark(mark)
    ]),
  decode: (raw) => raw === 1
})
