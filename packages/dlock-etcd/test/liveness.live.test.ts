import { assert, describe, it } from "@effect/vitest"
import { startWorker, type Worker } from "dlock-testing"
import { Deferred, Effect, Fiber } from "effect"
import * as Path from "node:path"
import {
  claims,
  eventually,
  keys,
  lag,
  leases,
  locker,
  plainClient,
  proxyTo,
  queued,
  requests,
  server,
  since,
  within
} from "./support.ts"

/** Milliseconds after which a dead process is known to be dead, and how late the server may expire its lease. */
const dead = 5_000
const belated = 1_000

const waiting = (hosts: string, ttl: number, count = 1) =>
  Effect.acquireRelease(
    Effect.promise(async (): Promise<Worker<{ asked: boolean }>> => {
      const worker = startWorker<{ asked: boolean }>(Path.join(import.meta.dirname, "programs/waiter.ts"), {
        args: [hosts, "k", String(ttl), String(count)]
      })
      await worker.waitFor(({ asked }) => asked)
      return worker
    }),
    (worker) => Effect.promise(() => worker.kill())
  )

describe.concurrent("a process that dies while it waits", () => {
  const endsSoon = (waiters: number, ...settings: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      const { url } = yield* server(...settings)
      const recorded = yield* lag
      const { withLock } = yield* locker({ hosts: url })
      const last = yield* locker({ hosts: url })
      const released = yield* Deferred.make<void>()
      const holder = yield* Effect.forkChild(withLock("k", Deferred.await(released)), { startImmediately: true })
      yield* queued(url, 1)
      const doomed = yield* waiting(url, 30_000, waiters)
      yield* queued(url, 1 + waiters)
      const waiter = yield* Effect.forkChild(last.withLock("k", Effect.sync(() => performance.now())), {
        startImmediately: true
      })
      yield* queued(url, 2 + waiters)
      yield* Effect.promise(() => doomed.kill())
      yield* Effect.sleep(dead + belated + waiters + recorded.max())
      yield* queued(url, 2)
      const releasedAt = performance.now()
      yield* Deferred.succeed(released, undefined)
      assert.isAtMost(yield* Fiber.join(waiter).pipe(Effect.map((at) => at - releasedAt)), 500 + recorded.max())
      yield* Fiber.join(holder)
    }).pipe(Effect.scoped)

  it.live("blocks those behind it for five seconds at most, whatever it asked for", () => endsSoon(3), 60_000)

  it.live("takes no longer with a thousand waiters", () => endsSoon(1_000), 60_000)

  it.live(
    "takes no longer where the server takes few operations at once",
    () => endsSoon(100, "--max-txn-ops=20"),
    120_000
  )

  it.live("is passed over by one that comes when it has long been dead", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const recorded = yield* lag
      const { withLock } = yield* locker({ hosts: url })
      const last = yield* locker({ hosts: url })
      const released = yield* Deferred.make<void>()
      yield* Effect.forkChild(withLock("k", Deferred.await(released)), { startImmediately: true })
      yield* queued(url, 1)
      const doomed = yield* waiting(url, 30_000)
      yield* queued(url, 2)
      yield* Effect.promise(() => doomed.kill())
      yield* Effect.sleep(dead + belated)
      const waiter = yield* Effect.forkChild(last.withLock("k", Effect.sync(() => performance.now())), {
        startImmediately: true
      })
      yield* Effect.sleep(500 + recorded.max())
      yield* queued(url, 2)
      const releasedAt = performance.now()
      yield* Deferred.succeed(released, undefined)
      assert.isAtMost(yield* Fiber.join(waiter).pipe(Effect.map((at) => at - releasedAt)), 500 + recorded.max())
    }).pipe(Effect.scoped))

  // Before, the processes were found dead one after another, and with 24 of them the wait lasted until their leases ended.
  it.live("is passed over together with 23 others that died at the same moment", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const recorded = yield* lag
      const admin = yield* plainClient(url)
      const { withLock } = yield* locker({ hosts: url })
      const last = yield* locker({ hosts: url })
      const released = yield* Deferred.make<void>()
      const holder = yield* Effect.forkChild(withLock("k", Deferred.await(released)), { startImmediately: true })
      yield* queued(url, 1)
      // What 24 processes leave that die right after they asked: a claim, and a sign of life that nobody keeps alive.
      yield* Effect.promise(async () => {
        const lease = await admin.leaseClient.leaseGrant({ TTL: 33 })
        const life = await admin.leaseClient.leaseGrant({ TTL: dead / 1_000 })
        for (let number = 0; number < 24; number++) {
          const id = `dead${number}`
          await admin.put(`dlock:\0alive\0${id}`).value("").lease(life.ID)
          const value = JSON.stringify({
            layout: 1,
            kind: "mutex",
            permits: 1,
            capacity: 1,
            holder: id,
            id,
            process: id
          })
          await admin.put(`dlock:k/${id}`).value(value).lease(lease.ID)
        }
      })
      const waiter = yield* Effect.forkChild(last.withLock("k", Effect.sync(() => performance.now())), {
        startImmediately: true
      })
      yield* Effect.sleep(dead)
      yield* within(queued(url, 2), belated + 1_000)
      const releasedAt = performance.now()
      yield* Deferred.succeed(released, undefined)
      const took = (yield* Fiber.join(waiter)) - releasedAt
      yield* Effect.log(`in ${took.toFixed(0)} ms after the release (lag ${recorded.max().toFixed(0)} ms)`)
      assert.isAtMost(took, 500 + recorded.max())
      yield* Fiber.join(holder)
    }).pipe(Effect.scoped))

  // The first claim may have been granted before its process fell silent.
  it.live("keeps its place where it stands first, for as long as its lease", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const { withLock } = yield* locker({ hosts: url })
      const last = yield* locker({ hosts: url })
      const released = yield* Deferred.make<void>()
      yield* Effect.forkChild(withLock("k", Deferred.await(released)), { startImmediately: true })
      yield* queued(url, 1)
      const frozen = yield* waiting(url, 12_000)
      yield* queued(url, 2)
      const waiter = yield* Effect.forkChild(last.withLock("k", Effect.sync(() => performance.now())), {
        startImmediately: true
      })
      yield* queued(url, 3)
      frozen.signal("SIGSTOP")
      const frozenAt = performance.now()
      yield* Deferred.succeed(released, undefined)
      assert.isAtLeast(yield* Fiber.join(waiter).pipe(Effect.map((at) => at - frozenAt)), 8_000)
    }).pipe(Effect.scoped))

  it.live("is not taken for dead while it waits and lives, and leaves nothing", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const admin = yield* plainClient(url)
      const { withLock } = yield* locker({ hosts: url })
      const released = yield* Deferred.make<void>()
      yield* Effect.forkChild(withLock("k", Deferred.await(released)), { startImmediately: true })
      yield* queued(url, 1)
      yield* Effect.gen(function*() {
        const second = yield* locker({ hosts: url })
        const third = yield* locker({ hosts: url })
        const order: Array<string> = []
        const ask = ({ withLock }: typeof second, name: string) =>
          Effect.forkChild(withLock("k", Effect.sync(() => order.push(name)), { ttl: "30 seconds" }), {
            startImmediately: true
          })
        const waiters = [yield* ask(second, "second")]
        yield* queued(url, 2)
        waiters.push(yield* ask(third, "third"))
        yield* queued(url, 3)
        const before = yield* Effect.promise(() => claims(admin, "dlock:k"))
        const asked = yield* Effect.promise(() => requests(url))
        yield* Effect.sleep(dead + 2 * belated)
        assert.deepStrictEqual(yield* Effect.promise(() => claims(admin, "dlock:k")), before)
        // Each process has one stream for its keep-alives, and has sent three keep-alives by now.
        const { LeaseKeepAlive = 0 } = since(asked, yield* Effect.promise(() => requests(url)))
        assert.isAtMost(LeaseKeepAlive, 2)
        yield* Deferred.succeed(released, undefined)
        yield* Effect.forEach(waiters, Fiber.join)
        assert.deepStrictEqual(order, ["second", "third"])
      }).pipe(Effect.scoped)
      assert.deepStrictEqual((yield* Effect.promise(() => keys(admin))).filter((key) => key.includes("alive")), [])
      // The lease of the locker that is still open.
      assert.lengthOf(yield* Effect.promise(() => leases(admin)), 1)
    }).pipe(Effect.scoped))
})

