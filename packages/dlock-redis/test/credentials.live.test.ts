import { assert, describe, it } from "@effect/vitest"
import { startCluster, startSentinel } from "dlock-testing"
import { Duration, Effect, Option, Redacted } from "effect"
import { type LockBackendError } from "effect-dlock"
import { RedisLocker, type RedisLockerOptions } from "effect-dlock-redis"
import type { Redis } from "ioredis"
import { eventually, fails, group, locker, plainClient, server } from "./support.ts"

/** A password that changes: the effect that produces it, and how often that effect ran. */
const rotating = (first: string) => {
  const state = { is: first, asked: 0 }
  return { state, password: Effect.sync(() => (state.asked++, Redacted.make(state.is))) }
}

const requires = (admins: ReadonlyArray<Redis>, password: string) =>
  Effect.forEach(admins, (admin) =>
    Effect.promise(async () => {
      await admin.acl("SETUSER", "locker", "on", "resetpass", `>${password}`, "~*", "&*", "+@all")
      await admin.call("CLIENT", "KILL", "USER", "locker")
    }))

/** Locks, and locks again after the password was changed and every connection was cut. */
const followsRotation = (admins: ReadonlyArray<Redis>, options: RedisLockerOptions) =>
  Effect.gen(function*() {
    yield* requires(admins, "one")
    const { password, state } = rotating("one")
    const { withLock } = yield* locker({ ...options, username: "locker", password })
    yield* withLock("k", Effect.void)
    const before = state.asked
    yield* requires(admins, "two")
    state.is = "two"
    yield* eventually("it is back", () => Effect.runPromise(Effect.isSuccess(withLock("k", Effect.void))))
    // By a notification, over the connection that listens.
    yield* Effect.all([1, 2, 3].map(() => withLock("queue", Effect.sleep(20), { timeout: "5 seconds" })), {
      concurrency: "unbounded"
    })
    assert.isAbove(state.asked, before)
  })

describe("a release while credentials are refused", () => {
  it.live("frees the lock when they are right again, long before its ttl is over", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      yield* requires([admin], "one")
      const mine = yield* locker({ url: redis.url, username: "locker", password: "one" })
      const { withLockIfAvailable } = yield* locker({ url: redis.url })
      yield* mine.withLock("k", requires([admin], "two"), { ttl: "1 minute" })
      assert.isTrue(Option.isNone(yield* withLockIfAvailable("k", Effect.void)))
      yield* requires([admin], "one")
      yield* eventually(
        "it is free",
        async () => Option.isSome(await Effect.runPromise(withLockIfAvailable("k", Effect.void)))
      )
    }).pipe(Effect.scoped))
})

describe("a password that is asked before each connection", () => {
  it.live("may change on one server", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      yield* followsRotation([admin], { url: redis.url })
    }).pipe(Effect.scoped))

  it.live("may change behind sentinels", () =>
    Effect.gen(function*() {
      const { sentinels, servers } = yield* group(() => startSentinel({ sentinelPassword: "watch" }))
      const admin = yield* plainClient(servers[0]!.url)
      yield* followsRotation([admin], {
        sentinels: sentinels.servers.map(({ port }) => `127.0.0.1:${port}`),
        master: "dlock",
        sentinelPassword: Effect.succeed("watch")
      })
    }).pipe(Effect.scoped))

  it.live("may change on a cluster", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startCluster())
      const admins = yield* Effect.forEach(servers, ({ url }) => plainClient(url))
      yield* followsRotation(admins, { cluster: servers.map(({ port }) => `127.0.0.1:${port}`) })
    }).pipe(Effect.scoped))

  it.live("is waited for no longer than connectTimeout, and its failure is told", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const ways: ReadonlyArray<[RedisLockerOptions["password"], RegExp]> = [
        [Effect.never, /within connectTimeout/],
        [Effect.fail(new Error("the vault is sealed")), /password.*the vault is sealed/],
        [Effect.succeed(""), /password/]
      ]
      for (const [password, words] of ways) {
        const layer = RedisLocker.layer({ url: redis.url, password, connectTimeout: "500 millis" })
        const [took, error] = yield* Effect.timed(fails(layer))
        assert.strictEqual(error._tag, "LockBackendError")
        assert.match(error.message, words)
        assert.isTrue((error as LockBackendError).retryable)
        assert.isBelow(Duration.toMillis(took), 1_500)
      }
    }).pipe(Effect.scoped))
})
