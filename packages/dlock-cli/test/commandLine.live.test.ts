import { Redis } from "ioredis"
import { execFileSync, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import * as ChildCommand from "../src/internal/childCommand.ts"
import { linesShown, shown } from "../src/internal/shown.ts"
import { quoted } from "../src/internal/text/commandLine.ts"
import { dlock, environment, program } from "./program.ts"
import { useRedis } from "./support/redis.ts"

/** Keys of anybody who may write to the server. */
const hostile = [
  "a'$(touch owned)'",
  "\x1b'$(touch owned)'",
  "\\u{41}\x1b\\",
  "\x1b!x'!y`touch owned`",
  "=ls",
  "~root",
  "a\n--yes-two-may-run",
  "\u202e倉庫 🚀"
]

/** What a shell makes of a text. */
const wordsIn = (text: string): ReadonlyArray<string> =>
  execFileSync("bash", ["-c", `export LC_ALL=C; dlock() { printf '%s\\0' "$@"; }; ${text}`], { encoding: "utf8" })
    .split("\0").slice(0, -1)

describe("a command to copy", () => {
  test.each(hostile)("has the key as one word, also after it was shown in a message: %j", (key) => {
    expect(wordsIn(`dlock ${linesShown(quoted(key))}`)).toEqual([key])
    expect(shown(quoted(key)).replaceAll("\\\\", "\\")).toBe(quoted(key))
  })

  const redis = useRedis()
  let client: Redis
  beforeAll(() => {
    client = new Redis(redis.server().port)
  })
  afterAll(() => client.quit())

  test.each(["a'$(touch owned)'", "\x1b'$(touch owned)'", "--prefix=other:"])(
    "does what it says, for the same locks: %j",
    async (key) => {
      await client.set(`it's:${key}`, "v", "PX", 60_000, "NX")
      const { code, stderr } = await dlock(redis.env, "break", "--prefix", "it's:", "--", key)
      expect(code).toBe(64)
      const words = wordsIn(stderr.trimEnd().split("\n").at(-1)!)
      expect(words).toContain("--yes-two-may-run")
      expect(await dlock(redis.env, ...words)).toMatchObject({ code: 0 })
      expect(await client.exists(`it's:${key}`)).toBe(0)
    }
  )
})

test("what stands behind -- is a command only for what runs one, whatever the words of other flags", () => {
  const args = ["--prefix", "run", "revoke", "--", "-x"]
  expect(ChildCommand.split(args)).toEqual({ own: args, child: [] })
  expect(ChildCommand.split(["--prefix", "a", "run", "k", "--", "-x"]).child).toEqual(["-x"])
})

test("a port that is none is told", async () => {
  const { code, stderr } = await dlock({ DLOCK_DRIVER: "memory" }, "ui", "--port", "99999")
  expect({ code, stderr }).toMatchObject({ code: 64, stderr: expect.stringContaining("from 0 to 65535") })
})

test.each([["inspect", "k"], ["list"], ["deadlocks"]])("an answer that cannot be written is told: %s", (...args) => {
  const full = Fs.openSync("/dev/full", "w")
  try {
    const { status, stderr } = spawnSync(process.execPath, [program, ...args], {
      env: environment({ DLOCK_DRIVER: "memory" }),
      stdio: ["ignore", full, "pipe"],
      encoding: "utf8"
    })
    expect({ status, stderr }).toMatchObject({ status: 74, stderr: expect.stringContaining("ENOSPC") })
  } finally {
    Fs.closeSync(full)
  }
})
