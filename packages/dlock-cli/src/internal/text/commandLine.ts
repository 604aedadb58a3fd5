import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { root } from "../commands/root.ts"
import { isShown } from "../shown.ts"

/**
 * A text of anybody's as one word of a shell, safe to show. Where it has characters that are not shown, it is in the form
 * `$'…'`, which bash and zsh know, as bytes: those do not depend on the locale.
 */
export const quoted = (text: string): string => {
  // zsh looks for a program where a word begins with an equals sign.
  if (/^[\w@%+:,./-][\w@%+=:,./-]*$/.test(text)) return text
  const characters = Array.from(text)
  // The backslash means nothing between usual quotes.
  if (characters.every((character) => character === "\\" || isShown(character))) {
    return `'${text.replaceAll("'", `'\\''`)}'`
  }
  // Behind an escaped quote, an interactive bash takes an exclamation mark for one of its history.
  const isPlain = (character: string): boolean => isShown(character) && !/['!\\]/.test(character)
  return `$'${characters.map((character) => isPlain(character) ? character : bytesOf(character)).join("")}'`
}

const bytesOf = (character: string): string =>
  Array.from(Buffer.from(character), (byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")

/** Makes the command to run next, for the same locks: with the driver and the prefix of this call. */
export const commandLine = Effect.map(root, ({ driver, prefix }) => {
  const given = [
    ...(Option.isSome(driver) ? [`--driver ${driver.value}`] : []),
    ...(Option.isSome(prefix) ? [`--prefix ${quoted(prefix.value)}`] : [])
  ]
  return (verb: "revoke" | "break", key: string, token: bigint): string => {
    const flags = [`--token ${token}`, ...(verb === "break" ? ["--yes-two-may-run"] : []), ...given]
    // A key may look like a flag.
    const words = key.startsWith("-") ? [...flags, "--", quoted(key)] : [quoted(key), ...flags]
    return ["dlock", verb, ...words].join(" ")
  }
})
