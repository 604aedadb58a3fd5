/** The script that writes a grant again, so that a `WAIT` can count the replicas that have it. */

import type { LockKind } from "effect-dlock/LockError"
import { letterOf, lockValue, sharedValue } from "../format.ts"
import type { LockKeys } from "../keys.ts"
import { Call, make, type Script } from "../script.ts"

export interface ConfirmArgs {
  readonly keys: LockKeys
  readonly id: string
  readonly token: bigint
  readonly kind: LockKind
}

/**
 * Tells whether this server has the grant, and writes the grant again unchanged. A `WAIT` on the same connection then
 * counts the replicas that have the grant. A read would not do, because `WAIT` refers to the last write of its own
 * connection.
 *
 * Keys: the key that stores the grant. Arguments: id, token, kind.
 *
 * Returns 1 or 0.
 */
export const confirm: Script<ConfirmArgs, boolean> = make({
  name: "confirm",
  lua: `
local key, id, token, value, prefix = KEYS[1], ARGV[1], ARGV[2], nil, nil
if ARGV[3] == "${letterOf.mutex}" then
  value, prefix = redis.call("GET", key), ${lockValue.startOfGrant("id", "token")}
else
  value, prefix = redis.call("HGET", key, id), ${sharedValue.startOfGrant("token")}
end
if not value or string.sub(value, 1, #prefix) ~= prefix then return 0 end
if ARGV[3] == "${letterOf.mutex}" then
  redis.call("SET", key, value, "KEEPTTL")
else
  redis.call("HSET", key, id, value)
end
return 1
`,
  lockOf: ({ keys }) => keys,
  encode: ({ id, keys, kind, token }) =>
    new Call(undefined, [kind === "mutex" ? keys.lock : keys.values], [id, String(token), letterOf[kind]]),
  decode: (raw) => raw === 1
})
