import { assert, describe, it } from "@effect/vitest"
import { startRedis, startWorker } from "dlock-testing"
import { Deferred, Duration, Effect, Exit, Fiber, Option, Scope } from "effect"
import type { LockBackendError, OwnershipLost } from "effect-dlock"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import {
  asStranger,
  commandsSent,
  eventually,
  lag,
  locker,
  plainClient,
  proxiedSetting,
  proxyTo,
  server,
  setting,
  timed,
  within
} from "./support.ts"

// Each test has a server of its own, and nearly all of their time is waiting.
describe.concurrent("a holder", () => {
  it.live("is out by its deadline when the server freezes for 9 s", () =>
    Effect.gen(function*() {
      const { redis, withLock } = yield* setting()
      const recorded = yield* lag
      const inside = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(
        Effect.timed(Effect.flip(
          withLock("k", Effect.andThen(Deferred.succeed(inside, undefined), Effect.never), { ttl: "3 seconds" })
        ))
      )
      yield* Deferred.await(inside)
      yield* Effect.sleep("1500 millis")
      redis.signal("SIGSTOP")
      const frozenAt = performance.now()
      const [, error] = yield* Fiber.join(fiber)
      const after = performance.now() - frozenAt
      yield* Effect.sleep(Math.max(0, 9_000 - after))
      redis.signal("SIGCONT")
      assert.strictEqual(error._tag, "OwnershipLost")
      const lost = error as OwnershipLost
      assert.strictEqual(lost.reason, "Unreachable")
      const ago = Duration.toMillis(lost.lastConfirmedAgo)
      assert.isAtLeast(ago, 3_000)
      assert.isAtMost(ago, 3_000 + 100 + recorded.max())
      assert.isAtMost(after, 3_000 + 100 + recorded.max())
    }).pipe(Effect.scoped))

  it.live("does not notice one second of refused writes", () =>
    Effect.gen(function*() {
      const { admin, withLock } = yield* setting()
      const token = yield* withLock("k", (lease) =>
        Effect.gen(function*() {
          yield* Effect.sleep("900 millis")
          yield* Effect.promise(() => admin.config("SET", "min-replicas-to-write", "1"))
          yield* Effect.sleep("1 second")
          yield* Effect.promise(() => admin.config("SET", "min-replicas-to-write", "0"))
          yield* Effect.sleep("3500 millis")
          yield* lease.ensureHeld
          return lease.fencingToken
        }), { ttl: "3 seconds" })
      assert.isTrue(token > 0n)
    }).pipe(Effect.scoped))

  it.live("learns within a renewal that its key was deleted, and nothing re-creates it", () =>
    Effect.gen(function*() {
      const { admin, withLock } = yield* setting()
      const error = yield* Effect.flip(
        withLock("k", Effect.andThen(Effect.promise(() => admin.flushall()), Effect.never), { ttl: "600 millis" })
      )
      assert.strictEqual((error as OwnershipLost).reason, "Expired")
      assert.strictEqual(yield* Effect.promise(() => admin.exists("dlock:k")), 0)
    }).pipe(Effect.scoped))

  it.live("learns that another client took its key", () =>
    Effect.gen(function*() {
      const { admin, withLock } = yield* setting()
      const error = yield* Effect.flip(
        withLock("k", Effect.andThen(Effect.promise(() => admin.set("dlock:k", "another")), Effect.never), {
          ttl: "600 millis"
        })
      )
      assert.strictEqual((error as OwnershipLost).reason, "Replaced")
      // The finalizer does not delete another holder's lock either.
      assert.strictEqual(yield* Effect.promise(() => admin.get("dlock:k")), "another")
    }).pipe(Effect.scoped))

  it.live("loses its lock with a server that forgets, and the token still grows", () =>
    Effect.gen(function*() {
      const { admin, withLock } = yield* setting()
      const before = yield* withLock("k", (lease) => Effect.succeed(lease.fencingToken))
      yield* Effect.promise(() => admin.flushall())
      const after = yield* withLock("k", (lease) => Effect.succeed(lease.fencingToken))
      assert.isTrue(after > before)
    }).pipe(Effect.scoped))
})