describe("a waiter whose connection a NAT has forgotten", () => {
  // Before, the stream of keep-alives was closed in order, so the next keep-alive went over the same dead connection. By the time
  // that a new connection was made, the claim behind had found the waiter dead and had deleted its claim.
  it.live("keeps its place, in whatever moment the connection is forgotten", () =>
    Effect.gen(function*() {
      const { port, url } = yield* server()
      const admin = yield* plainClient(url)
      const holder = yield* locker({ hosts: url })
      const inOrder = (key: string, moment: number) =>
        Effect.gen(function*() {
          const proxy = yield* proxyTo(port)
          const [first, second] = [yield* locker({ hosts: proxy.url }), yield* locker({ hosts: url })]
          const order: Array<string> = []
          const released = yield* Deferred.make<void>()
          const standing = (count: number) =>
            eventually(`${count} stand there`, async () => (await claims(admin, `dlock:${key}`)).length === count)
          const held = yield* Effect.forkChild(holder.withLock(key, Deferred.await(released)))
          yield* standing(1)
          const waiters = [yield* Effect.forkChild(first.withLock(key, Effect.sync(() => order.push("first"))))]
          yield* standing(2)
          waiters.push(yield* Effect.forkChild(second.withLock(key, Effect.sync(() => order.push("second")))))
          yield* standing(3)
          yield* Effect.sleep(1_500 + moment)
          proxy.forget()
          yield* Effect.sleep(dead + belated + 3_000)
          yield* Deferred.succeed(released, undefined)
          yield* Fiber.join(held)
          yield* Effect.forEach(waiters, Fiber.join)
          return order
        })
      // A process sends a keep-alive every third of 5 seconds.
      const orders = yield* Effect.forEach([0, 330, 660, 990, 1_320], (moment) => inOrder(`k${moment}`, moment), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(orders, orders.map(() => ["first", "second"]))
    }).pipe(Effect.scoped))
})
