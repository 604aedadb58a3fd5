import { displayWidth } from "effect/cli/CliOutput"

/**
 * A text as a terminal may show it, whatever it contains. What moves the cursor, changes colours or the direction of
 * writing, or cannot be seen, is escaped as in JavaScript. A text of a server passes here before it is shown.
 */
export const shown = (text: string): string => text.replaceAll(unsafe, escapeOf)

/**
 * A message of several lines, each of them as a terminal may show it. A backslash stays as it is: what a server said has
 * passed above before it is part of a message, and a command to copy must not become another one.
 */
export const linesShown = (text: string): string =>
  text.replaceAll(unsafe, (character) => character === "\n" || character === "\\" ? character : escapeOf(character))

/** Whether a character is shown as it is. */
export const isShown = (character: string): boolean => shown(character) === character

/**
 * Control characters (C0, DEL, C1), line and paragraph separators, lone surrogates, private and unassigned characters, and
 * all format characters: those that turn the direction of writing, join, or have no width. Spaces other than the usual one
 * are escaped as well, and so is the backslash, or an escape could be imitated.
 */
const unsafe = /[\p{C}\p{Zl}\p{Zp}\\]|(?! )\p{Zs}/gu

const escapeOf = (character: string): string => {
  const code = character.codePointAt(0)!
  const short = shortEscapes[character]
  if (short !== undefined) return short
  return code <= 0xffff ? `\\u${code.toString(16).padStart(4, "0")}` : `\\u{${code.toString(16)}}`
}

const shortEscapes: Readonly<Record<string, string>> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" }

/** How many cells a text takes. Most texts are of usual characters, of which each takes one. */
export const widthOf = (text: string): number => /^[ -~]*$/.test(text) ? text.length : displayWidth(text)

const segmenter = new Intl.Segmenter()

/** The same, and at most as wide as so many cells. What is cut ends in an ellipsis. */
export const clipped = (text: string, width: number): string => clip(shown(text), width)

/** Cuts a text that is safe to show, but for colours. */
export const clip = (text: string, width: number): string => {
  if (widthOf(text) <= width) return text
  if (width <= 0) return ""
  let cut = ""
  let used = 0
  for (const { segment } of segmenter.segment(text)) {
    used += widthOf(segment)
    if (used > width - 1) break
    cut += segment
  }
  return `${cut}…`
}

/** Fills a text that is safe to show up to so many cells. */
export const padded = (text: string, width: number): string => text + " ".repeat(Math.max(0, width - widthOf(text)))
