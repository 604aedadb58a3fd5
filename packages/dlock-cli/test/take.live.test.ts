import { recordLag, type Server, startEtcd, startRedis } from "dlock-testing"
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest"
import { dlock, endAll, ended, program, start, until } from "./support/dlock.ts"

afterEach(endAll)

describe.each(["redis", "etcd"] as const)("on %s", (driver) => {
  let server: Server
  let env: Record<string, string>
  beforeAll(async () => {
    server = driver === "redis" ? await startRedis() : await startEtcd()
    env = driver === "redis" ? { DLOCK_REDIS_URL: server.url } : { DLOCK_ETCD_HOSTS: server.url }
  })
  afterAll(() => server.stop())

  test("a taken lock outlives its process until it is given, and one handle gives once", async () => {
    const taken = await ended(env, "take", "deploy", "--for", "60s", "--metadata", "run=42")
    expect(taken.code).toBe(0)
    const handle = taken.stdout.trim()
    expect(handle).toMatch(/^[\w-]+$/)
    const waiter = dlock(env, "run", "deploy", "--", "echo", "in")
    const tried = await ended(env, "take", "-n", "deploy", "--for", "60s")
    expect(tried.code).toBe(75)
    expect(tried.stderr).toContain("run=42")
    expect(waiter.stdout()).toBe("")
    expect((await ended(env, "give", handle)).code).toBe(0)
    await until("the waiter is in", () => waiter.stdout() === "in\n", 5_000)
    expect(await waiter.exited).toBe(0)
    const late = await ended(env, "give", handle)
    expect([late.code, late.stderr.includes("not held any more")]).toEqual([1, true])
  })

  test("without that, it lasts for its time and no longer; a late give harms nobody", async () => {
    const lag = recordLag()
    onTestFinished(lag.stop)
    const takeFor = async (time: string, ...args: ReadonlyArray<string>) => {
      const taken = await ended(env, "take", "timed", ...args, "--for", time, "--json")
      expect(taken.code).toBe(0)
      return JSON.parse(taken.stdout) as {
        readonly handle: string
        readonly expiresAt: string
        readonly expiresInMs: number
      }
    }
    const first = await takeFor("4s")
    expect(first.expiresInMs).toBe(4_000)
    const second = await takeFor("60s", "-w", "20s")
    const late = Date.parse(second.expiresAt) - 60_000 - Date.parse(first.expiresAt)
    // etcd counts in whole seconds and looks twice a second.
    expect(late).toBeGreaterThan(-50)
    expect(late).toBeLessThan((driver === "redis" ? 500 : 2_500) + lag.max())
    expect((await ended(env, "give", first.handle)).code).toBe(1)
    expect((await ended(env, "run", "-n", "timed", "--", "true")).code).toBe(75)
  })

  test("a lock that was waited for lasts its whole time from then on", async () => {
    const holder = dlock(env, "run", "waited", "-c", "read line")
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    const taking = dlock(env, "take", "waited", "--for", "90s", "-w", "20s", "--json")
    await new Promise((resolve) => setTimeout(resolve, 4_000))
    holder.type("\n")
    expect(await taking.exited).toBe(0)
    const { expiresAt } = JSON.parse(taking.stdout()) as { readonly expiresAt: string }
    const { stdout } = await ended(env, "inspect", "waited", "--json")
    const { holders: [hold] } = JSON.parse(stdout) as { readonly holders: ReadonlyArray<{ expiresInMs: number }> }
    // etcd tells whole seconds.
    expect(Date.now() + hold!.expiresInMs).toBeGreaterThan(Date.parse(expiresAt) - 1_100)
  })

  test("a lock whose handle cannot be written is released", async () => {
    const taken = start([
      "sh",
      "-c",
      `"$@" >/dev/full`,
      "sh",
      process.execPath,
      program,
      "take",
      "lost",
      "--for",
      "60s"
    ], env)
    expect(await taken.exited).toBe(74)
    expect(taken.stderr()).toContain("cannot be written")
    expect((await ended(env, "run", "-n", "lost", "--", "true")).code).toBe(0)
  })
})

test("on another server that gave the same token, a handle gives nothing", async () => {
  const servers = [await startEtcd(), await startEtcd()] as const
  onTestFinished(async () => void (await Promise.all(servers.map((server) => server.stop()))))
  const here = { DLOCK_ETCD_HOSTS: servers[0].url }
  const there = { DLOCK_ETCD_HOSTS: servers[1].url }
  const taken = await ended(here, "take", "deploy", "--for", "60s", "--json")
  const { handle, token } = JSON.parse(taken.stdout) as { readonly handle: string; readonly token: string }
  const other = await ended(there, "take", "deploy", "--for", "60s", "--json")
  expect(JSON.parse(other.stdout)).toMatchObject({ token })
  expect((await ended(there, "give", handle)).code).toBe(1)
  expect((await ended(there, "run", "-n", "deploy", "--", "true")).code).toBe(75)
  expect((await ended(here, "give", handle)).code).toBe(0)
})

test("a handle that is cut is refused", async () => {
  const { code, stderr } = await ended({}, "give", "123-")
  expect(code).toBe(64)
  expect(stderr).toContain("no handle")
})
