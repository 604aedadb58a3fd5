/** The script with which a process observes a lock. */

import type { LockKeys } from "../keys.ts"
import { mostObservers } from "../observing.ts"
import { clock } from "../prelude.ts"
import { Call, make, type Script, whole } from "../script.ts"

export interface ObserveArgs {
  readonly keys: LockKeys
  readonly inbox: string
  /** For how many milliseconds to tell this process of changes. 0 ends it. */
  readonly time: number
  /** Whether the inbox is subscribed at no other server, as it may be in a cluster. Then this one knows whether it is. */
  readonly isCounted: boolean
}

/**
 * Registers a process that wants to be told of changes to the lock, or keeps it registered. What is registered expires by
 * itself. A process that cannot hear of changes is not registered.
 *
 * Keys: the observers. Arguments: inbox, time, and "1" if the server knows who listens to the inbox.
 *
 * Returns 1, or 0 if the process is not told: it does not listen, or as many observe the lock already as the server tells.
 */
export const observe: Script<ObserveArgs, boolean> = make({
  name: "observe",
  lua: `
${clock}
local observers, inbox, time = KEYS[1], ARGV[1], tonumber(ARGV[2])
if time == 0 then
  redis.call("ZREM", observers, inbox)
  return 1
end
if ARGV[3] == "1" and redis.pcall("PUBSUB", "NUMSUB", inbox)[2] == 0 then return 0 end
local over = redis.call("ZRANGEBYSCORE", observers, "-inf", now, "LIMIT", 0, ${mostObservers})
if #over > 0 then redis.call("ZREM", observers, unpack(over)) end
if redis.call("ZCARD", observers) >= ${mostObservers} and not redis.call("ZSCORE", observers, inbox) then return 0 end
redis.call("ZADD", observers, now + time, inbox)
if redis.call("PTTL", observers) < time then redis.call("PEXPIRE", observers, time) end
return 1
`,
  lockOf: ({ keys }) => keys,
  encode: ({ inbox, isCounted, keys, time }) =>
    new Call(undefined, [keys.observers], [inbox, whole(time), isCounted ? "1" : "0"]),
  decode: (raw) => raw === 1
})
