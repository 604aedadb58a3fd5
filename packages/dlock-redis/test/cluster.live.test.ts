import { assert, describe, it } from "@effect/vitest"
import { command, freePorts, recordLag, type Server, startCluster, startProxy } from "dlock-testing"
import { ConfigProvider, Deferred, Duration, Effect, Exit, Fiber, Layer, Schedule, Scope } from "effect"
import { RedisLocker, RedisLockerLive, RedisLockStore } from "effect-dlock-redis"
import { Cluster } from "ioredis"
import type { Target } from "../src/internal/client/address.ts"
import { connectSubscriber } from "../src/internal/client/ioredis/clients.ts"
import { plainTelemetry } from "./model/port.ts"
import {
  built,
  commandsSent,
  doesWhatEveryStoreDoes,
  eventually,
  fails,
  group,
  locker,
  plainClient,
  proxyTo,
  timed,
  within
} from "./support.ts"

type Servers = ReadonlyArray<{ readonly port: number }>

const nodesOf = (servers: Servers) => servers.map(({ port }) => `127.0.0.1:${port}`)

const cluster = group(() => startCluster())

/** A plain client of the whole cluster, which a test uses to inspect and change data. */
const plainCluster = (servers: Servers) =>
  Effect.acquireRelease(
    Effect.sync(() => new Cluster(servers.map(({ port }) => ({ host: "127.0.0.1", port })))),
    (client) => Effect.sync(() => client.disconnect())
  )

const sentTo = (servers: Servers) =>
  Effect.gen(function*() {
    const admins = yield* Effect.forEach(servers, ({ port }) => plainClient(`redis://127.0.0.1:${port}`))
    return Effect.promise(async () => (await Promise.all(admins.map(commandsSent))).reduce((a, b) => a + b, 0))
  })

describe("the Redis store on a cluster", () => {
  it.live("does what every store does", () =>
    Effect.gen(function*() {
      const { servers } = yield* cluster
      yield* doesWhatEveryStoreDoes(RedisLockStore.layer({ cluster: nodesOf(servers) }))
    }).pipe(Effect.scoped))
})

describe("a layer on a cluster that loses nodes while it comes up", () => {
  /**
   * A client of a cluster whose nodes, except the first `spared`, refuse new connections after the client has connected
   * to all primaries.
   */
  const losing = (spared: number) =>
    Effect.gen(function*() {
      const { servers } = yield* cluster
      const ways = yield* Effect.forEach(servers, ({ port }) => proxyTo(port))
      const natMap = Object.fromEntries(
        servers.map(({ port }, index) => [`127.0.0.1:${port}`, { host: "127.0.0.1", port: ways[index]!.port }])
      )
      for (const way of ways) {
        way.onRequest((chunk) => {
          if (/cluster\r\n\$4\r\ninfo/i.test(String(chunk))) ways.slice(spared).forEach(({ refuse }) => refuse())
        })
      }
      return new Cluster(ways.map(({ port }) => ({ host: "127.0.0.1", port })), { natMap, lazyConnect: true })
    })

  it.live("listens on another node", () =>
    Effect.gen(function*() {
      const { withLock } = yield* built(RedisLocker.layerClient(yield* losing(1)))
      yield* withLock("k", Effect.void)
    }).pipe(Effect.scoped))

  it.live("fails with what it met, where there is none", () =>
    Effect.gen(function*() {
      const error = yield* fails(RedisLocker.layerClient(yield* losing(0), { connectTimeout: "1 second" }))
      assert.strictEqual(error._tag, "LockBackendError")
      assert.include(error.message, "ECONNREFUSED")
      assert.notInclude(error.message, ":6379")
    }).pipe(Effect.scoped))

  it.live("goes nowhere to listen before it knows a node", () =>
    Effect.gen(function*() {
      const { servers } = yield* cluster
      const target: Target = { _tag: "Cluster", options: { password: "s3cret" }, make: () => assert.fail() }
      const listens = (cluster: Cluster) =>
        connectSubscriber(target, cluster, { connectTimeout: 1_000, operationTimeout: 1_000 }, {
          telemetry: plainTelemetry,
          secure: false
        })
      const unknown = new Cluster([], { lazyConnect: true })
      assert.include((yield* Effect.flip(listens(unknown))).message, "No node of the cluster is known")
      const found = yield* Effect.acquireRelease(
        Effect.sync(() => new Cluster(servers.map(({ port }) => ({ host: "127.0.0.1", port })), { lazyConnect: true })),
        (cluster) => Effect.sync(() => cluster.disconnect())
      )
      yield* Effect.forkChild(Effect.delay(Effect.promise(() => found.connect()), "200 millis"))
      const subscriber = yield* listens(found)
      assert.include(servers.map(({ port }) => port), subscriber.options.port)
    }).pipe(Effect.scoped))
})

