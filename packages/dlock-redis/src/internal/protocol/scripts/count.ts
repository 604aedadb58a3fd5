/** The script that counts the permits that are held. */

import type { LockKind } from "effect-dlock/LockError"
import { sharedKeys, sharedValue, totalsValue } from "../format.ts"
import type { LockKeys } from "../keys.ts"
import { clock, newerVersion } from "../prelude.ts"
import { Call, make, type Script, unexpected } from "../script.ts"

export interface CountArgs {
  readonly keys: LockKeys
  readonly kind: LockKind
}

/**
 * Counts the permits that are held, and changes nothing. Holders that expired count until another script sweeps them,
 * if there are more than a hundred.
 *
 * Keys: the lock, and the keys of shared holders unless it is a mutex. Returns the number of permits.
 */
export const count: Script<CountArgs, number> = make({
  name: "count",
  lua: `
${clock}
local lock, holders, totals, values = unpack(KEYS)
if not holders then return redis.call("EXISTS", lock) end
local text = redis.call("GET", totals)
local _, _, permits = string.match(text or "", ${totalsValue.pattern})
if text and not permits then return redis.error_reply("${newerVersion}") end
local held = tonumber(permits or 0)
for _, id in ipairs(redis.call("ZRANGEBYSCORE", holders, "-inf", now, "LIMIT", 0, 100)) do
  local _, its = string.match(redis.call("HGET", values, id) or "", ${sharedValue.start})
  held = held - (its or 0)
end
return string.format("%.0f", math.max(0, held))
`,
  lockOf: ({ keys }) => keys,
  encode: ({ keys, kind }) => new Call(undefined, [keys.lock, ...(kind === "mutex" ? [] : sharedKeys(keys))], []),
  decode: (raw) => {
    const held = Number(raw)
    if (Number.isInteger(held)) return held
    throw unexpected(raw)
  }
})
