import {
  command,
  freePorts,
  type Group,
  makeClock,
  type Server,
  startCluster,
  startProxy,
  startRedis,
  startRedisTls,
  startReplicated,
  startSentinel
} from "dlock-testing"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { concerns, doctor, found, inProcess, meanwhile, p50Of, program } from "./doctor.ts"
import { using } from "./using.ts"

/** A server with nothing wrong but what the arguments say. */
const sound = "--appendonly yes --appendfsync always".split(" ")
const redisWith = (...args: ReadonlyArray<string>) => startRedis({ args: [...sound, ...args] })

const url = (server: { readonly port: number }) => ({ DLOCK_REDIS_URL: `redis://127.0.0.1:${server.port}` })

/** Changes what a server replies, byte for byte. */
const startRewriting = async (port: number, rewrite: (reply: string) => string) => {
  const sockets = new Set<Net.Socket>()
  const server = Net.createServer((client) => {
    const upstream = Net.connect(port, "127.0.0.1")
    for (const socket of [client, upstream]) sockets.add(socket.on("error", () => {}))
    client.pipe(upstream)
    upstream.on("data", (chunk) => client.write(Buffer.from(rewrite(chunk.toString("latin1")), "latin1")))
    client.on("close", () => upstream.destroy())
    upstream.on("close", () => client.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    port: (server.address() as Net.AddressInfo).port,
    stop: async () => {
      sockets.forEach((socket) => socket.destroy())
      await new Promise((resolve) => server.close(resolve))
    }
  }
}

describe("a sound primary with its replica", () => {
  let group: Group
  const wait = { DLOCK_REDIS_WAIT_REPLICAS: "1" }
  beforeAll(async () => {
    group = await startReplicated()
    const { port } = group.servers[0]!
    for (
      const setting of ["appendonly yes", "appendfsync always", "min-replicas-to-write 1", "min-replicas-max-lag 5"]
    ) {
      expect(await command(port, `CONFIG SET ${setting}`)).toBe("+OK\r\n")
    }
  })
  afterAll(() => group.stop())

  test("has nothing wrong, not even for --strict, and a lock is taken, renewed and released there", async () => {
    const { exitCode, stderr, stdout } = await program({ ...url(group.servers[0]!), ...wait }, "--strict", "--json")
    const told = { exitCode, ...JSON.parse(stdout) }
    expect(concerns(told)).toEqual([])
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" })
    expect(found(told, "lock").seen).toMatch(/taken in .* renewed in .* released in .* token was \d+/)
    expect(found(told, "latency").seen).toMatch(/p50 .* p99 .* longest .* of \d+ round trips/)
    expect(await command(group.servers[0]!.port, "DBSIZE")).toBe(":1\r\n") // the last token, which expires
  })

  test("is warned of what a failover loses without waitReplicas", async () => {
    const told = await doctor(url(group.servers[0]!))
    expect(concerns(told)).toEqual(["warning wait-replicas"])
    expect(told.exitCode).toBe(0)
    expect((await doctor(url(group.servers[0]!), "--strict")).exitCode).toBe(1)
  })

  test("has an error where more replicas are awaited than there are", async () => {
    const told = await doctor({ ...url(group.servers[0]!), DLOCK_REDIS_WAIT_REPLICAS: "2" }, "--ttl", "1s")
    expect(concerns(told)).toContain("error wait-replicas")
    expect(concerns(told)).toContain("error lock")
    expect(told.exitCode).toBe(1)
  })

  test("is not found at the address of its replica", async () => {
    const told = await doctor(url(group.servers[1]!))
    expect(concerns(told)).toContain("error replica")
    expect(found(told, "replica").seen).toContain(`127.0.0.1:${group.servers[0]!.port}`)
    expect(told.exitCode).toBe(1)
  })
})

describe.concurrent("a server that loses locks", () => {
  test("evicts them", () =>
    using(redisWith("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"), async (redis) => {
      const told = await doctor(url(redis))
      expect(concerns(told)).toEqual(["error eviction"])
      expect(found(told, "eviction").seen).toMatch(/allkeys-lru, with .* of 100 MB used/)
      expect(told.exitCode).toBe(1)
    }))

  test("has no persistence, as a person reads it", () =>
    using(startRedis(), async (redis) => {
      const { exitCode, stderr, stdout } = await program(url(redis), "--for", "200ms")
      expect(stdout).toMatch(/^error +persistence .*no persistence/)
      expect(stdout).toContain("fix: CONFIG SET appendonly yes")
      expect(stdout).toContain("Not sound for locks. 1 error, 0 warnings")
      expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: "" })
    }))

  test("has a clock that is far from ours, and steps", async () => {
    const clock = makeClock()
    if (clock === undefined) throw new Error("the clock needs a C compiler: apt-get install gcc")
    try {
      await using(startRedis({ args: sound, env: clock.env }), async (redis) => {
        expect(concerns(await doctor(url(redis)))).toEqual([])
        clock.step(-60_000)
        const told = await doctor(url(redis))
        expect(concerns(told)).toEqual(["warning clock"])
        expect(found(told, "clock").seen).toMatch(/is -(59|60)\d{3} ms/)
        clock.step(0)
        const stepped = await meanwhile(doctor(url(redis), "--for", "1s"), async (turn) => {
          await sleep(300)
          clock.step(turn % 2 === 0 ? 0 : -5_000)
        })
        expect(concerns(stepped)).toContain("error clock-step")
        expect(found(stepped, "clock-step").seen).toMatch(/a step of [-+](49|50)\d\d ms/)
        expect(stepped.exitCode).toBe(1)
      })
    } finally {
      clock.remove()
    }
  })
})

