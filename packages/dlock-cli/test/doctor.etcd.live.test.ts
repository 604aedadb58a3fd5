import {
  addLearner,
  enableAuth,
  etcdctl,
  freePorts,
  type Group,
  jwtTokens,
  startEtcd,
  startEtcdCluster,
  startGrpcProxy,
  startProxy,
  startRedisTls
} from "dlock-testing"
import { Etcd3 } from "etcd3"
import { setTimeout as sleep } from "node:timers/promises"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { concerns, doctor, found, meanwhile, p50Of, program } from "./doctor.ts"
import { using } from "./using.ts"

const at = (...servers: ReadonlyArray<{ readonly url: string }>) => ({
  DLOCK_ETCD_HOSTS: servers.map(({ url }) => url).join(",")
})

describe("a cluster of three", () => {
  let group: Group
  beforeAll(async () => {
    group = await startEtcdCluster(3, ["--strict-reconfig-check=false"])
  })
  afterAll(() => group.stop())

  test("has nothing wrong, not even for --strict, and a lock is taken, renewed and released there", async () => {
    const { exitCode, stderr, stdout } = await program(at(...group.servers), "--strict", "--json")
    const told = { exitCode, ...JSON.parse(stdout) }
    expect(concerns(told)).toEqual([])
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" })
    expect(found(told, "members").seen).toBe("3 of 3 voting members answer")
    expect(found(told, "lock").seen).toMatch(/taken in .* renewed in .* released in .* token was \d+/)
    expect(found(told, "disk").seen).toMatch(/p99 of fsync at most \d/)
    expect(await etcdctl(group.servers[0]!.url, "get", "--prefix", "--keys-only", "dlock:")).toBe("")
    expect(await etcdctl(group.servers[0]!.url, "lease", "list")).toMatch(/found 0 leases/)
  })

  test("is warned where only one of them is named", async () => {
    const told = await doctor(at(group.servers[0]!))
    expect(concerns(told)).toEqual(["warning hosts"])
    for (const { url } of group.servers) expect(found(told, "hosts").fix).toContain(url)
    expect(told.exitCode).toBe(0)
  })

  test("is seen to have a proxy in front, which needs a longer ttl", () =>
    using(startGrpcProxy(group.servers.map(({ url }) => url)), async (proxy) => {
      const told = await doctor(at(proxy))
      expect(concerns(told)).toEqual([])
      expect(found(told, "proxy")).toMatchObject({ severity: "note", seen: "etcd grpc-proxy is in between" })
      expect(concerns(await doctor(at(proxy), "--ttl", "3s"))).toContain("warning proxy")
    }))

  test("is seen to change its leader", async () => {
    const all = group.servers.map(({ url }) => url).join(",")
    const members = (await etcdctl(all, "member", "list")).trim().split("\n").map((line) => line.split(",")[0]!)
    const told = await meanwhile(doctor(at(...group.servers), "--for", "1s"), async (turn) => {
      await sleep(200)
      await etcdctl(all, "move-leader", members[turn % 2]!).catch(() => {}) // It may lead already.
    })
    expect(concerns(told)).toContain("warning leadership")
    expect(found(told, "leadership").seen).toMatch(/^the leader changed within/)
  })

  test("is warned where a host is a learner, and refuses where there is no other", async () =>
    using(addLearner(group, ["--strict-reconfig-check=false"]), async (learner) => {
      const beside = await doctor(at(...group.servers, learner))
      expect(concerns(beside)).toEqual(["warning learner"])
      expect(found(beside, "learner").subject).toBe(learner.url)
      const alone = await doctor({ ...at(learner), DLOCK_CONNECT_TIMEOUT: "500 millis" })
      expect(concerns(alone)).toEqual(expect.arrayContaining(["error service", "warning learner"]))
      expect(alone.exitCode).toBe(1)
    }))

  test("is warned while one member is down, and refuses without a majority", async () => {
    const [, second, third] = group.servers
    third!.signal("SIGKILL")
    await sleep(1_500) // an election may be due, which is another finding
    const one = await doctor(at(...group.servers))
    expect(concerns(one)).toContain("warning members")
    expect(found(one, "members").seen).toMatch(
      new RegExp(`^2 of 3 voting members answer; ${third!.url}: .*ECONNREFUSED`)
    )
    expect(one.exitCode).toBe(0)
    second!.signal("SIGKILL")
    const two = await doctor({ ...at(...group.servers), DLOCK_CONNECT_TIMEOUT: "1 second" })
    expect(concerns(two)).toEqual(expect.arrayContaining(["error lock", "error members", "error service"]))
    expect(two.exitCode).toBe(1)
  })
})

