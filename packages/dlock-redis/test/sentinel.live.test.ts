import { assert, describe, it } from "@effect/vitest"
import { command, freePorts, recordLag, startSentinel, startWorker } from "dlock-testing"
import { Config, ConfigProvider, Deferred, Duration, Effect, Fiber, Layer, Ref, Schedule } from "effect"
import type { Locker } from "effect-dlock"
import { RedisLocker, RedisLockerLive, type RedisLockerOptions } from "effect-dlock-redis"
import { Redis } from "ioredis"
import * as Path from "node:path"
import { built, eventually, fails, group, locker, proxyTo, type Section, timed, violations, within } from "./support.ts"

const sentinelsOf = (servers: ReadonlyArray<{ readonly port: number }>) =>
  servers.map(({ port }) => `127.0.0.1:${port}`)

/** How a test's own clients find the primary: by its own address. */
const addressed = (servers: ReadonlyArray<{ readonly port: number }>, natMap: RedisLockerOptions | object) =>
  new Redis({
    sentinels: servers.map(({ port }) => ({ host: "127.0.0.1", port })),
    name: "dlock",
    natMap: natMap as Record<string, { host: string; port: number }>,
    lazyConnect: true
  })

/** Servers, and a client whose connections to the sentinels a test can cut. */
const throughProxies = Effect.gen(function*() {
  const servers = yield* group(() => startSentinel())
  const ways = yield* Effect.forEach(servers.sentinels.servers, ({ port }) => proxyTo(port))
  // Sentinels report each other by their own addresses, and the client must not use those to bypass the proxies.
  const toSentinels = Object.fromEntries(
    servers.sentinels.servers.map(({ port }, index) => [
      `127.0.0.1:${port}`,
      { host: "127.0.0.1", port: ways[index]!.port }
    ])
  )
  return { servers, ways, client: addressed(ways, { ...servers.natMap, ...toSentinels }) }
})

