import { startRedis } from "dlock-testing"
import { Locker } from "effect-dlock"
import { RedisLocker } from "effect-dlock-redis"
import * as Effect from "effect/Effect"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { spawn } from "node:child_process"
import { afterAll, beforeAll, expect, test, vi } from "vitest"
import { environment, program } from "./program.ts"
import { startTerminal } from "./terminal.ts"

let variables: Readonly<Record<string, string>> = {}
let runtime: ManagedRuntime.ManagedRuntime<Locker, unknown>
let stop: () => Promise<void>

/** Holds a lock until it is told to let it go. */
const hold = (key: string, pod = "a") => {
  const held = Locker.use((locker) => locker.withLock(key, Effect.never, { metadata: { pod } }))
  const fiber = runtime.runFork(Effect.ignore(held))
  return () => fiber.interruptUnsafe()
}

beforeAll(async () => {
  const redis = await startRedis()
  const url = `redis://127.0.0.1:${redis.port}`
  variables = { DLOCK_REDIS_URL: url }
  runtime = ManagedRuntime.make(RedisLocker.layer({ url, holder: "shop" }))
  stop = async () => {
    await runtime.dispose()
    await redis.stop()
  }
})
afterAll(() => stop())

/** Patience for a busy machine. How fast it is, is promised nowhere. */
const soon = { timeout: 60_000, interval: 50 }

test("in a terminal: a live table, which is resized, selected in, and gives the terminal back", async () => {
  const release = hold("report", "first")
  hold("stays\x1b[31m")
  const terminal = startTerminal(variables, ["watch"], { rows: 14, columns: 90 })
  try {
    await vi.waitFor(() => expect(terminal.screen().join("\n")).toMatch(/report +shop +mutex +\d+ +█/), soon)
    expect(terminal.screen().join("\n")).toContain("stays\\u001b[31m")
    // The one that waits is seen in the queue of the lock that is open.
    hold("report", "second")
    terminal.press("/rep\r")
    await vi.waitFor(() => expect(terminal.screen().join("\n")).toContain("1 shown"), soon)
    terminal.press("\x1b[B\r")
    await vi.waitFor(() => expect(terminal.screen().join("\n")).toMatch(/1 wait[^]*1 +shop +pod=second/), soon)
    terminal.resize(9, 50)
    await vi.waitFor(() => expect(terminal.screen().length).toBe(9), soon)
    expect(Math.max(...terminal.screen().map((line) => line.length))).toBeLessThanOrEqual(50)
    release()
    await vi.waitFor(() => expect(terminal.screen().join("\n")).not.toContain("1 wait"), soon)
    terminal.press("q")
    const { code, settings, stderr } = await terminal.ended()
    expect([code, stderr]).toEqual([0, ""])
    expect(settings).toMatch(/[^-]icanon/)
    expect(settings).toMatch(/[^-]echo\b/)
    expect(terminal.output()).toContain("\x1b[?1049h")
    expect(terminal.output().trimEnd().endsWith("\x1b[?25h\x1b[?1049l")).toBe(true)
  } finally {
    await terminal.close()
  }
})

test.each([["Ctrl-C", 0], ["SIGTERM", 130]])("%s gives the terminal back", async (how, code) => {
  const terminal = startTerminal(variables, ["watch"], { rows: 14, columns: 90 })
  try {
    await vi.waitFor(() => expect(terminal.screen().join("\n")).toContain("just now"), soon)
    if (how === "Ctrl-C") terminal.press("\x03")
    else terminal.signal("SIGTERM")
    const ended = await terminal.ended()
    expect(ended.code).toBe(code)
    expect(ended.settings).toMatch(/[^-]icanon/)
    expect(terminal.output().trimEnd().endsWith("\x1b[?25h\x1b[?1049l")).toBe(true)
  } finally {
    await terminal.close()
  }
})

test("without a terminal: a line for each change, of one lock or of all", async () => {
  const env = environment(variables)
  const start = (...args: ReadonlyArray<string>) => {
    const child = spawn(process.execPath, [program, "watch", ...args], { env, stdio: ["ignore", "pipe", "pipe"] })
    let written = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => written += text)
    return { written: () => written, child }
  }
  const [one, all] = [start("single", "--exact", "--json"), start("--every", "200ms")]
  try {
    const sees = (line: RegExp) => vi.waitFor(() => expect(all.written()).toMatch(line), soon)
    const changes = () => one.written().trim().split("\n").map((line) => JSON.parse(line))
    await sees(/held +stays/)
    const release = hold("single")
    await sees(/held +single by shop \(token \d+\)\n/)
    await vi.waitFor(() => expect(changes().map(({ change }) => change)).toEqual(["held"]), soon)
    const { holders: [holder] } = await runtime.runPromise(Locker.inspect("single"))
    await runtime.runPromise(Locker.revoke("single", { token: holder!.token }))
    release()
    await sees(/free +single\n/)
    // That it was asked to leave is seen if it takes a twentieth of a second to do so.
    await vi.waitFor(
      () => expect(changes().map(({ change }) => change).join(" ")).toMatch(/^held (revoked )?free$/),
      soon
    )
    expect(changes()[0]).toMatchObject({ key: "single", holders: [{ token: String(holder!.token) }] })
    // Nobody reads on: it ends by itself at the next change.
    one.child.stdout.destroy()
    const ended = new Promise((resolve) => one.child.on("exit", resolve))
    hold("single")
    expect(await ended).toBe(0)
  } finally {
    one.child.kill("SIGKILL")
    all.child.kill("SIGKILL")
  }
})