test.concurrent("a cluster without space is found by its alarm and its quota", () =>
  using(startEtcd(["--quota-backend-bytes=1000000"]), async (etcd) => {
    const client = new Etcd3({ hosts: etcd.url })
    const fill = async () => {
      for (let index = 0;; index++) await client.put(`filler-${index}`).value("x".repeat(200_000))
    }
    await expect(fill()).rejects.toThrow(/space exceeded/)
    client.close()
    const told = await doctor(at(etcd))
    // How near to its quota the last write that was refused has left it differs.
    expect(concerns(told)).toEqual(["error alarms", "error lock", expect.stringMatching(/^(error|warning) quota$/)])
    expect(found(told, "alarms")).toMatchObject({ seen: "the alarm NOSPACE is raised" })
    expect(found(told, "alarms").fix).toContain("etcdctl alarm disarm")
    expect(told.exitCode).toBe(1)
  }))

test.concurrent("a user without permissions hears of each, and one with a wrong password ends with 69", () =>
  using(startEtcd(jwtTokens(30)), async (etcd) => {
    await enableAuth(etcd.url)
    const as = (password: string) => ({ ...at(etcd), DLOCK_ETCD_USERNAME: "app", DLOCK_ETCD_PASSWORD: password })
    const right = await doctor(as("right"))
    expect(concerns(right)).toEqual([])
    expect(found(right, "token").seen).toMatch(/^signed tokens, valid for (29|30) s$/)
    const told = await doctor(as("right"), "--prefix", "shop:")
    expect(concerns(told)).toEqual(["error lock", "error permissions"])
    expect(found(told, "permissions")).toMatchObject({
      seen: "the user app may not read and write keys that begin with shop:",
      fix: "etcdctl role grant-permission locks readwrite --prefix=true shop:"
    })
    for (const env of [as("wrong"), at(etcd)]) {
      expect(await doctor(env)).toMatchObject({ exitCode: 69, unreachable: "credentials" })
    }
  }))

test.concurrent("a server with other limits than the lock's is told", () =>
  using(startEtcd(["--max-txn-ops=4", "--election-timeout=2000"]), async (etcd) => {
    const told = await doctor(at(etcd), "--ttl", "2s")
    expect(concerns(told)).toEqual(["error lock", "error max-txn-ops", "warning lease"])
    expect(found(told, "lease").seen).toBe("the shortest lease is 3 s, and the ttl is 2 s")
  }))

test.concurrent("a link that is slow for the ttl is told by its latency", () =>
  using(startEtcd(), (etcd) =>
    using(startProxy(etcd.port, "http"), async (proxy) => {
      proxy.delay(100)
      const told = await doctor(at(proxy), "--ttl", "1s", "--for", "600ms")
      expect(concerns(told)).toContain("error latency")
      expect(p50Of(found(told, "latency"))).toBeGreaterThanOrEqual(200)
    })))

test.concurrent("a server that cannot be reached ends with 69, and its reason is named", () =>
  using(startEtcd(), async (etcd) => {
    const [port] = await freePorts(1)
    const addresses = {
      refused: `http://127.0.0.1:${port}`,
      dns: "http://nowhere.invalid:2379",
      tls: `https://127.0.0.1:${etcd.port}`
    }
    for (const [unreachable, address] of Object.entries(addresses)) {
      expect(await doctor({ DLOCK_ETCD_HOSTS: address }), unreachable).toMatchObject({ exitCode: 69, unreachable })
    }
    await using(startRedisTls(), async ({ port }) => {
      // Whatever speaks TLS there: the connection gets no further.
      const told = await doctor({ DLOCK_ETCD_HOSTS: `http://127.0.0.1:${port}` })
      expect(told).toMatchObject({ exitCode: 69, unreachable: "tls" })
    })
    etcd.signal("SIGSTOP")
    const silent = await doctor({ ...at(etcd), DLOCK_CONNECT_TIMEOUT: "1 second" })
    expect(silent).toMatchObject({ exitCode: 69, unreachable: "silent" })
  }))