describe("behind sentinels", () => {
  it.live(
    "an old primary that was cut off confirms no renewal while another holds the lock on the new one",
    () =>
      Effect.gen(function*() {
        const servers = yield* group(() => startSentinel())
        const [old] = servers.servers
        const client = () => addressed(servers.sentinels.servers, servers.natMap)
        const first = yield* built(RedisLocker.layerClient(client()))
        const second = yield* built(RedisLocker.layerClient(client()))
        const sections = yield* Ref.make<ReadonlyArray<Section>>([])
        const record = (section: Section) => Ref.update(sections, (all) => [...all, section])

        const inside = yield* Deferred.make<void>()
        const holder = yield* Effect.forkChild(
          Effect.exit(first.withLock("k", (lease) =>
            Effect.suspend(() => {
              const enteredAt = performance.now()
              return Deferred.succeed(inside, undefined).pipe(
                Effect.andThen(Effect.never),
                Effect.onExit(() =>
                  record({ key: "k", token: lease.fencingToken, enteredAt, leftAt: performance.now() })
                )
              )
            }), { ttl: "3 seconds" }))
        )
        yield* Deferred.await(inside)
        const before = yield* Effect.promise(() => command(old!.port, "GET dlock:k"))
        assert.include(before, ":", "the lock is on the old primary")
        servers.isolate()
        yield* Effect.promise(servers.promoted)
        // The replica may or may not have the lock. In both cases the test removes it, as if that write had been lost.
        const promoted = servers.servers[1]!
        yield* Effect.promise(() => command(promoted.port, "DEL dlock:k"))
        const confirmed = yield* second.withLock("k", (lease) =>
          Effect.gen(function*() {
            const enteredAt = performance.now()
            // A renewal by the first holder would make the key's ttl grow on the old primary.
            let confirmed = 0
            let last = Number((yield* Effect.promise(() => command(old!.port, "PTTL dlock:k"))).slice(1))
            for (let beat = 0; beat < 100; beat++) {
              yield* Effect.sleep("100 millis")
              const ttl = Number((yield* Effect.promise(() => command(old!.port, "PTTL dlock:k"))).slice(1))
              if (ttl > last) confirmed++
              last = ttl
            }
            yield* lease.ensureHeld
            yield* record({ key: "k", token: lease.fencingToken, enteredAt, leftAt: performance.now() })
            return confirmed
          }), { ttl: "3 seconds" })
        const exit = yield* Fiber.join(holder)
        yield* Effect.log(`an isolated old primary confirmed ${confirmed} of 10 renewals`)
        assert.strictEqual(confirmed, 0)
        assert.strictEqual(exit._tag, "Failure", "the first holder was told")
        // The overlap is the cost of the failover. The newer holder has the larger token.
        assert.deepStrictEqual(violations(yield* Ref.get(sections), { overlap: () => true }), [])
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "an old primary is left by those who did not hear of the failover while it happened",
    () =>
      Effect.gen(function*() {
        const { client, servers, ways } = yield* throughProxies
        const { scoped } = yield* built(RedisLocker.layerClient(client))
        const lease = yield* scoped("k", { ttl: "2 seconds" })
        const [old, promoted] = servers.servers as unknown as [{ readonly port: number }, { readonly port: number }]
        assert.include(yield* Effect.promise(() => command(old.port, "GET dlock:k")), ":")
        for (const way of ways) {
          way.refuse()
          way.reset()
        }
        servers.isolate()
        yield* Effect.promise(servers.promoted)
        // As if the promoted server had never received the lock.
        yield* Effect.promise(() => command(promoted.port, "DEL dlock:k"))
        yield* Effect.sleep("3 seconds")
        yield* lease.ensureHeld
        for (const way of ways) yield* Effect.promise(way.accept)
        // The client retries a sentinel at growing intervals of at most 5 seconds.
        const error = yield* within(Effect.flip(lease.lost), 8_000)
        assert.strictEqual(error._tag, "OwnershipLost")
        yield* within(Effect.retry(Effect.scoped(scoped("k")), Schedule.spaced("100 millis")), 5_000)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "a client that hears of a failover while it asks a sentinel where to go does not give up",
    () =>
      Effect.gen(function*() {
        const { client, servers, ways: [asked] } = yield* throughProxies
        const { withLock } = yield* built(RedisLocker.layerClient(client, { operationTimeout: "10 seconds" }))
        yield* withLock("k", Effect.void)
        asked!.hold()
        servers.servers[0]!.signal("SIGKILL")
        servers.isolate()
        yield* Effect.promise(servers.promoted)
        yield* Effect.sleep("200 millis")
        asked!.release()
        // Another key, because the release of the first may not have reached the replica.
        yield* within(Effect.retry(withLock("another", Effect.void), Schedule.spaced("50 millis")), 5_000)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "sections go on soon after a killed primary's replica has been promoted, and tokens still grow",
    () =>
      Effect.gen(function*() {
        const servers = yield* group(() => startSentinel())
        const options = { sentinels: sentinelsOf(servers.sentinels.servers), master: "dlock" }
        const natted = () => built(RedisLocker.layerClient(addressed(servers.sentinels.servers, servers.natMap)))
        const lockers = [yield* locker(options), yield* natted()]
        const sections: Array<Section> = []
        const running = yield* Effect.forkChild(
          Effect.forEach(
            lockers.flatMap((locker) => [0, 1].map((fiber) => ({ locker, keys: [`k${fiber}`, "k2"] }))),
            ({ keys, locker }) =>
              Effect.forEach(keys, (key) => section(locker, key, sections), { discard: true }).pipe(
                Effect.retry(Schedule.spaced("50 millis")),
                Effect.forever
              ),
            { concurrency: "unbounded", discard: true }
          )
        )
        yield* eventually("sections run", async () => sections.length > 100)
        servers.servers[0]!.signal("SIGKILL")
        // The sentinels reach it through a proxy, which would still accept connections.
        servers.isolate()
        yield* Effect.promise(servers.promoted)
        const promotedAt = performance.now()
        const after = () => sections.filter(({ enteredAt }) => enteredAt > promotedAt)
        const all = ["k0", "k1", "k2"]
        yield* eventually(
          "sections on every key go on",
          async () => all.every((key) => after().some((section) => section.key === key))
        )
        const gap = Math.max(...all.map((key) => after().find((section) => section.key === key)!.enteredAt)) -
          promotedAt
        yield* Effect.sleep("1 second")
        yield* Fiber.interrupt(running)
        yield* Effect.log(`sections went on ${gap.toFixed(0)} ms after the promotion, ${sections.length} in all`)
        assert.deepStrictEqual(violations(sections, { overlap: ({ enteredAt }) => enteredAt > promotedAt - 5_000 }), [])
      }).pipe(Effect.scoped),
    120_000
  )

  it.live("a lock that the replica has is kept over the failover", () =>
    Effect.gen(function*() {
      const servers = yield* group(() => startSentinel())
      const { withLock } = yield* locker({ sentinels: sentinelsOf(servers.sentinels.servers), master: "dlock" })
      yield* withLock("k", (lease) =>
        Effect.gen(function*() {
          const promoted = servers.servers[1]!
          yield* eventually("it is replicated", async () =>
            (await command(promoted.port, "EXISTS dlock:k")).includes("1"))
          servers.servers[0]!.signal("SIGKILL")
          servers.isolate()
          yield* Effect.promise(servers.promoted)
          // If no sentinel gets enough votes, they vote again after 6 seconds.
          let last = Infinity
          yield* eventually("the new primary confirms a renewal", async () => {
            const before = last
            last = Number((await command(promoted.port, "PTTL dlock:k")).slice(1))
            return last > before
          }, 20_000)
          yield* lease.ensureHeld
        }), { ttl: "20 seconds" })
    }).pipe(Effect.scoped))

  it.live("takes all its settings from Config, and misses the name of the primary", () =>
    Effect.gen(function*() {
      const servers = yield* group(() => startSentinel({ password: "right", sentinelPassword: "watch" }))
      const from = (config: Record<string, string>) => ConfigProvider.layer(ConfigProvider.fromUnknown(config))
      const config = {
        DLOCK_REDIS_SENTINELS: sentinelsOf(servers.sentinels.servers).join(),
        DLOCK_REDIS_MASTER: "dlock",
        DLOCK_REDIS_PASSWORD: "right",
        DLOCK_REDIS_SENTINEL_PASSWORD: "watch"
      }
      const { withLock } = yield* built(Layer.provide(RedisLockerLive, from(config)))
      yield* withLock("k", Effect.void)
      const { DLOCK_REDIS_MASTER: _, ...nameless } = config
      const error = yield* fails(Layer.provide(RedisLockerLive, from(nameless)))
      assert.instanceOf(error, Config.ConfigError)
      assert.include(error.message, "DLOCK_REDIS_MASTER")
      for (
        const wrong of [
          { ...config, DLOCK_REDIS_PASSWORD: "s3cret" },
          { ...config, DLOCK_REDIS_SENTINEL_PASSWORD: "s3cret" }
        ]
      ) {
        const [took, error] = yield* timed(fails(Layer.provide(RedisLockerLive, from(wrong))))
        assert.strictEqual(error._tag, "LockBackendError")
        assert.isFalse((error as { readonly retryable?: boolean }).retryable)
        assert.match(error.message, /WRONGPASS|NOAUTH/)
        assert.notInclude(JSON.stringify(error), "s3cret")
        assert.isBelow(took, 2_000)
      }
    }).pipe(Effect.scoped))

  it.live("takes a user of the sentinels who may do what it needs, and none who may not hear of a failover", () =>
    Effect.gen(function*() {
      const servers = yield* group(() => startSentinel())
      const options = {
        sentinels: sentinelsOf(servers.sentinels.servers),
        master: "dlock",
        sentinelUsername: "watch",
        sentinelPassword: "right"
      }
      const needed = [
        "+sentinel|get-master-addr-by-name",
        "+sentinel|master",
        "+sentinel|sentinels",
        "+subscribe",
        "&+switch-master"
      ]
      const may = (rules: ReadonlyArray<string>) =>
        Effect.forEach(
          servers.sentinels.servers,
          ({ port }) =>
            Effect.promise(() =>
              command(port, `ACL SETUSER watch reset on >right resetchannels -@all ${rules.join(" ")}`)
            )
        )
      yield* may(needed)
      yield* Effect.scoped(Effect.flatMap(locker(options), ({ withLock }) => withLock("k", Effect.void)))
      for (const missing of needed) {
        yield* may(needed.filter((one) => one !== missing))
        const [took, error] = yield* timed(fails(RedisLocker.layer(options)))
        assert.strictEqual(error._tag, "LockBackendError")
        assert.isFalse((error as { readonly retryable?: boolean }).retryable, missing)
        assert.include(error.message, "NOPERM", missing)
        assert.isBelow(took, 2_000)
      }
    }).pipe(Effect.scoped))

  it.live("fails in time where no sentinel answers, or none knows the name, and says which", () =>
    Effect.gen(function*() {
      const servers = yield* group(() => startSentinel())
      const [nobody] = (yield* Effect.promise(() => freePorts(1))).map((port) => `127.0.0.1:${port}`)
      const [first, second] = sentinelsOf(servers.sentinels.servers)
      const unanswered = `sentinel ${nobody}: connect ECONNREFUSED ${nobody}`
      // A name that looks like a final refusal must not be read as one.
      const unknown = (sentinel: string | undefined) => `sentinel ${sentinel} knows no primary "NOAUTH"`
      const cases = [
        { sentinels: [nobody!], words: [unanswered] },
        { sentinels: [first!, second!], words: [unknown(first), unknown(second)] },
        { sentinels: [first!, nobody!], words: [unknown(first), unanswered] },
        { sentinels: [nobody!, second!], words: [unknown(second), unanswered] }
      ]
      const recorded = recordLag()
      const met = yield* Effect.forEach(
        cases,
        ({ sentinels }) =>
          Effect.timed(fails(RedisLocker.layer({ sentinels, master: "NOAUTH", connectTimeout: "2 seconds" }))),
        { concurrency: "unbounded" }
      )
      recorded.stop()
      for (const [index, [took, error]] of met.entries()) {
        assert.strictEqual(error._tag, "LockBackendError")
        assert.isTrue((error as { readonly retryable?: boolean }).retryable)
        for (const word of cases[index]!.words) assert.include(error.message, word)
        assert.isBelow(Duration.toMillis(took), 2_000 + 100 + recorded.max())
      }
    }).pipe(Effect.scoped))

  it.live("is up within the time limit although the first sentinels are silent", () =>
    Effect.gen(function*() {
      const servers = yield* group(() => startSentinel())
      const sentinels = servers.sentinels.servers
      for (const silent of sentinels.slice(0, 2)) silent.signal("SIGSTOP")
      const recorded = recordLag()
      const limits = { operationTimeout: "1 second", connectTimeout: "3 seconds" } as const
      const [took] = yield* Effect.timed(locker({ sentinels: sentinelsOf(sentinels), master: "dlock", ...limits }))
      recorded.stop()
      assert.isBelow(Duration.toMillis(took), 3_000 + recorded.max())
    }).pipe(Effect.scoped))

  it.live("a process prints nothing while a sentinel is away, and ends by itself", () =>
    Effect.gen(function*() {
      const servers = yield* group(() => startSentinel())
      const worker = startWorker(Path.join(import.meta.dirname, "programs/behindSentinels.ts"), {
        args: [sentinelsOf(servers.sentinels.servers).join()]
      })
      yield* Effect.promise(() => worker.waitFor((message) => "held" in message))
      servers.sentinels.servers[2]!.signal("SIGKILL")
      yield* Effect.sleep("1 second")
      worker.send({ release: true })
      const { code } = yield* within(Effect.promise(() => worker.exited), 5_000)
      assert.strictEqual(worker.output(), "")
      assert.strictEqual(code, 0)
    }).pipe(Effect.scoped))

  it.live("a process ends soon although a sentinel has fallen silent", () =>
    Effect.gen(function*() {
      const servers = yield* group(() => startSentinel())
      const recorded = recordLag()
      const worker = startWorker(Path.join(import.meta.dirname, "programs/behindSentinels.ts"), {
        args: [sentinelsOf(servers.sentinels.servers).join()]
      })
      yield* Effect.promise(() => worker.waitFor((message) => "held" in message))
      servers.sentinels.servers[2]!.signal("SIGSTOP")
      const [took] = yield* Effect.timed(Effect.promise(() => {
        worker.send({ release: true })
        return worker.exited
      }))
      recorded.stop()
      // By default, the client would wait 2 seconds for the connections on which it only listens.
      assert.isBelow(Duration.toMillis(took), 1_000 + recorded.max())
    }).pipe(Effect.scoped))

  it.live("leaves a server that has become a replica, or was one", () =>
    Effect.gen(function*() {
      const servers = yield* group(() => startSentinel())
      const replica = servers.servers[1]!
      const proxy = yield* proxyTo(replica.port)
      const { withLock } = yield* locker({ url: proxy.url })
      const before = proxy.accepted()
      const error = yield* Effect.flip(withLock("k", Effect.void, { ttl: "3 seconds" }))
      assert.strictEqual(error._tag, "LockBackendError")
      assert.include(error.message, "READONLY")
      assert.isAbove(proxy.accepted(), before, "it looks whether another server is behind the address now")
      yield* Effect.promise(() => command(replica.port, "REPLICAOF NO ONE"))
      yield* within(Effect.retry(withLock("k", Effect.void), Schedule.spaced("50 millis")), 2_000)
    }).pipe(Effect.scoped))
})

/** Runs one short section and records it. */
const section = ({ withLock }: Locker["Service"], key: string, sections: Array<Section>) =>
  withLock(
    key,
    (lease) =>
      Effect.suspend(() => {
        const enteredAt = performance.now()
        return Effect.onExit(Effect.sleep(2), () =>
          Effect.sync(() =>
            void sections.push({ key, token: lease.fencingToken, enteredAt, leftAt: performance.now() })
          ))
      }),
    { ttl: "3 seconds" }
  )