describe.concurrent("a waiter", () => {
  it.live("fails when the server has been silent for its ttl, and not before", () =>
    Effect.gen(function*() {
      const { admin, redis, withLock } = yield* setting()
      yield* Effect.promise(() => admin.set("dlock:k", "somebody", "PX", 600_000))
      const waiting = yield* Effect.forkChild(Effect.flip(withLock("k", Effect.void, { ttl: "3 seconds" })))
      yield* eventually("it waits", async () => (await admin.zcard("{dlock:k}:\0q")) === 1)
      // The place is alive for its ttl, whether the server answers or not.
      yield* Effect.sleep("4 seconds")
      redis.signal("SIGSTOP")
      const [took, error] = yield* timed(Fiber.join(waiting))
      redis.signal("SIGCONT")
      assert.strictEqual(error._tag, "LockBackendError")
      assert.isTrue((error as LockBackendError).retryable)
      // Up to a third of the ttl may have passed since the server was last asked, and an answer may be awaited just as
      // long.
      assert.isAtLeast(took, 2_000 - 100)
      assert.isAtMost(took, 4_000 + 100)
      yield* eventually("nothing of it is left", async () => (await admin.zcard("{dlock:k}:\0q")) === 0)
    }).pipe(Effect.scoped))

  it.live(
    "whose place is deleted by force asks for another, and those behind it move up",
    () =>
      Effect.gen(function*() {
        const redis = yield* server
        const admin = yield* plainClient(redis.url)
        const [holder, one, two] = yield* Effect.all([
          locker({ url: redis.url }),
          locker({ url: redis.url }),
          locker({ url: redis.url })
        ])
        const scope = yield* Scope.make()
        const lease = yield* Scope.provide(holder.scoped("k"), scope)
        const order: Array<string> = []
        const queue = (own: typeof one, name: string) =>
          Effect.forkChild(own.withLock("k", Effect.sync(() => order.push(name)), { ttl: "6 seconds" }))
        const waiting = async (count: number) => (await admin.zcard("{dlock:k}:\0q")) === count
        const first = yield* queue(one, "first")
        yield* eventually("one waits", () => waiting(1))
        const second = yield* queue(two, "second")
        yield* eventually("two wait", () => waiting(2))
        const [id] = yield* Effect.promise(() => admin.zrange("{dlock:k}:\0q", "0", "0"))
        for (const suffix of ["q", "d"]) yield* Effect.promise(() => admin.zrem(`{dlock:k}:\0${suffix}`, id!))
        yield* Effect.promise(() => admin.hdel("{dlock:k}:\0w", id!))
        // A waiter asks for its state after a third of its ttl.
        yield* eventually("two wait again", () => waiting(2), 2_500)
        assert.notInclude(yield* Effect.promise(() => admin.zrange("{dlock:k}:\0q", "0", "-1")), id)
        yield* lease.release
        yield* within(Fiber.joinAll([first, second]), 1_000)
        assert.deepStrictEqual(order, ["second", "first"])

        // The same with every place deleted: the first claim to ask becomes the first in the queue.
        const again = yield* holder.scoped("k")
        const both = [yield* queue(one, "one"), yield* queue(two, "two")]
        yield* eventually("two wait", () => waiting(2))
        yield* Effect.promise(() => admin.del("{dlock:k}:\0q", "{dlock:k}:\0d", "{dlock:k}:\0w"))
        yield* eventually("two wait again", () => waiting(2), 2_500)
        yield* again.release
        yield* within(Fiber.joinAll(both), 1_000)
        assert.sameMembers(order.slice(2), ["one", "two"])
        assert.deepStrictEqual(yield* Effect.promise(() => admin.keys("*")), ["{dlock:k}:\0f"])
      }).pipe(Effect.scoped),
    120_000
  )
})

