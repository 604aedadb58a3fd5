// The rules for a key and its prefix, the same for every backend. Each rule returns what is wrong, in words that follow
// the name of the thing, or `undefined`.

export const bytesOfUtf8 = (text: string): number => {
  let bytes = 0
  for (const char of text) {
    const point = char.codePointAt(0)!
    bytes += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4
  }
  return bytes
}

export const problemOfName = (key: unknown, prefix: string): string | undefined => {
  if (key === "") return "must not be empty"
  const wrong = problemOfText(key)
  if (wrong !== undefined) return wrong
  const text = key as string
  // A string has at most 3 bytes of UTF-8 for each code unit, so most keys need no counting.
  if ((prefix.length + text.length) * 3 > maxBytes && bytesOfUtf8(prefix + text) > maxBytes) {
    return `must be at most ${maxBytes} bytes of UTF-8 with its prefix`
  }
  if (!text.includes("}") && !prefix.includes("}")) return undefined
  return hasSlot(prefix + text)
    ? undefined
    : "has braces without a whole hash tag, which Redis Cluster needs, such as {shop}:stock"
}

export const problemOfText = (text: unknown): string | undefined => {
  if (typeof text !== "string") return "must be a string"
  if (text.includes("\0")) return "must not contain the NUL character"
  return text.isWellFormed() ? undefined : "must not contain a lone surrogate: was it cut inside a character?"
}

/** The first part of a key may be empty, and may end anywhere in the key, between two braces too. */
export const problemOfPart = (part: unknown, prefix: string): string | undefined => {
  const wrong = problemOfText(part)
  if (wrong !== undefined) return wrong
  return bytesOfUtf8(prefix + (part as string)) > maxBytes
    ? `must be at most ${maxBytes} bytes of UTF-8 with the locker's prefix`
    : undefined
}

/** A prefix may be empty. A prefix whose braces make every key invalid is refused before the first key. */
export const problemOfPrefix = (prefix: unknown): string | undefined =>
  problemOfText(prefix) ?? problemOfName("k", prefix as string)

export const maxBytes = 1024

/**
 * In a Redis Cluster all parts of a lock must be in one hash slot. Either the name has its own hash tag, or the store
 * puts the whole name in braces, which does not work if the name contains a closing brace. Every backend refuses the
 * same names, so that a program can change its backend.
 */
const hasSlot = (name: string): boolean => {
  const open = name.indexOf("{")
  if (open === -1) return false
  return name.indexOf("}", open) > open + 1
}
