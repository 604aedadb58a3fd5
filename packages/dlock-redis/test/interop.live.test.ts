import { assert, describe, it } from "@effect/vitest"
import { recordLag } from "dlock-testing"
import { Effect, Fiber, Scope } from "effect"
import type { Redis } from "ioredis"
import { eventually, locker, plainClient, proxyTo, server } from "./support.ts"

const compareAndDelete = `return redis.call("GET", KEYS[1]) == ARGV[1] and redis.call("DEL", KEYS[1]) or 0`

/** A client of another library: it polls with `SET NX PX`, and deletes only its own lock. */
const foreign = (url: string, key: string, section: () => Promise<void>): Effect.Effect<
  { readonly turns: () => number },
  never,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const client: Redis = yield* plainClient(url)
    let goesOn = true
    let turns = 0
    const polling = (async () => {
      while (goesOn) {
        if (await client.set(key, "theirs", "PX", 5_000, "NX") === "OK") {
          turns++
          await section()
          await client.eval(compareAndDelete, 1, key, "theirs")
        }
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    })()
    yield* Effect.addFinalizer(() =>
      Effect.promise(() => {
        goesOn = false
        return polling
      })
    )
    return { turns: () => turns }
  })

/** Counts the claims inside a section. There must never be two. */
const room = () => {
  let inside = 0
  const overlaps: Array<number> = []
  return {
    overlaps,
    enter: () => void (++inside > 1 && overlaps.push(inside)),
    leave: () => void inside--
  }
}

/** Eight of our claims and one foreign client on one key, for three seconds. */
const contest = (interop: boolean) =>
  Effect.gen(function*() {
    const redis = yield* server
    const { enter, leave, overlaps } = room()
    const lockers = [yield* locker({ url: redis.url, interop }), yield* locker({ url: redis.url, interop })]
    let ours = 0
    const section = Effect.acquireUseRelease(
      Effect.sync(enter),
      () => Effect.andThen(Effect.sync(() => ours++), Effect.sleep(2)),
      () => Effect.sync(leave)
    )
    const running = yield* Effect.forkChild(
      Effect.forEach(
        Array.from({ length: 8 }, (_, index) => lockers[index % 2]!),
        ({ withLock }) => Effect.forever(withLock("k", section)),
        { concurrency: "unbounded", discard: true }
      )
    )
    yield* eventually("ours contend", async () => ours > 50)
    const other = yield* foreign(redis.url, "dlock:k", async () => {
      enter()
      await new Promise((resolve) => setTimeout(resolve, 2))
      leave()
    })
    const before = ours
    yield* Effect.sleep("3 seconds")
    const during = { ours: ours - before, theirs: other.turns() }
    yield* Fiber.interrupt(running)
    yield* eventually("they get in when ours have gone", async () => other.turns() > during.theirs + 10)
    yield* Effect.log(`interop ${interop}: ${during.ours} sections of ours, ${during.theirs} of theirs in 3 seconds`)
    assert.deepStrictEqual(overlaps, [])
    return during
  }).pipe(Effect.scoped)

describe("beside a client of another library that polls for the same key", () => {
  it.live("both get their turns with interop", () =>
    Effect.gen(function*() {
      const { ours, theirs } = yield* contest(true)
      assert.isAbove(theirs, 20)
      assert.isAbove(ours, 20)
    }))

  it.live("the other library waits without interop until our queue is empty", () =>
    Effect.gen(function*() {
      const { ours, theirs } = yield* contest(false)
      assert.isAtMost(theirs, 3)
      assert.isAbove(ours, 100)
    }))

  it.live("a waiter of ours that was woken and finds the key taken waits on, and gets in soon after", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      const proxy = yield* proxyTo(redis.port)
      const options = { interop: true, retryInterval: "100 millis" } as const
      const first = yield* locker({ url: redis.url, ...options })
      const second = yield* locker({ url: proxy.url, ...options })
      const recorded = recordLag()
      const scope = yield* Scope.make()
      const lease = yield* Scope.provide(first.scoped("k"), scope)
      const waiter = yield* Effect.forkChild(second.withLock("k", Effect.sync(() => performance.now())))
      yield* eventually("it waits", async () => (await admin.zcard("{dlock:k}:\0q")) === 1)
      // Our waiter is woken, and its request takes longer than the foreign client's request.
      proxy.holdRequests()
      yield* lease.release
      assert.strictEqual(yield* Effect.promise(() => admin.set("dlock:k", "theirs", "PX", 60_000, "NX")), "OK")
      proxy.release()
      yield* Effect.sleep("500 millis")
      assert.isUndefined(waiter.pollUnsafe())
      yield* Effect.promise(() => admin.del("dlock:k"))
      const deletedAt = performance.now()
      assert.isAtMost((yield* Fiber.join(waiter)) - deletedAt, 100 + 100 + recorded.max())
    }).pipe(Effect.scoped))

  it.live("a waiter of ours that was woken and gives up wakes the next", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      const { scoped, withLock } = yield* locker({ url: redis.url, interop: true })
      for (let turn = 0; turn < 30; turn++) {
        const lease = yield* Scope.provide(scoped("k"), yield* Scope.make())
        const one = yield* Effect.forkChild(withLock("k", Effect.void))
        yield* eventually("one waits", async () => (await admin.zcard("{dlock:k}:\0q")) === 1)
        const other = yield* Effect.forkChild(withLock("k", Effect.sync(() => performance.now())))
        yield* eventually("two wait", async () => (await admin.zcard("{dlock:k}:\0q")) === 2)
        yield* lease.release
        const recorded = recordLag()
        const releasedAt = performance.now()
        yield* Fiber.interrupt(one)
        assert.isBelow((yield* Fiber.join(other)) - releasedAt, 500 + recorded.max())
        recorded.stop()
      }
    }).pipe(Effect.scoped))
})