describe.concurrent("an acquire", () => {
  it.live("whose reply is lost is recognised as its own when it is asked again", () =>
    Effect.gen(function*() {
      const { admin, proxy, withLock } = yield* proxiedSetting()
      const stop = proxy.onRequest((chunk) => {
        if (!chunk.includes("evalsha") && !chunk.includes("eval")) return
        stop()
        proxy.holdReplies()
        setTimeout(() => {
          proxy.reset()
          proxy.release()
        }, 100)
      })
      const inside = yield* withLock("k", Effect.promise(() => admin.get("dlock:k")))
      assert.isString(inside)
      assert.strictEqual(yield* Effect.promise(() => admin.exists("dlock:k")), 0)
    }).pipe(Effect.scoped))

  it.live("that is not answered has its connection left for a new one, whether or not another follows", () =>
    Effect.gen(function*() {
      const { proxy, withLock } = yield* proxiedSetting()
      yield* withLock("silent", Effect.void)
      const before = proxy.accepted()
      proxy.hold()
      const sentAt = performance.now()
      let leftAt = 0
      yield* Effect.all([
        Effect.flip(withLock("silent", Effect.void)),
        Effect.map(eventually("there is another", async () => proxy.accepted() > before), () => {
          leftAt = performance.now()
        })
      ], { concurrency: "unbounded" })
      // Before that time, a server may just be slow. There is also time left for the caller to ask on the new
      // connection.
      assert.isAtLeast(leftAt - sentAt, 1_499)
      // The server accepts the new connection and does not greet it either. The client has nothing to send there, and
      // leaves it.
      const second = proxy.accepted()
      yield* eventually("there is a third", async () => proxy.accepted() > second)
      proxy.release()
      yield* withLock("silent", Effect.void)
    }).pipe(Effect.scoped))

  it.live("that a frozen server executes after its caller gave up leaves no lock", () =>
    Effect.gen(function*() {
      const { admin, redis, withLock } = yield* setting()
      yield* withLock("warm", Effect.void)
      redis.signal("SIGSTOP")
      const [took, error] = yield* timed(Effect.flip(withLock("k", Effect.void, { ttl: "3 seconds" })))
      redis.signal("SIGCONT")
      assert.strictEqual(error._tag, "LockBackendError")
      assert.isBelow(took, 6_000)
      yield* eventually("the key is free", async () => (await admin.exists("dlock:k")) === 0, 200)
      yield* Effect.sleep("1 second")
      assert.strictEqual(yield* Effect.promise(() => admin.exists("dlock:k")), 0)
      yield* withLock("k", Effect.void, { timeout: "2 seconds" })
    }).pipe(Effect.scoped))

  it.live("survives a server that forgets its scripts at every step", () =>
    Effect.gen(function*() {
      const { admin, withLock } = yield* setting()
      for (let turn = 0; turn < 20; turn++) {
        yield* Effect.promise(() => admin.script("FLUSH"))
        yield* withLock("k", Effect.promise(() => admin.script("FLUSH")))
      }
    }).pipe(Effect.scoped))

  it.live("of a key that is no lock fails soon, and changes nothing", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      yield* Effect.promise(() => admin.rpush("dlock:k", "a list"))
      const { withLock } = yield* locker({ url: redis.url })
      const error = yield* Effect.flip(withLock("k", Effect.void))
      assert.strictEqual(error._tag, "LockBackendError")
      assert.isFalse((error as LockBackendError).retryable)
      assert.include(error.message, "WRONGTYPE")
      assert.deepStrictEqual(yield* Effect.promise(() => admin.lrange("dlock:k", 0, -1)), ["a list"])
    }).pipe(Effect.scoped))
})

describe.concurrent("a release", () => {
  it.live("is limited in time when the server freezes, and keeps the program's result", () =>
    Effect.gen(function*() {
      const { redis, withLock } = yield* setting()
      const exit = yield* timed(Effect.exit(
        withLock("k", Effect.as(Effect.sync(() => redis.signal("SIGSTOP")), 42), { ttl: "3 seconds" })
      ))
      redis.signal("SIGCONT")
      assert.deepStrictEqual(exit[1], Exit.succeed(42))
      assert.isBelow(exit[0], 2_000)
    }).pipe(Effect.scoped))
})

