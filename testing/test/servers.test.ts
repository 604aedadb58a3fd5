import { expect, test } from "vitest"
import { etcdUrl, redisUrl } from "../src/context.ts"
import { command, startCluster, startSentinel } from "../src/index.ts"

test("the redis of this run answers", async () => {
  const info = await command(Number(new URL(redisUrl()).port), "INFO server")
  expect(info).toMatch(/redis_version:\d+/)
})

test("the etcd of this run answers", async () => {
  const response = await fetch(`${etcdUrl()}/version`)
  expect(await response.json()).toMatchObject({ etcdserver: expect.stringMatching(/^3\./) })
})

test("sentinels promote the replica of a primary that only they cannot reach", async () => {
  const group = await startSentinel()
  try {
    const [old] = group.servers
    group.isolate()
    const promoted = await group.promoted()
    expect(await command(promoted.port, "SET k new")).toMatch(/^\+OK/)
    expect(await command(old!.port, "INFO replication")).toContain("role:master")
    expect(await command(old!.port, "SET k old")).toMatch(/^\+OK/)
  } finally {
    await group.stop()
  }
})

test("servers and sentinels ask for their passwords", async () => {
  const group = await startSentinel({ password: "one", sentinelPassword: "two" })
  try {
    expect(await command(group.servers[0]!.port, "PING")).toMatch(/^-NOAUTH/)
    expect(await command(group.sentinels.servers[0]!.port, "PING")).toMatch(/^-NOAUTH/)
  } finally {
    await group.stop()
  }
})

test("a cluster fails over to the replica of a primary that dies", async () => {
  const cluster = await startCluster({ replicas: 1, nodeTimeoutMs: 1_000 })
  try {
    const [first, second, , replica] = cluster.servers
    expect(await command(replica!.port, "INFO replication")).toContain(`master_port:${first!.port}`)
    first!.signal("SIGKILL")
    await expect.poll(() => command(replica!.port, "INFO replication"), { timeout: 10_000 }).toContain("role:master")
    await expect.poll(() => command(second!.port, "CLUSTER INFO"), { timeout: 10_000 }).toContain("cluster_state:ok")
  } finally {
    await cluster.stop()
  }
})
