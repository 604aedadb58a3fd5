/** The script that lists the claims that wait. */

import type { Claim } from "effect-dlock/LockStore"
import { kindOf, waiterValue } from "../format.ts"
import type { LockKeys } from "../keys.ts"
import { clock } from "../prelude.ts"
import { Call, list, make, type Script } from "../script.ts"

export interface WaitingArgs {
  readonly keys: LockKeys
  /** How many claims it reads at most. */
  readonly most: number
}

/**
 * Lists the first claims in the queue of a lock, and changes nothing. Claims that count as dead, that were passed over, or
 * that a newer version wrote are left out.
 *
 * Keys: the queue, the deadlines and the waiters. Returns for each claim its kind and its label.
 */
export const waiting: Script<WaitingArgs, ReadonlyArray<Pick<Claim, "kind" | "holder">>> = make({
  name: "waiting",
  lua: `
${clock}
local queue, deadlines, waiters = unpack(KEYS)
local found = {}
local ids = redis.call("ZRANGE", queue, 0, ARGV[1] - 1)
if #ids == 0 then return found end
local due = redis.call("ZMSCORE", deadlines, unpack(ids))
local fields = redis.call("HMGET", waiters, unpack(ids))
for i = 1, #ids do
  local isAlive = tonumber(due[i] or 0) > now
  local _, _, _, kind, _, _, _, _, label = string.match(isAlive and fields[i] or "", ${waiterValue.pattern})
  if kind then found[#found + 1] = { kind, label } end
end
return found
`,
  lockOf: ({ keys }) => keys,
  encode: ({ keys, most }) => new Call(undefined, [keys.queue, keys.deadlines, keys.waiters], [String(most)]),
  decode: (raw) =>
    list(raw).map((claim) => {
      const [kind, label] = list(claim)
      return { kind: kindOf(kind), holder: String(label) }
    })
})
