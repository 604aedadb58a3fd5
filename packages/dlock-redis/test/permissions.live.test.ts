import { assert, describe, it } from "@effect/vitest"
import { recordLag, startCluster } from "dlock-testing"
import { Context, Deferred, Effect, Fiber, Layer, Redacted, References, Stream } from "effect"
import { DistributedSemaphore, type LockBackendError, Locker, LockStore, ReadWriteLock, Want } from "effect-dlock"
import { RedisLocker, RedisLockStore } from "effect-dlock-redis"
import { LockAdmin } from "effect-dlock/LockAdmin"
import { probe } from "../src/internal/client/permissions.ts"
import * as Scripts from "../src/internal/protocol/index.ts"
import { plainClaim } from "./model/port.ts"
import {
  asStranger,
  doesWhatEveryStoreDoes,
  eventually,
  fails,
  group,
  locker,
  plainClient,
  server,
  within
} from "./support.ts"

/** The permissions that the documentation says a user needs. */
const commands = [
  "+evalsha +eval +subscribe +ping +info +get +set +del +exists +pttl +pexpire +time",
  "+zadd +zcard +zcount +zrange +zrangebyscore +zrank +zrem +zremrangebyrank +zscore +zmscore",
  "+hget +hmget +hscan +hset +hdel +hlen +publish +pubsub|numsub"
].join(" ").split(" ")
const keys = ["~dlock:*", "~{dlock:*"]
const channels = ["&dlock:inbox:*"]

/** A server, a function that sets the permissions of its user, and an address to connect as that user. */
const restricted = Effect.gen(function*() {
  const redis = yield* server
  const admin = yield* plainClient(redis.url)
  return {
    admin,
    url: Redacted.make(`redis://locker:s3cret@127.0.0.1:${redis.port}`),
    may: (...rules: ReadonlyArray<string>) =>
      Effect.promise(() =>
        admin.acl("SETUSER", "locker", "reset", "on", ">s3cret", "resetchannels", "-@all", ...rules) as Promise<unknown>
      )
  }
})