describe.concurrent("a listener", () => {
  it.live("is not cut while its server answers, be it with a refusal", () =>
    Effect.gen(function*() {
      const dir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "dlock-misconf-"))
      const redis = yield* Effect.acquireRelease(
        Effect.promise(() => startRedis({ args: ["--save", "1 1", "--dir", dir] })),
        (redis) => Effect.promise(() => redis.stop())
      )
      const admin = yield* plainClient(redis.url)
      const { withLock } = yield* locker({ url: redis.url })
      const inside = yield* Deferred.make<void>()
      yield* Effect.forkChild(
        withLock("k", Effect.andThen(Deferred.succeed(inside, undefined), Effect.never), { ttl: "1 minute" })
      )
      yield* Deferred.await(inside)
      yield* Effect.forkChild(withLock("k", Effect.void, { ttl: "1 minute" }))
      yield* eventually("it waits", async () => (await admin.zcard("{dlock:k}:\0q")) === 1)
      Fs.rmSync(dir, { recursive: true })
      yield* eventually("a snapshot fails", async () => {
        await admin.bgsave().catch(() => {})
        return await admin.ping().then(() => false, (error: Error) => error.message.startsWith("MISCONF"))
      })
      const connections = async () => /total_connections_received:(\d+)/.exec(await admin.info("stats"))![1]
      const before = yield* Effect.promise(connections)
      yield* Effect.sleep("12 seconds")
      assert.strictEqual(yield* Effect.promise(connections), before)
    }).pipe(Effect.scoped))
})

// These count what they cost, or are promised an answer within a moment: nothing of this file runs beside them.
describe("a holder", () => {
  it.live("that is killed lets the first waiter in when its time is over", () =>
    Effect.gen(function*() {
      const { admin, redis, withLock } = yield* setting({ retryInterval: "100 millis" })
      const recorded = yield* lag
      const holder = startWorker<{ held: string }>(Path.join(import.meta.dirname, "programs/holder.ts"), {
        args: [redis.url, "k", "2000"]
      })
      const { held } = yield* Effect.promise(() => holder.waitFor(() => true))
      const waiter = yield* Effect.forkChild(
        withLock("k", (lease) => Effect.succeed({ token: lease.fencingToken, at: performance.now() })),
        { startImmediately: true }
      )
      yield* eventually("it waits", async () => (await admin.zcard("{dlock:k}:\0q")) === 1)
      yield* Effect.promise(() => holder.kill())
      // The server's own expiry: what is left of the ttl and the guard gap.
      const remaining = yield* Effect.promise(() => admin.pttl("dlock:k"))
      const killedAt = performance.now()
      const { at, token } = yield* Fiber.join(waiter)
      assert.isTrue(token > BigInt(held))
      assert.isAtLeast(at - killedAt, remaining - 5)
      assert.isAtMost(at - killedAt, remaining + 100 + 100 + recorded.max())
    }).pipe(Effect.scoped))
})

