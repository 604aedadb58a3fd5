import { assert, describe, it } from "@effect/vitest"
import { command, recordLag, type Server, startCluster, startReplicated } from "dlock-testing"
import { Deferred, Duration, Effect, Fiber, Option, Schedule, Scope } from "effect"
import type { LockBackendError } from "effect-dlock"
import { eventually, group, locker, plainClient, proxyTo, within } from "./support.ts"

const pair = Effect.map(group(() => startReplicated()), ({ servers }) => servers as [Server, Server])

const connections = (client: { readonly client: (command: "LIST") => Promise<unknown> }) =>
  Effect.promise(async () => String(await client.client("LIST")).split("name=effect-dlock").length - 1)

describe("a locker that waits for a replica", () => {
  it.live("is let in when the replica has the lock, over one connection more", () =>
    Effect.gen(function*() {
      const [primary, replica] = yield* pair
      const admin = yield* plainClient(primary.url)
      const { withLock } = yield* locker({ url: primary.url, waitReplicas: 1 })
      assert.strictEqual(yield* connections(admin), 3)
      for (let turn = 0; turn < 50; turn++) {
        const there = yield* withLock(`k${turn}`, Effect.promise(() => command(replica.port, `EXISTS dlock:k${turn}`)))
        assert.match(there, /^:1/)
      }
      const free = yield* Effect.scoped(Effect.andThen(locker({ url: primary.url }), connections(admin)))
      assert.strictEqual(free, 5)
    }).pipe(Effect.scoped))

  // At the default ttl there was once only 1 ms left for the answer, which is enough only for a server nearby.
  it.live("does not have to be near it to get a lock that is free without waiting", () =>
    Effect.gen(function*() {
      const [primary] = yield* pair
      const far = yield* proxyTo(primary.port)
      const { withLockIfAvailable } = yield* locker({ url: far.url, waitReplicas: 1 })
      yield* withLockIfAvailable("k", Effect.void)
      far.delay(20)
      for (const ttl of ["5 seconds", "30 seconds", "5 minutes"] as const) {
        const [took, inside] = yield* Effect.timed(withLockIfAvailable(`k ${ttl}`, Effect.succeed("in"), { ttl }))
        assert.deepStrictEqual(inside, Option.some("in"))
        assert.isBelow(Duration.toMillis(took), 1_000)
      }
    }).pipe(Effect.scoped))

  it.live("gives the lock back while the replica is silent, and gets it when it is back", () =>
    Effect.gen(function*() {
      const [primary, replica] = yield* pair
      const admin = yield* plainClient(primary.url)
      const { scoped, withLock } = yield* locker({ url: primary.url, waitReplicas: 1 })
      const recorded = recordLag()
      const other = yield* scoped("other", { ttl: "3 seconds" })
      replica.signal("SIGSTOP")
      const [took, error] = yield* Effect.timed(Effect.flip(withLock("k", Effect.void)))
      assert.strictEqual(error._tag, "LockBackendError")
      assert.isTrue((error as LockBackendError).retryable)
      assert.include(error.message, "replicas")
      assert.isBelow(Duration.toMillis(took), 3_000 + 2_000 + recorded.max())
      yield* eventually("the key is free", async () => (await admin.exists("dlock:k")) === 0)
      // Claims that wait for replicas must not delay the renewals of locks that were held before.
      const waiting = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, index) => `k${index}`),
        (key) => Effect.forkChild(Effect.exit(withLock(key, Effect.void)))
      )
      yield* Effect.sleep("4 seconds")
      yield* other.ensureHeld
      yield* Effect.forEach(waiting, Fiber.interrupt)

      const later = yield* Effect.forkChild(withLock("k", Effect.succeed("in")))
      yield* Effect.sleep("700 millis")
      assert.isUndefined(later.pollUnsafe())
      replica.signal("SIGCONT")
      assert.strictEqual(yield* within(Fiber.join(later), 3_000), "in")
      yield* other.ensureHeld
    }).pipe(Effect.scoped))

  it.live("is not let in by a hand-over that the replica does not have", () =>
    Effect.gen(function*() {
      const [primary, replica] = yield* pair
      const admin = yield* plainClient(primary.url)
      const { scoped, withLock } = yield* locker({ url: primary.url, waitReplicas: 1 })
      const scope = yield* Scope.make()
      const lease = yield* Scope.provide(scoped("k"), scope)
      const inside = yield* Deferred.make<bigint>()
      yield* Effect.forkChild(withLock("k", ({ fencingToken }) => Deferred.succeed(inside, fencingToken)))
      yield* eventually("it waits", async () => (await admin.zcard("{dlock:k}:\0q")) === 1)
      replica.signal("SIGSTOP")
      yield* lease.release
      yield* Effect.sleep("1500 millis")
      assert.isFalse(yield* Deferred.isDone(inside))
      replica.signal("SIGCONT")
      const token = yield* within(Deferred.await(inside), 3_000)
      assert.isTrue(token > lease.fencingToken)
    }).pipe(Effect.scoped))

  it.live("fails where there are fewer, and leaves nothing when it is interrupted", () =>
    Effect.gen(function*() {
      const [primary] = yield* pair
      const admin = yield* plainClient(primary.url)
      const { withLock } = yield* locker({ url: primary.url, waitReplicas: 2 })
      const error = yield* Effect.flip(withLock("k", Effect.void, { ttl: "3 seconds" }))
      assert.include(error.message, "fewer than 2 replicas")
      for (let turn = 0; turn < 6; turn++) {
        const fiber = yield* Effect.forkChild(withLock("k", Effect.void))
        yield* Effect.sleep(Math.random() * 60)
        yield* Fiber.interrupt(fiber)
      }
      yield* eventually("nothing is left", async () => (await admin.keys("*")).every((key) => /\0[fx]/.test(key)))
    }).pipe(Effect.scoped))

  it.live("goes on after its primary in a cluster has fallen silent and was replaced", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startCluster({ primaries: 2, replicas: 2, nodeTimeoutMs: 1_000 }))
      const slot = Number((yield* Effect.promise(() => command(servers[0]!.port, "CLUSTER KEYSLOT dlock:k"))).slice(1))
      const [primary, replica] = slot < 8192 ? [servers[0]!, servers[2]!] : [servers[1]!, servers[4]!]
      const { withLock } = yield* locker({ cluster: `127.0.0.1:${primary.port}`, waitReplicas: 1 })
      yield* withLock("k", Effect.void)
      primary.signal("SIGSTOP")
      yield* Effect.promise(() => command(replica.port, "CLUSTER FAILOVER TAKEOVER"))
      yield* eventually("a replica of the new one", async () =>
        (await command(replica.port, "INFO replication")).includes("state=online"))
      // At most two attempts began before the other server was found, and each may take as long as a silent server is
      // given.
      yield* within(Effect.retry(withLock("k", Effect.void), Schedule.spaced("50 millis")), 10_000)
    }).pipe(Effect.scoped))
})
