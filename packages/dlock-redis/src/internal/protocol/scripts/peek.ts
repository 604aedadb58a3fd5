/** The script that checks whether locks still have the same holders. */

import { lockValue } from "../format.ts"
import type { LockKeys } from "../keys.ts"
import { Call, list, make, type Script, unexpected } from "../script.ts"

export interface PeekArgs {
  /** Locks of capacity 1 in one slot, or on one server without slots. Each with the last known token of its holder. */
  readonly locks: ReadonlyArray<{ readonly keys: LockKeys; readonly token: string }>
}

/**
 * Checks whether the last known holder of each lock still holds it. A token is granted only once, so as long as the
 * token is the same, no other claim was granted the lock, and its waiters need no refresh.
 *
 * Keys: the first key of each lock. Arguments: the token of each lock.
 *
 * Returns the numbers, counted from 1, of the locks with another token. A key that is no longer a lock counts as one of
 * them.
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
