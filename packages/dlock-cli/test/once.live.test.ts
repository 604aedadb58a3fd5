import { expect, test } from "vitest"
import { dlock, ended, until } from "./support/dlock.ts"
import { useRedis } from "./support/redis.ts"

const { env } = useRedis()

test("a command runs once within a time; one that fails may be repeated", async () => {
  const run = (...args: ReadonlyArray<string>) => ended(env, "once", "digest", "--every", "60s", ...args)
  expect((await run("--", "sh", "-c", "exit 3")).code).toBe(3)
  expect(await run("--", "echo", "ran")).toMatchObject({ code: 0, stdout: "ran\n" })
  const skipped = await run("--", "echo", "ran")
  expect(skipped).toMatchObject({ code: 0, stdout: "" })
  expect(skipped.stderr).toContain("digest is skipped")
  expect((await run("-E", "7", "--", "echo", "ran")).code).toBe(7)
  expect(await ended(env, "run", "--once", "60s", "digest", "--", "echo", "ran")).toMatchObject({ code: 0, stdout: "" })
})

test("with --counts start, a command that fails has run", async () => {
  const run = (...args: ReadonlyArray<string>) =>
    ended(env, "once", "bill", "--every", "60s", "--counts", "start", ...args)
  expect((await run("--", "false")).code).toBe(1)
  expect(await run("--", "echo", "ran")).toMatchObject({ code: 0, stdout: "" })
})

test("a leader runs in one process, and in the next when that is ended", async () => {
  const candidate = () =>
    dlock(
      env,
      "elect",
      "boss",
      "--ttl",
      "2s",
      "-c",
      "echo $DLOCK_FENCING_TOKEN; trap 'exit 0' TERM; while :; do sleep 0.02; done"
    )
  const one = candidate()
  await until("it leads", () => one.stdout() !== "")
  const other = candidate()
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  expect(other.stdout()).toBe("")
  one.signal("SIGTERM")
  expect(await one.exited).toBe(0)
  await until("the other leads", () => other.stdout() !== "")
  expect(BigInt(other.stdout().trim())).toBeGreaterThan(BigInt(one.stdout().trim()))
  other.signal("SIGTERM")
  expect(await other.exited).toBe(0)
})

test("a command that ends by itself is run again in the next term, or ends the candidate", async () => {
  const again = dlock(env, "elect", "again", "--ttl", "2s", "--cooldown", "100ms", "-c", "echo term")
  await until("it leads twice", () => again.stdout().startsWith("term\nterm\n"))
  again.signal("SIGTERM")
  expect([0, 143]).toContain(await again.exited)
  expect((await ended(env, "elect", "ends", "--exit-with-command", "-c", "exit 4")).code).toBe(4)
})
