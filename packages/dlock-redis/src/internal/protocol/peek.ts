/** The script that asks whether locks still have the same holders. */

import { lockValue } from "./format.ts"
import type { LockKeys } from "./keys.ts"
import { Call, list, make, type Script, unexpected } from "./script.ts"

export interface PeekArgs {
  /** Locks of capacity 1 that share one slot, or one node without slots, with the token of the holder as last heard. */
  readonly locks: ReadonlyArray<{ readonly keys: LockKeys; readonly token: string }>
}

/**
 * Whether the holder of a lock is still the one last heard of. A token is given once, so while it stands there nobody
 * else was granted the lock, and those who wait have nothing to learn: it spares them a refresh.
 *
 * Keys: of each lock its first. Arguments: of each the token.
 *
 * Returns the numbers of those that are not as they were, counted from 1. What is not a lock any more is among them.
 */
export const peek: Script<PeekArgs, ReadonlyArray<number>> = make({
  name: "peek",
  lua: `
local others = {}
for i, lock in ipairs(KEYS) do
  local value = redis.pcall("GET", lock)
  if type(value) ~= "string" or string.match(value, ${lockValue.token}) ~= ARGV[i] then others[#others + 1] = i end
end
return others
`,
  lockOf: ({ locks }) => locks[0]!.keys,
  encode: ({ locks }) => new Call(undefined, locks.map(({ keys }) => keys.lock), locks.map(({ token }) => token)),
  decode: (raw) =>
    list(raw).map((number) => {
      if (typeof number === "number") return number
      throw unexpected(raw)
    })
})
