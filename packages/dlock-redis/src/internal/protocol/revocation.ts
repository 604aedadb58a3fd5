/**
 * The mark of a holder that was asked to leave. It says from when on its claim is never extended again.
 *
 * The mark is a part of the claim's own value, behind the inbox: `inbox;moment;text`. So whoever could extend the claim
 * has read the mark already, and it costs no command; nobody can extend the claim who has not got it; and it ends with
 * the claim, whichever way that ends.
 */

import { list, unexpected } from "./script.ts"

/** Who asks the holder to leave, and why. */
export interface Mark {
  readonly by: string
  readonly why?: string
}

/** The answer to the renewal of a claim whose holder was asked to leave. */
export interface Asked {
  /** `Asked`: the claim was extended, and its holder has the rest of the grace. `Revoked`: it was not extended. */
  readonly _tag: "Asked" | "Revoked"
  /** How many milliseconds are left of the grace. */
  readonly grace: number
  readonly mark: Mark
  /** Whether others wait behind the claim, of a watched claim. */
  readonly isContended: boolean
}

/** The text of a mark. It has no `|` and no `;`, which separate the parts of a value. */
export const textOfMark = ({ by, why }: Mark): string =>
  JSON.stringify(why === undefined ? [by] : [by, why]).replaceAll("|", "\\u007c").replaceAll(";", "\\u003b")

/** Reads the text of a mark. A text that is no such text tells nobody's name. */
export const markOf = (text: string): Mark => {
  try {
    const [by, why] = JSON.parse(text) as ReadonlyArray<unknown>
    return { by: String(by), ...(typeof why === "string" && { why }) }
  } catch {
    return { by: "" }
  }
}

export const asked = (raw: unknown): Asked => {
  const [tag, grace, text, isContended] = list(raw)
  if (tag !== "asked" && tag !== "revoked") throw unexpected(raw)
  return {
    _tag: tag === "asked" ? "Asked" : "Revoked",
    grace: Number(grace),
    mark: markOf(String(text)),
    isContended: isContended === 1
  }
}

// The functions below build Lua code. Their arguments and results are Lua expressions.

/** The moment and the text of the mark in a `lockValue`, from behind its token. `nil` if there is none. */
export const markInLock = (value: string, start: string): string =>
  `string.match(${value}, "^[^|;]*;(%d+);([^|]*)|", ${start})`

/** The same in a `sharedValue`. */
export const markInShared = (value: string, start: string): string =>
  `string.match(${value}, "^%d+|%d+|%a|%d+|[^|;]*;(%d+);([^|]*)|", ${start})`

/** `splitInbox` splits what stands for the inbox in a value: the inbox, the mark with its separators, its moment and its text. */
export const splitInbox = `
local function splitInbox(inbox)
  local channel, moment, text = string.match(inbox, "^([^;]*);(%d+);(.*)$")
  if not channel then return inbox, "" end
  return channel, ";" .. moment .. ";" .. text, tonumber(moment), text
end
`

/** The reply about a holder with this mark, as `asked` reads it. */
export const askedReply = (moment: string, text: string): string =>
  `now < ${moment} and { "asked", ${moment} - now, ${text} } or { "revoked", 0, ${text} }`