describe("a user with the documented permissions and no more", () => {
  it.live("locks, waits and is handed the lock", () =>
    Effect.gen(function*() {
      const { may, url } = yield* restricted
      yield* may(...commands, ...keys, ...channels)
      const one = yield* locker({ url })
      const other = yield* locker({ url })
      const inside = yield* Deferred.make<void>()
      const holder = yield* Effect.forkChild(
        Effect.as(
          one.withLock("k", Effect.andThen(Deferred.succeed(inside, undefined), Effect.sleep("1500 millis"))),
          0
        )
          .pipe(Effect.map(() => performance.now()))
      )
      yield* Deferred.await(inside)
      const timeout = yield* Effect.flip(other.withLock("k", Effect.void, { timeout: "100 millis" }))
      assert.strictEqual(timeout._tag, "LockTimeout")
      const recorded = recordLag()
      const enteredAt = yield* other.withLock("k", Effect.sync(() => performance.now()))
      assert.isBelow(
        enteredAt - (yield* Fiber.join(holder)),
        200 + recorded.max(),
        "it was told, and did not have to ask"
      )
    }).pipe(Effect.scoped))

  it("are those that the scripts need, which are those that the layer checks", () => {
    const called = (lua: string) =>
      Array.from(
        lua.matchAll(/\b(?:p?call|try|get)\("([A-Z]+)"(?:, "([A-Z]+)")?/g),
        ([, name, second]) => name === "PUBSUB" ? `+pubsub|${second!.toLowerCase()}` : `+${name!.toLowerCase()}`
      )
    const scripts = Object.values(Scripts).flatMap((one) => typeof one === "object" && "lua" in one ? [one.lua] : [])
    assert.isAtLeast(scripts.length, 8)
    const needed = Array.from(new Set(scripts.flatMap(called))).sort()
    assert.deepStrictEqual(Array.from(new Set(called(probe))).sort(), needed)
    const besides = ["+evalsha", "+eval", "+subscribe", "+ping", "+info"]
    assert.deepStrictEqual(commands.filter((one) => !besides.includes(one)).sort(), needed)
  })

  it.live("shares permits and a read-write lock, also where a part of them is lost at the server", () =>
    Effect.gen(function*() {
      const { admin, may, url } = yield* restricted
      yield* may(...commands, ...keys, ...channels)
      const one = yield* locker({ url })
      const semaphore = yield* DistributedSemaphore.make("api", { permits: 4 }).pipe(
        Effect.provideService(Locker, one)
      )
      const lock = yield* ReadWriteLock.make("catalogue").pipe(Effect.provideService(Locker, one))
      yield* semaphore.withPermits(2)(Effect.gen(function*() {
        yield* Effect.promise(() => admin.del("{dlock:api}:\0m"))
        assert.strictEqual(yield* asStranger(semaphore.withPermits(2)(Effect.succeed("in"))), "in")
        assert.strictEqual(yield* semaphore.available, 2)
      }))
      yield* lock.withReadLock(Effect.void)
      yield* one.withLocks(["a", "b"], Effect.void)
      yield* one.withLocks(["a", Want.permits(semaphore), Want.write(lock)], Effect.void)
      yield* lock.withWriteLock((write) => write.downgrade)
      assert.deepStrictEqual(yield* Effect.promise(() => admin.keys("*\0[hvm]")), [])
    }).pipe(Effect.scoped))

  it.live("hears of hand-overs again soon after it may listen again, where a connection was made meanwhile", () =>
    Effect.gen(function*() {
      const { admin, may, url } = yield* restricted
      yield* may(...commands, ...keys, ...channels)
      const { withLock } = yield* locker({ url })
      const listeners = () =>
        Effect.promise(async () => (await admin.call("PUBSUB", "CHANNELS") as Array<string>).length)
      assert.strictEqual(yield* listeners(), 1)
      // Without its channels, the server closes the user's connection.
      yield* may(...commands, ...keys)
      yield* eventually("it is refused", async () => /subscribe/.test(String(await admin.acl("LOG"))))
      assert.strictEqual(yield* listeners(), 0)
      yield* may(...commands, ...keys, ...channels)
      yield* eventually("it listens", () => Effect.runPromise(Effect.map(listeners(), (count) => count === 1)))
      const recorded = recordLag()
      const inside = yield* Deferred.make<void>()
      const holder = yield* Effect.forkChild(
        withLock("k", Effect.andThen(Deferred.succeed(inside, undefined), Effect.sleep("500 millis"))).pipe(
          Effect.map(() => performance.now())
        )
      )
      yield* Deferred.await(inside)
      const enteredAt = yield* withLock("k", Effect.sync(() => performance.now()))
      assert.isBelow(enteredAt - (yield* Fiber.join(holder)), 200 + recorded.max())
    }).pipe(Effect.scoped))

  it.live("does what every store does", () =>
    Effect.gen(function*() {
      const { may, url } = yield* restricted
      yield* may(...commands, "+scan", "allkeys", ...channels)
      yield* doesWhatEveryStoreDoes(RedisLockStore.layer({ url }))
    }).pipe(Effect.scoped))

  it.live("locks on a cluster with two permissions more", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startCluster())
      const rules = [...commands, ...keys, ...channels, "+cluster|slots", "+cluster|info"]
      for (const { url } of servers) {
        const admin = yield* plainClient(url)
        yield* Effect.promise(() => admin.acl("SETUSER", "locker", "on", ">s3cret", "resetchannels", "-@all", ...rules))
      }
      const { withLock } = yield* locker({
        cluster: servers.map(({ port }) => `127.0.0.1:${port}`),
        username: "locker",
        password: Redacted.make("s3cret")
      })
      yield* Effect.all([withLock("k", Effect.sleep(5)), withLock("k", Effect.sleep(5))], { concurrency: 2 })
    }).pipe(Effect.scoped))

  it.live(
    "lists locks with one permission more, and two on a cluster, and does all else without",
    () =>
      Effect.gen(function*() {
        const { servers } = yield* group(() => startCluster())
        const single = yield* restricted
        const admins = yield* Effect.forEach(servers, ({ url }) => plainClient(url))
        const mayOnCluster = (...more: ReadonlyArray<string>) =>
          Effect.promise(async () => {
            const rules = [...commands, ...keys, ...channels, "+cluster|slots", "+cluster|info", ...more]
            for (const admin of admins) {
              await admin.acl("SETUSER", "locker", "on", ">s3cret", "resetchannels", "-@all", ...rules)
            }
          })
        const mayOnOne = (...more: ReadonlyArray<string>) => single.may(...commands, ...keys, ...channels, ...more)
        yield* mayOnOne()
        yield* mayOnCluster()
        const cluster = { cluster: servers.map(({ port }) => `127.0.0.1:${port}`), username: "locker" }
        const all = { key: "dlock:", prefix: "dlock:" }
        for (
          const [layer, may, needed] of [
            [RedisLockStore.layer({ url: single.url }), mayOnOne, ["+scan"]],
            [
              RedisLockStore.layer({ ...cluster, password: Redacted.make("s3cret") }),
              mayOnCluster,
              ["+cluster\\|nodes", "+scan"]
            ]
          ] as const
        ) {
          const context = yield* Layer.build(Layer.fresh(layer)).pipe(
            Effect.provideService(References.MinimumLogLevel, "Error")
          )
          const [store, admin] = [Context.get(context, LockStore), Context.get(context, LockAdmin)]
          const claim = { ...plainClaim, key: "dlock:k", prefix: "dlock:" }
          const seen = yield* Effect.forkChild(Stream.runHead(admin.changes!(claim)))
          yield* Effect.sleep(100)
          const answer = yield* store.request(claim, "try")
          const token = answer._tag === "Granted" ? answer.fencingToken : assert.fail(answer._tag)
          yield* within(Fiber.join(seen), 1_000)
          assert.strictEqual((yield* admin.inspect(claim)).holders[0]?.token, token)
          for (const [index, permission] of needed.entries()) {
            yield* may(...needed.slice(0, index).map((one) => one.replace("\\", "")))
            const error = yield* Effect.flip(Stream.runDrain(admin.list(all)))
            assert.isFalse(error.retryable)
            assert.match(error.message, new RegExp(`lacks \\${permission}`))
          }
          yield* may(...needed.map((one) => one.replace("\\", "")))
          assert.strictEqual((yield* Stream.runCollect(admin.list(all))).length, 1)
          assert.strictEqual(yield* admin.revoke(claim, { token, grace: 0, by: "me" }), "asked")
          assert.isTrue(yield* admin.breakLock(claim, token))
        }
      }).pipe(Effect.scoped),
    30_000
  )

  it.live("is refused at once, by name, for each that is missing", () =>
    Effect.gen(function*() {
      const { may, url } = yield* restricted
      for (const missing of [...commands, ...channels]) {
        yield* may(...[...commands, ...keys, ...channels].filter((one) => one !== missing))
        const error = (yield* fails(RedisLocker.layer({ url }))) as LockBackendError
        assert.strictEqual(error._tag, "LockBackendError", missing)
        assert.strictEqual(error.operation, "connect", missing)
        assert.isFalse(error.retryable, missing)
        assert.include(error.message, missing.split("|")[0]!, missing)
        assert.notInclude(JSON.stringify(error), "s3cret")
      }
    }).pipe(Effect.scoped))

  it.live("learns which lock is not within its keys, and leaves nothing there", () =>
    Effect.gen(function*() {
      const { admin, may, url } = yield* restricted
      for (const pattern of keys) {
        yield* may(...commands, pattern, ...channels)
        const { withLock } = yield* locker({ url })
        const error = (yield* Effect.flip(withLock("k", Effect.void))) as LockBackendError
        assert.strictEqual(error._tag, "LockBackendError", pattern)
        assert.isFalse(error.retryable, pattern)
        assert.match(error.message, /NOPERM.*dlock:k/, pattern)
        assert.deepStrictEqual(yield* Effect.promise(() => admin.keys("*")), [])
      }
    }).pipe(Effect.scoped))

  it.live("polls when the right to listen is withdrawn later", () =>
    Effect.gen(function*() {
      const { admin, may, url } = yield* restricted
      yield* may(...commands, ...keys, ...channels)
      const one = yield* locker({ url })
      const other = yield* locker({ url })
      const inside = yield* Deferred.make<void>()
      const leave = yield* Deferred.make<void>()
      const holder = yield* Effect.forkChild(
        one.withLock("k", Effect.andThen(Deferred.succeed(inside, undefined), Deferred.await(leave)))
      )
      yield* Deferred.await(inside)
      yield* may(...commands, ...keys)
      yield* Effect.promise(() => admin.call("CLIENT", "KILL", "TYPE", "pubsub"))
      const waiter = yield* Effect.forkChild(other.withLock("k", Effect.succeed("in")))
      yield* eventually("it waits", async () => (await admin.zcard("{dlock:k}:\0q")) === 1)
      yield* Deferred.succeed(leave, undefined)
      yield* Fiber.join(holder)
      assert.strictEqual(yield* within(Fiber.join(waiter), 3_000), "in")
    }).pipe(Effect.scoped))
})