test.concurrent("a server that is full refuses locks", () =>
  using(redisWith("--maxmemory", "500kb"), async (redis) => {
    const told = await doctor(url(redis))
    expect(concerns(told)).toEqual(["error eviction", "error lock"])
    expect(found(told, "lock").seen).toContain("OOM")
  }))

test.concurrent("a user without permissions hears of each by name", () =>
  using(redisWith(), async (redis) => {
    const may = "+@all -evalsha -publish -zadd ~shop:* &dlock:inbox:*"
    expect(await command(redis.port, `ACL SETUSER locker on >secret resetkeys resetchannels ${may}`)).toBe("+OK\r\n")
    const env = { DLOCK_REDIS_URL: `redis://locker:secret@127.0.0.1:${redis.port}` }
    const told = await doctor(env)
    expect(concerns(told)).toEqual(["error lock", "error permissions"])
    const { fix, seen } = found(told, "permissions")
    for (const permission of ["+evalsha", "+zadd", "+publish", "~dlock:*", "~{dlock:*"]) {
      expect(seen).toContain(` ${permission}`)
      expect(fix).toContain(` ${permission}`)
    }
    expect(fix).toContain("ACL SETUSER locker")
    expect(seen).not.toMatch(/\+(eval|get|set|subscribe)( |$)/)
    // What it says is enough.
    expect(await command(redis.port, fix!.split(",")[0]!)).toBe("+OK\r\n")
    expect(concerns(await doctor(env))).toEqual([])
    expect(await command(redis.port, "ACL SETUSER locker resetchannels -subscribe")).toBe("+OK\r\n")
    expect(found(await doctor(env), "permissions").seen).toMatch(/lacks \+publish &dlock:inbox:\* \+subscribe$/)
  }))

