/**
 * A text from a server as it may be shown: what would control a terminal, change the direction of what stands beside it or
 * not be seen at all is escaped.
 */
export const shown = (text: string): string =>
  text.replaceAll(
    unseen,
    (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`
  )

/**
 * Control characters, separators of lines, marks of direction, characters without width, variation tags and halves of
 * characters. The joiners stay: words and emoji are written with them.
 */
const unseen =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}\p{Cs}]/gu
