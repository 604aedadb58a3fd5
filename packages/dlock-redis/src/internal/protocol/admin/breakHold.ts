/** The script that takes a lock from its holder. */

import { K, letterOf, sharedAt, sharedKeys } from "../format.ts"
import type { LockKeys } from "../keys.ts"
import { leaving } from "../leaving.ts"
import { brokenMessage, wakeMessage } from "../notification.ts"
import { changes, clock, state } from "../prelude.ts"
import { Call, list, make, type Progress, type Script } from "../script.ts"
import { tombstoneTtl } from "../scripts/release.ts"
import { foreignToken } from "./inspect.ts"

export interface BreakHoldArgs {
  readonly keys: LockKeys
  /** `undefined` for the client of another library. */
  readonly id: string | undefined
  readonly token: bigint
  /** Whether to free the lock for every client instead of handing it over to the next waiter. */
  readonly interop: boolean
}

export interface BreakHoldReply extends Progress {
  readonly isBroken: boolean
}

/**
 * Ends a claim that is held under this token, as `release` does, and tells its holder. A late request of the claim finds a
 * tombstone.
 *
 * Keys: the lock's seven keys, the tombstone of the claim, and the keys of shared holders. Arguments: id (empty for a
 * client of another library), token, milliseconds to keep the tombstone, interop (0 or 1).
 *
 * Returns { 1 or 0, more }.
 */
export const breakHold: Script<BreakHoldArgs, BreakHoldReply> = make({
  name: "breakHold",
  lua: `
${clock}${state}${changes}${leaving}
choose(1, ${sharedAt})
local id, token, tombstoneTtl, interop = unpack(ARGV)
readState()
if isNewer then return newerReply() end
sweep()
local mine = id ~= "" and findHolder(id)
local isForeign = id == "" and holder and holder.foreign and ${foreignToken(`redis.call("GET", lock)`)} == token
if not isForeign and not (mine and mine.token == token) then
  save()
  publish({})
  return { 0, 0 }
end
if isForeign then
  redis.call("DEL", lock)
  holder, isChanged = nil, true
else
  redis.call("SET", ${K.tombstone}, "1", "PX", tombstoneTtl)
  leave(id)
  notifications[1] = { inbox = mine.inbox, text = ${brokenMessage("id")} }
end
local woken = interop == "1" and nextUp({})
if woken and woken.want.kind == "${letterOf.mutex}" then
  notifications[#notifications + 1] = { id = woken.id, inbox = woken.want.inbox, text = ${wakeMessage("lock")} }
else
  promote({})
end
save()
publish({})
return withMore({ 1 })
`,
  lockOf: ({ keys }) => keys,
  encode: ({ id = "", interop, keys, token }) =>
    new Call(keys, [keys.tombstone(id), ...sharedKeys(keys)], [
      id,
      String(token),
      String(tombstoneTtl),
      interop ? "1" : "0"
    ]),
  decode: (raw) => {
    const [isBroken, more] = list(raw)
    return { isBroken: isBroken === 1, more: more === 1 }
  }
})