test.concurrent("a user with the documented permissions and no more suffices", () =>
  using(redisWith(), async (redis) => {
    const page = Fs.readFileSync(Path.resolve(import.meta.dirname, "../../../docs/redis.md"), "utf8")
    const documented = /^ACL SETUSER locker [^`]*/m.exec(page)![0].replaceAll(/\s+/g, " ").trim()
    expect(await command(redis.port, documented)).toBe("+OK\r\n")
    const told = await doctor({ DLOCK_REDIS_URL: `redis://locker:secret@127.0.0.1:${redis.port}` })
    expect(concerns(told)).toEqual([])
    expect(found(told, "persistence").severity).toBe("note")
    expect(found(told, "unseen").seen.split(": ")[1]!.split(" ").sort()).toEqual([
      "+client|id",
      "+client|info",
      "+config|get",
      "+slowlog|get"
    ])
  }))

test.concurrent("a name that comes from the server cannot write to the terminal", () =>
  using(redisWith(), async (redis) => {
    const name = "evil\x1b[31m\u202e"
    expect(await command(redis.port, `ACL SETUSER "evil\\x1b[31m\u202e" on nopass +@all ~* &*`)).toBe("+OK\r\n")
    const { stdout } = await inProcess({ ...url(redis), DLOCK_REDIS_USERNAME: name, DLOCK_REDIS_PASSWORD: "x" })
    expect(stdout).toContain("the user evil\\u001b[31m\\u202e has every permission")
    expect(stdout).not.toMatch(/evil\x1b|\u202e/)
  }))

test.concurrent("a link that is slow for the ttl is told by its latency", () =>
  using(redisWith(), (redis) =>
    using(startProxy(redis.port), async (proxy) => {
      proxy.delay(100)
      const told = await doctor(url(proxy), "--ttl", "1s", "--for", "600ms")
      expect(concerns(told)).toContain("error latency")
      expect(p50Of(found(told, "latency"))).toBeGreaterThanOrEqual(200)
      expect(found(told, "proxy").severity).toBe("note")
      // The same link is good enough for a longer ttl.
      expect(concerns(await doctor(url(proxy), "--ttl", "30s", "--for", "500ms"))).toEqual([])
    })))

test.concurrent("an old server is told by its version", () =>
  using(redisWith(), (redis) =>
    using(
      // Of Valkey, the version of its own.
      startRewriting(
        redis.port,
        (reply) => reply.replace(/(redis_version:)\d(?=\.)/, "$16").replace(/(valkey_version:)\d(?=\.)/, "$17")
      ),
      async (old) => {
        const told = await doctor(url(old))
        expect(concerns(told)).toEqual(["error version"])
        expect(found(told, "version").fix).toMatch(/update the server to (Redis 7|Valkey 8)/)
      }
    )))

test.concurrent("a proxy that spreads one connection over several servers is told", () =>
  using(redisWith(), (redis) => {
    let answers = 0
    const spread = (reply: string) =>
      reply.replaceAll(/(run_id:)\w/g, (_, name: string) => `${name}${answers++ % 2 === 0 ? "a" : "b"}`)
    return using(startRewriting(redis.port, spread), async (proxy) => {
      expect(concerns(await doctor(url(proxy)))).toEqual(["error proxy"])
    })
  }))

test.concurrent("settings that cut connections, and slow commands, are told", () =>
  using(
    redisWith(
      "--timeout",
      "5",
      "--client-output-buffer-limit",
      "pubsub",
      "4096",
      "4096",
      "1",
      "--enable-debug-command",
      "yes"
    ),
    async (redis) => {
      expect(await command(redis.port, "DEBUG SLEEP 0.3")).toBe("+OK\r\n")
      const told = await doctor(url(redis))
      expect(concerns(told)).toEqual(["warning output-buffer", "warning timeouts"])
      expect(found(told, "slow-commands").seen).toMatch(/^a DEBUG took \d{3} ms/)
    }
  ))

describe.concurrent("a server that cannot be reached ends with 69, and its reason is named", () => {
  let secret: Server
  beforeAll(async () => {
    secret = await redisWith("--requirepass", "right")
  })
  afterAll(() => secret.stop())
  const soon = { DLOCK_CONNECT_TIMEOUT: "1 second" }

  test("nobody listens, as a person reads it", async () => {
    const [port] = await freePorts(1)
    const { exitCode, stderr, stdout } = await program({ ...url({ port: port! }), ...soon })
    expect(stdout).toMatch(/^error +connection .*not reachable \(refused\): .*ECONNREFUSED/)
    expect(stdout).toContain("The server cannot be reached.")
    expect({ exitCode, stderr }).toEqual({ exitCode: 69, stderr: "" })
  })

  test("the host has no address", async () => {
    const told = await doctor({ DLOCK_REDIS_URL: "redis://nowhere.invalid:6379", ...soon })
    expect(told).toMatchObject({ exitCode: 69, unreachable: "dns" })
  })

  test.each([["wrong"], [undefined]])("the password is %s", async (password) => {
    const given: Readonly<Record<string, string>> = password === undefined ? {} : { DLOCK_REDIS_PASSWORD: password }
    const told = await doctor({ ...url(secret), ...given, ...soon })
    expect(told).toMatchObject({ exitCode: 69, unreachable: "credentials" })
    expect(JSON.stringify(told)).not.toContain("right")
  })

  test("only one side speaks TLS, or its authority is not trusted", () =>
    using(startRedisTls(), async (tls) => {
      for (const address of [`redis://127.0.0.1:${tls.port}`, `rediss://127.0.0.1:${secret.port}`, tls.url]) {
        const told = await doctor({ DLOCK_REDIS_URL: address, ...soon })
        expect(told, address).toMatchObject({ exitCode: 69, unreachable: "tls" })
      }
    }))

  test("it does not answer", () =>
    using(redisWith(), async (redis) => {
      redis.signal("SIGSTOP")
      expect(await doctor({ ...url(redis), ...soon })).toMatchObject({ exitCode: 69, unreachable: "silent" })
    }))
})

test.concurrent("sentinels are counted, and one that is away is named", () =>
  using(startSentinel(), async ({ sentinels: { servers } }) => {
    const env = {
      DLOCK_REDIS_SENTINELS: servers.map(({ port }) => `127.0.0.1:${port}`).join(","),
      DLOCK_REDIS_MASTER: "dlock"
    }
    const told = await doctor(env)
    expect(found(told, "sentinels")).toMatchObject({ severity: "ok", seen: "3 sentinels know dlock, the quorum is 2" })
    expect(concerns(told)).toEqual(["error persistence", "warning min-replicas", "warning wait-replicas"])
    const unknown = await doctor({ ...env, DLOCK_REDIS_MASTER: "other", DLOCK_CONNECT_TIMEOUT: "1 second" })
    expect(unknown.exitCode).toBe(69)
    expect(found(unknown, "connection").fix).toContain("DLOCK_REDIS_MASTER")
    servers[2]!.signal("SIGKILL")
    const missing = found(await doctor(env), "sentinels")
    expect(missing.severity).toBe("warning")
    expect(missing.seen).toContain(`127.0.0.1:${servers[2]!.port}: `)
  }))

test.concurrent("a cluster is judged as a whole, and one of its nodes does not pass for a server", () =>
  using(startCluster({ replicas: 0 }), async ({ servers }) => {
    const whole = await doctor({ DLOCK_REDIS_CLUSTER: `127.0.0.1:${servers[0]!.port}` })
    expect(found(whole, "cluster").seen).toBe("cluster_state ok, 16384 of 16384 slots served")
    expect(concerns(whole)).toEqual(["error persistence", "warning cluster-nodes"])
    const { stdout } = await inProcess({ DLOCK_REDIS_CLUSTER: `127.0.0.1:${servers[0]!.port}` })
    expect(stdout.match(/^error +persistence +(\S+, ){2}\S+: no persistence/gm)).toHaveLength(1)
    const node = await doctor(url(servers[0]!))
    expect(concerns(node)).toContain("error cluster")
    expect(found(node, "cluster").fix).toContain("DLOCK_REDIS_CLUSTER")
  }))

test.concurrent("the memory of a process needs no doctor", async () => {
  const told = await doctor({ DLOCK_DRIVER: "memory" })
  expect(told.exitCode).toBe(0)
  expect(found(told, "memory").severity).toBe("note")
})

test.concurrent("a ttl below a second is a warning, and one that no lock can have is a mistake of the caller", async () => {
  expect(found(await doctor({ DLOCK_DRIVER: "memory", DLOCK_DEFAULT_TTL: "500 millis" }), "ttl").severity).toBe(
    "warning"
  )
  const { exitCode, stderr } = await inProcess({ DLOCK_DRIVER: "memory" }, "--ttl", "1ms")
  expect({ exitCode, stderr }).toEqual({ exitCode: 64, stderr: "dlock: --ttl must be at least 100ms" })
  expect((await inProcess({ DLOCK_DRIVER: "memory" }, "--for", "2h")).exitCode).toBe(64)
})
