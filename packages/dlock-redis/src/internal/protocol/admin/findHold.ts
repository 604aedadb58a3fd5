/** The script that finds the claim that is held under a token. */

import { layout, lockValue } from "../format.ts"
import type { LockKeys } from "../keys.ts"
import { clock, newerVersion } from "../prelude.ts"
import { Call, list, make, type Script, unexpected } from "../script.ts"
import { foreignToken } from "./inspect.ts"

export interface FindHoldArgs {
  readonly keys: LockKeys
  readonly token: bigint
  /** "0" at first, and then as the answer says. */
  readonly cursor: string
}

export type FindHoldReply =
  | { readonly _tag: "Held"; readonly id: string }
  /** A client of another library holds the lock under this token. */
  | { readonly _tag: "Foreign" }
  | { readonly _tag: "NotHeld" }
  /** The script has not looked at all holders. Call it again with this cursor. */
  | { readonly _tag: "More"; readonly cursor: string }

/** How many shared holders one script looks at. */
const step = 100

/**
 * Finds the claim that is held under a token, and changes nothing. A claim that is held throughout the calls is found.
 *
 * Keys: the lock, the holders and their values. Arguments: token, cursor.
 *
 * Returns { "held", id }, { "foreign" }, { "notHeld" } or { "more", cursor }.
 */
export const findHold: Script<FindHoldArgs, FindHoldReply> = make({
  name: "findHold",
  lua: `
${clock}
local lock, holders, values = unpack(KEYS)
local token, cursor = ARGV[1], ARGV[2]
local value = redis.call("GET", lock)
if value then
  local id, its = string.match(value, ${lockValue.pattern})
  if id and its == token then return { "held", id } end
  if not id and ${foreignToken("value")} == token then return { "foreign" } end
end
local following, found = unpack(redis.call("HSCAN", values, cursor, "COUNT", ${step}))
local prefix = "${layout}|" .. token .. "|"
for i = 1, #found, 2 do
  local id, one = found[i], found[i + 1]
  if string.sub(one, 1, 2) ~= "${layout}|" then return redis.error_reply("${newerVersion}") end
  if string.sub(one, 1, #prefix) == prefix and tonumber(redis.call("ZSCORE", holders, id) or 0) > now then
    return { "held", id }
  end
end
if following == "0" then return { "notHeld" } end
return { "more", following }
`,
  lockOf: ({ keys }) => keys,
  encode: ({ cursor, keys, token }) =>
    new Call(undefined, [keys.lock, keys.holders, keys.values], [String(token), cursor]),
  decode: (raw) => {
    const [tag, detail] = list(raw)
    switch (tag) {
      case "held":
        return { _tag: "Held", id: String(detail) }
      case "foreign":
        return { _tag: "Foreign" }
      case "notHeld":
        return { _tag: "NotHeld" }
      case "more":
        return { _tag: "More", cursor: String(detail) }
      default:
        throw unexpected(raw)
    }
  }
})
