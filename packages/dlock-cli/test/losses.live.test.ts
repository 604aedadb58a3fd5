import { startEtcd, startRedis } from "dlock-testing"
import { afterEach, expect, test } from "vitest"
import { endAll } from "./support/dlock.ts"
import { lose, overlaps } from "./support/losses.ts"

/** How many losses there are on each backend. */
const losses = Number(process.env["DLOCK_CLI_LOSSES"] ?? 3)
const limit = 60_000 + losses * 20_000

afterEach(endAll)

const durable = ["--appendonly", "yes", "--appendfsync", "always"]

const backends = {
  redis: async () => {
    const server = await startRedis({ args: durable })
    return { server, env: { DLOCK_REDIS_URL: server.url } }
  },
  etcd: async () => {
    const server = await startEtcd()
    return { server, env: { DLOCK_ETCD_HOSTS: server.url } }
  }
}

test.each(["redis", "etcd"] as const)("nobody is inside twice, whatever is stopped or killed: %s", async (backend) => {
  const target = await backends[backend]()
  try {
    const report = await lose(target, losses, backend === "redis" ? 0 : 1)
    if (losses > 10) console.log(backend, { ...report, seen: report.seen.length })
    expect(report.overlaps).toEqual([])
    expect(report.alive).toEqual([])
    expect(report.seen.length).toBeGreaterThan(losses)
    // Who was stopped finds that its lock is lost. Nobody was left alone by its guardian.
    for (const code of report.codes) {
      expect(code).toMatch(/^killDlock:SIGKILL$|^freeze(Dlock|All):(76|137|143)$|Server:76$/)
    }
  } finally {
    await target.server.stop()
  }
}, limit)

test("the checker sees two that are in, and a grant out of order", () => {
  const seen = (token: string, from: bigint, to: bigint) => ({ token, pids: new Set<number>(), from, to })
  expect(overlaps([seen("1", 0n, 5n), seen("2", 6n, 9n)])).toEqual([])
  expect(overlaps([seen("1", 0n, 7n), seen("2", 6n, 9n)])).toHaveLength(1)
  expect(overlaps([seen("2", 0n, 5n), seen("1", 6n, 9n)])).toHaveLength(1)
})
