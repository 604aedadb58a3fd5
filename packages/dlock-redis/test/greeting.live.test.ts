import { assert, describe, it } from "@effect/vitest"
import { startCluster, startReplicated, startSentinel } from "dlock-testing"
import { Duration, Effect } from "effect"
import type { LockBackendError, Locker } from "effect-dlock"
import { RedisLocker } from "effect-dlock-redis"
import { Cluster, Redis } from "ioredis"
import * as Net from "node:net"
import { built, eventually, fails, group, locker, plainClient, server } from "./support.ts"

/**
 * The commands that lockers send to a server from now on, except the handshakes. This reads a raw connection, because
 * the client's own monitor breaks if another client's command arrives in one packet with the answer to MONITOR.
 */
const asked = (url: string) =>
  Effect.gen(function*() {
    const commands: Array<string> = []
    const monitor = yield* Effect.acquireRelease(
      Effect.sync(() => Net.connect(Number(new URL(url).port), "127.0.0.1")),
      (monitor) => Effect.sync(() => monitor.destroy())
    )
    let rest = ""
    yield* Effect.promise(() =>
      new Promise<void>((begun) => {
        monitor.on("data", (data) => {
          const lines = (rest + data.toString()).split("\r\n")
          rest = lines.pop()!
          begun()
          for (const line of lines) {
            const [, database, command] =
              /^\+[\d.]+ \[(\d+) (?!lua)\S+\] "(eval|evalsha|subscribe|wait)"/i.exec(line) ?? []
            if (command !== undefined) commands.push(`${command} in ${database}`)
          }
        })
        monitor.write("MONITOR\r\n")
      })
    )
    return commands
  })

/** A user with every right, as which a locker logs in. */
const withUser = (admin: Redis, ...rules: ReadonlyArray<string>) =>
  Effect.promise(() =>
    admin.acl("SETUSER", "locker", "reset", "on", ">s3cret", "~*", "&*", "+@all", ...rules) as Promise<unknown>
  )

const killed = (admin: Redis) => Effect.promise(() => admin.call("CLIENT", "KILL", "USER", "locker"))

const expectDown = (error: { readonly _tag: string }) => assert.strictEqual(error._tag, "LockBackendError")

const untilBack = (section: Effect.Effect<unknown, unknown>) =>
  eventually("it is back", () => Effect.runPromise(Effect.isSuccess(section)))

/**
 * The server refuses the lock's database to the connections that `locker` makes from now on, and later allows it again.
 */
const staysOutOfOtherDatabases = (admin: Redis, url: string, locker: Locker["Service"]) =>
  Effect.gen(function*() {
    const section = locker.withLock("k", Effect.succeed("in"), { timeout: "10 seconds" })
    yield* section
    const commands = yield* asked(url)
    yield* section
    yield* Effect.promise(() => admin.eval("return 1", 0))
    // MONITOR reports commands in order, so the commands of the section have been reported before this one.
    yield* eventually("what is asked is told", () => Promise.resolve(commands.includes("eval in 0")))
    assert.include(commands, "evalsha in 5")
    commands.length = 0
    yield* withUser(admin, "-select")
    yield* killed(admin)
    yield* Effect.sleep("300 millis")
    expectDown(yield* Effect.flip(locker.withLock("k", Effect.void, { ttl: "1 second" })))
    assert.deepStrictEqual(commands, [])
    yield* withUser(admin)
    yield* untilBack(section)
    assert.notInclude(String(yield* Effect.promise(() => admin.info("keyspace"))), "db0:")
  })

