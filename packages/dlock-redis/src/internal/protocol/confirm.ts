/** The script that writes a grant once more, so that the replicas that have it can be counted. */

import { lockValue, sharedValue } from "./format.ts"
import type { LockKeys } from "./keys.ts"
import { Call, make, type Script } from "./script.ts"

export interface ConfirmArgs {
  readonly keys: LockKeys
  readonly id: string
  readonly token: bigint
  readonly capacity: number
}

/**
 * Whether this server has this grant, said with a write behind it: a `WAIT` on the same connection then counts the
 * replicas that have the grant too. A read would not do, since `WAIT` goes by the last write of its own connection.
 *
 * Keys: what holds the grant. Arguments: id, token, capacity. Writes the grant's value again as it is.
 *
 * Returns 1 or 0.
 */
export const confirm: Script<ConfirmArgs, boolean> = make({
  name: "confirm",
  lua: `
local key, id, token, value, prefix = KEYS[1], ARGV[1], ARGV[2], nil, nil
if ARGV[3] == "1" then
  value, prefix = redis.call("GET", key), ${lockValue.startOfGrant("id", "token")}
else
  value, prefix = redis.call("HGET", key, id), ${sharedValue.startOfGrant("token")}
end
if not value or string.sub(value, 1, #prefix) ~= prefix then return 0 end
if ARGV[3] == "1" then
  redis.call("SET", key, value, "KEEPTTL")
else
  redis.call("HSET", key, id, value)
end
return 1
`,
  lockOf: ({ keys }) => keys,
  encode: ({ capacity, id, keys, token }) =>
    new Call(undefined, [capacity === 1 ? keys.lock : keys.values], [id, String(token), String(capacity)]),
  decode: (raw) => raw === 1
})
