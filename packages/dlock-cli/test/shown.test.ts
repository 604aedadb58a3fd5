import { displayWidth } from "effect/cli/CliOutput"
import { describe, expect, test } from "vitest"
import { clip, clipped, shown } from "../src/internal/shown.ts"

describe("what a server says is shown", () => {
  test.each([
    ["an escape sequence", "\x1b[2J\x1b]0;title\x07x", "\\u001b[2J\\u001b]0;title\\u0007x"],
    ["the same in one byte", "\x9b31m", "\\u009b31m"],
    ["lines", "a\r\nb\tc", "a\\r\\nb\\tc"],
    ["what turns the direction of writing", "\u202egnp.\u2066x\u200f", "\\u202egnp.\\u2066x\\u200f"],
    ["what cannot be seen", "a\u200bb\ufeff\u00a0\u2028\u00ad", "a\\u200bb\\ufeff\\u00a0\\u2028\\u00ad"],
    ["half a character", "\ud800", "\\ud800"],
    ["a private character", "\u{e000}\u{f0000}", "\\ue000\\u{f0000}"],
    ["an escape that somebody imitates", "\\u001b", "\\\\u001b"]
  ])("escaped: %s", (_, raw, safe) => {
    expect(shown(raw)).toBe(safe)
  })

  test("as it is, where it is text", () => {
    const text = "inventory:42 Lösung 倉庫 مخزن 🚀 e\u0301"
    expect(shown(text)).toBe(text)
  })
})

test("a text is cut at the cells that it takes, between its characters", () => {
  expect(clipped("inventory", 9)).toBe("inventory")
  expect(clipped("inventory", 5)).toBe("inve…")
  expect(clipped("倉庫倉庫", 5)).toBe("倉庫…")
  expect(displayWidth(clipped("倉庫倉庫", 4))).toBeLessThanOrEqual(4)
  expect(clipped("e\u0301e\u0301e\u0301", 2)).toBe("e\u0301…")
  expect(clipped("\x1b\x1b", 8)).toBe("\\u001b\\…")
  expect([clip("abc", 1), clip("abc", 0)]).toEqual(["…", ""])
})