describe("a locker on a cluster", () => {
  it.live("hands locks over on every shard by a notification, with two commands a section", () =>
    Effect.gen(function*() {
      const { servers } = yield* cluster
      const [one, other] = [
        yield* locker({ cluster: nodesOf(servers) }),
        yield* locker({ cluster: nodesOf(servers).toReversed() })
      ]
      const sent = yield* sentTo(servers)
      const recorded = recordLag()
      const keys = Array.from({ length: 60 }, (_, index) => `key-${index}`)
      yield* Effect.forEach(keys, (key) => one.withLock(key, Effect.void), { concurrency: 10 })
      const before = yield* sent
      const delays = yield* Effect.forEach(
        keys,
        (key) =>
          Effect.gen(function*() {
            const inside = yield* Deferred.make<void>()
            let releasedAt = 0
            const holder = yield* Effect.forkChild(
              one.withLock(key, Effect.andThen(Deferred.succeed(inside, undefined), Effect.sleep(300))).pipe(
                Effect.tap(() => Effect.sync(() => (releasedAt = performance.now())))
              )
            )
            yield* Deferred.await(inside)
            const enteredAt = yield* other.withLock(key, Effect.sync(() => performance.now()))
            yield* Fiber.join(holder)
            return enteredAt - releasedAt
          }),
        { concurrency: 10 }
      )
      const commands = (yield* sent) - before
      recorded.stop()
      yield* Effect.log(
        `slowest of 60 hand-overs ${Math.max(...delays).toFixed(0)} ms, ${commands / 120} commands a section`
      )
      // A poll would come one second after the last.
      assert.isBelow(Math.max(...delays), 150 + recorded.max())
      assert.isAtMost(commands / 120, 2.1)
    }).pipe(Effect.scoped))

  it.live("takes every key that leaves a slot in common, and no other", () =>
    Effect.gen(function*() {
      const { servers } = yield* cluster
      const { withLock } = yield* locker({ cluster: nodesOf(servers) })
      for (const key of ["a", "{a}", "{a}:b", "a{b", "{{x}}", "x{y}z{w}", "{a}}", "ключ 🔑", "two words", "::", "a:"]) {
        const section = withLock(key, Effect.sleep(5), { timeout: "5 seconds" })
        yield* Effect.all([section, section], { concurrency: 2 })
      }
      for (const key of ["a}b", "a{}b", "}"]) {
        assert.strictEqual((yield* Effect.flip(withLock(key, Effect.void)))._tag, "InvalidLockRequest", key)
      }
    }).pipe(Effect.scoped))

  it.live("keeps three hundred locks of as many slots alive", () =>
    Effect.gen(function*() {
      const { servers } = yield* cluster
      const { scoped } = yield* locker({ cluster: nodesOf(servers) })
      const leases = yield* Effect.forEach(
        Array.from({ length: 300 }),
        (_, index) => scoped(`key-${index}`, { ttl: "5 seconds" }),
        { concurrency: 20 }
      )
      yield* Effect.sleep("12 seconds")
      yield* Effect.forEach(leases, (lease) => lease.ensureHeld)
    }).pipe(Effect.scoped))

  it.live("sends nothing twice where a connection was lost with a reply under way", () =>
    Effect.gen(function*() {
      const { servers } = yield* cluster
      const admin = yield* plainCluster(servers)
      const proxies = yield* Effect.forEach(servers, ({ port }) => group(() => startProxy(port)))
      const natMap = Object.fromEntries(
        servers.map(({ port }, index) => [`127.0.0.1:${port}`, { host: "127.0.0.1", port: proxies[index]!.port }])
      )
      const client = new Cluster(proxies.map(({ port }) => ({ host: "127.0.0.1", port })), {
        natMap,
        lazyConnect: true
      })
      const { withLock } = yield* built(RedisLocker.layerClient(client))
      yield* withLock("warm", Effect.void)
      for (const key of ["x", "y", "z"]) {
        yield* withLock(key, Effect.void)
        let requests = 0
        let withinMoments = 0
        const stops = proxies.map((proxy) =>
          proxy.onRequest((chunk) => {
            if (!chunk.includes("evalsha") || !chunk.includes(`dlock:${key}`)) return
            if (++requests !== 1) return
            proxy.holdReplies()
            setTimeout(() => {
              proxy.reset()
              proxy.release()
              // The core asks again after a pause of 100 milliseconds. The client's own layer would ask again at once.
              setTimeout(() => (withinMoments = requests), 60)
            }, 50)
          })
        )
        yield* withLock(key, Effect.promise(() => admin.get(`dlock:${key}`)), { ttl: "10 seconds" }).pipe(
          Effect.map((value) => assert.isString(value))
        )
        stops.forEach((stop) => stop())
        assert.strictEqual(withinMoments, 1, "only the core decides what is asked again")
        assert.strictEqual(yield* Effect.promise(() => admin.exists(`dlock:${key}`)), 0)
      }
      assert.strictEqual(client.status, "wait", "never connected, never closed")
    }).pipe(Effect.scoped))

  it.live("is up at once, however many primaries there are", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startCluster({ primaries: 8 }))
      const recorded = recordLag()
      for (let time = 0; time < 4; time++) {
        const [took] = yield* Effect.timed(Effect.scoped(locker({ cluster: `127.0.0.1:${servers[0]!.port}` })))
        // The layer waits for a primary that is not connected yet, and does not start again.
        assert.isBelow(Duration.toMillis(took), 800 + recorded.max())
      }
    }).pipe(Effect.scoped))

  it.live("keeps the locks of the other nodes while one is silent", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startCluster({ nodeTimeoutMs: 20_000 }))
      const [silent, ...others] = servers as [Server, ...Array<Server>]
      const { scoped } = yield* locker({ cluster: nodesOf(servers) })
      const leases = yield* Effect.forEach(
        Array.from({ length: 30 }),
        (_, index) => scoped(`key-${index}`, { ttl: "3 seconds" }),
        { concurrency: 10 }
      )
      const kept = new Set(
        (yield* Effect.forEach(others, ({ url }) =>
          Effect.flatMap(plainClient(url), (client) => Effect.promise(() => client.keys("dlock:*"))))).flat()
      )
      silent.signal("SIGSTOP")
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => silent.signal("SIGCONT"))
      )
      yield* Effect.sleep("6 seconds")
      const held = new Set<string>()
      for (const lease of leases) {
        if (Duration.toMillis(yield* lease.remaining) > 0) held.add(`dlock:${lease.key}`)
      }
      assert.isAbove(kept.size, 10)
      assert.isBelow(kept.size, 30)
      assert.deepStrictEqual(held, kept)
    }).pipe(Effect.scoped))

  it.live("serves the first acquire and the first release after a thaw within 2.5 s", () =>
    Effect.gen(function*() {
      const { servers } = yield* cluster
      const ways = yield* Effect.forEach(servers, ({ port }) => proxyTo(port))
      const natMap = Object.fromEntries(
        servers.map(({ port }, index) => [`127.0.0.1:${port}`, { host: "127.0.0.1", port: ways[index]!.port }])
      )
      const nodes = ways.map(({ port }) => ({ host: "127.0.0.1", port }))
      const { scoped, withLock } = yield* built(
        RedisLocker.layerClient(new Cluster(nodes, { natMap, lazyConnect: true }))
      )
      const scope = yield* Scope.make()
      yield* Scope.provide(Effect.all(["a", "b", "c"].map((key) => scoped(key))), scope)
      yield* Effect.forEach(["x", "y", "z"], (key) => withLock(key, Effect.void))
      // Packets on the old connections disappear without an error. New connections work.
      const gone = yield* Effect.forkChild(
        Effect.promise(() => Promise.all(ways.map((way) => way.strand(6_000, 0)))),
        { startImmediately: true }
      )
      const acquires = Effect.forEach(["x", "y", "z"], (key) => withLock(key, Effect.void), { concurrency: 3 })
      yield* within(Effect.all([acquires, Scope.close(scope, Exit.void)], { concurrency: 2 }), 2_500)
      const admin = yield* plainCluster(servers)
      for (const key of ["a", "b", "c"]) {
        assert.strictEqual(yield* Effect.promise(() => admin.exists(`dlock:${key}`)), 0)
      }
      yield* Fiber.join(gone)
    }).pipe(Effect.scoped))

  it.live("serves the other nodes at once while a crowd waits for one that is silent", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startCluster({ nodeTimeoutMs: 60_000 }))
      const [sick, well] = servers as [Server, Server]
      const { withLock } = yield* locker({ cluster: nodesOf(servers) })
      const onNode = async (node: Server, tag: string) =>
        (await command(node.port, `GET dlock:{${tag}}`)).startsWith("-MOVED") ? [] : [tag]
      const tags = Array.from({ length: 20 }, (_, index) => `${index}`)
      const tagOf = (node: Server) =>
        Effect.promise(async () => (await Promise.all(tags.map((tag) => onNode(node, tag)))).flat()[0]!)
      const [sickTag, wellTag] = [yield* tagOf(sick), yield* tagOf(well)]
      const section = (tag: string, index: number) => withLock(`{${tag}}:${index}`, Effect.void)
      yield* section(wellTag, 0)
      yield* Effect.acquireRelease(
        Effect.sync(() => sick.signal("SIGSTOP")),
        () => Effect.sync(() => sick.signal("SIGCONT"))
      )
      yield* Effect.forkScoped(
        Effect.forEach(Array(1_000).keys(), (index) => Effect.exit(section(sickTag, index)), {
          concurrency: "unbounded"
        })
      )
      yield* Effect.sleep(100)
      yield* within(Effect.forEach(Array(20).keys(), (index) => section(wellTag, index)), 500)
    }).pipe(Effect.scoped))

  it.live("listens elsewhere when the node that it listens on goes away", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startCluster({ replicas: 1, nodeTimeoutMs: 1_000 }))
      const { withLock } = yield* locker({ cluster: nodesOf(servers) })
      const admins = yield* Effect.forEach(servers, ({ port }) => plainClient(`redis://127.0.0.1:${port}`))
      const channels = (index: number) =>
        admins[index]!.pubsub("CHANNELS", "dlock:inbox:*").then((found) => (found as Array<string>).length, () => 0)
      const listensOn = async () =>
        (await Promise.all(servers.map((_, index) => channels(index)))).findIndex((count) => count > 0)
      yield* withLock("k", Effect.void)
      const first = yield* Effect.promise(listensOn)
      assert.isAtLeast(first, 0)
      servers[first]!.signal("SIGKILL")
      const dead = servers[first]!
      yield* eventually("it listens elsewhere", async () => {
        const now = await listensOn()
        return now >= 0 && servers[now] !== dead
      }, 10_000)
      yield* within(Effect.retry(withLock("k", Effect.void), Schedule.spaced("100 millis")), 10_000)
    }).pipe(Effect.scoped))

  it.live("leaves a node that was taken out, and listens elsewhere", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startCluster())
      const say = async (at: number, line: string) => {
        const reply = await command(servers[at]!.port, line)
        if (reply.startsWith("-")) throw new Error(`${line}: ${reply}`)
        return reply
      }
      const waiting = yield* locker({ cluster: nodesOf(servers) })
      const listening = async () =>
        (await Promise.all(servers.map((_, at) => say(at, "PUBSUB CHANNELS dlock:inbox:*"))))
          .map((reply) => reply.includes("dlock:inbox:"))
      const out = (yield* Effect.promise(listening)).indexOf(true)
      const others = [0, 1, 2].filter((at) => at !== out)
      const idle = yield* locker({ cluster: nodesOf(servers) })
      const [from, to] = [out, out + 1].map((part) => Math.ceil(16384 * part / 3)) as [number, number]
      const keys: Array<string> = []
      yield* Effect.promise(async () => {
        for (let n = 0; keys.length < 2; n++) {
          const slot = Number((await say(0, `CLUSTER KEYSLOT dlock:k${n}`)).slice(1))
          if ((slot >= from && slot < to) === (keys.length === 0)) keys.push(`k${n}`)
        }
        const id = /[0-9a-f]{40}/.exec(await say(out, "CLUSTER MYID"))![0]
        for (const at of [0, 1, 2]) await say(at, `CLUSTER DELSLOTSRANGE ${from} ${to - 1}`)
        await say(others[0]!, `CLUSTER ADDSLOTSRANGE ${from} ${to - 1}`)
        for (const at of others) await say(at, `CLUSTER FORGET ${id}`)
        await say(out, "CLUSTER RESET")
      })
      const [moved, elsewhere] = keys as [string, string]
      yield* eventually("the cluster is whole", async () =>
        (await Promise.all(others.map((at) =>
          say(at, "CLUSTER INFO")
        ))).every((info) => info.includes("state:ok")))
      // The node answers that the cluster is down, and not where the slot has gone.
      yield* within(Effect.retry(idle.withLock(moved, Effect.void), Schedule.spaced("50 millis")), 5_000)
      yield* Scope.provide(waiting.scoped(elsewhere), yield* Scope.make())
      yield* Effect.forkChild(waiting.withLock(elsewhere, Effect.void))
      yield* eventually("it listens elsewhere", async () => !(await listening())[out], 12_000)
    }).pipe(Effect.scoped))

  it.live("leaves no rejection unhandled when the node that a slot is moving to falls silent", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startCluster({ nodeTimeoutMs: 30_000 }))
      const { withLock } = yield* locker({ cluster: nodesOf(servers), operationTimeout: "300 millis" })
      const unhandled: Array<unknown> = []
      const hear = (reason: unknown) => void unhandled.push(reason)
      process.on("unhandledRejection", hear)
      yield* Effect.addFinalizer(() => Effect.sync(() => process.off("unhandledRejection", hear)))
      const say = async (server: { readonly port: number }, line: string) => {
        const reply = await command(server.port, line)
        if (reply.startsWith("-")) throw new Error(`${line}: ${reply}`)
        return reply
      }
      const id = async (server: { readonly port: number }) => /[0-9a-f]{40}/.exec(await say(server, "CLUSTER MYID"))![0]
      const to = yield* Effect.promise(async () => {
        const slot = Number((await say(servers[0]!, "CLUSTER KEYSLOT dlock:k")).slice(1))
        const from = Math.floor(slot / (16384 / 3))
        const to = servers[(from + 1) % 3]!
        await say(to, `CLUSTER SETSLOT ${slot} IMPORTING ${await id(servers[from]!)}`)
        await say(servers[from]!, `CLUSTER SETSLOT ${slot} MIGRATING ${await id(to)}`)
        return to
      })
      to.signal("SIGSTOP")
      const error = yield* Effect.flip(withLock("k", Effect.void, { ttl: "1 second" }))
      assert.strictEqual(error._tag, "LockBackendError")
      yield* Effect.sleep("500 millis")
      assert.deepStrictEqual(unhandled, [])
    }).pipe(Effect.scoped))

  it.live("takes its nodes from Config, and fails in time and by name", () =>
    Effect.gen(function*() {
      const { servers } = yield* cluster
      const from = (config: Record<string, string>) =>
        Layer.provide(RedisLockerLive, ConfigProvider.layer(ConfigProvider.fromUnknown(config)))
      const { withLock } = yield* built(from({ DLOCK_REDIS_CLUSTER: nodesOf(servers).join() }))
      yield* withLock("k", Effect.void)
      const [nobody] = yield* Effect.promise(() => freePorts(1))
      const [took, error] = yield* timed(
        fails(RedisLocker.layer({ cluster: `127.0.0.1:${nobody}`, connectTimeout: "1 second" }))
      )
      assert.strictEqual(error._tag, "LockBackendError")
      assert.include(error.message, "ECONNREFUSED")
      assert.isBelow(took, 2_000)
      for (const { port } of servers) yield* Effect.promise(() => command(port, "CONFIG SET requirepass right"))
      const wrong = yield* fails(from({ DLOCK_REDIS_CLUSTER: nodesOf(servers).join(), DLOCK_REDIS_PASSWORD: "s3cret" }))
      assert.strictEqual(wrong._tag, "LockBackendError")
      assert.isFalse((wrong as { readonly retryable?: boolean }).retryable)
      assert.notInclude(JSON.stringify(wrong), "s3cret")
      const right = yield* built(from({ DLOCK_REDIS_CLUSTER: nodesOf(servers).join(), DLOCK_REDIS_PASSWORD: "right" }))
      yield* right.withLock("k", Effect.void)
    }).pipe(Effect.scoped))

  it.live("goes to each node as whom a client goes to that one", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startCluster())
      for (const { port } of servers) yield* Effect.promise(() => command(port, `CONFIG SET requirepass s${port}`))
      const client = new Cluster(servers.map(({ port }) => ({ host: "127.0.0.1", port, password: `s${port}` })), {
        lazyConnect: true
      })
      const { withLock } = yield* built(RedisLocker.layerClient(client))
      yield* Effect.all([withLock("k", Effect.sleep(5)), withLock("k", Effect.sleep(5))], { concurrency: 2 })
    }).pipe(Effect.scoped))

  it.live("leaves nothing open behind it", () =>
    Effect.gen(function*() {
      const { servers } = yield* cluster
      const before = process.getActiveResourcesInfo().length
      yield* Effect.scoped(Effect.gen(function*() {
        const { withLock } = yield* locker({ cluster: nodesOf(servers) })
        yield* withLock("k", Effect.void)
      }))
      yield* eventually("all is closed", async () => process.getActiveResourcesInfo().length <= before)
    }).pipe(Effect.scoped))
})