describe("a database that the server refuses", () => {
  it.live("fails the layer at once, with the server's words", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const client = new Redis({ host: "127.0.0.1", port: redis.port, db: 99, lazyConnect: true })
      for (const layer of [RedisLocker.layer({ url: `${redis.url}/99` }), RedisLocker.layerClient(client)]) {
        const [took, error] = yield* Effect.timed(fails(layer))
        assert.strictEqual(error._tag, "LockBackendError")
        assert.include(error.message, "DB index is out of range")
        assert.isFalse((error as LockBackendError).retryable)
        assert.isBelow(Duration.toMillis(took), 1_500)
      }
    }).pipe(Effect.scoped))

  it.live("is not exchanged for another at a reconnect, and asked for again until it is given", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      yield* withUser(admin)
      const url = `redis://locker:s3cret@127.0.0.1:${redis.port}/5`
      yield* staysOutOfOtherDatabases(admin, redis.url, yield* locker({ url }))
    }).pipe(Effect.scoped))

  it.live("is not exchanged for another at a reconnect of a locker that waits for replicas", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startReplicated())
      const [primary] = servers
      const admin = yield* plainClient(primary!.url)
      yield* withUser(admin)
      const url = `redis://locker:s3cret@127.0.0.1:${primary!.port}/5`
      yield* staysOutOfOtherDatabases(admin, primary!.url, yield* locker({ url, waitReplicas: 1 }))
    }).pipe(Effect.scoped))

  it.live("is not exchanged for another at a reconnect behind sentinels", () =>
    Effect.gen(function*() {
      const { natMap, sentinels, servers } = yield* group(() => startSentinel())
      const [primary] = servers
      const admin = yield* plainClient(primary!.url)
      yield* withUser(admin)
      const client = (db: number) =>
        new Redis({
          sentinels: sentinels.servers.map(({ port }) => ({ host: "127.0.0.1", port })),
          name: "dlock",
          natMap: natMap as Record<string, { host: string; port: number }>,
          username: "locker",
          password: "s3cret",
          lazyConnect: true,
          db
        })
      const error = yield* fails(RedisLocker.layerClient(client(99)))
      assert.include(error.message, "DB index is out of range")
      yield* staysOutOfOtherDatabases(admin, primary!.url, yield* built(RedisLocker.layerClient(client(5))))
    }).pipe(Effect.scoped))

  it.live("fails a layer on a cluster, which has none but the first", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startCluster())
      const nodes = servers.map(({ port }) => ({ host: "127.0.0.1", port }))
      const client = new Cluster(nodes, { redisOptions: { db: 3 }, lazyConnect: true })
      const error = yield* fails(RedisLocker.layerClient(client))
      assert.match(error.message, /SELECT is not allowed|DB index is out of range/)
    }).pipe(Effect.scoped))
})

describe("credentials that the server refuses", () => {
  it.live("are not exchanged for the default user's at a reconnect", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      yield* withUser(admin)
      for (const protocol of [2, 3] as const) {
        const client = new Redis({
          host: "127.0.0.1",
          port: redis.port,
          username: "locker",
          password: "s3cret",
          protocol,
          lazyConnect: true
        })
        const { withLock } = yield* built(RedisLocker.layerClient(client))
        const section = withLock("k", Effect.succeed("in"), { timeout: "10 seconds" })
        yield* section
        const commands = yield* asked(redis.url)
        yield* Effect.promise(() => admin.acl("DELUSER", "locker"))
        yield* Effect.sleep("300 millis")
        expectDown(yield* Effect.flip(withLock("k", Effect.void, { ttl: "1 second" })))
        assert.deepStrictEqual(commands, [])
        yield* withUser(admin)
        yield* untilBack(section)
      }
    }).pipe(Effect.scoped))

  it.live("are not exchanged for the default user's at a reconnect on a cluster", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startCluster())
      const admins = yield* Effect.forEach(servers, ({ url }) => plainClient(url))
      const onAll = (change: (admin: Redis) => Effect.Effect<unknown>) => Effect.forEach(admins, change)
      yield* onAll((admin) => withUser(admin))
      const { withLock } = yield* locker({
        cluster: servers.map(({ port }) => `127.0.0.1:${port}`),
        username: "locker",
        password: "s3cret"
      })
      const section = withLock("k", Effect.succeed("in"), { timeout: "10 seconds" })
      yield* section
      const commands = yield* Effect.forEach(servers, ({ url }) => asked(url))
      yield* onAll((admin) => Effect.promise(() => admin.acl("DELUSER", "locker")))
      yield* Effect.sleep("300 millis")
      const error = yield* Effect.flip(withLock("k", Effect.void, { ttl: "1 second" }))
      assert.include(error.message, "WRONGPASS")
      assert.deepStrictEqual(commands.flat(), [])
      yield* onAll((admin) => withUser(admin))
      yield* untilBack(section)
    }).pipe(Effect.scoped))

  it.live("fail the layer, be it that the server asks for none", () =>
    Effect.gen(function*() {
      const redis = yield* server
      // A client that sends HELLO is let in as the default user, whatever the password.
      const client = new Redis({
        host: "127.0.0.1",
        port: redis.port,
        password: "s3cret",
        protocol: 2,
        lazyConnect: true
      })
      const error = (yield* fails(RedisLocker.layerClient(client))) as LockBackendError
      assert.strictEqual(error._tag, "LockBackendError")
      assert.include(error.message, "without any password configured")
      assert.isFalse(error.retryable)
      assert.notInclude(JSON.stringify(error), "s3cret")
    }).pipe(Effect.scoped))
})

describe("a command of the greeting that the server refuses", () => {
  it.live("does not keep the locker from its work", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      yield* withUser(admin, "-client")
      const { withLock } = yield* locker({ url: `redis://locker:s3cret@127.0.0.1:${redis.port}/5` })
      yield* withLock("k", Effect.void)
    }).pipe(Effect.scoped))
})