describe("waiters", () => {
  it.live(
    "cost next to nothing while they wait, and are served in a row: 500 on one key",
    () =>
      Effect.gen(function*() {
        const { admin, scoped, withLock } = yield* setting()
        const scope = yield* Scope.make()
        const lease = yield* Scope.provide(scoped("k", { ttl: "30 seconds" }), scope)
        const order: Array<number> = []
        const everyone = Array.from({ length: 500 }, (_, index) => index)
        const waiters = yield* Effect.forkChild(
          Effect.forEach(
            everyone,
            (index) => withLock("k", Effect.sync(() => order.push(index)), { ttl: "30 seconds" }),
            { concurrency: "unbounded", discard: true }
          ),
          { startImmediately: true }
        )
        yield* eventually("all wait", async () => (await admin.zcard("{dlock:k}:\0q")) === 500, 20_000)
        const clients = yield* Effect.promise(() => admin.client("LIST") as Promise<string>)
        assert.strictEqual(clients.split("\n").filter((line) => line.includes("name=effect-dlock")).length, 2)
        yield* Effect.sleep("1 second")
        const before = yield* Effect.promise(() => commandsSent(admin))
        const [idle] = yield* Effect.timed(Effect.sleep("12 seconds"))
        const sent = (yield* Effect.promise(() => commandsSent(admin))) - before
        assert.isBelow(sent / Duration.toSeconds(idle), 5, `${sent} commands in 12 s`)
        const recorded = yield* lag
        const releasedAt = performance.now()
        yield* lease.release
        yield* Fiber.join(waiters)
        const took = performance.now() - releasedAt
        yield* Effect.log(`500 waiters: ${sent} commands in 12 idle seconds, handed over in ${took.toFixed(0)} ms`)
        assert.deepStrictEqual(order, everyone)
        // With polling it would take more than 50 seconds.
        assert.isAtMost(took, 10_000 + recorded.max())
      }).pipe(Effect.scoped),
    120_000
  )

  it.live("go on when the connection that listens is cut, and keep their places", () =>
    Effect.gen(function*() {
      const { admin, another, proxy, ...cut } = yield* proxiedSetting()
      const holder = yield* another
      const other = yield* another
      const order: Array<string> = []
      yield* holder.withLock(
        "k",
        Effect.gen(function*() {
          yield* Effect.forkDetach(
            asStranger(cut.withLock("k", Effect.sync(() => order.push("first")))),
            { startImmediately: true }
          )
          yield* eventually("one waits", async () => (await admin.zcard("{dlock:k}:\0q")) === 1)
          yield* Effect.forkDetach(asStranger(other.withLock("k", Effect.sync(() => order.push("second")))), {
            startImmediately: true
          })
          yield* eventually("two wait", async () => (await admin.zcard("{dlock:k}:\0q")) === 2)
          proxy.reset()
        })
      )
      yield* eventually("both were inside", async () => order.length === 2)
      assert.sameMembers(order, ["first", "second"])
      yield* eventually("both have released", async () => (await admin.exists("dlock:k")) === 0)
    }).pipe(Effect.scoped))

  it.live("are handed the lock although the notification is lost", () =>
    Effect.gen(function*() {
      const { admin, another, proxy, ...deaf } = yield* proxiedSetting()
      const holder = yield* another
      const waiter = yield* holder.withLock(
        "k",
        Effect.gen(function*() {
          const waiter = yield* Effect.forkDetach(
            asStranger(Effect.timed(deaf.withLock("k", Effect.void, { ttl: "3 seconds" }))),
            { startImmediately: true }
          )
          yield* eventually("one waits", async () => (await admin.zcard("{dlock:k}:\0q")) === 1)
          // The server grants the lock while the proxy holds every reply to that process.
          proxy.holdReplies()
          return waiter
        })
      )
      yield* Effect.sleep("400 millis")
      proxy.reset()
      proxy.release()
      yield* Fiber.join(waiter)
      yield* eventually("it has released", async () => (await admin.exists("dlock:k")) === 0)
    }).pipe(Effect.scoped))
})

describe("a caller's time", () => {
  it.live("is kept by a server that is silent: a timeout, a try, an interrupt", () =>
    Effect.gen(function*() {
      const { admin, redis, withLock, withLockIfAvailable } = yield* setting()
      yield* Effect.promise(() => admin.set("dlock:held", "somebody", "PX", 600_000))
      const recorded = yield* lag
      const askedAt = performance.now()
      const late = yield* Effect.forkChild(Effect.flip(withLock("held", Effect.void, { timeout: "4 seconds" })))
      const given = yield* Effect.forkChild(withLock("held", Effect.void))
      yield* eventually("both wait", async () => (await admin.zcard("{dlock:held}:\0q")) === 2)
      const waitsSince = performance.now()
      // If the backend takes longer to answer, the time that is left at the end is too short to learn anything.
      const isNear = waitsSince - askedAt < 25
      redis.signal("SIGSTOP")
      yield* within(Fiber.interrupt(given), 100)
      for (const timeout of [0, 50, 500]) {
        const error = yield* within(Effect.flip(withLock("k", Effect.void, { timeout })), timeout + 100)
        assert.strictEqual(error._tag, "LockBackendError")
      }
      const asking = yield* Effect.forkChild(withLock("k", Effect.void))
      yield* Effect.sleep("50 millis")
      yield* within(Fiber.interrupt(asking), 100)
      assert.strictEqual(
        (yield* within(Effect.flip(withLockIfAvailable("k", Effect.void)), 1_000))._tag,
        "LockBackendError"
      )
      const left = 4_000 - (performance.now() - waitsSince)
      const error = yield* within(Fiber.join(late), left + 100)
      const isInTime = recorded.max() < 25
      assert.include(isNear && isInTime ? ["LockBackendError"] : ["LockBackendError", "LockTimeout"], error._tag)
      redis.signal("SIGCONT")
      yield* eventually("nothing is left of them", async () =>
        (await admin.exists("dlock:k", "{dlock:held}:\0q", "{dlock:k}:\0q")) === 0)
    }).pipe(Effect.scoped))
})

