import { etcdctl, startEtcdCluster, startRedis } from "dlock-testing"
import { Redis } from "ioredis"
import { spawn } from "node:child_process"
import { expect, test, vi } from "vitest"
import { dlock, environment, program } from "./program.ts"

/** What there is left of its locks, but for the last tokens, which Redis keeps for a day. */
const leftIn = async (port: number): Promise<ReadonlyArray<string>> => {
  const redis = new Redis(port)
  const keys = await redis.keys("*dlock-bench-*")
  redis.disconnect()
  return keys.filter((key) => !/\}\Wf$/.test(key) && !/\}:\Wf$/.test(key))
}

/** Interrupts it when all of its locks are busy. */
const interrupted = (variables: Readonly<Record<string, string>>): Promise<number | null> => {
  const child = spawn(process.execPath, [program, "bench", "--seconds", "30"], {
    env: environment(variables),
    stdio: ["ignore", "ignore", "pipe"]
  })
  child.stderr.on("data", (text: Buffer) => text.includes("one caller") && setTimeout(() => child.kill("SIGINT"), 300))
  return new Promise((resolve) => child.on("exit", resolve))
}

const times = { count: expect.any(Number), p50Ms: expect.any(Number), p99Ms: expect.any(Number) }
const measured = {
  alone: { callers: 1, perSecond: expect.any(Number), ...times },
  together: { callers: 16, ...times },
  handOver: times,
  renewal: times,
  leastTtlMs: expect.any(Number)
}

test("on Redis: four figures and a ttl, and no lock is left, also after an interruption", async () => {
  const redis = await startRedis()
  const variables = { DLOCK_REDIS_URL: `redis://127.0.0.1:${redis.port}` }
  try {
    const { code, stdout } = await dlock(variables, "bench", "--seconds", "1", "--json")
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ driver: "redis", ...measured })
    expect(await leftIn(redis.port!)).toEqual([])
    expect(await interrupted(variables)).toBe(130)
    expect(await leftIn(redis.port!)).toEqual([])
  } finally {
    await redis.stop()
  }
})

test("on etcd: the same", async () => {
  const etcd = await startEtcdCluster(1)
  const hosts = etcd.servers[0]!.url
  const left = async () => (await etcdctl(hosts, "get", "--prefix", "dlock:dlock-bench-", "--keys-only")).trim()
  try {
    const { stdout } = await dlock({ DLOCK_ETCD_HOSTS: hosts }, "bench", "--seconds", "3")
    expect(stdout).toMatch(
      /1 caller +[\d.]+ m?s[^]*16 callers[^]*hand-over[^]*renewal, at most[^]*a ttl of \d+ s or longer/
    )
    expect(await left()).toBe("")
    expect(await interrupted({ DLOCK_ETCD_HOSTS: hosts })).toBe(130)
    // A release waits two seconds for its answer. What an etcd on a slow disk had not done by then ends with its lease.
    await vi.waitFor(async () => expect(await left()).toBe(""), { timeout: 60_000, interval: 200 })
  } finally {
    await etcd.stop()
  }
})
