/** The script that writes a grant again, so that a `WAIT` can count the replicas that have it. */

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
 * Tells whether this server has the grant, and writes the grant again unchanged. A `WAIT` on the same connection then
 * counts the replicas that have the grant. A read would not do, because `WAIT` refers to the last write of its own
 * connection.
 *
 * Keys: the key that stores the grant. Arguments: id, token, capacity.
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