describe("a try", () => {
  it.live("finds a lock that is free behind more dead waiters than one call gets through with", () =>
    Effect.gen(function*() {
      const { admin, withLock, withLockIfAvailable } = yield* setting()
      yield* withLock("k", Effect.void)
      const leaveDead = Effect.promise(async () => {
        const dead = Array.from({ length: 3_000 }, (_, index) => `dead${index}`.padEnd(22, "-"))
        await admin.zadd("{dlock:k}:\0q", ...dead.flatMap((id, index) => [index + 1, id]))
        await admin.zadd("{dlock:k}:\0d", ...dead.flatMap((id) => [1, id]))
        await admin.hset("{dlock:k}:\0w", ...dead.flatMap((id) => [id, "1|nobody|1000|100|m|1|1|1||"]))
      })
      yield* leaveDead
      const [took, tried] = yield* timed(withLockIfAvailable("k", Effect.succeed("in")))
      assert.deepStrictEqual(tried, Option.some("in"))
      assert.isBelow(took, 1_000)
      // A live claim that waits behind the dead ones comes first.
      yield* leaveDead
      const waiter = "waiter".padEnd(22, "-")
      yield* Effect.promise(() => admin.zadd("{dlock:k}:\0q", Date.now() * 1_000, waiter))
      yield* Effect.promise(() => admin.zadd("{dlock:k}:\0d", Date.now() + 60_000, waiter))
      yield* Effect.promise(() => admin.hset("{dlock:k}:\0w", waiter, "1|nobody|60000|100|m|1|1|0||"))
      assert.deepStrictEqual(yield* withLockIfAvailable("k", Effect.succeed("in")), Option.none())
      assert.include(yield* Effect.promise(() => admin.get("dlock:k")), waiter)
    }).pipe(Effect.scoped))
})

describe("an acquire", () => {
  it.live(
    "leaves nothing that does not expire when it is interrupted at a random moment: 1,000 of them",
    () =>
      Effect.gen(function*() {
        const redis = yield* server
        const admin = yield* plainClient(redis.url)
        const resources = () => process.getActiveResourcesInfo().toSorted()
        const beforeLayer = resources()
        yield* Effect.scoped(Effect.gen(function*() {
          const { scopedIfAvailable, withLock } = yield* locker({ url: redis.url })
          const other = yield* locker({ url: redis.url })
          yield* withLock("k", Effect.void)
          yield* Effect.sleep("300 millis")
          const before = resources()
          for (let round = 0; round < 20; round++) {
            const fibers = yield* Effect.forEach(
              Array.from({ length: 50 }),
              () => Effect.forkDetach(withLock("k", Effect.sleep(1), { ttl: "5 seconds" })),
              { concurrency: 1 }
            )
            yield* Effect.forEach(
              fibers,
              (fiber) => Effect.delay(Fiber.interrupt(fiber), Math.random() * 20),
              { concurrency: "unbounded", discard: true }
            )
          }
          const free = yield* Effect.scoped(other.scopedIfAvailable("k"))
          assert.isTrue(Option.isSome(free), "the key is free at once")
          yield* Effect.sleep("300 millis")
          const keys = yield* Effect.promise(() => admin.keys("*"))
          for (const key of keys) {
            assert.match(key, /\0[fx]/, "only counters and tombstones are left")
            assert.isAbove(yield* Effect.promise(() => admin.pttl(key)), 0, key)
          }
          const timers = (all: ReadonlyArray<string>) => all.filter((resource) => resource === "Timeout").length
          assert.isAtMost(resources().length, before.length)
          assert.isAtMost(timers(resources()), timers(before))
          assert.isTrue(Option.isSome(yield* Effect.scoped(scopedIfAvailable("k"))))
        }))
        yield* eventually("nothing is left of the layer", async () => resources().length <= beforeLayer.length)
      }).pipe(Effect.scoped),
    120_000
  )
})

describe("beside a plain client", () => {
  it.live("its SET NX PX excludes us, and we are in soon after it has gone", () =>
    Effect.gen(function*() {
      const { admin, scopedIfAvailable, withLock } = yield* setting()
      const recorded = yield* lag
      assert.strictEqual(yield* Effect.promise(() => admin.set("dlock:k", "token", "PX", 60_000, "NX")), "OK")
      assert.isTrue(Option.isNone(yield* Effect.scoped(scopedIfAvailable("k"))))
      const timeout = yield* Effect.flip(withLock("k", Effect.void, { timeout: "100 millis" }))
      assert.strictEqual(timeout._tag, "LockTimeout")
      const waiter = yield* Effect.forkChild(withLock("k", Effect.sync(() => performance.now())), {
        startImmediately: true
      })
      yield* Effect.sleep("500 millis")
      assert.isUndefined(waiter.pollUnsafe())
      yield* Effect.promise(() => admin.del("dlock:k"))
      const deletedAt = performance.now()
      assert.isAtMost((yield* Fiber.join(waiter)) - deletedAt, 100 + 100 + recorded.max())
    }).pipe(Effect.scoped))

  it.live("ours excludes its SET NX PX, as a plain string that expires", () =>
    Effect.gen(function*() {
      const { admin, withLock } = yield* setting()
      yield* withLock(
        "k",
        Effect.gen(function*() {
          assert.isNull(yield* Effect.promise(() => admin.set("dlock:k", "token", "PX", 1_000, "NX")))
          assert.strictEqual(yield* Effect.promise(() => admin.type("dlock:k")), "string")
          assert.isAbove(yield* Effect.promise(() => admin.pttl("dlock:k")), 0)
        })
      )
      assert.strictEqual(yield* Effect.promise(() => admin.set("dlock:k", "token", "PX", 1_000, "NX")), "OK")
    }).pipe(Effect.scoped))
})

describe("after a thaw that left its connections half open", () => {
  /** Packets on the old connections disappear without an error. New connections work. */
  const halfOpen = Effect.gen(function*() {
    const redis = yield* server
    const proxy = yield* proxyTo(redis.port)
    const thawed = yield* locker({ url: proxy.url })
    const freeze = Effect.forkChild(Effect.promise(() => proxy.strand(4_000, 0)), { startImmediately: true })
    return { admin: yield* plainClient(redis.url), freeze, thawed }
  })

  it.live("the first acquire is served within 2.5 s", () =>
    Effect.gen(function*() {
      const { freeze, thawed } = yield* halfOpen
      yield* thawed.withLock("k", Effect.void)
      const gone = yield* freeze
      assert.strictEqual(yield* within(thawed.withLock("k", Effect.succeed("in")), 2_500), "in")
      yield* Fiber.join(gone)
    }).pipe(Effect.scoped))

  it.live("a release at the end of a scope is served within 2.5 s", () =>
    Effect.gen(function*() {
      const { admin, freeze, thawed } = yield* halfOpen
      const scope = yield* Scope.make()
      yield* Scope.provide(Effect.all(["a", "b", "c"].map((key) => thawed.scoped(key))), scope)
      const gone = yield* freeze
      yield* within(Scope.close(scope, Exit.void), 2_500)
      assert.strictEqual(yield* Effect.promise(() => admin.exists("dlock:a", "dlock:b", "dlock:c")), 0)
      yield* Fiber.join(gone)
    }).pipe(Effect.scoped))
})
